"""Is an acknowledged write still there after any process was killed at any moment?

Every test here writes under load, kills with SIGKILL, and reads back each single write that was acknowledged.
"""

from __future__ import annotations

import shutil

import pytest

from tests.acceptance.cluster import QUICK, Cluster, Load, missing, wait_until
from tests.acceptance.conftest import ClusterMaker
from tests.acceptance.contents import assert_equal_contents


@pytest.fixture
def cluster(make_cluster: ClusterMaker) -> Cluster:
    """Three nodes that serve, and that soon miss a leader."""
    cluster = make_cluster(**QUICK)
    cluster.begin()
    return cluster


@pytest.mark.parametrize("victim", [1, 2, 3])
def test_killing_a_node_under_load_loses_no_acknowledged_write(cluster: Cluster, victim: int):
    with Load(cluster, "load/") as load:
        load.more(50)
        cluster[victim].kill()
        load.more(50)
        cluster[victim].start()
        load.more(50)
    assert missing(load, cluster[victim]) == []
    assert_equal_contents(list(cluster))


def test_killing_the_leader_again_and_again_loses_no_acknowledged_write(cluster: Cluster):
    with Load(cluster, "load/") as load:
        for _ in range(3):
            load.more(30)
            leader = cluster.leader()
            leader.kill()
            load.more(30)
            leader.start()
    assert [missing(load, node) for node in cluster] == [[], [], []]


def test_killing_all_nodes_at_once_under_load_loses_no_acknowledged_write(cluster: Cluster):
    with Load(cluster, "load/") as load:
        load.more(100)
        for node in cluster:
            assert node.process is not None
            node.process.kill()
        for node in cluster:
            node.kill()
        for node in cluster:
            node.start()
        load.more(30)
    cluster.leader()
    assert [missing(load, node) for node in cluster] == [[], [], []]


def test_killing_nodes_while_snapshots_are_built_loses_no_acknowledged_write(make_cluster: ClusterMaker):
    cluster = make_cluster(**QUICK, snapshot_logs_since_last=20, max_in_snapshot_log_to_keep=5)
    cluster.begin()
    with Load(cluster, "load/") as load:
        for node in cluster:
            before = (node.status()["snapshot"] or {"index": 0})["index"]
            node.wait(
                lambda status, before=before: status["snapshot"] and status["snapshot"]["index"] > before, "a snapshot"
            )
            node.kill()
            load.more(60)  # more than the log keeps: the node comes back behind everybody's log
            node.start()
    cluster.leader()
    assert [missing(load, node) for node in cluster] == [[], [], []]


def test_a_paused_leader_is_replaced_and_follows_when_it_wakes_up(cluster: Cluster):
    old = cluster.leader()
    others = [node.node_id for node in cluster if node is not old]
    with Load(cluster, "load/") as load:
        load.more(20)
        old.pause()
        new = cluster.leader(among=others)
        load.more(20)
        later = new.status()["term"]
        old.resume()
    assert cluster.leader().status()["term"] >= later
    assert [missing(load, node) for node in cluster] == [[], [], []]


def test_two_of_three_gone_means_no_write_is_acknowledged_and_stale_reads_go_on(cluster: Cluster):
    cluster.put("before", b"1")
    cluster.settled()
    survivor, *others = cluster
    for node in others:
        node.kill()
    survivor.wait(lambda status: status["state"] != "leader" or status["alarms"], "it knows that it is alone")

    def refused() -> bool:
        reply = survivor.put("alone", b"2", timeout="1s")
        assert reply.status_code != 200
        return reply.status_code == 503 and reply.json()["code"] in {"no_leader", "no_quorum"}

    wait_until(refused, "writes are refused")
    assert survivor.get("before", consistency="stale").content == b"1"
    for node in others:
        node.start()
    cluster.put("together", b"3")
    assert survivor.read("together") == b"3"


def test_a_directory_emptied_by_hand_makes_the_node_mute_and_the_cluster_goes_on(cluster: Cluster):
    victim = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        load.more(30)
        victim.kill()
        shutil.rmtree(victim.data)
        victim.start()
        others = [node.node_id for node in cluster if node is not victim]
        told = cluster.until_leader(
            lambda status: any(alarm["code"] == "node_reverted" for alarm in status["alarms"]),
            "an alarm about the lost directory",
            among=others,
        )
        load.more(30)
    alarm = next(alarm for alarm in told["alarms"] if alarm["code"] == "node_reverted")
    assert alarm["node"] == victim.node_id
    assert f"raftctl rejoin-node {victim.node_id} --blank" == alarm["hint"]
    assert victim.status()["term"] == 0
    assert victim.status()["last_log"] is None
    assert victim.client.get("/readyz").status_code == 503
    assert missing(load, cluster.leader(among=others)) == []


def test_a_node_that_lost_its_directory_comes_back_as_a_new_life_once_that_is_allowed(make_cluster: ClusterMaker):
    cluster = make_cluster()  # a permission is gone with the leader that gave it: this one stays
    cluster.begin()
    victim = cluster.followers()[0]
    old_life = victim.status()["incarnation"]
    with Load(cluster, "load/") as load:
        load.more(30)
        victim.kill()
        shutil.rmtree(victim.data)
        victim.start()
        others = [node.node_id for node in cluster if node is not victim]
        cluster.until_leader(lambda status: status["alarms"], "the loss is seen", among=others)
        cluster.ask_leader("/v1/trigger/allow-next-revert", {"to": victim.node_id}, among=others)
        new_life = victim.status()["incarnation"]
        told = cluster.until_leader(
            lambda status: status["membership"]["incarnations"][str(victim.node_id)] == [new_life],
            "the new life votes",
            among=others,
        )
        load.more(30)
    assert new_life != old_life
    assert told["membership"]["configs"] == [[1, 2, 3]]
    assert missing(load, victim) == []


def test_stopping_a_node_politely_ends_its_process_with_zero(cluster: Cluster):
    follower = cluster.followers()[0]
    assert follower.terminate() == 0
    assert "Traceback" not in follower.log.read_text("utf-8")


def test_a_stop_over_http_ends_the_process_with_zero(cluster: Cluster):
    follower = cluster.followers()[0]
    assert follower.post("/v1/shutdown").status_code in {200, 202}
    assert follower.process is not None
    assert follower.process.wait(60) == 0
