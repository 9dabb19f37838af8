"""Does a store keep the contract? Cases for anybody's `LogStorage`, `SnapshotStorage` and `StateMachine`.

A case is a function that takes a way to open one store and asserts. A store in a file is opened again where the case says
so, and must then hold what it held; a store in memory gives back the same object. All of them at once:

    run_suite(make_log=lambda: partial(MyLog, new_directory()))

or one test each, with pytest:

    @pytest.mark.parametrize("case", LOG_CASES, ids=lambda case: case.__name__)
    def test_my_log(case, tmp_path):
        case(lambda: MyLog(tmp_path))

`OPENRAFT_CASES` says for each case of openraft's suite which of ours does the same, or why there is none.
Source: openraft `testing/log/suite.rs` (HEAD, 45 cases); what is about reopening, threads, failures and bounds is ours.
"""

from __future__ import annotations

import linecache
import random
import re
import reprlib
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeVar

import msgspec

from raft_engine.config import Config
from raft_engine.core.state import RaftState, restore
from raft_engine.errors import Damaged, StorageError
from raft_engine.runtime.restoring import restore_node
from raft_engine.storage.interface import LogRun, LogState, LogStorage, SnapshotStorage, StateMachine
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import Incarnation, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import (
    EMPTY_MEMBERSHIP,
    Membership,
    NodeAddress,
    StoredMembership,
    encode_membership,
    uniform,
)
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.vote import NO_VOTE, Vote

Given = TypeVar("Given")
OpenLog = Callable[[], LogStorage]
"""Opens the log; called again it opens the same one again."""

OpenSnapshots = Callable[[], SnapshotStorage]


class MachineMaker(msgspec.Struct, frozen=True):
    """How to get the state machine that is to be checked.

    `make` returns a fresh one; `data(i)` the data of the i-th entry, each changing the state. `reopen` does to a machine what the
    end of its process and a new start do, and returns the one that then is; None: nothing survives, a new one begins empty.
    """

    make: Callable[[], StateMachine]
    data: Callable[[int], bytes]
    reopen: Callable[[StateMachine], StateMachine] | None = None

    def restarted(self, machine: StateMachine) -> StateMachine:
        return self.make() if self.reopen is None else self.reopen(machine)


class Stores(msgspec.Struct, frozen=True):
    """All that a node has, for the cases about a node's start."""

    open_log: OpenLog
    open_snapshots: OpenSnapshots
    machine: MachineMaker


def run_suite(
    make_log: Callable[[], OpenLog] | None = None,
    make_snapshots: Callable[[], OpenSnapshots] | None = None,
    machine: MachineMaker | None = None,
) -> int:
    """Run every case that fits what is given, each against a fresh store, and return how many there were.

    Raises: AssertionError: the store breaks the contract; it names the case and what does not hold. What the store itself raises
        has a note with the case.
    """
    count = 0
    for log_case in LOG_CASES if make_log is not None else ():
        assert make_log is not None
        _run_case(log_case, make_log())
        count += 1
    for snapshot_case in SNAPSHOT_CASES if make_snapshots is not None else ():
        assert make_snapshots is not None
        _run_case(snapshot_case, make_snapshots())
        count += 1
    for machine_case in STATE_MACHINE_CASES if machine is not None else ():
        assert machine is not None
        _run_case(machine_case, machine)
        count += 1
    if make_log is not None and make_snapshots is not None and machine is not None:
        for start_case in START_CASES:
            _run_case(start_case, Stores(make_log(), make_snapshots(), machine))
            count += 1
    return count


def _run_case(case: Callable[[Given], None], given: Given) -> None:
    name = case.__name__.removeprefix("check_").replace("_", " ")
    try:
        case(given)
    except AssertionError as error:
        raise AssertionError(f"{name}: {_what_failed(error)}") from error
    except Exception as error:
        error.add_note(f"in the case: {name}")
        raise


def _what_failed(error: AssertionError) -> str:
    """Return the condition that does not hold, with what stands for its names where it was looked at."""
    if str(error):
        return str(error)
    steps = list(traceback.walk_tb(error.__traceback__))
    frame, line_number = steps[-1]
    line = linecache.getline(frame.f_code.co_filename, line_number).strip()
    names = [name for name in dict.fromkeys(re.findall(r"\w+", line)) if name in frame.f_locals]
    values = ", ".join(f"{name} = {reprlib.repr(frame.f_locals[name])}" for name in names)
    return f"{line} ({Path(frame.f_code.co_filename).name}:{line_number}{'; ' if values else ''}{values})"


# --- what the cases are made of ----------------------------------------------------------------------------------------


def log_id(term: int, index: int) -> LogId:
    return LogId(Term(term), NodeId(1), LogIndex(index))


def entry(term: int, index: int, data: bytes = b"") -> Entry:
    return make_entry(Term(term), NodeId(1), LogIndex(index), EntryKind.NORMAL, data)


def blanks(first: int, last: int, term: int = 1) -> list[Entry]:
    return [make_entry(Term(term), NodeId(1), LogIndex(index), EntryKind.BLANK, b"") for index in range(first, last + 1)]


def membership(*voters: int) -> Membership:
    peers = [PeerId(NodeId(voter), Incarnation(f"{voter:032x}")) for voter in voters]
    return uniform(peers, {peer.node_id: NodeAddress(f"n{peer.node_id}:1", f"http://n{peer.node_id}:2") for peer in peers})


def membership_entry(term: int, index: int, *voters: int) -> Entry:
    return make_entry(Term(term), NodeId(1), LogIndex(index), EntryKind.MEMBERSHIP, encode_membership(membership(*voters)))


def stored(term: int, index: int, *voters: int) -> StoredMembership:
    return StoredMembership(log_id(term, index), membership(*voters))


def run(first_index: int, term: int) -> LogRun:
    return LogRun(LogIndex(first_index), Term(term), NodeId(1))


def write(log: LogStorage, entries: list[Entry]) -> None:
    log.append(entries)
    log.sync()


def read(log: LogStorage, first: int, last: int) -> list[Entry]:
    """Return entries `first` … `last`, however many calls it takes."""
    entries: list[Entry] = []
    while first <= last:
        part = log.read(LogIndex(first - 1), LogIndex(last), 1 << 30)
        assert part, "a read returns at least one entry"
        entries += part
        first += len(part)
    return entries


def reopened(log: LogStorage, open_log: OpenLog) -> LogStorage:
    log.close()
    return open_log()


def refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except StorageError:
        return True
    return False


# --- logs: what is in a fresh one --------------------------------------------------------------------------------------


def check_a_new_log_is_empty(open_log: OpenLog) -> None:
    log = open_log()
    assert log.state() == LogState()
    assert log.state().last == BEFORE_LOG
    log.close()


def check_a_new_log_has_no_membership(open_log: OpenLog) -> None:
    log = open_log()
    assert log.state().memberships == ()
    log.close()


def check_a_new_log_has_no_vote(open_log: OpenLog) -> None:
    log = open_log()
    assert log.hard_state() == HardState(NO_VOTE, None)
    log.close()


# --- logs: the hard state ----------------------------------------------------------------------------------------------


def check_a_saved_vote_is_read_back(open_log: OpenLog) -> None:
    log = open_log()
    saved = HardState(Vote(Term(3), NodeId(2), committed=True))
    log.save_hard_state(saved)
    log.sync()
    assert log.hard_state() == saved
    log = reopened(log, open_log)
    assert log.hard_state() == saved
    log.close()


def check_the_last_saved_hard_state_counts(open_log: OpenLog) -> None:
    log = open_log()
    for term in range(1, 8):
        log.save_hard_state(HardState(Vote(Term(term), NodeId(1), committed=False)))
        if term % 2:
            log.sync()
    log.sync()
    log = reopened(log, open_log)
    assert log.hard_state().vote.term == 7
    log.close()


def check_the_recovery_marker_is_kept_and_cleared(open_log: OpenLog) -> None:
    log = open_log()
    vote = Vote(Term(4), NodeId(1), committed=False)
    marked = HardState(vote, Recovery(log_id(4, 99), "rejoin of node 1"))
    log.save_hard_state(marked)
    log.sync()
    log = reopened(log, open_log)
    assert log.hard_state() == marked
    log.save_hard_state(HardState(vote))
    log.sync()
    log = reopened(log, open_log)
    assert log.hard_state() == HardState(vote)
    log.close()


def check_the_hard_state_outlives_every_change_of_the_log(open_log: OpenLog) -> None:
    log = open_log()
    saved = HardState(Vote(Term(9), NodeId(3), committed=False))
    log.save_hard_state(saved)
    write(log, blanks(1, 20))
    log.truncate(LogIndex(10))
    log.purge(log_id(1, 5))
    log.reset(log_id(9, 50))
    log.sync()
    log = reopened(log, open_log)
    assert log.hard_state() == saved
    log.close()


# --- logs: appending and reading ---------------------------------------------------------------------------------------


def check_appended_entries_are_read_back(open_log: OpenLog) -> None:
    log = open_log()
    entries = [entry(1, 1, b"one"), entry(1, 2, b""), entry(2, 3, b"\0" * 100), membership_entry(2, 4, 1, 2, 3)]
    write(log, entries)
    assert read(log, 1, 4) == entries
    log.close()


def check_entries_are_readable_before_they_are_synced(open_log: OpenLog) -> None:
    log = open_log()
    log.append(blanks(1, 3))
    assert read(log, 1, 3) == blanks(1, 3)
    log.sync()
    log.close()


def check_a_reader_sees_what_is_appended_later(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 2))
    assert read(log, 1, 2) == blanks(1, 2)
    write(log, blanks(3, 4))
    assert read(log, 2, 4) == blanks(2, 4)
    log.close()


def check_a_range_is_read_exactly(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 30))
    assert read(log, 7, 19) == blanks(7, 19)
    assert read(log, 30, 30) == blanks(30, 30)
    log.close()


def check_a_read_stops_at_its_byte_limit_but_returns_one_entry(open_log: OpenLog) -> None:
    log = open_log()
    entries = [entry(1, index, b"x" * 1000) for index in range(1, 11)]
    write(log, entries)
    size = len(entries[0].record)
    assert log.read(LogIndex(0), LogIndex(10), 1) == entries[:1]
    assert log.read(LogIndex(3), LogIndex(10), 0) == entries[3:4]
    for limit in (size, 3 * size + 1, 100 * size):
        part = log.read(LogIndex(0), LogIndex(10), limit)
        assert part == entries[: len(part)]
        assert sum(len(item.record) for item in part) <= limit
        assert part
    log.close()


def check_an_empty_append_changes_nothing(open_log: OpenLog) -> None:
    log = open_log()
    write(log, [])
    assert log.state() == LogState()
    write(log, blanks(1, 2))
    write(log, [])
    assert log.state().last == log_id(1, 2)
    log.close()


def check_entries_that_are_not_there_are_refused(open_log: OpenLog) -> None:
    log = open_log()
    assert refuses(lambda: log.read(LogIndex(0), LogIndex(1), 100))
    write(log, blanks(1, 10))
    log.purge(log_id(1, 4))
    log.sync()
    assert refuses(lambda: log.read(LogIndex(3), LogIndex(6), 100))
    assert refuses(lambda: log.read(LogIndex(8), LogIndex(11), 100))
    assert refuses(lambda: log.read(LogIndex(10), LogIndex(11), 100))
    assert read(log, 5, 10) == blanks(5, 10)
    log.close()


def check_large_and_small_entries_live_together(open_log: OpenLog) -> None:
    log = open_log()
    entries = [entry(1, index, bytes([index]) * size) for index, size in enumerate((0, 1, 200_000, 3, 70_000, 0), 1)]
    write(log, entries)
    assert read(log, 1, 6) == entries
    log = reopened(log, open_log)
    assert read(log, 1, 6) == entries
    log.close()


def check_many_batches_between_syncs_all_last(open_log: OpenLog) -> None:
    log = open_log()
    for first in range(1, 100, 3):
        log.append(blanks(first, first + 2))
    log.sync()
    log = reopened(log, open_log)
    assert read(log, 1, 99) == blanks(1, 99)
    log.close()


# --- logs: the state ---------------------------------------------------------------------------------------------------


def check_the_state_names_purged_and_last(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 5) + blanks(6, 8, term=3))
    assert (log.state().purged, log.state().last) == (BEFORE_LOG, log_id(3, 8))
    log.purge(log_id(1, 2))
    log.sync()
    assert (log.state().purged, log.state().last) == (log_id(1, 2), log_id(3, 8))
    log.purge(log_id(3, 8))
    log.sync()
    assert (log.state().purged, log.state().last) == (log_id(3, 8), log_id(3, 8))
    log.close()


def check_the_last_id_is_known_after_everything_is_purged(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 5, term=2))
    log.purge(log_id(2, 5))
    log.sync()
    log = reopened(log, open_log)
    assert log.state() == LogState(log_id(2, 5), log_id(2, 5))
    write(log, blanks(6, 7, term=2))
    assert read(log, 6, 7) == blanks(6, 7, term=2)
    log.close()


def check_memberships_of_the_live_log_are_found_in_order(open_log: OpenLog) -> None:
    log = open_log()
    write(log, [membership_entry(1, 1, 1), *blanks(2, 3), membership_entry(1, 4, 1, 2), membership_entry(2, 5, 1, 2, 3)])
    assert log.state().memberships == (stored(1, 1, 1), stored(1, 4, 1, 2), stored(2, 5, 1, 2, 3))
    log = reopened(log, open_log)
    assert log.state().memberships == (stored(1, 1, 1), stored(1, 4, 1, 2), stored(2, 5, 1, 2, 3))
    log.close()


def check_memberships_go_with_their_entries(open_log: OpenLog) -> None:
    log = open_log()
    write(log, [membership_entry(1, 1, 1), *blanks(2, 3), membership_entry(1, 4, 1, 2), membership_entry(1, 5, 2)])
    log.truncate(LogIndex(4))
    log.sync()
    assert log.state().memberships == (stored(1, 1, 1), stored(1, 4, 1, 2))
    log.purge(log_id(1, 1))
    log.sync()
    assert log.state().memberships == (stored(1, 4, 1, 2),)
    log = reopened(log, open_log)
    assert log.state().memberships == (stored(1, 4, 1, 2),)
    log.close()


def check_memberships_are_found_in_a_long_log(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 999))
    write(log, [membership_entry(1, 1000, 1, 2)])
    write(log, blanks(1001, 2000))
    assert log.state().memberships == (stored(1, 1000, 1, 2),)
    log = reopened(log, open_log)
    assert log.state().memberships == (stored(1, 1000, 1, 2),)
    log.close()


def check_runs_name_every_leader_of_the_live_log(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 3, term=1) + blanks(4, 4, term=2))
    write(log, blanks(5, 6, term=2))
    write(log, blanks(7, 9, term=5))
    assert log.state().runs == (run(1, 1), run(4, 2), run(7, 5))
    log = reopened(log, open_log)
    assert log.state().runs == (run(1, 1), run(4, 2), run(7, 5))
    log.close()


def check_runs_follow_purge_and_truncation(open_log: OpenLog) -> None:
    shapes: list[tuple[int, int, tuple[LogRun, ...]]] = [
        (1, 9, (run(2, 1), run(4, 2), run(7, 5))),
        (3, 9, (run(4, 2), run(7, 5))),
        (4, 8, (run(5, 2), run(7, 5))),
        (5, 6, (run(6, 2),)),
        (6, 6, ()),
    ]
    log = open_log()
    write(log, blanks(1, 3, term=1) + blanks(4, 6, term=2) + blanks(7, 9, term=5))
    ids = {item.index: item.log_id for item in read(log, 1, 9)}
    for purged, last, runs in shapes:
        log.purge(ids[LogIndex(purged)])
        log.truncate(LogIndex(last))
        log.sync()
        assert log.state().runs == runs, (purged, last)
        log = reopened(log, open_log)
        assert log.state().runs == runs, (purged, last)
    log.close()


def check_the_whole_state_is_there_after_reopening(open_log: OpenLog) -> None:
    log = open_log()
    saved = HardState(Vote(Term(3), NodeId(1), committed=True))
    log.save_hard_state(saved)
    write(log, [membership_entry(1, 1, 1), *blanks(2, 7, term=3)])
    before = log.state()
    log = reopened(log, open_log)
    assert (log.state(), log.hard_state()) == (before, saved)
    log.close()


# --- logs: purging -----------------------------------------------------------------------------------------------------


def check_purging_nothing_changes_nothing(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 10))
    log.purge(BEFORE_LOG)
    log.sync()
    assert log.state().purged == BEFORE_LOG
    assert read(log, 1, 10) == blanks(1, 10)
    log.close()


def check_purging_a_prefix_keeps_the_rest(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 10))
    log.purge(log_id(1, 5))
    log.sync()
    assert (log.state().purged, log.state().last) == (log_id(1, 5), log_id(1, 10))
    assert read(log, 6, 10) == blanks(6, 10)
    assert refuses(lambda: log.read(LogIndex(4), LogIndex(5), 100))
    log.close()


def check_purging_beyond_the_end_moves_the_log(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 10))
    log.purge(log_id(3, 20))
    log.sync()
    assert log.state() == LogState(log_id(3, 20), log_id(3, 20))
    log = reopened(log, open_log)
    assert log.state() == LogState(log_id(3, 20), log_id(3, 20))
    write(log, blanks(21, 22, term=3))
    assert read(log, 21, 22) == blanks(21, 22, term=3)
    log.close()


def check_an_older_purge_changes_nothing(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 10))
    log.purge(log_id(1, 6))
    log.purge(log_id(1, 3))
    log.sync()
    assert log.state().purged == log_id(1, 6)
    assert read(log, 7, 10) == blanks(7, 10)
    log.close()


def check_a_purged_log_is_the_same_after_reopening(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 50))
    for upto in (7, 20, 49):
        log.purge(log_id(1, upto))
        log.sync()
        log = reopened(log, open_log)
        assert (log.state().purged, log.state().last) == (log_id(1, upto), log_id(1, 50))
        assert read(log, upto + 1, 50) == blanks(upto + 1, 50)
    log.close()


# --- logs: truncating --------------------------------------------------------------------------------------------------


def _truncated(open_log: OpenLog, after: int, left: int) -> None:
    log = open_log()
    write(log, blanks(1, 10))
    log.truncate(LogIndex(after))
    log.sync()
    assert log.state().last == (log_id(1, left) if left else BEFORE_LOG)
    assert read(log, 1, left) == blanks(1, left)
    assert refuses(lambda: log.read(LogIndex(left), LogIndex(left + 1), 100))
    log = reopened(log, open_log)
    assert log.state().last == (log_id(1, left) if left else BEFORE_LOG)
    write(log, blanks(left + 1, left + 3, term=2))
    log = reopened(log, open_log)
    assert read(log, 1, left + 3) == blanks(1, left) + blanks(left + 1, left + 3, term=2)
    log.close()


def check_truncating_beyond_the_end_changes_nothing(open_log: OpenLog) -> None:
    _truncated(open_log, after=11, left=10)


def check_truncating_at_the_end_changes_nothing(open_log: OpenLog) -> None:
    _truncated(open_log, after=10, left=10)


def check_truncating_in_the_middle_keeps_what_is_before(open_log: OpenLog) -> None:
    _truncated(open_log, after=5, left=5)


def check_truncating_after_the_first_entry_keeps_it(open_log: OpenLog) -> None:
    _truncated(open_log, after=1, left=1)


def check_truncating_everything_leaves_an_empty_log(open_log: OpenLog) -> None:
    _truncated(open_log, after=0, left=0)


def check_a_shorter_suffix_replaces_a_longer_one(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 3) + [entry(1, index, b"old" * 50) for index in range(4, 30)])
    log.truncate(LogIndex(3))
    write(log, blanks(4, 5, term=2))
    log = reopened(log, open_log)
    assert log.state().last == log_id(2, 5)
    assert read(log, 1, 5) == blanks(1, 3) + blanks(4, 5, term=2)
    log.close()


def check_truncating_back_to_the_purged_entry_leaves_an_empty_log(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 10))
    log.purge(log_id(1, 4))
    log.truncate(LogIndex(4))
    log.sync()
    assert log.state() == LogState(log_id(1, 4), log_id(1, 4))
    write(log, blanks(5, 6, term=2))
    log = reopened(log, open_log)
    assert (log.state().purged, log.state().last) == (log_id(1, 4), log_id(2, 6))
    assert read(log, 5, 6) == blanks(5, 6, term=2)
    log.close()


# --- logs: resetting ---------------------------------------------------------------------------------------------------


def check_a_reset_log_goes_on_after_the_snapshot(open_log: OpenLog) -> None:
    log = open_log()
    write(log, [membership_entry(1, 1, 1), *blanks(2, 9)])
    log.reset(log_id(7, 100))
    log.sync()
    assert log.state() == LogState(log_id(7, 100), log_id(7, 100))
    write(log, blanks(101, 103, term=7))
    log = reopened(log, open_log)
    assert log.state() == LogState(log_id(7, 100), log_id(7, 103), (run(101, 7),))
    log.close()


def check_a_log_can_be_reset_to_an_index_inside_it(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 20, term=1))
    log.reset(log_id(2, 10))
    log.sync()
    log = reopened(log, open_log)
    assert log.state() == LogState(log_id(2, 10), log_id(2, 10))
    write(log, blanks(11, 12, term=2))
    assert read(log, 11, 12) == blanks(11, 12, term=2)
    log.close()


def check_an_empty_log_can_be_reset(open_log: OpenLog) -> None:
    log = open_log()
    log.reset(log_id(3, 30))
    log.sync()
    log = reopened(log, open_log)
    assert log.state().last == log_id(3, 30)
    log.close()


# --- logs: what nobody may see ------------------------------------------------------------------------------------------


def check_what_was_synced_is_there_although_nobody_closed_the_log(open_log: OpenLog) -> None:
    """As after a killed process; the power is another matter, which only a simulated disk can cut."""
    log = open_log()
    saved = HardState(Vote(Term(2), NodeId(1), committed=False))
    log.save_hard_state(saved)
    write(log, blanks(1, 9))
    log.purge(log_id(1, 2))
    log.truncate(LogIndex(7))
    log.sync()
    again = open_log()
    assert again.hard_state() == saved
    assert (again.state().purged, again.state().last) == (log_id(1, 2), log_id(1, 7))
    assert read(again, 3, 7) == blanks(3, 7)
    again.close()


def check_a_refused_read_changes_nothing(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 5))
    before = log.state()
    assert refuses(lambda: log.read(LogIndex(5), LogIndex(9), 100))
    assert log.state() == before
    write(log, blanks(6, 7))
    assert read(log, 1, 7) == blanks(1, 7)
    log.close()


def check_every_live_index_has_the_id_that_runs_say(open_log: OpenLog) -> None:
    log = open_log()
    write(log, blanks(1, 3, term=1) + blanks(4, 4, term=2) + blanks(5, 9, term=6))
    log.purge(log_id(1, 2))
    log.sync()
    state = log.state()
    for each in read(log, 3, 9):
        leader = [found for found in state.runs if found.first_index <= each.index][-1]
        assert (leader.term, leader.node_id) == (each.term, each.node_id), each.index
    assert state.purged == log_id(1, 2)
    log.close()


def check_random_operations_agree_with_a_list(open_log: OpenLog) -> None:
    """A few hundred appends, truncations, purges and resets in an order drawn once and for all, reopened now and then."""
    chance = random.Random(20)  # noqa: S311 (the same operations every time)
    log, model, purged, term = open_log(), list[Entry](), BEFORE_LOG, 1
    for step in range(300):
        last = model[-1].log_id if model else purged
        choice = chance.random()
        if choice < 0.6:
            term += chance.random() < 0.1
            added = [entry(term, last.index + 1 + i, bytes(chance.randrange(200))) for i in range(chance.randrange(1, 12))]
            log.append(added)
            model += added
        elif choice < 0.75:
            after = chance.randint(purged.index, last.index)
            log.truncate(LogIndex(after))
            model = [each for each in model if each.index <= after]
            term += 1
        elif choice < 0.88 and model:
            purged = chance.choice(model).log_id
            log.purge(purged)
            model = [each for each in model if each.index > purged.index]
        elif choice < 0.9:
            term += 1
            purged = log_id(term, last.index + chance.randrange(1, 50))
            log.reset(purged)
            model = []
        log.sync()
        if chance.random() < 0.1:
            log = reopened(log, open_log)
        state = log.state()
        assert (state.purged, state.last) == (purged, model[-1].log_id if model else purged), step
        assert read(log, purged.index + 1, state.last.index) == model, step
    log.close()


def check_readers_in_other_threads_see_right_entries_or_none(open_log: OpenLog) -> None:
    """While entries are appended and purged; whoever asks for what is purged meanwhile may be refused."""
    log = open_log()
    write(log, blanks(1, 10))
    stop, wrong, found = threading.Event(), list[object](), threading.Semaphore(0)

    def keep_reading() -> None:
        chance = random.Random(1)  # noqa: S311 (as above)
        while not stop.is_set():
            upto = ends[-1]
            after = chance.randint(max(0, upto - 50), upto - 1)
            with suppress(StorageError):
                entries = log.read(LogIndex(after), LogIndex(upto), 5000)
                if entries != blanks(after + 1, after + len(entries)) or not entries:
                    wrong.append(entries)
                found.release()

    ends = [10]
    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    for reader in readers:
        reader.start()
    for first in range(11, 600, 5):
        log.append(blanks(first, first + 4))
        ends.append(first + 4)
        if first % 3 == 0:
            log.sync()
        if first % 50 == 1 and first > 60:
            log.purge(log_id(1, first - 60))
    for _ in range(50):
        assert found.acquire(timeout=60), "no read succeeds"
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    log.close()


# --- snapshots ---------------------------------------------------------------------------------------------------------

_CHUNKS = [b"first", b"", b"\0" * 5000, bytes(range(256)) * 40]


def _shipped(source: SnapshotStorage, meta: SnapshotMeta, step: int) -> list[tuple[int, bytes]]:
    """Return the pieces of a snapshot as they travel."""
    return [(offset, source.read_chunk(meta, offset, step)) for offset in range(0, meta.size_bytes, step)]


def check_a_new_store_has_no_snapshot(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    assert snapshots.newest() is None
    snapshots.close()


def check_a_built_snapshot_gives_back_its_chunks(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = snapshots.build(log_id(2, 40), stored(1, 1, 1, 2), iter(_CHUNKS))
    assert list(snapshots.open(meta)) == _CHUNKS
    snapshots.close()


def check_a_snapshot_names_what_it_covers(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = snapshots.build(log_id(2, 40), stored(1, 1, 1, 2), _CHUNKS)
    assert (meta.last_log_id, meta.membership) == (log_id(2, 40), stored(1, 1, 1, 2))
    assert meta.size_bytes >= sum(map(len, _CHUNKS))
    assert meta.snapshot_id
    assert snapshots.newest() == meta
    snapshots.close()


def check_a_snapshot_of_nothing_is_allowed(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = snapshots.build(BEFORE_LOG, StoredMembership(BEFORE_LOG, EMPTY_MEMBERSHIP), [])
    assert list(snapshots.open(meta)) == []
    assert snapshots.newest() == meta
    snapshots.close()


def check_two_builds_of_the_same_state_have_different_ids(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    first = snapshots.build(log_id(1, 1), stored(1, 1, 1), [b"a"])
    second = snapshots.build(log_id(1, 1), stored(1, 1, 1), [b"a"])
    assert first.snapshot_id != second.snapshot_id
    assert snapshots.newest() == second
    snapshots.close()


def check_the_newest_snapshot_is_kept(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    snapshots.build(log_id(1, 10), stored(1, 1, 1), [b"old"])
    newest = snapshots.build(log_id(1, 20), stored(1, 1, 1), [b"new"])
    assert snapshots.newest() == newest
    snapshots.close()
    snapshots = open_snapshots()
    assert snapshots.newest() == newest
    assert list(snapshots.open(newest)) == [b"new"]
    snapshots.close()


def check_a_snapshot_is_shipped_piece_by_piece(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    for step in (7, 1000, meta.size_bytes, meta.size_bytes * 2):
        assert sum(len(data) for _, data in _shipped(snapshots, meta, step)) == meta.size_bytes
    assert snapshots.read_chunk(meta, meta.size_bytes, 100) == b""
    snapshots.close()


def check_a_replaced_snapshot_is_shipped_to_its_end(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    old = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    begin = snapshots.read_chunk(old, 0, 100)
    snapshots.build(log_id(1, 20), stored(1, 1, 1), [b"new"])
    rest = snapshots.read_chunk(old, 100, old.size_bytes)
    assert len(begin + rest) == old.size_bytes
    snapshots.close()


def check_an_unknown_snapshot_is_refused(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    unknown = SnapshotMeta(log_id(1, 1), stored(1, 1, 1), "T1-N1.1-00000000", 100)
    assert refuses(lambda: snapshots.read_chunk(unknown, 0, 10))
    assert refuses(lambda: list(snapshots.open(unknown)))
    assert refuses(lambda: snapshots.adopt(unknown))
    snapshots.close()


def _receives(
    open_snapshots: OpenSnapshots, pieces: Callable[[list[tuple[int, bytes]]], Iterable[tuple[int, bytes]]]
) -> None:
    """Ship a snapshot into a store that had it and replaced it, in the given order of pieces, and look at what arrived."""
    snapshots = open_snapshots()
    meta = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    shipped = _shipped(snapshots, meta, 997)
    snapshots.build(log_id(1, 12), stored(1, 1, 1), [b"mine"])
    complete = False
    for offset, data in pieces(shipped):
        is_last = offset + len(data) == meta.size_bytes
        there, complete = snapshots.receive(meta, offset, data, done=is_last)
        assert there <= meta.size_bytes
    assert complete
    snapshots.close()


def check_a_snapshot_is_received_in_order(open_snapshots: OpenSnapshots) -> None:
    _receives(open_snapshots, lambda pieces: pieces)


def check_pieces_that_come_twice_are_skipped(open_snapshots: OpenSnapshots) -> None:
    _receives(open_snapshots, lambda pieces: [piece for piece in pieces for _ in range(2)])


def check_pieces_that_overlap_are_joined(open_snapshots: OpenSnapshots) -> None:
    _receives(
        open_snapshots,
        lambda pieces: [pieces[0], *((offset - 500, left[1][-500:] + data) for left, (offset, data) in pairwise(pieces))],
    )


def check_a_gap_is_answered_with_where_to_go_on(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = SnapshotMeta(log_id(1, 10), stored(1, 1, 1), "T1-N1.10-aaaaaaaa", 3000)
    assert snapshots.receive(meta, 0, b"x" * 1000, done=False) == (1000, False)
    assert snapshots.receive(meta, 2000, b"x" * 1000, done=True) == (1000, False)
    assert snapshots.receive(meta, 0, b"", done=False) == (1000, False)
    snapshots.close()


def check_more_bytes_than_announced_are_not_taken(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = SnapshotMeta(log_id(1, 10), stored(1, 1, 1), "T1-N1.10-bbbbbbbb", 1000)
    assert snapshots.receive(meta, 0, b"x" * 2000, done=True) == (0, False)
    snapshots.close()


def check_another_snapshot_starts_anew(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    first = SnapshotMeta(log_id(1, 10), stored(1, 1, 1), "T1-N1.10-cccccccc", 3000)
    second = SnapshotMeta(log_id(1, 20), stored(1, 1, 1), "T1-N1.20-dddddddd", 3000)
    assert snapshots.receive(first, 0, b"x" * 1000, done=False) == (1000, False)
    assert snapshots.receive(second, 1000, b"y" * 1000, done=False) == (0, False)
    assert snapshots.receive(second, 0, b"y" * 500, done=False) == (500, False)
    snapshots.close()


def check_a_damaged_snapshot_is_received_again(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    data = snapshots.read_chunk(meta, 0, meta.size_bytes)
    snapshots.build(log_id(1, 11), stored(1, 1, 1), [b"mine"])
    for position in (0, len(data) // 2, len(data) - 1):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        assert snapshots.receive(meta, 0, flipped, done=True) == (0, False), position
    assert refuses(lambda: snapshots.adopt(meta))
    assert snapshots.receive(meta, 0, data, done=True) == (meta.size_bytes, True)
    snapshots.close()


def check_an_incomplete_snapshot_is_not_adopted(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = SnapshotMeta(log_id(1, 10), stored(1, 1, 1), "T1-N1.10-eeeeeeee", 3000)
    snapshots.receive(meta, 0, b"x" * 1000, done=False)
    assert refuses(lambda: snapshots.adopt(meta))
    assert snapshots.newest() is None
    snapshots.close()


def check_a_received_snapshot_counts_when_it_is_adopted(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    data = snapshots.read_chunk(meta, 0, meta.size_bytes)
    mine = snapshots.build(log_id(1, 11), stored(1, 1, 1), [b"mine"])
    theirs = SnapshotMeta(meta.last_log_id, meta.membership, meta.snapshot_id, meta.size_bytes)
    assert snapshots.receive(theirs, 0, data, done=True) == (meta.size_bytes, True)
    assert snapshots.newest() == mine
    snapshots.close()


def check_what_was_received_but_not_adopted_is_forgotten(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = SnapshotMeta(log_id(1, 10), stored(1, 1, 1), "T1-N1.10-ffffffff", 3000)
    assert snapshots.receive(meta, 0, b"x" * 1000, done=False) == (1000, False)
    snapshots.close()
    snapshots = open_snapshots()
    assert snapshots.newest() is None
    assert snapshots.receive(meta, 1000, b"x" * 1000, done=False) == (0, False)
    snapshots.close()


class _Broken(Exception):
    """What a state machine throws while it makes its chunks."""


def _breaking(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from chunks
    raise _Broken


def check_a_build_that_fails_leaves_the_newest_one(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    kept = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    try:
        snapshots.build(log_id(1, 20), stored(1, 1, 1), _breaking(_CHUNKS))
    except _Broken:
        pass
    else:
        raise AssertionError("the failure of the chunks was swallowed")
    assert snapshots.newest() == kept
    assert list(snapshots.open(kept)) == _CHUNKS
    newest = snapshots.build(log_id(1, 21), stored(1, 1, 1), [b"next"])
    snapshots.close()
    snapshots = open_snapshots()
    assert snapshots.newest() == newest
    snapshots.close()


def check_a_snapshot_that_is_being_read_outlives_its_replacement(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    old = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    chunks = snapshots.open(old)
    begin = [next(chunks)]
    snapshots.build(log_id(1, 20), stored(1, 1, 1), [b"new"])
    assert begin + list(chunks) == _CHUNKS
    snapshots.close()


def check_a_snapshot_is_shipped_by_one_thread_while_others_are_built(open_snapshots: OpenSnapshots) -> None:
    snapshots = open_snapshots()
    meta = snapshots.build(log_id(1, 10), stored(1, 1, 1), _CHUNKS)
    expected = snapshots.read_chunk(meta, 0, meta.size_bytes)
    snapshots.read_chunk(meta, 0, 1)
    shipped: list[bytes] = []

    def ship() -> None:
        shipped.extend(data for _, data in _shipped(snapshots, meta, 100))

    shipper = threading.Thread(target=ship)
    shipper.start()
    snapshots.build(log_id(1, 20), stored(1, 1, 1), [b"new"])
    shipper.join()
    assert b"".join(shipped) == expected
    snapshots.close()


def check_a_snapshot_goes_from_one_store_to_another(open_source: OpenSnapshots, open_target: OpenSnapshots) -> None:
    """Needs two stores, hence not in `SNAPSHOT_CASES`."""
    source, target = open_source(), open_target()
    target.build(log_id(1, 5), stored(1, 1, 1), [b"older"])
    meta = source.build(log_id(3, 50), stored(2, 9, 1, 2, 3), _CHUNKS)
    for offset, data in _shipped(source, meta, 1000):
        target.receive(meta, offset, data, done=offset + len(data) == meta.size_bytes)
    target.adopt(meta)
    assert target.newest() == meta
    assert list(target.open(meta)) == _CHUNKS
    assert target.receive(meta, 0, b"", done=False) == (meta.size_bytes, True)
    target.adopt(meta)
    target.close()
    target = open_target()
    assert target.newest() == meta
    assert list(target.open(meta)) == list(source.open(meta))
    target.close()
    source.close()


# --- state machines ----------------------------------------------------------------------------------------------------


def _applied(maker: MachineMaker, count: int) -> StateMachine:
    machine = maker.make()
    machine.apply([entry(1, index, maker.data(index)) for index in range(1, count + 1)])
    return machine


def check_a_new_state_machine_has_applied_nothing(maker: MachineMaker) -> None:
    assert maker.make().applied() == BEFORE_LOG


def check_every_entry_has_a_result(maker: MachineMaker) -> None:
    machine = maker.make()
    for index in range(1, 4):
        assert len(machine.apply([entry(1, index, maker.data(index))])) == 1


def check_results_come_in_the_order_of_the_entries(maker: MachineMaker) -> None:
    one_by_one, at_once = maker.make(), maker.make()
    entries = [entry(1, index, maker.data(index)) for index in range(1, 11)]
    single = [result for item in entries for result in one_by_one.apply([item])]
    assert list(at_once.apply(entries)) == single


def check_blank_and_membership_entries_change_nothing(maker: MachineMaker) -> None:
    machine, without = maker.make(), maker.make()
    results = machine.apply([*blanks(1, 1), membership_entry(1, 2, 1, 2), entry(1, 3, maker.data(3))])
    assert len(results) == 3, "each entry has a result, also one without data; what it is does not matter"
    assert list(results[2:]) == list(without.apply([entry(1, 3, maker.data(3))]))


def check_nothing_applied_has_no_result(maker: MachineMaker) -> None:
    assert list(maker.make().apply([])) == []


def check_equal_entries_give_equal_snapshots(maker: MachineMaker) -> None:
    assert list(_applied(maker, 20).snapshot()) == list(_applied(maker, 20).snapshot())


def check_entries_change_the_state(maker: MachineMaker) -> None:
    assert b"".join(_applied(maker, 3).snapshot()) != b"".join(_applied(maker, 4).snapshot())


def check_a_snapshot_restores_the_state(maker: MachineMaker) -> None:
    source, target = _applied(maker, 30), _applied(maker, 7)
    target.restore(iter(list(source.snapshot())), log_id(1, 30))
    assert list(target.snapshot()) == list(source.snapshot())
    more = [entry(2, index, maker.data(index)) for index in range(31, 41)]
    assert list(target.apply(more)) == list(source.apply(more))
    assert list(target.snapshot()) == list(source.snapshot())


def check_a_snapshot_of_an_empty_state_restores_it(maker: MachineMaker) -> None:
    target = _applied(maker, 5)
    target.restore(iter(list(maker.make().snapshot())), BEFORE_LOG)
    assert list(target.snapshot()) == list(maker.make().snapshot())


def check_later_entries_do_not_show_in_a_snapshot(maker: MachineMaker) -> None:
    machine, expected = _applied(maker, 10), list(_applied(maker, 10).snapshot())
    chunks = machine.snapshot()
    machine.apply([entry(1, index, maker.data(index)) for index in range(11, 31)])
    assert list(chunks) == expected


def check_a_snapshot_half_read_does_not_show_later_entries(maker: MachineMaker) -> None:
    machine, expected = _applied(maker, 200), list(_applied(maker, 200).snapshot())
    chunks = machine.snapshot()
    begin = list(islice(chunks, 1))
    machine.apply([entry(1, index, maker.data(index)) for index in range(201, 221)])
    assert begin + list(chunks) == expected


def check_a_snapshot_shows_one_moment_while_entries_are_applied(maker: MachineMaker) -> None:
    """It is read by a thread, beside hundreds of entries."""
    machine, expected = _applied(maker, 300), list(_applied(maker, 300).snapshot())
    chunks = machine.snapshot()
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.extend(chunks))
    reader.start()
    for index in range(301, 601):
        machine.apply([entry(1, index, maker.data(index))])
    reader.join()
    assert found == expected
    assert list(machine.snapshot()) == list(_applied(maker, 600).snapshot())


def check_two_snapshots_of_different_moments_are_read_side_by_side(maker: MachineMaker) -> None:
    machine = _applied(maker, 10)
    first = machine.snapshot()
    machine.apply([entry(1, index, maker.data(index)) for index in range(11, 21)])
    second = machine.snapshot()
    machine.apply([entry(1, index, maker.data(index)) for index in range(21, 31)])
    assert list(second) == list(_applied(maker, 20).snapshot())
    assert list(first) == list(_applied(maker, 10).snapshot())


def check_a_snapshot_that_nobody_reads_disturbs_nothing(maker: MachineMaker) -> None:
    machine = _applied(maker, 10)
    machine.snapshot()
    next(machine.snapshot(), None)
    machine.apply([entry(1, 11, maker.data(11))])
    assert list(machine.snapshot()) == list(_applied(maker, 11).snapshot())


def check_a_restore_that_fails_changes_nothing(maker: MachineMaker) -> None:
    machine = _applied(maker, 10)
    chunks = list(_applied(maker, 50).snapshot())
    try:
        machine.restore(_breaking(chunks[: max(1, len(chunks) // 2)]), log_id(1, 50))
    except _Broken:
        pass
    else:
        raise AssertionError("the failure of the chunks was swallowed")
    assert list(machine.snapshot()) == list(_applied(maker, 10).snapshot())
    machine.apply([entry(1, 11, maker.data(11))])
    assert list(machine.snapshot()) == list(_applied(maker, 11).snapshot())


def check_a_snapshot_begun_before_a_restore_shows_what_was_there(maker: MachineMaker) -> None:
    machine = _applied(maker, 10)
    chunks = machine.snapshot()
    begin = list(islice(chunks, 1))
    machine.restore(iter(list(_applied(maker, 50).snapshot())), log_id(1, 50))
    assert begin + list(chunks) == list(_applied(maker, 10).snapshot())


def check_what_it_says_it_has_applied_is_what_it_has(maker: MachineMaker) -> None:
    """After a restart: never data without its index or an index without its data, and the log goes on behind it."""
    machine = maker.make()
    for upto in (1, 7, 40, 90):
        machine.apply([entry(1, index, maker.data(index)) for index in range(machine.applied().index + 1, upto + 1)])
        machine = maker.restarted(machine)
        there = machine.applied()
        assert there.index <= upto
        assert there in {BEFORE_LOG, log_id(1, there.index)}
        assert list(machine.snapshot()) == list(_applied(maker, there.index).snapshot())
        machine.apply([entry(1, index, maker.data(index)) for index in range(there.index + 1, upto + 1)])
        assert list(machine.snapshot()) == list(_applied(maker, upto).snapshot())
        machine = maker.restarted(machine)


def check_a_restored_state_and_its_index_survive_together(maker: MachineMaker) -> None:
    machine = _applied(maker, 5)
    machine.restore(iter(list(_applied(maker, 50).snapshot())), log_id(1, 50))
    machine = maker.restarted(machine)
    assert machine.applied() in {BEFORE_LOG, log_id(1, 50)}
    assert list(machine.snapshot()) == list(_applied(maker, machine.applied().index).snapshot())


# --- a node's start ----------------------------------------------------------------------------------------------------


def _start(stores: Stores) -> RaftState:
    """Return what the core begins with."""
    restored = restore_node(stores.open_log(), stores.open_snapshots(), stores.machine.make())
    return restore(Config(), PeerId(NodeId(1), Incarnation(f"{1:032x}")), restored, lambda: 0.5, 0)


def _with_snapshot(stores: Stores, term: int, index: int, membership_of: StoredMembership) -> None:
    """Build a snapshot of the state after `index` entries."""
    snapshots = stores.open_snapshots()
    machine = stores.machine.make()
    machine.apply([entry(term, each, stores.machine.data(each)) for each in range(1, index + 1)])
    last = log_id(term, index)
    chunks = machine.snapshot()
    snapshots.build(last, membership_of, chunks)
    snapshots.close()


def _with_log(stores: Stores, *entries: Entry, hard_state: HardState | None = None) -> None:
    log = stores.open_log()
    if hard_state is not None:
        log.save_hard_state(hard_state)
    write(log, list(entries))
    log.close()


def check_a_node_without_anything_starts_with_nothing(stores: Stores) -> None:
    state = _start(stores)
    assert (state.vote, state.log.last, state.applied, state.committed) == (NO_VOTE, BEFORE_LOG, BEFORE_LOG, 0)
    assert state.effective == StoredMembership()


def check_a_node_starts_with_vote_and_log_and_has_committed_what_is_applied(stores: Stores) -> None:
    vote = Vote(Term(3), NodeId(2), committed=True)
    _with_log(stores, membership_entry(1, 1, 1, 2), *blanks(2, 9, term=3), hard_state=HardState(vote))
    state = _start(stores)
    assert (state.vote, state.log.last) == (vote, log_id(3, 9))
    assert state.committed == state.applied.index


def check_a_membership_in_the_log_counts_without_a_snapshot(stores: Stores) -> None:
    _with_log(stores, membership_entry(1, 1, 1, 2, 3), *blanks(2, 3))
    assert _start(stores).effective == stored(1, 1, 1, 2, 3)


def check_a_membership_in_the_snapshot_counts_without_a_log(stores: Stores) -> None:
    _with_snapshot(stores, 1, 5, stored(1, 2, 1, 2))
    state = _start(stores)
    assert state.effective == state.committed_membership() == stored(1, 2, 1, 2)
    assert state.log.last == state.applied == log_id(1, 5)


def check_an_older_membership_in_the_log_is_ignored(stores: Stores) -> None:
    _with_log(stores, membership_entry(1, 1, 1), *blanks(2, 6))
    _with_snapshot(stores, 1, 5, stored(1, 4, 1, 2))
    assert _start(stores).effective == stored(1, 4, 1, 2)


def check_one_newer_membership_in_the_log_is_effective(stores: Stores) -> None:
    _with_log(stores, *blanks(1, 6), membership_entry(1, 7, 1, 2, 3))
    _with_snapshot(stores, 1, 5, stored(1, 4, 1, 2))
    state = _start(stores)
    assert (state.committed_membership(), state.effective) == (stored(1, 4, 1, 2), stored(1, 7, 1, 2, 3))


def check_the_newest_of_several_memberships_in_the_log_is_effective(stores: Stores) -> None:
    _with_log(stores, *blanks(1, 6), membership_entry(1, 7, 1, 2, 3), *blanks(8, 8), membership_entry(1, 9, 3))
    _with_snapshot(stores, 1, 5, stored(1, 4, 1, 2))
    state = _start(stores)
    assert [stored(1, 7, 1, 2, 3), stored(1, 9, 3)] == state.memberships[-2:]
    assert state.effective == stored(1, 9, 3)


def check_a_log_longer_than_what_is_applied_keeps_its_end(stores: Stores) -> None:
    _with_log(stores, *blanks(1, 20))
    _with_snapshot(stores, 1, 5, stored(1, 1, 1))
    state = _start(stores)
    assert (state.log.last, state.applied) == (log_id(1, 20), log_id(1, 5))


def check_a_log_that_ends_before_the_snapshot_goes_on_behind_it(stores: Stores) -> None:
    _with_log(stores, *blanks(1, 3))
    _with_snapshot(stores, 1, 5, stored(1, 1, 1))
    state = _start(stores)
    assert (state.log.purged, state.log.last, state.applied) == (log_id(1, 5), log_id(1, 5), log_id(1, 5))


def check_a_log_of_another_leader_gives_way_to_the_snapshot(stores: Stores) -> None:
    """Its entry at the snapshot's end is another one: what follows it was never committed."""
    _with_log(stores, *blanks(1, 9, term=1))
    _with_snapshot(stores, 2, 5, stored(1, 1, 1))
    assert _start(stores).log.last == log_id(2, 5)


def check_a_state_machine_of_another_log_is_refused(stores: Stores) -> None:
    """Needs one that survives; another passes, as it cannot be ahead of anything."""
    _with_log(stores, *blanks(1, 9, term=1))
    machine = stores.machine.make()
    machine.apply([entry(7, index, stores.machine.data(index)) for index in range(1, 6)])
    machine = stores.machine.restarted(machine)
    if machine.applied() == BEFORE_LOG:
        return
    try:
        restore_node(stores.open_log(), stores.open_snapshots(), machine)
    except Damaged:
        return
    raise AssertionError("a state machine that applied other entries was taken")


def check_a_hole_between_snapshot_and_log_is_refused(stores: Stores) -> None:
    _with_log(stores, *blanks(1, 20))
    log = stores.open_log()
    log.purge(log_id(1, 10))
    log.sync()
    log.close()
    _with_snapshot(stores, 1, 5, stored(1, 1, 1))
    try:
        _start(stores)
    except Damaged:
        return
    raise AssertionError("entries are missing, and the node starts")


# --- the lists ---------------------------------------------------------------------------------------------------------

LOG_CASES: list[Callable[[OpenLog], None]] = [
    check_a_new_log_is_empty,
    check_a_new_log_has_no_membership,
    check_a_new_log_has_no_vote,
    check_a_saved_vote_is_read_back,
    check_the_last_saved_hard_state_counts,
    check_the_recovery_marker_is_kept_and_cleared,
    check_the_hard_state_outlives_every_change_of_the_log,
    check_appended_entries_are_read_back,
    check_entries_are_readable_before_they_are_synced,
    check_a_reader_sees_what_is_appended_later,
    check_a_range_is_read_exactly,
    check_a_read_stops_at_its_byte_limit_but_returns_one_entry,
    check_an_empty_append_changes_nothing,
    check_entries_that_are_not_there_are_refused,
    check_large_and_small_entries_live_together,
    check_many_batches_between_syncs_all_last,
    check_the_state_names_purged_and_last,
    check_the_last_id_is_known_after_everything_is_purged,
    check_memberships_of_the_live_log_are_found_in_order,
    check_memberships_go_with_their_entries,
    check_memberships_are_found_in_a_long_log,
    check_runs_name_every_leader_of_the_live_log,
    check_runs_follow_purge_and_truncation,
    check_the_whole_state_is_there_after_reopening,
    check_purging_nothing_changes_nothing,
    check_purging_a_prefix_keeps_the_rest,
    check_purging_beyond_the_end_moves_the_log,
    check_an_older_purge_changes_nothing,
    check_a_purged_log_is_the_same_after_reopening,
    check_truncating_beyond_the_end_changes_nothing,
    check_truncating_at_the_end_changes_nothing,
    check_truncating_in_the_middle_keeps_what_is_before,
    check_truncating_after_the_first_entry_keeps_it,
    check_truncating_everything_leaves_an_empty_log,
    check_a_shorter_suffix_replaces_a_longer_one,
    check_truncating_back_to_the_purged_entry_leaves_an_empty_log,
    check_a_reset_log_goes_on_after_the_snapshot,
    check_a_log_can_be_reset_to_an_index_inside_it,
    check_an_empty_log_can_be_reset,
    check_what_was_synced_is_there_although_nobody_closed_the_log,
    check_a_refused_read_changes_nothing,
    check_every_live_index_has_the_id_that_runs_say,
    check_random_operations_agree_with_a_list,
    check_readers_in_other_threads_see_right_entries_or_none,
]

SNAPSHOT_CASES: list[Callable[[OpenSnapshots], None]] = [
    check_a_new_store_has_no_snapshot,
    check_a_built_snapshot_gives_back_its_chunks,
    check_a_snapshot_names_what_it_covers,
    check_a_snapshot_of_nothing_is_allowed,
    check_two_builds_of_the_same_state_have_different_ids,
    check_the_newest_snapshot_is_kept,
    check_a_snapshot_is_shipped_piece_by_piece,
    check_a_replaced_snapshot_is_shipped_to_its_end,
    check_an_unknown_snapshot_is_refused,
    check_a_snapshot_is_received_in_order,
    check_pieces_that_come_twice_are_skipped,
    check_pieces_that_overlap_are_joined,
    check_a_gap_is_answered_with_where_to_go_on,
    check_more_bytes_than_announced_are_not_taken,
    check_another_snapshot_starts_anew,
    check_a_damaged_snapshot_is_received_again,
    check_an_incomplete_snapshot_is_not_adopted,
    check_a_received_snapshot_counts_when_it_is_adopted,
    check_what_was_received_but_not_adopted_is_forgotten,
    check_a_build_that_fails_leaves_the_newest_one,
    check_a_snapshot_that_is_being_read_outlives_its_replacement,
    check_a_snapshot_is_shipped_by_one_thread_while_others_are_built,
]

STATE_MACHINE_CASES: list[Callable[[MachineMaker], None]] = [
    check_a_new_state_machine_has_applied_nothing,
    check_every_entry_has_a_result,
    check_results_come_in_the_order_of_the_entries,
    check_blank_and_membership_entries_change_nothing,
    check_nothing_applied_has_no_result,
    check_equal_entries_give_equal_snapshots,
    check_entries_change_the_state,
    check_a_snapshot_restores_the_state,
    check_a_snapshot_of_an_empty_state_restores_it,
    check_later_entries_do_not_show_in_a_snapshot,
    check_a_snapshot_half_read_does_not_show_later_entries,
    check_a_snapshot_shows_one_moment_while_entries_are_applied,
    check_two_snapshots_of_different_moments_are_read_side_by_side,
    check_a_snapshot_that_nobody_reads_disturbs_nothing,
    check_a_restore_that_fails_changes_nothing,
    check_a_snapshot_begun_before_a_restore_shows_what_was_there,
    check_what_it_says_it_has_applied_is_what_it_has,
    check_a_restored_state_and_its_index_survive_together,
]

START_CASES: list[Callable[[Stores], None]] = [
    check_a_node_without_anything_starts_with_nothing,
    check_a_node_starts_with_vote_and_log_and_has_committed_what_is_applied,
    check_a_membership_in_the_log_counts_without_a_snapshot,
    check_a_membership_in_the_snapshot_counts_without_a_log,
    check_an_older_membership_in_the_log_is_ignored,
    check_one_newer_membership_in_the_log_is_effective,
    check_the_newest_of_several_memberships_in_the_log_is_effective,
    check_a_log_longer_than_what_is_applied_keeps_its_end,
    check_a_log_that_ends_before_the_snapshot_goes_on_behind_it,
    check_a_log_of_another_leader_gives_way_to_the_snapshot,
    check_a_state_machine_of_another_log_is_refused,
    check_a_hole_between_snapshot_and_log_is_refused,
]

_NO_STREAMS = "there is one way to read, `read`: the sender asks for the next part when it needs it"

OPENRAFT_CASES: dict[str, Callable[..., None] | str] = {
    "last_membership_in_log_initial": check_a_new_log_has_no_membership,
    "last_membership_in_log": check_memberships_of_the_live_log_are_found_in_order,
    "last_membership_in_log_multi_step": check_memberships_are_found_in_a_long_log,
    "get_membership_initial": check_a_node_without_anything_starts_with_nothing,
    "get_membership_from_log_and_empty_sm": check_a_membership_in_the_log_counts_without_a_snapshot,
    "get_membership_from_empty_log_and_sm": check_a_membership_in_the_snapshot_counts_without_a_log,
    "get_membership_from_log_le_sm_last_applied": check_an_older_membership_in_the_log_is_ignored,
    "get_membership_from_log_gt_sm_last_applied_1": check_one_newer_membership_in_the_log_is_effective,
    "get_membership_from_log_gt_sm_last_applied_2": check_the_newest_of_several_memberships_in_the_log_is_effective,
    "get_initial_state_without_init": check_a_node_without_anything_starts_with_nothing,
    "get_initial_state_membership_from_empty_log_and_sm": check_a_membership_in_the_snapshot_counts_without_a_log,
    "get_initial_state_membership_from_sm_inlog_is_smaller": check_an_older_membership_in_the_log_is_ignored,
    "get_initial_state_membership_from_log_insm_is_smaller": check_one_newer_membership_in_the_log_is_effective,
    "get_initial_state_with_state": check_a_node_starts_with_vote_and_log_and_has_committed_what_is_applied,
    "get_initial_state_last_log_gt_sm": check_a_log_longer_than_what_is_applied_keeps_its_end,
    "get_initial_state_last_log_lt_sm": check_a_log_that_ends_before_the_snapshot_goes_on_behind_it,
    "get_initial_state_inverted_log_order": check_a_log_of_another_leader_gives_way_to_the_snapshot,
    "get_initial_state_conflict_at_same_index": check_a_state_machine_of_another_log_is_refused,
    "get_initial_state_log_ids": check_runs_follow_purge_and_truncation,
    "get_initial_state_re_apply_committed": "the committed index is not stored: a node learns it from its leader and then applies",
    "save_vote": check_a_saved_vote_is_read_back,
    "get_log_entries": check_a_range_is_read_exactly,
    "limited_get_log_entries": check_a_read_stops_at_its_byte_limit_but_returns_one_entry,
    "leader_bounded_stream": _NO_STREAMS + "; the core ends a replication session when the vote changes",
    "entries_stream": _NO_STREAMS,
    "try_get_log_entry": check_entries_that_are_not_there_are_refused,
    "log_reader_reads_new_entries": check_a_reader_sees_what_is_appended_later,
    "initial_logs": check_a_new_log_is_empty,
    "get_log_state": check_the_state_names_purged_and_last,
    "get_log_id": check_every_live_index_has_the_id_that_runs_say,
    "last_id_in_log": check_the_last_id_is_known_after_everything_is_purged,
    "last_applied_state": check_what_it_says_it_has_applied_is_what_it_has,
    "purge_logs_upto_0": check_purging_nothing_changes_nothing,
    "purge_logs_upto_5": check_purging_a_prefix_keeps_the_rest,
    "purge_logs_upto_20": check_purging_beyond_the_end_moves_the_log,
    "delete_logs_after_11": check_truncating_beyond_the_end_changes_nothing,
    "delete_logs_after_5": check_truncating_in_the_middle_keeps_what_is_before,
    "delete_logs_after_0": check_truncating_after_the_first_entry_keeps_it,
    "delete_logs_after_none": check_truncating_everything_leaves_an_empty_log,
    "append_to_log": check_appended_entries_are_read_back,
    "snapshot_meta": check_a_snapshot_names_what_it_covers,
    "snapshot_meta_optional": check_a_snapshot_of_nothing_is_allowed,
    "apply_single": check_every_entry_has_a_result,
    "apply_multiple": check_results_come_in_the_order_of_the_entries,
    "transfer_snapshot": check_a_snapshot_goes_from_one_store_to_another,
}
"""The cases of openraft's suite: the case here that asks the same, or why nothing here could be asked."""
