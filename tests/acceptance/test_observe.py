"""Do explain, watch, top, doctor, verify digest and snapshot list tell the truth about real nodes?"""

from __future__ import annotations

import json
import signal

import pytest

from tests.acceptance.cluster import CALM, Cluster, Load, wait_until
from tests.acceptance.conftest import ClusterMaker


def test_what_is_explained_is_what_then_happens(shared: Cluster):
    shared.settled()
    leader = shared.leader().node_id
    heir = shared.followers()[0].node_id
    told = shared.raftctl("explain", "transfer-leader", "--to", str(heir), "-o", "json").data
    assert [True] == [chance["can_win"] for chance in told["elections"][0]["chances"] if chance["node"] == heir]
    assert (told["refused"], told["undo"]) == (False, f"raftctl transfer-leader --to {leader}")
    shared.raftctl("transfer-leader", "--to", str(heir), "--yes")
    assert shared.leader().node_id == heir


def test_what_explain_says_would_be_refused_is_refused(shared: Cluster):
    shared.leader()
    told = shared.raftctl("explain", "transfer-leader", "--to", "9", "-o", "json").data
    rules = [rule["rule"] for rule in told["rules"] if rule["verdict"] == "fail"]
    assert (told["refused"], rules) == (
        True,
        shared.raftctl("transfer-leader", "--to", "9", "--yes", "-o", "json", code=5).error["rule_ids"],
    )


@pytest.mark.parametrize(
    "line",
    [
        "elect --no-pre-vote",
        "heartbeat",
        "snapshot --all",
        "purge-log --upto 5",
        "allow-next-revert --to 1",
        "rejoin-node 1",
        "member remove 1",
    ],
)
def test_explaining_changes_nothing(shared: Cluster, line: str):
    def seen():
        status = shared.leader().status()
        return [status[name] for name in ("term", "leader", "last_log", "snapshot", "purged", "membership")]

    def explained_and_nothing_changed():
        before = seen()
        shared.raftctl("explain", *line.split())
        return before == seen()

    # More than once only where a busy machine made an election of its own meanwhile.
    wait_until(explained_and_nothing_changed, f"explain {line} leaves the cluster as it was")


def test_a_transfer_is_seen_by_who_watches_until_ctrl_c(shared: Cluster):
    shared.settled()
    heir = shared.followers()[0].node_id
    watcher = shared.start_raftctl("watch", "--node", str(heir), "--kind", "status", "--kind", "leader", "-o", "json")
    events = (json.loads(line)["data"] for line in watcher.lines())
    first = next(events)
    assert (first["event"], first["data"]["state"]) == ("status", "follower")
    shared.raftctl("transfer-leader", "--to", str(heir), "--yes")
    assert any(event["data"]["leader"] == heir for event in events)
    watcher.send_signal(signal.SIGINT)
    _out, errors = watcher.communicate(timeout=60)
    assert (watcher.returncode, errors) == (130, "")


def test_digests_are_equal_at_rest_and_while_writes_go_on(shared: Cluster):
    shared.settled()
    at_rest = shared.raftctl("verify", "digest", "-o", "json").data
    assert (at_rest["equal"], at_rest["complete"]) == (True, True)
    with Load(shared, "digest") as load:
        load.more(20)
        under_load = shared.raftctl("verify", "digest", "-o", "json").data
    assert (under_load["equal"], under_load["complete"]) == (True, True)


def test_snapshots_are_listed_as_they_are(shared: Cluster):
    shared.leader()
    shared.raftctl("kv", "put", "snapshot-list", "1")
    end = shared.raftctl("snapshot", "-o", "json").data["effective"]["upto"]
    items = shared.raftctl("snapshot", "list", "-o", "json").data["items"]
    leader = next(item for item in items if item["node"] == shared.leader().node_id)
    assert leader["last_log_id"].endswith(f".{end}")


def test_top_counts_the_writes(shared: Cluster):
    shared.leader()
    with Load(shared, "top") as load:
        load.more(5)

        def counted() -> bool:
            lines = shared.raftctl("top", "--count", "3", "--interval", "500ms", "-o", "jsonl").stdout.splitlines()
            first, *rates = [json.loads(line)["data"]["committed_per_s"] for line in lines]
            assert first is None
            return any(rates)

        wait_until(counted, "top sees writes, unless none is committed within the second that it looks")


def test_doctor_names_what_mends_a_cluster_and_it_does(cluster: Cluster):
    cluster.raftctl("health", "--wait")
    wait_until(lambda: cluster.raftctl("doctor", code=None).code == 0, "a cluster that is well has no findings")
    follower = cluster.followers()[0].node_id
    cluster.raftctl("runtime-config", "set", "enable_elect=off", "--node", str(follower), "--yes")
    findings = cluster.raftctl("doctor", "-o", "json", code=10).data["findings"]
    (fix,) = [finding["fix"] for finding in findings if finding["rule"] == "timers"]
    cluster.raftctl(*fix.split()[1:], "--yes")
    wait_until(lambda: cluster.raftctl("doctor", code=None).code == 0, "what the doctor said mended it")


def test_doctor_and_explain_do_the_arithmetic_of_what_is_left(make_cluster: ClusterMaker):
    cluster = make_cluster(**CALM)
    cluster.begin()
    cluster.raftctl("health", "--wait")
    first, second = cluster.followers()
    first.kill()
    cluster.leader(among=[node.node_id for node in cluster if node is not first])
    told = cluster.raftctl("explain", "heartbeat", "-o", "json").data["quorum"][0]["count"]
    assert (told["up"], told["tolerance"]) == (2, 0)
    assert {"answers", "tolerance"} <= {
        one["rule"] for one in cluster.raftctl("doctor", "-o", "json", code=10).data["findings"]
    }
    second.kill()
    survivor = next(node for node in cluster if node.alive)
    survivor.wait(lambda status: status["leader"] is None, "no leader")
    rules = {one["rule"] for one in cluster.raftctl("doctor", "-o", "json", code=11).data["findings"]}
    assert {"leader", "quorum", "answers"} <= rules
    chances = cluster.raftctl("explain", "elect", "--node", str(survivor.node_id), "-o", "json").data["elections"][0][
        "chances"
    ]
    assert [False] * 3 == [chance["can_win"] for chance in chances]
