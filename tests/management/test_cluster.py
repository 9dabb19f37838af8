"""How the cluster looks from one node."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
import pytest

from raft_engine.management import cluster as looking
from raft_engine.management.app import ManagementApp
from raft_engine.management.cluster import Quorum, worst_quorum
from raft_engine.management.schema import MemberError
from raft_engine.management.server import ManagementServer
from raft_engine.types.ids import Incarnation, NodeId
from raft_engine.types.membership import EMPTY_MEMBERSHIP, Membership, NodeAddress, StoredMembership
from raft_engine.types.metrics import ServerState
from tests.management.fakes import MEMBERSHIP, PEERS, FakeNode, address, log_id
from tests.management.test_access import TOKENS, secured


def told(*running: int, **states):
    return {NodeId(n): {"incarnation": PEERS[NodeId(n)], "state": states.get(f"n{n}", "follower")} for n in running}


@pytest.mark.parametrize(
    ("running", "quorum"), [((1, 2, 3), Quorum(3, 2, 3)), ((1, 2), Quorum(3, 2, 2)), ((), Quorum(3, 2, 0))]
)
def test_a_voter_counts_when_it_answers(running, quorum):
    assert worst_quorum(MEMBERSHIP.membership, told(*running)) == quorum


def test_a_voter_whose_engine_is_stopped_does_not_count():
    assert worst_quorum(MEMBERSHIP.membership, told(1, 2, 3, n2="shutdown")) == Quorum(3, 2, 2)


def test_another_life_of_a_voter_does_not_count():
    answers = told(1, 2, 3) | {NodeId(3): {"incarnation": "f" * 32, "state": "learner"}}
    assert worst_quorum(MEMBERSHIP.membership, answers) == Quorum(3, 2, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {3: {"recovering": {"until": None, "reason": "wiped"}}},
        {3: {"alarms": [{"code": "low_space"}, {"code": "older_copy"}]}},
        {1: {"state": "leader", "replication": {"2": {"state": "replicate"}, "3": {"state": "reverted"}}}},
        {1: {"state": "leader", "term": 2, "replication": {"2": {"state": "replicate"}, "3": {"state": "unreachable"}}}},
    ],
    ids=["recovering", "an older copy", "fenced by the leader", "not reached by its leader"],
)
def test_a_voter_that_acknowledges_nothing_does_not_count(changes):
    answers = {node_id: answer | changes.get(node_id, {}) for node_id, answer in told(1, 2, 3).items()}
    assert worst_quorum(MEMBERSHIP.membership, answers) == Quorum(3, 2, 2)


def test_whom_a_former_leader_does_not_reach_counts():
    former = {"state": "leader", "term": 2, "replication": {"2": {"state": "unreachable"}, "3": {"state": "unreachable"}}}
    present = {"state": "leader", "term": 3, "replication": {"1": {"state": "unreachable"}, "3": {"state": "replicate"}}}
    answers = told(1, 2, 3)
    answers[NodeId(1)] |= former
    answers[NodeId(2)] |= present
    assert worst_quorum(MEMBERSHIP.membership, answers) == Quorum(3, 2, 2)


@pytest.mark.parametrize("answer", [{}, {"incarnation": ["x"]}, {"state": 3}, MemberError("timed_out", "")])
def test_nonsense_from_a_voter_does_not_count(answer):
    assert worst_quorum(MEMBERSHIP.membership, told(1, 2) | {NodeId(3): answer}) == Quorum(3, 2, 2)


def test_of_two_voter_sets_the_worse_one_counts():
    old = {NodeId(n): PEERS[NodeId(n)] for n in (1, 2, 3)}
    new = {NodeId(1): PEERS[NodeId(1)], NodeId(4): Incarnation("4" * 32)}
    assert worst_quorum(Membership((old, new)), told(1, 2, 3)) == Quorum(2, 2, 1)


def test_without_voters_there_is_no_quorum():
    assert worst_quorum(EMPTY_MEMBERSHIP, {}) == Quorum(0, 0, 0)


async def test_a_blank_node_is_a_cluster_of_nobody(node, client):
    node.raft.change(membership=StoredMembership(), leader=None)
    body = (await client.get("/v1/cluster")).json()
    assert (body["members"], body["voters"], body["has_quorum"]) == ({}, 0, False)


async def test_members_that_do_not_answer_have_an_error_and_lower_the_tolerance(client):
    body = (await client.get("/v1/cluster")).json()
    assert {number: member["error"] and member["error"]["code"] for number, member in body["members"].items()} == {
        "1": None,
        "2": "unreachable",
        "3": "unreachable",
    }
    numbers = [body[name] for name in ("voters", "quorum", "reachable", "failure_tolerance", "has_quorum")]
    assert numbers == [3, 2, 1, 0, False]
    assert body["view"]["node_id"] == body["asked"] == body["members"]["1"]["status"]["node_id"] == 1


@pytest.fixture
async def served():
    """Start endpoints for nodes and give each the addresses of all."""
    servers = []

    async def serve(*numbers: int) -> list[FakeNode]:
        nodes, addresses = [], {}
        for number in numbers:
            node = FakeNode()
            node.node_id, node.incarnation = NodeId(number), PEERS[NodeId(number)]
            server = ManagementServer(node)
            port = await server.start("127.0.0.1", 0)
            servers.append(server)
            nodes.append(node)
            addresses[NodeId(number)] = NodeAddress("127.0.0.1:1", f"http://127.0.0.1:{port}")
        configs = ({number: PEERS[number] for number in addresses},)
        for node in nodes:
            node.raft.change(membership=StoredMembership(log_id(1), Membership(configs, {}, addresses)))
        return nodes

    yield serve
    await asyncio.gather(*(server.stop() for server in servers))


async def look(node) -> dict:
    app = ManagementApp(node)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver") as client:
        reply = await client.get("/v1/cluster", headers={"authorization": f"Bearer {TOKENS[max(TOKENS)]}"})
    await app.members.close()
    return reply.json()


async def test_every_member_is_asked_for_its_own_status(served):
    nodes = await served(1, 2, 3)
    nodes[2].raft.change(state=ServerState.FOLLOWER, replication=None)
    body = await look(nodes[0])
    assert [member["status"]["node_id"] for member in body["members"].values()] == [1, 2, 3]
    assert [member["status"]["state"] for member in body["members"].values()] == ["leader", "leader", "follower"]
    assert (body["reachable"], body["failure_tolerance"], body["has_quorum"]) == (3, 1, True)


async def test_the_token_of_the_caller_opens_the_members_too(served):
    nodes = await served(1, 2, 3)
    for node in nodes:
        node.security = secured(frozenset({"testserver", "127.0.0.1"}))
    assert (await look(nodes[0]))["reachable"] == 3


async def test_a_member_that_refuses_is_shown_with_its_status_code(served):
    nodes = await served(1, 2)
    nodes[1].security = secured(frozenset({"elsewhere"}))
    assert (await look(nodes[0]))["members"]["2"]["error"]["code"] == "http_403"


async def answer_with(data: bytes):
    """Return a server that answers every connection with `data`, b"" never."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if data:
            writer.write(data)
            await writer.drain()
        else:
            await reader.read()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


def http(body: bytes, status: str = "200 OK", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status.encode(), b"content-length: %d" % len(body), b"connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (http(b"[]"), "malformed"),
        (http(b"{"), "malformed"),
        (http(b'"\xff"'), "malformed"),
        (http(b" " * 3000), "malformed"),
        (http(b"", "302 Found", b"location: http://127.0.0.1:1/"), "http_302"),
        (http(b"", "503 Busy"), "http_503"),
        (b"nonsense\r\n\r\n", "unreachable"),
        (b"", "timed_out"),
    ],
)
async def test_a_member_that_misbehaves_is_an_error_and_never_a_failure(node, monkeypatch, data, code):
    monkeypatch.setattr(looking, "STATUS_BYTES_MAX", 2000)
    monkeypatch.setattr(looking, "MEMBER_ANSWERS_WITHIN_S", 0.2)
    async with await answer_with(data) as server:
        port = server.sockets[0].getsockname()[1]
        nodes = {NodeId(1): address(1), NodeId(2): NodeAddress("127.0.0.1:1", f"http://127.0.0.1:{port}")}
        node.raft.change(membership=msgspec.structs.replace(MEMBERSHIP, membership=Membership((PEERS,), {}, nodes)))
        body = await look(node)
    assert body["members"]["2"]["error"]["code"] == code


async def test_an_address_that_is_none_is_an_error_of_that_member(node):
    nodes = {NodeId(1): address(1), NodeId(2): NodeAddress("x", "http://[bad")}
    node.raft.change(membership=msgspec.structs.replace(MEMBERSHIP, membership=Membership((PEERS,), {}, nodes)))
    assert (await look(node))["members"]["2"]["error"]["code"] == "unreachable"
