"""Changing members over HTTP: raft_engine/management/membership_routes.py."""

from __future__ import annotations

import pytest

from raft_engine.errors import InitializeError, refused
from raft_engine.types.ids import Incarnation, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.outcomes import Expectation, Refusal, RefusalCode, TriggerOutcome

LAST = {"term": 7, "node_id": 1, "index": 12}
LEARNER = {"id": 4, "raft": "127.0.0.1:9204", "management": "http://127.0.0.1:4"}


async def test_a_learner_is_asked_who_it_is_and_added_with_that_life(node, client):
    reply = await client.post("/v1/membership/learners", json=LEARNER)
    assert reply.status_code == 200
    assert [("identify", 4, "127.0.0.1:9204")] == node.calls
    ((name, voters, asked),) = node.raft.trigger.calls
    assert (name, voters) == ("change_membership", None)
    peer = PeerId(NodeId(4), Incarnation("e" * 32))
    assert {peer: NodeAddress("127.0.0.1:9204", "http://127.0.0.1:4")} == asked["add_learners"]
    assert asked["blocking"]
    assert {**LEARNER, "blocking": True} == reply.json()["requested"]


async def test_a_learner_that_has_not_caught_up_is_accepted_and_not_observed(node, client):
    node.raft.trigger.outcome = TriggerOutcome(True, False, "behind by 900", {})
    reply = await client.post("/v1/membership/learners?wait=1s", json=LEARNER)
    assert (reply.status_code, reply.json()["observed"]) == (202, False)
    assert node.raft.trigger.calls[0][2]["wait_s"] == 1.0


async def test_who_does_not_lead_asks_nobody(node, client):
    node.raft.change(leader=NodeId(2))
    reply = await client.post("/v1/membership/learners", json=LEARNER)
    assert (reply.status_code, reply.json()["leader"]["id"]) == (421, 2)
    assert [] == node.calls


async def test_without_a_leader_that_is_said(node, client):
    node.raft.change(leader=None)
    assert (await client.post("/v1/membership/learners", json=LEARNER)).status_code == 503


async def test_a_voter_that_lost_its_data_is_not_added_as_a_learner(node, client):
    reply = await client.post("/v1/membership/learners", json={**LEARNER, "id": 2})
    assert (reply.status_code, reply.json()["code"]) == (409, "another_life")
    assert "raftctl rejoin-node 2 --blank" in reply.json()["hint"]
    assert [] == node.raft.trigger.calls


@pytest.mark.parametrize("code", ["member_unreachable", "prepared_for_another", "already_initialized"])
async def test_a_node_that_cannot_be_a_member_is_a_problem(node, client, code):
    node.failure = InitializeError(code, "node 4 cannot", "do this")
    reply = await client.post("/v1/membership/learners", json=LEARNER)
    assert (reply.status_code, reply.json()["code"], reply.json()["hint"]) == (409, code, "do this")


@pytest.mark.parametrize(
    "change", [{"id": 0}, {"raft": "nowhere"}, {"raft": "h:99999"}, {"management": "ftp://x"}, {"more": 1}, {"blocking": 1}]
)
async def test_a_learner_that_cannot_be_one_is_400(node, client, change):
    assert (await client.post("/v1/membership/learners", json={**LEARNER, **change})).status_code == 400
    assert [] == node.calls


async def test_voters_are_set_with_what_was_expected(node, client):
    expect = {"term": 7, "leader": 1}
    reply = await client.post("/v1/membership/voters", json={"voters": [3, 1, 2, 3], "retain": True, "expect": expect})
    assert {"voters": [1, 2, 3], "retain": True} == reply.json()["requested"]
    ((_, voters, asked),) = node.raft.trigger.calls
    assert (sorted(set(voters)), asked["retain"]) == ([1, 2, 3], True)
    assert Expectation(term=7, leader=NodeId(1)) == asked["expect"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (RefusalCode.LEARNER_NOT_FOUND, 409),
        (RefusalCode.EMPTY_MEMBERSHIP, 409),
        (RefusalCode.CHANGE_IN_PROGRESS, 409),
        (RefusalCode.OUTCOME_UNKNOWN, 504),
        (RefusalCode.PRECONDITION_FAILED, 412),
    ],
)
async def test_what_the_engine_refuses_is_a_problem(node, client, code, status):
    node.raft.trigger.outcome = refused(Refusal(code, "because"))
    reply = await client.post("/v1/membership/voters", json={"voters": [1, 2]})
    assert (reply.status_code, reply.json()["code"]) == (status, code.value)


async def test_voters_are_added_and_removed_relative_to_those_there_are(node, client):
    reply = await client.post("/v1/membership/voters", json={"add": [4, 4], "remove": [2]})
    assert {"add": [4], "remove": [2], "retain": False} == reply.json()["requested"]
    ((_, voters, asked),) = node.raft.trigger.calls
    assert (None, {4}, {2}) == (voters, set(asked["add_voters"]), set(asked["remove_voters"]))


async def test_a_change_that_names_nobody_is_400(node, client):
    assert (await client.post("/v1/membership/voters", json={})).status_code == 400
    assert [] == node.raft.trigger.calls


async def test_a_member_is_removed_whatever_it_is_so_that_no_other_change_is_undone(node, client):
    assert (await client.delete("/v1/membership/3")).status_code == 200
    assert [("change_membership", None)] == [call[:2] for call in node.raft.trigger.calls]
    assert [3] == node.raft.trigger.calls[0][2]["remove_members"]


async def test_the_address_of_a_member_is_set(node, client):
    body = {"id": 3, "raft": "10.0.0.3:9201", "management": "http://10.0.0.3:9101"}
    reply = await client.post("/v1/membership/addresses", json={**body, "expect": {"last_log_id": LAST}})
    assert body == reply.json()["requested"]
    ((_, _, asked),) = node.raft.trigger.calls
    assert {3: NodeAddress("10.0.0.3:9201", "http://10.0.0.3:9101")} == asked["set_addresses"]
    assert LogId(Term(7), NodeId(1), LogIndex(12)) == asked["expect"].last_log_id


async def test_an_address_that_is_none_is_400(node, client):
    body = {"id": 3, "raft": "nowhere", "management": "http://h"}
    assert (await client.post("/v1/membership/addresses", json=body)).status_code == 400
    assert [] == node.raft.trigger.calls


@pytest.mark.parametrize("name", ["0", "-1", "x", "1e3", "9" * 30, "%31%2f"])
async def test_what_is_no_node_id_is_refused(node, client, name):
    assert (await client.delete(f"/v1/membership/{name}")).status_code in {400, 404}
    assert [] == node.raft.trigger.calls
