"""Does `raftctl rejoin-node` bring a node back whole, refuse when it cannot be safe, and undo what it did not finish?"""

from __future__ import annotations

import json
import shutil

import pytest

from tests.acceptance.cluster import Cluster, Json, Load, Node, missing, wait_until
from tests.acceptance.contents import assert_equal_contents

SURE = ("--yes", "--confirm", "demo")


def rejoin(cluster: Cluster, node: Node, *options: str, code: int = 0):
    return cluster.raftctl("rejoin-node", str(node.node_id), *SURE, "-o", "json", *options, code=code)


def fill(cluster: Cluster, count: int = 100) -> None:
    with Load(cluster, "old/") as load:
        load.more(count)
    cluster.settled()


def assert_whole(cluster: Cluster, node: Node) -> None:
    """The node follows, recovers no more, is not allowed to revert, and holds what the others hold."""
    assert node.alive
    node.wait(lambda status: status["recovering"] is None, "no longer recovering")
    cluster.settled()
    assert_equal_contents([each for each in cluster if each.alive])

    def untroubled() -> Json | None:
        status = cluster.leader().status()
        return status if status["replication"] and status["alarms"] == [] else None

    told = wait_until(untroubled, "a leader without alarms")
    assert [peer for peer, target in told["replication"].items() if target["revert_armed"]] == []


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_node_is_rebuilt_from_the_others_with_equal_digests(cluster: Cluster, role: str):
    fill(cluster)
    node = cluster.leader() if role == "leader" else cluster.followers()[0]
    life = node.status()["incarnation"]
    receipt = rejoin(cluster, node).data
    assert receipt["node"] == node.node_id
    assert node.node_id not in receipt["barrier"]["acked_by"]
    assert len(receipt["proof"]["digest"]) == 64
    assert (node.data / receipt["retired_to"]).is_dir()
    assert node.status()["incarnation"] == life
    assert_whole(cluster, node)


def test_a_node_is_rebuilt_under_load_and_no_acknowledged_write_is_lost(cluster: Cluster):
    fill(cluster)
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        load.more(50)
        rejoin(cluster, node)
        load.more(50)
    assert [missing(load, each) for each in cluster] == [[], [], []]
    assert_whole(cluster, node)


def test_a_node_is_rebuilt_from_a_snapshot_when_the_log_is_purged(cluster: Cluster):
    fill(cluster, 300)
    cluster.raftctl("snapshot", "--all")
    cluster.raftctl("purge-log", "--upto", "1000000", "--all", "--yes")
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        load.more(20)
        rejoin(cluster, node)
        load.more(20)
    assert node.status()["snapshot"]["index"] > 300
    assert [missing(load, each) for each in cluster] == [[], [], []]
    assert_whole(cluster, node)


def test_one_node_after_the_other_is_rebuilt(cluster: Cluster):
    fill(cluster)
    for node in cluster:
        rejoin(cluster, node)
        assert_whole(cluster, node)


def test_a_rebuilt_node_keeps_what_it_has_through_a_kill(cluster: Cluster):
    fill(cluster)
    node = cluster.followers()[0]
    rejoin(cluster, node)
    node.kill()
    node.start()
    assert_whole(cluster, node)


def test_the_journal_of_a_run_is_whole_and_is_listed(cluster: Cluster):
    fill(cluster, 10)
    node = cluster.followers()[0]
    rejoin(cluster, node)
    run = cluster.last_run()
    assert (run["outcome"], run["node"]) == ("done", node.node_id)
    shown = cluster.raftctl("runs", "show", run["run"])
    assert "intact" in shown.stdout


# -- refused: nothing changed ------------------------------------------------------------------------------------------


def picture(cluster: Cluster) -> list[Json]:
    keys = ("incarnation", "boot_count", "state", "recovering", "last_log", "snapshot", "purged", "term", "membership")
    return [{key: node.status()[key] for key in keys} for node in cluster if node.alive]


def files(node: Node) -> list[str]:
    """What lies in the data directory, whether the node runs or not: a database has companions only while it is open."""
    found = [path for path in node.data.rglob("*") if not path.name.startswith("spare")]
    return sorted(str(path.relative_to(node.data)) for path in found if not path.name.endswith(("-wal", "-shm")))


def test_a_dry_run_measures_every_rule_and_changes_nothing(cluster: Cluster):
    fill(cluster, 20)
    node = cluster.followers()[0]
    before = picture(cluster), [files(each) for each in cluster]
    plan = cluster.raftctl("rejoin-node", str(node.node_id), "--dry-run", "-o", "json").data
    assert before == (picture(cluster), [files(each) for each in cluster])
    rules = {rule["rule"]: rule for rule in plan["rules"]}
    assert sorted(rules) == [
        "config-settled",
        "holders-without-target",
        "identity",
        "no-lock",
        "no-other-recovering",
        "not-leader",
        "one-leader",
        "others-healthy",
        "snapshot-or-log",
        "space",
    ]
    assert all(rule["measured"] and rule["threshold"] for rule in rules.values())
    assert not (cluster.directory / "home" / "state" / "raftctl" / "runs").exists()


def test_it_is_refused_with_rules_and_numbers_when_another_node_is_down(cluster: Cluster):
    fill(cluster, 20)
    node, other = cluster.followers()
    other.kill()
    cluster.leader(among=[each.node_id for each in cluster if each is not other])
    before = picture(cluster)
    for options in ((), ("--dry-run",), ("--override", "others-healthy")):
        error = rejoin(cluster, node, *options, code=5).error
        assert "holders-without-target" in error["rule_ids"]
        assert "1 of 3" in json.dumps(error) or "1 of 3" in error["message"]
    assert picture(cluster) == before


def test_it_is_refused_while_another_node_is_recovering_or_armed(cluster: Cluster):
    fill(cluster, 20)
    node, other = cluster.followers()
    cluster.ask_leader("/v1/trigger/allow-next-revert", {"to": other.node_id})
    error = rejoin(cluster, node, code=5).error
    assert error["rule_ids"] == ["no-other-recovering"]


def test_a_node_that_is_no_member_is_not_found(shared: Cluster):
    shared.raftctl("rejoin-node", "9", *SURE, code=13)


def test_without_a_terminal_it_needs_yes_and_the_cluster_s_name(shared: Cluster):
    shared.leader()
    node = str(shared.followers()[0].node_id)
    before = picture(shared)
    assert "--yes" in shared.raftctl("rejoin-node", node, code=2).stderr
    assert "--confirm" in shared.raftctl("rejoin-node", node, "--yes", code=2).stderr
    shared.raftctl("rejoin-node", node, "--yes", "--confirm", "production", code=5)
    assert picture(shared) == before


# -- a lost directory --------------------------------------------------------------------------------------------------


def test_a_node_that_lost_its_directory_comes_back_as_a_new_life(cluster: Cluster):
    fill(cluster)
    node = cluster.followers()[0]
    old_life = node.status()["incarnation"]
    with Load(cluster, "load/") as load:
        load.more(20)
        node.kill()
        shutil.rmtree(node.data)
        node.start()
        cluster.leader(among=[each.node_id for each in cluster if each is not node])
        refused = rejoin(cluster, node, code=5).error
        assert "--blank" in refused["hint"]
        receipt = rejoin(cluster, node, "--blank").data
        load.more(20)
    assert receipt["old_lives"] == [old_life]
    assert receipt["incarnation"] == node.status()["incarnation"] != old_life
    assert cluster.leader().status()["membership"]["configs"] == [[1, 2, 3]]
    cluster.settled()
    assert [missing(load, each) for each in cluster] == [[], [], []]
    assert_whole(cluster, node)


def test_a_node_with_its_data_is_not_let_in_as_a_new_life(cluster: Cluster):
    node = cluster.followers()[0]
    error = rejoin(cluster, node, "--blank", code=5).error
    assert error["rule_ids"] == ["blank-target"]


# -- the sandbox's driver ----------------------------------------------------------------------------------------------


def test_the_local_driver_rebuilds_a_sandbox_s_node_by_its_process(sandbox: Cluster):
    pids = {item["node"]: item["pid"] for item in sandbox.raftctl("dev", "status", "-o", "json").data["items"]}
    for number in range(5):
        sandbox.raftctl("kv", "put", f"k{number}", "v")
    receipt = sandbox.raftctl("rejoin-node", "3", "--driver", "local", "--yes", "--confirm", "dev", "-o", "json").data
    after = {item["node"]: item["pid"] for item in sandbox.raftctl("dev", "status", "-o", "json").data["items"]}
    sandbox.raftctl("dev", "down", "--purge")
    assert receipt["driver"] == "local"
    assert (after[1], after[2]) == (pids[1], pids[2])
    assert after[3] != pids[3]
    assert not (sandbox.directory / "home" / "dev").exists()
