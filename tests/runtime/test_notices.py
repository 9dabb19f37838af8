"""When a target hears of a commit that no entries tell it of: raft_engine/runtime/dispatcher.py."""

from __future__ import annotations

import pytest

from raft_engine.config import Config
from raft_engine.core.commands import AppendEntries, Command, ReplicateEntries, SendMessage, SetPeers
from raft_engine.core.events import PeerConnected, PeerLost
from raft_engine.runtime.loop import EngineLoop
from raft_engine.transport.local import LocalNetwork, LocalTransport
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.ids import IoId, LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import NodeAddress
from raft_engine.types.messages import AppendRequest, ReadIndexResponse, TransferRequest
from raft_engine.types.vote import Vote
from tests.runtime.cluster import peer
from tests.runtime.scripted import ScriptedEngine, turns

NO_TICKS = Config(election_timeout_min_ms=400_000, election_timeout_max_ms=800_000, heartbeat_interval_ms=300_000)
"""None but those that a test asks for."""
MINE = Vote(Term(1), NodeId(1), committed=True)
ENTRY = make_entry(Term(1), NodeId(1), LogIndex(1), EntryKind.NORMAL, b"a")


def request(committed: int, *, wants_answer: bool) -> AppendRequest:
    return AppendRequest(MINE, 1, True, 1, BEFORE_LOG, LogIndex(committed), wants_answer=wants_answer)


NOTICE = request(3, wants_answer=False)
HEARTBEAT = request(3, wants_answer=True)
HAND_OVER = TransferRequest(MINE, BEFORE_LOG)
ANSWER = ReadIndexResponse(7, LogIndex(3), NodeId(1))
ENTRIES = [
    AppendEntries(IoId(1), (ENTRY,)),
    ReplicateEntries(peer(2), MINE, 1, True, 1, BEFORE_LOG, LogIndex(1), LogIndex(0)),
]


class Recorder(LocalTransport):
    """Keeps what is sent; nobody hears it."""

    def __init__(self) -> None:
        super().__init__(LocalNetwork(), peer(1), "n1:1")
        self.sent: list[object] = []

    def send(self, target, message) -> None:
        self.sent.append((target.node_id, message))

    def send_append(self, target, request, entries) -> None:
        self.sent.append((target.node_id, [entry.index for entry in entries]))


@pytest.fixture
async def dispatched(made):
    """Have a loop carry out commands, in one turn; return the loop and what leaves."""

    async def carry_out(*commands: Command) -> tuple[EngineLoop, list[object]]:
        engine = ScriptedEngine(lambda event: list(commands) if isinstance(event, PeerConnected) else [])
        transport = Recorder()
        loop = made(engine, NO_TICKS, transport=transport)
        loop.post(PeerConnected(peer(2)))
        await turns()
        return loop, transport.sent

    return carry_out


async def ticks(loop: EngineLoop, count: int = 1) -> None:
    for _ in range(count):
        loop._tick()
        await turns()


async def test_a_notice_leaves_with_the_next_tick_and_once(dispatched):
    loop, sent = await dispatched(SendMessage(peer(2), NOTICE))
    assert [] == sent
    await ticks(loop, 2)
    assert [(2, NOTICE)] == sent


async def test_of_several_notices_the_last_one_leaves(dispatched):
    loop, sent = await dispatched(SendMessage(peer(2), request(2, wants_answer=False)), SendMessage(peer(2), NOTICE))
    await ticks(loop)
    assert [(2, NOTICE)] == sent


async def test_a_heartbeat_makes_a_notice_needless(dispatched):
    loop, sent = await dispatched(SendMessage(peer(2), NOTICE), SendMessage(peer(2), HEARTBEAT))
    await ticks(loop)
    assert [(2, HEARTBEAT)] == sent


async def test_entries_make_a_notice_needless(dispatched):
    loop, sent = await dispatched(SendMessage(peer(2), NOTICE), *ENTRIES)
    await ticks(loop)
    assert [(2, [1])] == sent


async def test_what_one_target_gets_is_nothing_to_another(dispatched):
    loop, sent = await dispatched(SendMessage(peer(3), NOTICE), *ENTRIES)
    await ticks(loop)
    assert [(2, [1]), (3, NOTICE)] == sent


async def test_who_is_a_peer_no_more_is_told_nothing(dispatched):
    loop, sent = await dispatched(SendMessage(peer(2), NOTICE), SetPeers({peer(3): NodeAddress("n3:1", "http://n3:2")}))
    await ticks(loop)
    assert [] == sent


async def test_who_cannot_be_reached_is_told_nothing(dispatched):
    loop, sent = await dispatched(SendMessage(peer(2), NOTICE))
    loop.post(PeerLost(peer(2), "reset"))
    await turns()
    await ticks(loop)
    assert [] == sent


async def test_a_node_that_ends_tells_it_before(dispatched):
    loop, sent = await dispatched(SendMessage(peer(2), NOTICE))
    loop.stop("the node ends")
    assert [(2, NOTICE)] == sent


async def test_a_reader_who_waits_for_the_index_is_told_at_once(dispatched):
    _, sent = await dispatched(SendMessage(peer(2), NOTICE), SendMessage(peer(2), ANSWER))
    assert [(2, NOTICE), (2, ANSWER)] == sent


async def test_who_takes_over_is_told_before(dispatched):
    _, sent = await dispatched(SendMessage(peer(2), NOTICE), SendMessage(peer(2), HAND_OVER))
    assert [(2, NOTICE), (2, HAND_OVER)] == sent
