"""Do raftctl's exit codes and words agree with what then is the case in a real cluster?"""

from __future__ import annotations

import json

import pytest

from tests.acceptance.cluster import CALM, QUICK, Cluster, wait_until
from tests.acceptance.conftest import ClusterMaker
from tests.ports import free_ports


def test_init_gives_birth_and_a_second_one_is_a_conflict(make_cluster: ClusterMaker):
    cluster = make_cluster(**QUICK)
    cluster.start()
    assert cluster.raftctl("health", code=11).stdout != ""
    attempts = 0

    def born() -> bool:
        nonlocal attempts
        attempts += 1
        return cluster.raftctl("init", "--yes", code=None).code in ({0} if attempts == 1 else {0, 6})

    wait_until(born, "every member answers in time, or was told all the same")
    cluster.leader()
    cluster.raftctl("init", "--yes", code=6)
    cluster.raftctl("health", "--wait")


def test_status_shows_every_node_and_json_is_one_document(shared: Cluster):
    shared.leader()
    lines = shared.raftctl("status").stdout.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["1", "2", "3"]
    document = shared.raftctl("status", "-o", "json").document
    assert (document["schema"], document["kind"], document["context"]) == ("raftctl/v1", "status", "demo")
    assert [node["node_id"] for node in document["data"]["nodes"]] == [1, 2, 3]


def test_the_six_triggers_as_top_level_commands_and_as_a_group(shared: Cluster):
    shared.settled()
    leader = shared.leader().node_id
    follower = next(node.node_id for node in shared if node.node_id != leader)
    sure = ("--yes", "--confirm", "demo")
    for prefix in ((), ("trigger",)):
        shared.raftctl(*prefix, "heartbeat")
        shared.raftctl(*prefix, "snapshot", "--all")
        shared.raftctl(*prefix, "purge-log", "--upto", "1", "--yes")
        shared.raftctl(*prefix, "elect", "--yes")
        shared.raftctl(*prefix, "allow-next-revert", "--to", str(follower), *sure)
        shared.raftctl(*prefix, "allow-next-revert", "--to", str(follower), "--no-allow", *sure)
    shared.raftctl("transfer-leader", "--to", str(follower), "--yes")
    assert shared.leader().node_id == follower


def test_a_purge_says_what_was_asked_and_what_was_done(shared: Cluster):
    shared.leader()
    shared.raftctl("kv", "put", "a", "1")
    end = shared.raftctl("snapshot", "-o", "json").data["effective"]["upto"]
    said = shared.raftctl("purge-log", "--upto", str(end + 500), "--yes").stdout
    assert f"purged up to {end}" in said
    assert str(end + 500) in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["transfer-leader", "--to", "9", "--yes"], 5),
        (["snapshot", "--node", "9"], 13),
        (["kv", "get", "no-such-key"], 13),
        (["transfer-leader", "--to", "1"], 2),  # nobody can be asked, and no --yes
        (["purge-log", "--upto", "0", "--yes"], 2),
        (["no-such-command"], 2),
        (["-c", "no-such-context", "status"], 3),
    ],
)
def test_what_cannot_be_done_has_its_exit_code_and_changes_nothing(shared: Cluster, arguments: list[str], code: int):
    shared.settled()
    leader, term = shared.leader(), shared.leader().status()["term"]
    if arguments[:3] == ["transfer-leader", "--to", "1"]:
        arguments = [*arguments[:2], str(shared.followers()[0].node_id)]
    ran = shared.raftctl(*arguments, code=code)
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    assert (shared.leader(), shared.leader().status()["term"]) == (leader, term)


def test_an_election_against_a_living_leader_is_refused(shared: Cluster):
    shared.leader()
    error = shared.raftctl("elect", "--node", str(shared.followers()[0].node_id), "--yes", "-o", "json", code=5).error
    assert error["exit_code"] == 5
    assert error["code"] == "pre_vote_refused"


def test_a_dry_run_of_a_trigger_changes_nothing(shared: Cluster):
    shared.settled()
    term = shared.leader().status()["term"]
    shared.raftctl("transfer-leader", "--to", str(shared.followers()[0].node_id), "--dry-run")
    assert shared.leader().status()["term"] == term


def test_keys_of_the_command_line_are_keys_of_the_cluster(shared: Cluster):
    shared.leader()
    revision = shared.raftctl("kv", "put", "colour", "green", "-o", "json").data["revision"]
    assert shared.raftctl("kv", "get", "colour").stdout == "green"
    shared.raftctl("kv", "put", "colour", "blue", "--if-revision", str(revision + 1000), code=6)
    shared.raftctl("kv", "put", "colour", "blue", "--if-revision", str(revision))
    assert "colour" in shared.raftctl("kv", "list").stdout
    shared.raftctl("kv", "delete", "colour")
    shared.raftctl("kv", "get", "colour", code=13)


def test_timers_are_switched_and_shown(shared: Cluster):
    leader = str(shared.leader().node_id)
    shared.raftctl("runtime-config", "set", "enable_elect=off", "--node", leader, "--yes")
    assert shared[int(leader)].status()["runtime_config"]["enable_elect"] is False
    shared.raftctl("runtime-config", "set", "enable_elect=on", "--node", leader, "--yes")
    assert shared[int(leader)].status()["runtime_config"]["enable_elect"] is True


def test_degraded_and_no_quorum_have_their_exit_codes_and_reads_need_no_leader(make_cluster: ClusterMaker):
    cluster = make_cluster(**CALM)
    cluster.begin()
    cluster.raftctl("health", "--wait")
    first, second = cluster.followers()
    first.kill()
    cluster.leader(among=[node.node_id for node in cluster if node is not first])
    cluster.raftctl("health", code=10)
    second.kill()
    survivor = next(node for node in cluster if node.alive)
    survivor.wait(lambda status: status["leader"] is None, "no leader")
    cluster.raftctl("health", code=11)
    rows = {node["node_id"]: node for node in cluster.raftctl("status", "-o", "json").data["nodes"]}
    assert [rows[node.node_id]["error"] is None for node in (survivor, first, second)] == [True, False, False]
    cluster.raftctl("heartbeat", "--timeout", "2s", code=11)
    first.start()
    wait_until(lambda: cluster.raftctl("health", code=None).code == 10, "a quorum again")


def test_nobody_at_the_endpoints_is_unreachable(make_cluster: ClusterMaker):
    cluster = make_cluster(1)
    (port,) = free_ports(1)
    ran = cluster.raftctl("-e", f"http://127.0.0.1:{port}", "heartbeat", "-o", "json", code=4)
    assert json.loads(ran.stderr[ran.stderr.index("{") :])["exit_code"] == 4
