"""How entries reach the others."""

from __future__ import annotations

import pytest

from raft_engine.core.commands import AppendEntries, ReplicateEntries, SendMessage, SendSnapshotChunk
from raft_engine.core.events import (
    AllowNextRevertRequested,
    MessageReceived,
    PeerConnected,
    PeerLost,
    PeerReplaced,
    WriteRequested,
)
from raft_engine.core.progress import Mode
from raft_engine.errors import Panicked
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.ids import Incarnation, IoId, NodeId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.messages import AppendRequest, AppendResponse
from raft_engine.types.outcomes import Expectation, RefusalCode
from tests.core.builder import Node, at, elected, leader, leads, meta, outcomes, peer, ranges, reports, sent, vote

MINE = leads(1, 1)


def mine(index: int):
    """Return the id of an entry of the leader under test."""
    return at(1, index, node=1)


# -- the leader's own log ---------------------------------------------------------------------------------------------------


def test_a_write_is_appended_and_sent_to_everybody_at_once():
    node = leader()
    io = IoId(node.state.last_io + 1)
    assert [
        AppendEntries(io, (make_entry(1, 1, 3, EntryKind.NORMAL, b"a"),)),
        ReplicateEntries(peer(2), MINE, 1, True, 1, mine(2), 3, 2),
        ReplicateEntries(peer(3), MINE, 2, True, 1, mine(2), 3, 2),
    ] == node.write(b"a")


def test_writes_that_wait_together_are_one_append():
    commands = leader().write(b"a", b"b", b"c")
    assert [3] == [len(command.entries) for command in commands if isinstance(command, AppendEntries)]


def test_a_follower_refuses_writes_and_names_the_leader():
    node = Node()
    node.state.known_leader = 2
    (refusal,) = outcomes(node.write(b"a"))
    assert (RefusalCode.NOT_LEADER, 2) == (refusal.code, refusal.leader)


def test_a_leader_that_no_quorum_answers_refuses_writes():
    node = leader()
    node.now += 300
    (refusal,) = outcomes(node.write(b"a"))
    assert RefusalCode.NO_QUORUM is refusal.code


def test_too_many_bytes_that_are_not_committed_are_refused():
    node = leader(config={"max_uncommitted_bytes": 100})
    node.write(b"x" * 200)
    (refusal,) = outcomes(node.write(b"a"))
    assert RefusalCode.OVERLOADED is refusal.code


def test_committing_makes_room_for_writes_again():
    node = leader(config={"max_uncommitted_bytes": 100})
    node.write(b"x" * 200)
    node.flush()
    node.accept(2, 3)
    assert [] == outcomes(node.write(b"a"))


# -- rules 1 and 2: what is committed ------------------------------------------------------------------------------------------


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting():
    node = elected(log=[1, 1])
    node.flush()
    node.lacks(2, prev=3, last=at(0, 1))
    node.accept(2, 3)
    node.accept(3, 3)
    assert 0 == node.state.committed


def test_an_earlier_entry_is_committed_with_one_of_the_own_term():
    node = elected(log=[1, 1])
    node.flush()
    node.accept(2, 4)
    assert 4 == node.state.committed


def test_the_leaders_own_copy_does_not_count_before_it_is_durable():
    node = leader()
    node.write(b"a")
    node.accept(2, 3)
    assert 2 == node.state.committed
    node.flush()
    assert 3 == node.state.committed


def test_the_others_may_be_a_majority_without_the_leaders_disk():
    node = leader()
    node.write(b"a")
    node.accept(2, 3)
    node.accept(3, 3)
    assert 3 == node.state.committed


def test_what_is_committed_is_not_applied_before_it_is_durable_here():
    node = leader()
    node.write(b"a")
    node.accept(2, 3)
    assert [] == [command for command in node.accept(3, 3) if not isinstance(command, SendMessage)]


def test_three_of_five_are_needed():
    node = leader(5)
    node.write(b"a")
    node.flush()
    node.accept(2, 3)
    assert 2 == node.state.committed
    node.accept(3, 3)
    assert 3 == node.state.committed


def test_idle_targets_hear_of_a_commit_at_once():
    node = leader()
    node.write(b"a")
    node.flush()
    notice = AppendRequest(MINE, 1, True, 1, mine(3), 3, wants_answer=False)
    assert notice in sent(node.accept(2, 3), 2)


# -- rule 3: sessions and incarnations ---------------------------------------------------------------------------------------------


def test_an_answer_of_an_older_session_does_not_count():
    node = leader()
    node.write(b"a")
    node.flush()
    old = node.target(2).session
    node.do(PeerLost(peer(2), "reset"))
    node.accept(2, 3, session=old)
    assert (2, 2) == (node.state.committed, node.target(2).matching)


def test_an_answer_of_another_incarnation_does_not_count():
    node = leader()
    node.write(b"a")
    node.flush()
    session = node.target(2).session
    node.hear(2, AppendResponse(MINE, session, True, 1, True, mine(3), BEFORE_LOG, mine(3)), life=2)
    assert 2 == node.state.committed


def test_an_answer_given_in_an_earlier_term_does_not_count():
    node = leader()
    node.write(b"a")
    node.flush()
    session = node.target(2).session
    node.hear(2, AppendResponse(vote(0, 2), session, True, 1, True, mine(3), BEFORE_LOG, mine(3)))
    assert 2 == node.state.committed


def test_an_answer_in_a_later_term_ends_the_leadership():
    node = leader()
    node.hear(2, AppendResponse(vote(7, 2), 1, False, 1, False, BEFORE_LOG, mine(2), mine(2)))
    assert (None, vote(7, 0)) == (node.state.leader, node.state.vote)


def test_an_answer_of_a_stranger_is_ignored():
    node = leader()
    assert [] == node.hear(9, AppendResponse(MINE, 1, True, 1, True, mine(2), BEFORE_LOG, mine(2)))


# -- probing and backing up ------------------------------------------------------------------------------------------------------------


def test_a_probe_that_does_not_fit_is_repeated_further_back():
    node = elected(log=[1, 1, 1, 1])
    assert [(2, 2, 6)] == ranges(node.lacks(2, prev=5, last=at(1, 2)))


def test_a_whole_term_is_skipped_at_once():
    """The follower's last entry at or below is of term 1; the leader has terms 2 there, so they can agree in term 1 at best."""
    node = elected(log=[1, 2, 2, 2])
    assert [(2, 2, 6)] == ranges(node.lacks(2, prev=5, last=at(1, 4)))


def test_probing_does_not_go_below_what_was_acknowledged():
    node = leader()
    node.write(b"a")
    session = node.target(2).session
    node.lacks(2, prev=2, last=BEFORE_LOG, session=session)
    assert 2 == node.target(2).matching


def test_requests_are_limited_in_entries_and_in_number():
    node = leader(config={"max_payload_entries": 2, "max_inflight_requests": 2})
    assert [(2, 2, 4), (2, 4, 6)] == [item for item in ranges(node.write(*[b"x"] * 9)) if item[0] == 2]
    assert [(2, 6, 8)] == ranges(node.accept(2, 4))


def test_a_target_that_cannot_be_reached_is_sent_no_entries():
    node = leader()
    node.do(PeerLost(peer(2), "reset"))
    assert [3] == [target for target, _, _ in ranges(node.write(b"a"))]


def test_a_target_whose_entries_are_purged_gets_a_snapshot():
    node = leader()
    node.do(PeerLost(peer(3), "reset"))
    node.write(b"a")
    node.flush()
    node.accept(2, 3)
    node.applied(mine(3), 1)
    node.snapshot_at(3)
    node.target(3).matching = 0
    node.target(3).probe(99, 1)
    commands = node.do(PeerConnected(peer(3)))
    assert [mine(3)] == [command.meta.last_log_id for command in commands if isinstance(command, SendSnapshotChunk)]
    assert Mode.SNAPSHOT is node.target(3).mode


# -- rule 4: reverts ---------------------------------------------------------------------------------------------------------------------


def test_a_target_that_lacks_what_it_acknowledged_is_fenced():
    node = leader()
    session = node.target(3).session
    response = AppendResponse(MINE, session, True, 1, False, BEFORE_LOG, mine(2), BEFORE_LOG)
    commands = node.handle(MessageReceived(peer(3), response))
    assert ["node_reverted"] == reports(commands)
    assert (Mode.REVERTED, 0, 2) == (node.target(3).mode, node.target(3).matching, node.state.committed)


def test_a_fenced_target_counts_for_nothing_but_the_cluster_goes_on():
    node = leader()
    node.lacks(3, prev=2, check=True)
    node.write(b"a")
    node.flush()
    node.accept(3, 3)
    assert 2 == node.state.committed
    node.accept(2, 3)
    assert 3 == node.state.committed


def test_the_global_setting_allows_every_revert():
    node = leader(config={"allow_log_reversion": True})
    node.lacks(3, prev=2, check=True)
    assert (Mode.PROBE, 0, 0) == (node.target(3).mode, node.target(3).matching, node.target(3).promised)


def test_a_missing_entry_that_was_never_acknowledged_is_no_revert():
    node = elected(log=[1, 1])
    node.lacks(2, prev=3, last=at(0, 1))
    assert Mode.PROBE is node.target(2).mode


# -- connections ---------------------------------------------------------------------------------------------------------------------------


def test_a_new_connection_begins_a_session_and_shows_the_leader():
    node = leader()
    node.do(PeerLost(peer(2), "reset"))
    session = node.target(2).session
    commands = node.do(PeerConnected(peer(2)))
    assert session < node.target(2).session
    assert AppendRequest(MINE, node.target(2).session, True, 1, mine(2), 2) in sent(commands, 2)


def test_a_lost_connection_loses_what_was_in_flight():
    node = leader()
    node.write(b"a")
    assert 1 == len(node.target(2).inflight)
    node.do(PeerLost(peer(2), "reset"))
    assert (0, False, "reset") == (len(node.target(2).inflight), node.target(2).connected, node.target(2).failure)


def test_what_was_lost_is_sent_again_on_the_new_connection():
    node = leader()
    node.write(b"a")
    node.do(PeerLost(peer(2), "reset"))
    assert [(2, 2, 3)] == ranges(node.do(PeerConnected(peer(2))))


def test_another_incarnation_at_a_members_address_is_fenced_and_reported_once():
    node = leader()
    seen = PeerReplaced(peer(3), Incarnation("f" * 32))
    assert ["node_reverted"] == reports(node.handle(seen))
    assert [] == reports(node.handle(seen))
    assert (Mode.REVERTED, False) == (node.target(3).mode, node.target(3).connected)


def test_an_answer_shows_that_a_target_can_be_reached():
    node = leader()
    node.do(PeerLost(peer(2), "reset"))
    node.accept(2, 2)
    assert node.target(2).connected


def test_a_snapshot_that_covers_nothing_needed_is_never_shipped():
    node = leader()
    assert meta(1, 2) != node.target(2).snapshot
    assert [] == [command for command in node.write(b"a") if isinstance(command, SendSnapshotChunk)]


# -- writes with conditions ----------------------------------------------------------------------------------------------


def conditional(node: Node, data: bytes | None = b"x", **expect):
    return node.do(WriteRequested(node.ticket(), data, Expectation(**expect)))


def test_a_write_whose_leader_is_as_expected_is_appended_and_answered_when_applied():
    node = leader()
    conditional(node, term=1, leader=NodeId(1))
    node.flush()
    node.accept(2, 3)
    (answer,) = node.applied(node.state.log.last, 1)
    assert [(node.tickets, node.state.log.last, None)] == answer.writes


@pytest.mark.parametrize("expect", [{"term": 2}, {"leader": NodeId(2)}, {"last_log_id": at(1, 1)}])
def test_a_write_whose_expectation_fails_is_not_appended(expect):
    node = leader()
    (refusal,) = outcomes(conditional(node, **expect))
    assert (RefusalCode.PRECONDITION_FAILED, 2) == (refusal.code, node.state.log.last.index)


def test_a_blank_write_is_an_entry_without_data():
    node = leader()
    (command,) = [command for command in conditional(node, None) if isinstance(command, AppendEntries)]
    assert [(EntryKind.BLANK, b"")] == [(item.kind, item.data) for item in command.entries]


def test_a_conditional_write_at_a_follower_is_refused():
    (refusal,) = outcomes(conditional(Node()))
    assert RefusalCode.NO_LEADER is refusal.code


# -- a revert that nobody allowed, for those who want openraft's answer ------------------------------------------------------


def test_a_leader_that_is_told_to_panics_on_a_revert_that_nobody_allowed():
    node = leader(config={"on_unexpected_revert": "panic"})
    with pytest.raises(Panicked, match="node 2 acknowledged up to 2"):
        node.lacks(2, 2, check=True)


def test_it_panics_on_another_life_of_a_member_too():
    node = leader(config={"on_unexpected_revert": "panic"})
    with pytest.raises(Panicked, match="came back as incarnation"):
        node.do(PeerReplaced(peer(2), peer(2, life=2).incarnation))


def test_it_does_not_panic_when_the_revert_is_allowed():
    node = leader(config={"on_unexpected_revert": "panic"})
    node.do(AllowNextRevertRequested(node.ticket(), NodeId(2), allow=True, ttl_ms=0))
    assert "revert_allowed" in reports(node.handle(PeerReplaced(peer(2), peer(2, life=2).incarnation)))
