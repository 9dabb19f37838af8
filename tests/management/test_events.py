"""The stream of events: raft_engine/management/events.py."""

from __future__ import annotations

import asyncio
import json

import pytest

from raft_engine.management.context import Context
from raft_engine.management.events import KEPT_MAX, KINDS, EventLog, differences
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.metrics import Alarm, ReplicationMetrics, ReplicationState, ServerState
from tests.management.fakes import PEERS, log_id


def parse(text: bytes) -> list[tuple[str, str, dict]]:
    """Return (id, kind, data) of every event in a piece of the stream."""
    found = []
    for block in text.decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
async def log(node):
    log = EventLog(Context(node))
    yield log
    log._context.stopping = True
    await log.close()


def target(state: ReplicationState, armed_ms: float | None = None) -> dict:
    peer = PeerId(NodeId(2), PEERS[NodeId(2)])
    return {NodeId(2): ReplicationMetrics(peer, log_id(11), 1, state, 1.0, armed_ms, 0, 0)}


async def first(stream) -> list:
    async with asyncio.timeout(30):
        return parse(await anext(stream))


async def test_a_listener_is_first_told_the_status(log):
    ((_, kind, data),) = await first(log.listen(None))
    assert (kind, data["node_id"], data["leader"]) == ("status", 1, 1)


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        ({"leader": None, "state": ServerState.FOLLOWER}, "leader", {"leader": None, "term": 7, "state": "follower"}),
        ({"term": 8}, "term", {"term": 8}),
        ({"snapshot": log_id(12)}, "snapshot", {"upto": {"term": 7, "node_id": 1, "index": 12}}),
        ({"purged": log_id(9)}, "purge", {"upto": {"term": 7, "node_id": 1, "index": 9}}),
        ({"replication": target(ReplicationState.PROBE)}, "replication", {"node": 2, "state": "probe"}),
        ({"alarms": (Alarm("node_reverted", "d", "h", NodeId(2)),)}, "alarm", {"raised": True, "code": "node_reverted"}),
    ],
)
async def test_what_happens_is_told(node, log, change, kind, told):
    stream = log.listen(None)
    await first(stream)
    await node.raft.watched.wait()
    node.raft.change(**change)
    (_, seen, data), *_ = await first(stream)
    assert kind == seen
    assert kind in KINDS
    assert told.items() <= data.items()


async def test_what_happens_right_after_something_else_is_told_at_once_too(node, log):
    stream = log.listen(None)
    await first(stream)
    await node.raft.watched.wait()
    node.raft.change(term=8)
    assert ["term"] == [kind for _, kind, _ in await first(stream)]
    node.raft.change(snapshot=log_id(12))
    assert ["snapshot"] == [kind for _, kind, _ in await first(stream)]


async def test_a_permission_and_its_end_are_told(node, log):
    node.raft.change(replication=target(ReplicationState.REPLICATE))
    stream = log.listen(None)
    await first(stream)
    for armed_ms, told in ((500.0, True), (None, False)):
        await node.raft.watched.wait()
        node.raft.watched.clear()
        node.raft.change(replication=target(ReplicationState.REPLICATE, armed_ms))
        ((_, kind, data),) = await first(stream)
        assert ("revert", {"node": 2, "armed": told}) == (kind, data)


async def test_an_alarm_that_ended_is_told(node, log):
    node.raft.change(alarms=(Alarm("node_reverted", "d", "h", NodeId(2)),))
    stream = log.listen(None)
    await first(stream)
    await node.raft.watched.wait()
    node.raft.change(alarms=())
    ((_, kind, data),) = await first(stream)
    assert ("alarm", False, "node_reverted") == (kind, data["raised"], data["code"])


async def test_a_listener_that_was_cut_off_goes_on_behind_what_it_saw(node, log):
    stream = log.listen(None)
    ((start, _, _),) = await first(stream)
    await node.raft.watched.wait()
    node.raft.change(term=8)
    await first(stream)
    events = await first(log.listen(start))
    assert [("term", {"term": 8})] == [(kind, data) for _, kind, data in events]


@pytest.mark.parametrize("last", ["another-3", "x", "", "11111111-3-99999", "11111111-3--1"])
async def test_a_number_of_another_life_brings_the_status(log, last):
    ((_, kind, _),) = await first(log.listen(last))
    assert kind == "status"


async def test_a_listener_that_missed_too_much_is_told_the_status(node, log):
    stream = log.listen(None)
    ((start, _, _),) = await first(stream)
    log._count += KEPT_MAX + 1
    ((_, kind, _),) = await first(log.listen(start))
    assert kind == "status"


async def test_a_stream_ends_when_the_endpoint_stops(log):
    stream = log.listen(None)
    await first(stream)
    waiting = asyncio.ensure_future(anext(stream, b"over"))
    await asyncio.sleep(0)
    log._context.stopping = True
    await log.close()
    assert await waiting == b"over"


def test_nothing_that_happened_is_no_event():
    status = {"leader": 1, "state": "leader", "term": 1, "membership": {}, "snapshot": None, "purged": None, "alarms": []}
    assert [] == list(differences(status, dict(status)))
