"""Sending a snapshot to who needs it: raft_engine/core/shipping.py."""

from __future__ import annotations

from raft_engine.core.commands import SendSnapshotChunk
from raft_engine.core.events import PeerConnected, PeerLost, SnapshotSendFailed
from raft_engine.core.progress import Mode
from raft_engine.types.messages import SnapshotChunkResponse
from tests.core.builder import Node, at, leader, leads, peer, ranges


def shipping() -> Node:
    """A leader whose log begins behind what node 3 has: node 3 is sent a snapshot up to 2."""
    node = leader()
    node.do(PeerLost(peer(3), "reset"))
    node.write(b"a")
    node.flush()
    node.accept(2, 3)
    node.snapshot_at(2)
    node.target(3).matching = 0
    node.target(3).probe(node.state.next_session(), 1)
    node.do(PeerConnected(peer(3)))
    assert node.target(3).mode is Mode.SNAPSHOT
    return node


def answer(node: Node, offset: int, *, installed: bool = False, session: int | None = None, snapshot: str = "s2"):
    target = node.target(3)
    number = target.session if session is None else session
    response = SnapshotChunkResponse(
        node.state.leader.vote, number, node.state.leader.round, snapshot, offset, installed, at(1, 2, node=1)
    )
    return node.hear(3, response)


def offsets(commands) -> list[int]:
    return [command.offset for command in commands if isinstance(command, SendSnapshotChunk)]


def test_the_next_chunk_goes_from_where_the_receiver_is():
    assert [40] == offsets(answer(shipping(), 40))


def test_a_doubled_answer_does_not_double_the_chunks():
    """Simulated seed 200: each doubled answer began a stream of its own, until the receiver was behind for ever."""
    node = shipping()
    answer(node, 40)
    assert [] == offsets(answer(node, 40))


def test_a_receiver_that_has_less_than_it_had_is_sent_it_again():
    node = shipping()
    answer(node, 40)
    assert [0] == offsets(answer(node, 0))


def test_an_answer_about_another_snapshot_is_ignored():
    assert [] == offsets(answer(shipping(), 40, snapshot="older"))


def test_an_answer_of_an_earlier_session_is_ignored():
    node = shipping()
    assert [] == offsets(answer(node, 40, session=node.target(3).session - 1))


def test_after_the_last_chunk_the_log_goes_on_behind_the_snapshot():
    node = shipping()
    commands = answer(node, 100, installed=True)
    assert (2, Mode.REPLICATE) == (node.target(3).matching, node.target(3).mode)
    assert [(3, 2, 3)] == ranges(commands)


def test_a_snapshot_that_is_gone_is_replaced_by_the_newest():
    node = shipping()
    answer(node, 40)
    commands = node.do(SnapshotSendFailed(peer(3), node.target(3).session, "the file is gone"))
    assert [0] == offsets(commands)


def test_a_failure_of_an_earlier_session_is_ignored():
    node = shipping()
    assert [] == offsets(node.do(SnapshotSendFailed(peer(3), node.target(3).session - 1, "late")))


def test_a_receiver_in_a_later_term_ends_the_leadership():
    node = shipping()
    node.hear(3, SnapshotChunkResponse(leads(9, 3), node.target(3).session, 1, "s2", 0, False, at(1, 2)))
    assert (False, 9) == (node.engine.is_leader, node.state.term)


def test_a_chunk_that_is_not_answered_is_sent_anew():
    node = shipping()
    answer(node, 40)
    node.now += node.state.config.install_snapshot_timeout_ms - 1
    node.accept(2, 3)
    assert [] == offsets(node.tick())
    node.now += 1
    assert [0] == offsets(node.tick())
