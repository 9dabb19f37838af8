"""Are nodes drained, restarted and replaced by real processes without an acknowledged write lost?"""

from __future__ import annotations

import pytest

from tests.acceptance.cluster import Cluster, Load, Node, missing
from tests.acceptance.conftest import ClusterMaker

FIRST = (1, 2, 3)


@pytest.fixture
def cluster(make_cluster: ClusterMaker) -> Cluster:
    """Three members, and a fourth node that is blank and runs."""
    cluster = make_cluster(4)
    cluster.start()
    cluster.init({node_id: address for node_id, address in cluster.members.items() if int(node_id) in FIRST})
    cluster.leader(among=FIRST)
    return cluster


def named(node: Node) -> str:
    return f"{node.node_id}={node.raft_address},{node.url}"


def test_every_node_is_restarted_under_load_and_nothing_is_lost(cluster: Cluster):
    with Load(cluster, "load/") as load:
        load.more(30)
        data = cluster.raftctl("rolling-restart", "--yes", "-o", "json").data
        load.more(30)
    assert sorted(data["restarted"]) == list(FIRST)
    assert data["order"] == data["restarted"]
    for node_id in FIRST:
        assert missing(load, cluster[node_id]) == []


def test_a_drained_leader_stays_a_follower_when_the_next_leader_dies(cluster: Cluster):
    first = cluster.leader(among=FIRST)
    cluster.raftctl("drain", str(first.node_id), "--yes")
    second = cluster.leader(among=[node_id for node_id in FIRST if node_id != first.node_id])
    second.kill()
    third = cluster.leader(among=[node_id for node_id in FIRST if node_id not in {first.node_id, second.node_id}])
    assert third.node_id != first.node_id
    second.start()
    cluster.raftctl("drain", str(first.node_id), "--undo", "--yes")
    assert first.status()["runtime_config"]["enable_elect"] is True


def test_a_dead_voter_is_replaced_under_load_and_nothing_is_lost(cluster: Cluster):
    leader = cluster.leader(among=FIRST)
    dead = next(cluster[node_id] for node_id in FIRST if node_id != leader.node_id)
    with Load(cluster, "load/") as load:
        load.more(30)
        dead.kill()
        line = ("replace-node", str(dead.node_id), "--with", named(cluster[4]), "--yes", "--confirm", "demo", "-o", "json")
        data = cluster.raftctl(*line).data
        load.more(30)
    assert data["proof"]["digest"]
    assert sorted({*FIRST, 4} - {dead.node_id}) == sorted(cluster[4].status()["membership"]["configs"][0])
    assert missing(load, cluster[4]) == []
