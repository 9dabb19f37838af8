"""Which leaders wrote a log, and which memberships stand in it.

Source: openraft `log_id/log_id_list`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from raft_engine.storage.interface import LogRun
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.ids import LogIndex
from raft_engine.types.membership import StoredMembership, decode_membership

_MEMBERSHIP: Final = int(EntryKind.MEMBERSHIP)


def memberships_in(entries: Sequence[Entry]) -> list[StoredMembership]:
    """Return the memberships in entries.

    Raises: msgspec.MsgspecError: one cannot be read.
    """
    return [StoredMembership(entry.log_id, decode_membership(entry.data)) for entry in entries if entry.kind == _MEMBERSHIP]


class Outline:
    """Runs and memberships of the live log up to entry `upto`."""

    def __init__(self, upto: LogIndex) -> None:
        self.upto = upto
        self.runs: list[LogRun] = []
        self.memberships: list[StoredMembership] = []

    def add(self, entries: Sequence[Entry], memberships: Sequence[StoredMembership]) -> None:
        """Add entries that follow each other and what is known, at least one; `memberships` are those in them."""
        last = entries[-1]
        if self.runs and not memberships and (last.term, last.node_id) == (self.runs[-1].term, self.runs[-1].node_id):
            self.upto = last.index  # what nearly every batch is: terms never go down, so all are the same leader's
            return
        self.add_scanned([LogRun(entry.index, entry.term, entry.node_id) for entry in entries], memberships, last.index)

    def add_scanned(self, runs: Iterable[LogRun], memberships: Iterable[StoredMembership], upto: LogIndex) -> None:
        """Add what is known of entries up to `upto`; a leader that goes on is one run."""
        for run in runs:
            if not self.runs or (self.runs[-1].term, self.runs[-1].node_id) != (run.term, run.node_id):
                self.runs.append(run)
        self.memberships += memberships
        self.upto = upto

    def forget_after(self, after: LogIndex) -> None:
        self.runs = [run for run in self.runs if run.first_index <= after]
        self.memberships = [stored for stored in self.memberships if stored.log_id.index <= after]
        self.upto = min(self.upto, after)

    def forget_upto(self, upto: LogIndex) -> None:
        """Forget what is purged; the run that goes on begins behind it."""
        if self.upto <= upto:
            self.runs, self.memberships, self.upto = [], [], upto
            return
        current = bisect_right(self.runs, upto + 1, key=lambda run: run.first_index) - 1
        if current >= 0:
            begun = msgspec.structs.replace(self.runs[current], first_index=LogIndex(upto + 1))
            self.runs = [begun, *self.runs[current + 1 :]]
        self.memberships = [stored for stored in self.memberships if stored.log_id.index > upto]
