"""Taking over a leader's log."""

from __future__ import annotations

import msgspec
import pytest

from raft_engine.core.commands import (
    AppendEntries,
    Apply,
    InstallSnapshot,
    PurgeLog,
    ResetLog,
    SaveHardState,
    SendMessage,
    SetPeers,
    StoreSnapshotChunk,
    TruncateLog,
)
from raft_engine.core.events import MessageReceived, SnapshotChunkStored, SnapshotInstalled
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import IoId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.messages import AppendResponse, SnapshotChunk, SnapshotChunkResponse
from tests.core.builder import Node, append, at, entry, leads, members, membership_entry, meta, peer, reports, sent, vote


def follower(*terms: int, term: int = 3, **settings) -> Node:
    """Node 1 follows node 2, which leads `term`; its log holds entries of these terms after the configuration."""
    node = Node(log=terms, hard=leads(term), **settings)
    node.state.known_leader = 2
    return node


def accepted(upto, last=None, *, check: bool = False) -> AppendResponse:
    return AppendResponse(leads(3), 7, check, 3, True, upto, BEFORE_LOG, last or upto)


def conflict(prev, last) -> AppendResponse:
    return AppendResponse(leads(3), 7, False, 3, False, BEFORE_LOG, prev, last)


# -- rule 1: what is dropped ------------------------------------------------------------------------------------------------


def test_new_entries_are_appended():
    new = entry(3, 2)
    assert [AppendEntries(IoId(1), (new,))] == follower().hear(2, append(leads(3), at(0, 1), new))


def test_entries_that_are_there_are_not_written_again():
    assert [SendMessage(peer(2), accepted(at(3, 3)))] == follower(3, 3).hear(
        2, append(leads(3), at(0, 1), entry(3, 2), entry(3, 3))
    )


def test_only_what_is_new_of_a_request_is_written():
    new = entry(3, 3)
    assert [AppendEntries(IoId(1), (new,))] == follower(3).hear(2, append(leads(3), at(0, 1), entry(3, 2), new))


def test_a_conflicting_entry_and_all_after_it_are_dropped():
    new = entry(3, 3)
    commands = follower(1, 2, 2, 2).hear(2, append(leads(3), at(1, 2), new))
    assert [TruncateLog(IoId(1), 2), AppendEntries(IoId(2), (new,))] == commands


def test_a_short_old_request_drops_nothing():
    node = follower(3, 3, 3)
    node.hear(2, append(leads(3), at(0, 1), entry(3, 2)))
    assert at(3, 4) == node.state.log.last


def test_a_heartbeat_drops_nothing():
    node = follower(1, 2, 2)
    node.hear(2, append(leads(3), at(1, 2)))
    assert at(2, 4) == node.state.log.last


def test_nothing_committed_is_ever_dropped():
    node = follower(1, 1, applied=at(1, 3))
    with pytest.raises(AssertionError, match="contradicts committed entry"):
        node.hear(2, append(leads(3), at(0, 1), entry(3, 2)))


def test_entries_that_do_not_follow_are_refused_with_the_last_point_of_agreement():
    assert [SendMessage(peer(2), conflict(at(3, 9), at(2, 3)))] == follower(1, 2).hear(
        2, append(leads(3), at(3, 9), entry(3, 10))
    )


def test_the_answer_skips_entries_later_than_the_request():
    assert [SendMessage(peer(2), conflict(at(2, 5), at(1, 3)))] == follower(1, 1, 3, 3).hear(2, append(leads(3), at(2, 5)))


def test_what_is_purged_agrees_with_every_leader():
    node = follower(3, purged=at(2, 5), snapshot=meta(2, 5), applied=at(2, 5))
    commands = node.hear(2, append(leads(3), at(2, 3), entry(2, 4), entry(2, 5), entry(3, 6), entry(3, 7)))
    assert [AppendEntries(IoId(1), (entry(3, 7),))] == commands


def test_a_configuration_is_in_force_when_it_is_appended_and_taken_back_when_it_is_dropped():
    node = follower()
    node.hear(2, append(leads(3), at(0, 1), membership_entry(3, 2, members(1, 2, 3, 4))))
    assert members(1, 2, 3, 4) == node.state.membership
    commands = node.hear(3, append(leads(4, 3), at(0, 1), entry(4, 2, node=3)))
    assert members(1, 2, 3) == node.state.membership
    assert [sorted(command.peers) for command in commands if isinstance(command, SetPeers)] == [[peer(2), peer(3)]]


# -- rule 2: the commit index ---------------------------------------------------------------------------------------------------


def test_the_commit_index_follows_the_leader():
    node = follower(3, 3)
    assert Apply(0, at(3, 2)) in node.hear(2, append(leads(3), at(3, 3), committed=2))


def test_the_commit_index_stops_at_what_the_request_has_confirmed():
    """The follower has more, but nobody has said that it is the leader's."""
    node = follower(1, 2, 2)
    node.hear(2, append(leads(3), at(1, 2), committed=9))
    assert 2 == node.state.committed


def test_the_commit_index_reaches_the_last_new_entry():
    node = follower()
    node.hear(2, append(leads(3), at(0, 1), entry(3, 2), entry(3, 3), committed=99))
    assert 3 == node.state.committed


def test_a_notice_of_what_is_committed_is_answered_only_by_who_lacks_something():
    node = follower(3, 3)
    notice = msgspec.structs.replace(append(leads(3), at(3, 3), committed=3), wants_answer=False)
    assert [Apply(0, at(3, 3))] == node.hear(2, notice)
    lacking = follower(3)
    assert [SendMessage(peer(2), conflict(at(3, 3), at(3, 2)))] == lacking.hear(2, notice)


def test_the_commit_index_never_goes_back():
    node = follower(3, 3)
    node.hear(2, append(leads(3), at(3, 3), committed=3))
    node.hear(2, append(leads(3), at(3, 2), committed=1))
    assert 3 == node.state.committed


# -- rule 3: acceptance -------------------------------------------------------------------------------------------------------------


def test_an_acceptance_is_sent_when_the_entries_are_durable():
    node = follower()
    node.hear(2, append(leads(3), at(0, 1), entry(3, 2)))
    assert [SendMessage(peer(2), accepted(at(3, 2)))] == node.flush()


def test_an_acceptance_waits_for_entries_of_an_earlier_request():
    node = follower()
    node.hear(2, append(leads(3), at(0, 1), entry(3, 2)))
    assert [] == node.hear(2, append(leads(3), at(3, 2)))
    assert 2 == len(node.flush())


def test_a_new_term_is_durable_before_anything_is_accepted_in_it():
    node = Node()
    assert [SaveHardState(IoId(1), HardState(leads(3)))] == node.hear(2, append(leads(3), at(0, 1)))
    assert [SendMessage(peer(2), accepted(at(0, 1)))] == node.flush()


def test_a_refusal_is_not_sent_before_the_term_it_rests_on_is_durable():
    node = Node()
    node.hear(3, append(leads(5, 3), at(0, 1)))
    assert [] == node.hear(2, append(leads(3), at(0, 1)))
    assert [leads(5, 3)] == [message.vote for message in sent(node.flush(), 2)]


def test_a_flush_of_entries_that_were_replaced_does_not_count():
    node = follower(term=1)
    node.hear(2, append(leads(1), at(0, 1), entry(1, 2)))
    node.hear(3, append(leads(2, 3), at(0, 1), entry(2, 2, node=3)))
    node.flush_first(1)
    assert 1 == node.state.flushed
    node.flush()
    assert 2 == node.state.flushed


def test_the_answer_echoes_what_makes_it_recognisable():
    (command,) = follower(3).hear(2, append(leads(3), at(3, 2), session=41, check=True, round_=17))
    assert (41, True, 17) == (command.message.session, command.message.check, command.message.round)


# -- whom to follow ---------------------------------------------------------------------------------------------------------------------


def test_a_leader_of_an_earlier_term_is_refused_and_not_followed():
    node = Node(hard=vote(9, 3))
    (command,) = node.hear(2, append(leads(3), at(0, 1))) + node.flush()
    assert (False, vote(9, 3)) == (command.message.accepted, command.message.vote)
    assert None is node.state.known_leader


def test_a_refusal_of_an_earlier_term_is_no_answer_of_any_session():
    """Seed 6874: its sender led again, in a session of the same number, and took the node for one that lost its log."""
    node = Node(hard=vote(9, 3))
    (command,) = node.hear(2, append(leads(3), at(0, 1))) + node.flush()
    assert (0, False) == (command.message.session, command.message.check)
    (command,) = node.hear(2, chunk(meta(3, 9)))
    assert command.message.session == 0


def test_two_leaders_of_one_term_raise_an_alarm_and_the_first_is_kept():
    node = follower()
    commands = node.handle(MessageReceived(peer(3), append(leads(3, 3), at(0, 1))))
    assert ["two_leaders"] == reports(commands)
    assert leads(3) == node.state.vote


def test_following_moves_the_election_away():
    node = follower()
    node.hear(2, append(leads(3), at(0, 1)))
    assert (node.now + 120, node.now + 150) == (node.state.promised_until, node.state.election_deadline)


# -- snapshots ----------------------------------------------------------------------------------------------------------------------------


def chunk(snapshot, done: bool = True) -> SnapshotChunk:
    return SnapshotChunk(leads(3), 7, 3, snapshot, 0, b"state", done)


def stored(snapshot, *, complete: bool = True, size: int = 100) -> SnapshotChunkStored:
    return SnapshotChunkStored(peer(2), 7, 3, snapshot, size, complete)


def answered(snapshot, offset: int, *, installed: bool) -> SendMessage:
    last = snapshot.last_log_id if installed else BEFORE_LOG
    return SendMessage(peer(2), SnapshotChunkResponse(leads(3), 7, 3, snapshot.snapshot_id, offset, installed, last))


def test_a_chunk_is_kept():
    snapshot = meta(3, 9)
    assert [StoreSnapshotChunk(peer(2), chunk(snapshot))] == follower().hear(2, chunk(snapshot))


def test_a_part_of_a_snapshot_is_answered_with_how_much_is_there():
    snapshot = meta(3, 9)
    assert [answered(snapshot, 40, installed=False)] == follower().do(stored(snapshot, complete=False, size=40))


def test_a_whole_snapshot_is_installed():
    snapshot = meta(3, 9)
    assert [InstallSnapshot(snapshot)] == follower().do(stored(snapshot))


def test_a_snapshot_is_not_installed_before_the_term_of_its_leader_is_durable():
    """Else a crash in between leaves a log whose last term is later than the node's own (seed 3491)."""
    node = Node(log=[1])
    snapshot = meta(3, 9)
    node.hear(2, SnapshotChunk(leads(3), 7, 3, snapshot, 0, b"x" * 100, done=True))
    assert [] == node.do(stored(snapshot))
    assert [InstallSnapshot(snapshot)] == node.flush()


def test_an_installed_snapshot_replaces_a_log_that_does_not_hold_its_end():
    node = follower(1, 1)
    snapshot = meta(3, 9)
    node.do(stored(snapshot))
    commands = node.do(SnapshotInstalled(snapshot))
    assert ResetLog(IoId(1), at(3, 9)) == commands[0]
    assert (at(3, 9), 9, at(3, 9)) == (node.state.log.last, node.state.committed, node.state.applied)


def test_what_follows_the_snapshots_end_in_a_matching_log_stays():
    node = follower(1, 3, 3, 3)
    snapshot = meta(3, 3)
    node.do(stored(snapshot))
    commands = node.do(SnapshotInstalled(snapshot))
    assert PurgeLog(IoId(1), at(3, 3)) == commands[0]
    assert at(3, 5) == node.state.log.last


def test_an_entry_of_another_term_at_the_snapshots_end_is_no_match():
    node = follower(1, 2, 2)
    snapshot = meta(3, 3)
    node.do(stored(snapshot))
    assert ResetLog(IoId(1), at(3, 3)) == node.do(SnapshotInstalled(snapshot))[0]


def test_installation_is_answered_when_the_log_has_followed():
    node = follower()
    snapshot = meta(3, 9)
    node.do(stored(snapshot))
    assert [] == sent(node.do(SnapshotInstalled(snapshot)))
    assert [answered(snapshot, 100, installed=True)] == node.flush()


def test_a_snapshot_of_what_is_committed_already_is_answered_and_not_installed():
    node = follower(3, 3, applied=at(3, 3))
    snapshot = meta(3, 2)
    assert [answered(snapshot, 100, installed=True)] == node.hear(2, chunk(snapshot))


def test_a_chunk_of_an_earlier_leader_is_refused():
    node = Node(hard=vote(9, 3))
    (command,) = node.hear(2, chunk(meta(3, 9)))
    assert (False, vote(9, 3)) == (command.message.installed, command.message.vote)


def test_nothing_is_applied_while_a_snapshot_is_being_installed():
    node = follower(3, 3)
    node.do(stored(meta(3, 9)))
    assert [Apply] != [type(command) for command in node.hear(2, append(leads(3), at(3, 3), committed=3))]
    assert 0 == node.state.apply_submitted


def test_the_snapshots_configuration_is_in_force_afterwards():
    node = follower()
    snapshot = meta(3, 9, membership=members(1, 2, 3, 4, 5))
    node.do(stored(snapshot))
    node.do(SnapshotInstalled(snapshot))
    assert members(1, 2, 3, 4, 5) == node.state.membership
