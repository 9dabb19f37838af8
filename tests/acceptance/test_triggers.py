"""Each of the six triggers over HTTP: on the leader, on a follower, without a leader, and for a node that does not exist.

What a reply claims is checked against what the nodes then show.
"""

from __future__ import annotations

import httpx
import pytest

from tests.acceptance.cluster import CALM, Cluster, Json, Load, missing, wait_until
from tests.acceptance.conftest import ClusterMaker

SEEN = {"wait": "30s"}
"""How long an effect may take to be seen: a disk may be slow."""
LEADER_ONLY = [("heartbeat", {}), ("transfer-leader", {"to": 1}), ("allow-next-revert", {"to": 1})]


def ok(reply: httpx.Response) -> Json:
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(reply: httpx.Response, status: int, code: str) -> Json:
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    return reply.json()


# -- on the leader -----------------------------------------------------------------------------------------------------


def test_elect_on_the_leader_changes_nothing_and_says_so(shared: Cluster):
    leader = shared.leader()
    before = leader.status()["term"]
    reply = ok(leader.post("/v1/trigger/elect"))
    assert (reply["changed"], reply["observed"], reply["leader"]) == (False, True, leader.node_id)
    assert leader.status()["term"] == before


def test_a_heartbeat_names_everybody_who_answered_it(shared: Cluster):
    leader = shared.leader()
    reply = ok(leader.post("/v1/trigger/heartbeat", **SEEN))
    assert reply["effective"]["acked_by"] == [node.node_id for node in shared if node is not leader]


def test_a_snapshot_covers_what_was_applied_when_it_was_asked_for(shared: Cluster):
    for node in shared:
        shared.put("a", b"1")
        shared.settled()
        applied = node.status()["applied"]["index"]
        reply = ok(node.post("/v1/trigger/snapshot", **SEEN))
        assert reply["effective"]["upto"] >= applied
        assert node.status()["snapshot"]["index"] >= applied


def test_a_purge_is_clamped_to_the_snapshot_and_says_so(shared: Cluster):
    for node in shared:
        shared.put("a", b"2")
        shared.settled()
        end = ok(node.post("/v1/trigger/snapshot", **SEEN))["effective"]["upto"]
        reply = ok(node.post("/v1/trigger/purge-log", {"upto": end + 1000}, **SEEN))
        assert (reply["requested"]["upto"], reply["effective"]["upto"]) == (end + 1000, end)
        assert str(end) in reply["detail"]
        assert node.status()["purged"]["index"] == end


def test_purging_what_is_purged_already_changes_nothing(shared: Cluster):
    leader = shared.leader()
    end = ok(leader.post("/v1/trigger/snapshot", **SEEN))["effective"]["upto"]
    ok(leader.post("/v1/trigger/purge-log", {"upto": end}, **SEEN))
    reply = ok(leader.post("/v1/trigger/purge-log", {"upto": end}, **SEEN))
    assert (reply["changed"], reply["observed"]) == (False, True)


def test_a_strict_purge_beyond_the_snapshot_is_refused_and_nothing_goes(shared: Cluster):
    leader = shared.leader()
    end = ok(leader.post("/v1/trigger/snapshot", **SEEN))["effective"]["upto"]
    before = leader.status()["purged"]
    refused(leader.post("/v1/trigger/purge-log", {"upto": end + 1000, "strict": True}), 422, "beyond_snapshot")
    assert leader.status()["purged"] == before


def test_a_transfer_makes_the_target_lead_and_takes_writes_at_once(shared: Cluster):
    shared.settled()
    old = shared.leader()
    target = next(node for node in shared if node is not old)
    reply = ok(old.post("/v1/trigger/transfer-leader", {"to": target.node_id}, **SEEN))
    assert (reply["changed"], reply["observed"], reply["leader"]) == (True, True, target.node_id)
    assert shared.leader() is target
    ok(target.put("after-transfer", b"1"))


def test_a_transfer_to_the_leader_itself_is_refused(shared: Cluster):
    leader = shared.leader()
    refused(leader.post("/v1/trigger/transfer-leader", {"to": leader.node_id}), 409, "is_leader")


def test_the_revert_permission_shows_in_the_status_until_it_is_taken_back(shared: Cluster):
    leader = shared.leader()
    target = next(node.node_id for node in shared if node is not leader)

    def armed() -> bool:
        return leader.status()["replication"][str(target)]["revert_armed"]

    assert ok(leader.post("/v1/trigger/allow-next-revert", {"to": target, "ttl_ms": 600_000}))["changed"] is True
    assert armed()
    assert ok(leader.post("/v1/trigger/allow-next-revert", {"to": target, "ttl_ms": 600_000}))["changed"] is False
    assert ok(leader.post("/v1/trigger/allow-next-revert", {"to": target, "allow": False}))["changed"] is True
    assert not armed()


def test_the_revert_permission_ends_with_leadership(shared: Cluster):
    shared.settled()
    leader = shared.leader()
    target, other = [node for node in shared if node is not leader]
    ok(leader.post("/v1/trigger/allow-next-revert", {"to": target.node_id}))
    ok(leader.post("/v1/trigger/transfer-leader", {"to": other.node_id}, **SEEN))
    shared.leader()
    assert other.status()["replication"][str(target.node_id)]["revert_armed"] is False


# -- on a follower -----------------------------------------------------------------------------------------------------


def test_elect_on_a_follower_asks_first_and_a_living_leader_is_not_deposed(shared: Cluster):
    leader = shared.leader()
    follower = shared.followers()[0]
    problem = refused(follower.post("/v1/trigger/elect"), 409, "pre_vote_refused")
    assert "lease" in problem["detail"]
    assert shared.leader() is leader


def test_elect_without_pre_vote_makes_the_follower_lead_a_later_term(shared: Cluster):
    before = shared.leader().status()["term"]
    follower = shared.followers()[0]
    reply = wait_until(
        lambda: (reply := follower.post("/v1/trigger/elect", {"pre_vote": False})).status_code == 200 and reply.json(),
        "the follower is elected",
    )
    assert reply["leader"] == follower.node_id
    assert reply["term"] > before
    shared.leader()


@pytest.mark.parametrize(("name", "body"), LEADER_ONLY)
def test_what_only_a_leader_can_do_is_answered_with_where_the_leader_is(shared: Cluster, name: str, body: Json):
    leader = shared.leader()
    follower = shared.followers()[0]
    problem = refused(follower.post(f"/v1/trigger/{name}", body), 421, "not_leader")
    assert problem["leader"] == {"id": leader.node_id, "management": leader.url}


# -- a node that does not exist ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transfer-leader", "allow-next-revert"])
def test_a_target_that_is_no_member_is_not_found(shared: Cluster, name: str):
    problem = refused(shared.leader().post(f"/v1/trigger/{name}", {"to": 9}), 404, "node_not_found")
    assert "node 9" in problem["detail"]


# -- what the caller believes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body"),
    [("elect", {}), ("snapshot", {}), ("purge-log", {"upto": 1}), *LEADER_ONLY],
)
def test_a_wrong_belief_refuses_the_request_before_anything_happens(shared: Cluster, name: str, body: Json):
    leader = shared.leader()
    before = leader.status()
    refused(leader.post(f"/v1/trigger/{name}", body | {"expect": {"term": before["term"] + 7}}), 412, "precondition_failed")
    after = leader.status()
    assert [after[key] for key in ("term", "snapshot", "purged")] == [before[key] for key in ("term", "snapshot", "purged")]


def test_not_waiting_is_accepted_and_not_observed(shared: Cluster):
    shared.put("a", b"3")
    leader = shared.leader()
    applied = leader.status()["applied"]["index"]
    reply = leader.post("/v1/trigger/snapshot", {}, wait="0")
    assert (reply.status_code, reply.json()["observed"]) in {(202, False), (200, True)}
    leader.wait(lambda status: status["snapshot"] and status["snapshot"]["index"] >= applied, "the snapshot all the same")


# -- without a leader --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory):
    """Three nodes of which only the first one lives: without a leader for good."""
    cluster = Cluster(tmp_path_factory.mktemp("lonely"))
    try:
        cluster.begin()
        cluster.put("a", b"1")
        cluster.settled()
        survivor, *others = cluster
        for node in others:
            node.kill()
        survivor.wait(lambda status: status["leader"] is None, "no leader")
        yield cluster
    finally:
        cluster.end()
        cluster.remove_data()


@pytest.fixture
def lonely(left_alone: Cluster):
    return left_alone[1]


@pytest.mark.parametrize(("name", "body"), LEADER_ONLY)
def test_what_needs_a_leader_says_that_there_is_none(lonely, name: str, body: Json):
    reply = lonely.post(f"/v1/trigger/{name}", body)
    refused(reply, 503, "no_leader")
    assert "retry-after" in reply.headers


def test_an_election_that_cannot_be_won_is_not_reported_as_done(lonely):
    reply = lonely.post("/v1/trigger/elect", {}, wait="1s")
    assert reply.status_code in {202, 409, 504}
    assert reply.status_code != 202 or reply.json()["observed"] is False
    assert lonely.status()["leader"] is None


def test_snapshot_and_purge_need_no_leader(lonely):
    end = ok(lonely.post("/v1/trigger/snapshot", **SEEN))["effective"]["upto"]
    ok(lonely.post("/v1/trigger/purge-log", {"upto": end}, **SEEN))
    assert lonely.status()["purged"]["index"] == end


def test_status_needs_no_leader_and_shows_the_missing_as_errors(lonely):
    body = ok(lonely.client.get("/v1/cluster"))
    assert (body["voters"], body["quorum"], body["reachable"], body["failure_tolerance"]) == (3, 2, 1, 0)
    assert sorted(node_id for node_id, member in body["members"].items() if member["error"]) == ["2", "3"]


# -- in the middle of things -------------------------------------------------------------------------------------------


def test_every_trigger_under_load_loses_no_acknowledged_write(make_cluster: ClusterMaker):
    cluster = make_cluster()
    cluster.begin()
    with Load(cluster, "load/") as load:
        for _ in range(2):
            load.more(20)
            leader = cluster.leader()
            ok(leader.post("/v1/trigger/heartbeat", **SEEN))
            for node in cluster:
                end = ok(node.post("/v1/trigger/snapshot", **SEEN))["effective"]["upto"]
                ok(node.post("/v1/trigger/purge-log", {"upto": end}, **SEEN))
            load.more(20)
            follower = next(node for node in cluster if node is not leader)
            reply = leader.post("/v1/trigger/transfer-leader", {"to": follower.node_id}, **SEEN)
            assert reply.status_code in {200, 409}, reply.text
    cluster.leader()
    assert [missing(load, node) for node in cluster] == [[], [], []]


def test_a_transfer_to_a_dead_target_is_given_up_and_the_leader_serves_again(make_cluster: ClusterMaker):
    cluster = make_cluster(**CALM)
    cluster.begin()
    leader = cluster.leader()
    target = cluster.followers()[0]
    target.pause()
    reply = leader.post("/v1/trigger/transfer-leader", {"to": target.node_id}, wait="30s")
    assert reply.status_code == 409, reply.text
    assert reply.json()["code"] in {"target_unreachable", "transfer_timed_out", "target_lagging"}
    wait_until(lambda: leader.put("again", b"1").status_code == 200, "the leader serves again")
    target.resume()
