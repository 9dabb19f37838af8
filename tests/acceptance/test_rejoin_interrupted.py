"""A rejoin is interrupted at each of its requests: Ctrl-C, kill -9 of raftctl, of the node, of the leader, a cut connection."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import DEADLINE_S, QUICK, Load, missing
from tests.acceptance.conftest import ClusterMaker
from tests.acceptance.gated import PATIENT, STEPS, SURE, Gated, gated_cluster
from tests.acceptance.test_rejoin import assert_whole, files, fill


@pytest.fixture
def gated(make_cluster: ClusterMaker) -> Iterator[Gated]:
    with gated_cluster(make_cluster) as gated:
        yield gated


def elsewhere(gated: Gated) -> dict[str, str]:
    """The environment of another machine."""
    return {"RAFTCTL_STATE": str(gated.cluster.directory / "elsewhere")}


def assert_nothing_lost(gated: Gated, load: Load) -> None:
    gated.cluster.settled()
    assert [missing(load, each) for each in gated.cluster] == [[] for _ in gated.cluster]


# -- Ctrl-C --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("request_", "sent"), [("barrier", signal.SIGINT), ("start-raft", signal.SIGTERM)])
def test_ctrl_c_or_a_polite_end_undoes_everything(gated: Gated, request_: str, sent: signal.Signals):
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    before = files(node)
    with Load(cluster, "load/") as load:
        running = gated.begin(node, request_)
        running.send_signal(sent)
        gated.hold_no_more()
        _, told = running.communicate(timeout=2 * DEADLINE_S)
        assert running.returncode == 130, told
        load.more(20)
    assert [name for name in files(node) if "retired" not in name] == before
    assert gated.run()["outcome"] == "interrupted"
    assert_nothing_lost(gated, load)
    assert_whole(cluster, node)


@pytest.mark.parametrize(("sent", "code", "outcome"), [(None, 0, "done"), (signal.SIGINT, 130, "interrupted")])
def test_a_rejoin_whose_reader_goes_away_goes_on_as_if_it_had_stayed(
    gated: Gated, sent: signal.Signals | None, code: int, outcome: str
):
    """As with `| head`; and as with `| tee`, which Ctrl-C ends too."""
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        running = gated.held_at("wipe", "rejoin-node", str(node.node_id), *SURE, *PATIENT)
        for stream in (running.stdout, running.stderr):
            assert stream is not None
            stream.close()
        if sent is None:
            gated.drop()
        else:
            running.send_signal(sent)
            gated.hold_no_more()
        assert code == running.wait(2 * DEADLINE_S)
        load.more(20)
    assert outcome == gated.run()["outcome"]
    assert_nothing_lost(gated, load)
    assert_whole(cluster, node)


# -- kill -9 of raftctl --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", STEPS)
def test_a_run_whose_raftctl_was_killed_is_resumed(gated: Gated, request_: str):
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        load.more(20)
        gated.kill_at(node, request_)
        run = gated.run()
        assert (run["outcome"], run["resumable"]) == ("unfinished", True)
        receipt = cluster.raftctl("runs", "resume", run["run"], "-o", "json").data
        load.more(20)
    assert receipt["attempts"] == 2
    assert gated.run()["outcome"] == "done"
    assert len(list(node.data.glob("retired-*"))) == 1
    assert_nothing_lost(gated, load)
    assert_whole(cluster, node)


@pytest.mark.parametrize("request_", STEPS)
def test_a_run_whose_raftctl_was_killed_is_undone(gated: Gated, request_: str):
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        load.more(20)
        gated.kill_at(node, request_)
        cluster.raftctl("runs", "abort", gated.run()["run"])
        load.more(20)
    assert gated.run()["outcome"] == "undone"
    assert_nothing_lost(gated, load)
    assert_whole(cluster, node)


@pytest.mark.parametrize("verb", ["resume", "abort"])
def test_a_run_of_a_lost_directory_whose_raftctl_was_killed_is_gone_on_with(gated: Gated, verb: str):
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    node.kill()
    shutil.rmtree(node.data)
    node.start()
    others = [each.node_id for each in cluster if each is not node]
    cluster.until_leader(lambda status: status["alarms"], "the loss is seen", among=others)
    running = gated.held_at("allow-next-revert", "rejoin-node", str(node.node_id), "--blank", *SURE, *PATIENT)
    running.kill()
    running.communicate(timeout=60)
    gated.drop()
    cluster.raftctl("runs", verb, gated.run()["run"])
    if verb == "abort":
        alarms = cluster.leader(among=others).status()["alarms"]
        assert "node_reverted" in [alarm["code"] for alarm in alarms]
        cluster.raftctl("rejoin-node", str(node.node_id), "--blank", *SURE)
    assert_whole(cluster, node)
    membership = cluster.leader().status()["membership"]
    assert membership["incarnations"][str(node.node_id)] == [node.status()["incarnation"]]


def test_a_journal_copied_to_another_machine_is_resumed_there(gated: Gated):
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    gated.kill_at(node, "wipe")
    copy = cluster.directory / "copied.jsonl"
    cluster.raftctl("runs", "export", gated.run()["run"], "--to", str(copy))
    cluster.raftctl("runs", "resume", str(copy), more=elsewhere(gated))
    assert cluster.last_run(**elsewhere(gated))["outcome"] == "done"
    assert_whole(cluster, node)


# -- the cluster goes on meanwhile ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim_is", ["leader", "node"])
@pytest.mark.parametrize("request_", STEPS)
def test_a_process_that_dies_while_a_request_is_on_its_way_costs_no_write(
    make_cluster: ClusterMaker, request_: str, victim_is: str
):
    """Killed and started again at once; its request is lost. The run finishes with the leader there is then, or is undone."""
    with gated_cluster(make_cluster, **QUICK) as gated:
        dies_while_a_request_is_on_its_way(gated, request_, victim_is)


def dies_while_a_request_is_on_its_way(gated: Gated, request_: str, victim_is: str) -> None:
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    victim = cluster.leader() if victim_is == "leader" else node
    with Load(cluster, "load/") as load:
        load.more(20)
        running = gated.begin(node, request_, "--timeout", "90s")
        victim.kill()
        victim.start()
        gated.drop()
        _, told = running.communicate(timeout=2 * DEADLINE_S)
        assert running.returncode in {0, 8, 9}, told
        if running.returncode == 9:
            cluster.raftctl("runs", "resume", gated.run()["run"], code=None)
        load.more(20)
    assert gated.run()["outcome"] in {"done", "undone"}
    assert_nothing_lost(gated, load)
    assert_whole(cluster, node)


@pytest.mark.parametrize("request_", STEPS)
def test_a_connection_that_is_cut_is_made_again(gated: Gated, request_: str):
    cluster = gated.cluster
    fill(cluster, 30)
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        running = gated.begin(node, request_)
        gated.drop()
        _, told = running.communicate(timeout=2 * DEADLINE_S)
        assert running.returncode == 0, told
    assert_nothing_lost(gated, load)
    assert_whole(cluster, node)


def test_two_operators_cannot_rejoin_at_once(gated: Gated):
    cluster = gated.cluster
    fill(cluster, 30)
    node, other = cluster.followers()
    running = gated.begin(node, "stop-raft")
    refused = cluster.raftctl("rejoin-node", str(other.node_id), *SURE, "-o", "json", code=5, more=elsewhere(gated)).error
    assert refused["rule_ids"] == ["no-lock"]
    assert gated.run()["run"] in json.dumps(refused["measured"])
    running.send_signal(signal.SIGINT)
    gated.hold_no_more()
    _, told = running.communicate(timeout=2 * DEADLINE_S)
    assert running.returncode == 130, told
    cluster.raftctl("rejoin-node", str(other.node_id), *SURE, more=elsewhere(gated))
    assert_whole(cluster, other)


# -- other sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4, 5])
def test_a_node_of_a_cluster_of_another_size_is_rebuilt_after_raftctl_was_killed(make_cluster: ClusterMaker, count: int):
    # of two, the one that is left must notice soon that it leads nobody
    with gated_cluster(make_cluster, count) as gated:
        cluster = gated.cluster
        fill(cluster, 60)
        if count == 5:
            cluster.raftctl("snapshot", "--all")
            cluster.raftctl("purge-log", "--upto", "1000000", "--all", "--yes")
        node = cluster.followers()[0]
        gated.kill_at(node, "wipe")
        cluster.raftctl("runs", "resume", gated.run()["run"])
        assert_whole(cluster, node)
