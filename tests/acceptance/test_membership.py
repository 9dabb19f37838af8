"""Do members come, vote, step back and go, with real processes and every acknowledged write still there?"""

from __future__ import annotations

import pytest

from tests.acceptance.cluster import Cluster, Load, Node, missing
from tests.acceptance.conftest import ClusterMaker

FIRST = (1, 2, 3)


@pytest.fixture
def grown(make_cluster: ClusterMaker) -> Cluster:
    """Three members, and a fourth node that is blank and runs."""
    cluster = make_cluster(4)
    cluster.start()
    cluster.init({node_id: address for node_id, address in cluster.members.items() if int(node_id) in FIRST})
    cluster.leader(among=FIRST)
    return cluster


def named(node: Node) -> str:
    return f"{node.node_id}={node.raft_address},{node.url}"


def roles(cluster: Cluster) -> dict[int, str]:
    return {node["node_id"]: node["role"] for node in cluster.raftctl("status", "-o", "json").data["nodes"]}


def test_a_node_is_added_promoted_demoted_and_removed_under_load(grown: Cluster):
    with Load(grown, "load/") as load:
        load.more(30)
        grown.raftctl("member", "add", named(grown[4]), "--yes")
        assert roles(grown)[4] == "learner"
        load.more(30)
        grown.raftctl("member", "promote", "4", "--yes")
        assert roles(grown)[4] == "voter"
        load.more(30)
        grown.raftctl("member", "demote", "2", "--yes")
        assert roles(grown)[2] == "learner"
        grown.raftctl("member", "remove", "2", "--yes")
        assert roles(grown)[2] == "-"
        load.more(30)
    leader = grown.leader(among=(1, 3, 4))
    assert missing(load, leader) == []
    assert missing(load, grown[4]) == []


def test_a_node_that_joined_knows_the_id_of_its_cluster_and_keeps_it(grown: Cluster):
    grown.raftctl("member", "add", named(grown[4]), "--yes")
    cluster_id = grown[1].status()["cluster_id"]
    assert cluster_id == grown[4].wait(lambda status: status["cluster_id"], "its cluster's id")["cluster_id"]
    grown[4].kill()
    grown[4].start()
    assert cluster_id == grown[4].status()["cluster_id"]
    grown[4].wait(lambda status: status["leader"] is not None, "a leader")


def test_a_leader_that_is_removed_hands_over_and_nothing_is_lost(grown: Cluster):
    grown.raftctl("member", "add", named(grown[4]), "--yes")
    grown.raftctl("member", "promote", "4", "--yes")
    leader = grown.leader()
    rest = [node.node_id for node in grown if node is not leader]
    with Load(grown, "load/") as load:
        load.more(30)
        grown.raftctl("member", "remove", str(leader.node_id), "--yes", "--confirm", "demo")
        load.more(30)
    heir = grown.leader(among=rest)
    assert missing(load, heir) == []


def test_what_would_lose_the_quorum_is_refused_and_nothing_changes(grown: Cluster):
    first, second = (node for node in grown if node.node_id in FIRST and node.status()["state"] != "leader")
    first.kill()
    grown.leader(among=[node_id for node_id in FIRST if node_id != first.node_id])
    error = grown.raftctl("member", "remove", str(second.node_id), "--yes", "--confirm", "demo", "-o", "json", code=5).error
    assert error["rule_ids"] == ["quorum-after"]
    assert roles(grown)[second.node_id] == "voter"


def test_a_plan_shows_quorum_and_tolerance_before_and_after(grown: Cluster):
    plan = grown.raftctl("member", "remove", "3", "--dry-run", "-o", "json").data
    assert plan["steps"][:2] == [
        "before: 3 voters, 2 needed; 1 more may fail",
        "after:  2 voters, 2 needed; no more may fail",
    ]
    assert plan["tier"] == "severe"
    assert roles(grown)[3] == "voter"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("promote", "4", "--yes"), 5),
        (("demote", "4", "--yes"), 5),
        (("remove", "9", "--yes"), 5),
        (("remove", "3", "--yes"), 2),
        (("add", "nonsense", "--yes"), 2),
        (("add", "5=127.0.0.1:1,http://127.0.0.1:1", "--yes"), 5),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(shared: Cluster, arguments: tuple[str, ...], code: int):
    shared.raftctl("member", *arguments, code=code)
    assert sorted(roles(shared).values()) == ["voter"] * 3


def test_a_node_of_another_cluster_is_not_taken_in(grown: Cluster, make_cluster: ClusterMaker):
    other = make_cluster(1)
    other.begin()
    stranger = other[1]
    reply = grown.leader(among=FIRST).post(
        "/v1/membership/learners", {"id": 1, "raft": stranger.raft_address, "management": stranger.url}
    )
    assert (reply.status_code, reply.json()["code"]) == (409, "already_initialized")
