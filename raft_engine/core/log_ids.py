"""Which id stands at an index: the ids of the live log, one item per leader's run of entries.

Invariant: runs begin at `purged.index + 1` and have no gap; terms never fall; `last` is `purged` when the log is empty.
Source: openraft `engine/log_id_list.rs`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from raft_engine.types.entry import Entry
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId


class LogIdList:
    """Ids of the entries after `purged` up to `last`."""

    __slots__ = ("_first", "_nodes", "_terms", "last", "purged")

    def __init__(self, purged: LogId, last: LogId, runs: Sequence[tuple[LogIndex, Term, NodeId]]) -> None:
        self.purged = purged
        self.last = last
        self._first: list[int] = [first for first, _, _ in runs]
        self._terms: list[Term] = [term for _, term, _ in runs]
        self._nodes: list[NodeId] = [node_id for _, _, node_id in runs]

    def get(self, index: int) -> LogId | None:
        """Return the id at `index`, also at the purge point itself; None: purged or beyond the end."""
        if index == self.last.index:
            return self.last
        if index == self.purged.index:
            return self.purged
        if index < self.purged.index or index > self.last.index:
            return None
        run = bisect_right(self._first, index) - 1
        return LogId(self._terms[run], self._nodes[run], LogIndex(index))

    def at(self, index: int) -> LogId:
        """Return the id at `index`, which must be there."""
        if index == self.last.index:
            return self.last
        if self._first and self._first[-1] <= index <= self.last.index:
            return LogId(self._terms[-1], self._nodes[-1], LogIndex(index))
        log_id = self.get(index)
        assert log_id is not None, f"index {index} is outside the log ({self.purged}, {self.last}]"
        return log_id

    def between(self, first: int, upto: int) -> list[LogId]:
        """Return the ids from `first` to `upto`, both included, which must be there."""
        if self._first and self._first[-1] <= first and upto <= self.last.index:
            term, node_id = self._terms[-1], self._nodes[-1]
            return [LogId(term, node_id, LogIndex(index)) for index in range(first, upto + 1)]
        return [self.at(index) for index in range(first, upto + 1)]

    def has(self, log_id: LogId) -> bool:
        """Return whether exactly this entry is in the log, or at its purge point."""
        if log_id.index == self.last.index:
            return log_id.term == self.last.term
        mine = self.get(log_id.index)
        return mine is not None and mine.term == log_id.term

    def extend(self, term: Term, node_id: NodeId, upto: int) -> None:
        """Add entries of one leader up to `upto`, inclusive."""
        assert upto > self.last.index
        assert term >= self.last.term
        if not self._terms or self._terms[-1] != term:
            self._first.append(self.last.index + 1)
            self._terms.append(term)
            self._nodes.append(node_id)
        self.last = LogId(term, node_id, LogIndex(upto))

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one."""
        one_run = len({entry.term for entry in entries}) == 1
        runs = [entries] if one_run else [list(run) for _, run in groupby(entries, attrgetter("term"))]
        for run in runs:
            last = run[-1]
            assert run[0].index == self.last.index + 1
            assert last.index == self.last.index + len(run)
            self.extend(last.term, last.node_id, last.index)

    def truncate(self, after: int) -> None:
        """Forget every id after `after`."""
        self.last = self.at(after)
        while self._first and self._first[-1] > after:
            self._first.pop()
            self._terms.pop()
            self._nodes.pop()

    def purge(self, upto: LogId) -> None:
        """Forget every id up to `upto`, inclusive."""
        if upto.index >= self.last.index:
            self.reset(upto)
            return
        keep = bisect_right(self._first, upto.index + 1) - 1
        del self._first[:keep]
        del self._terms[:keep]
        del self._nodes[:keep]
        self._first[0] = upto.index + 1
        self.purged = upto

    def reset(self, upto: LogId) -> None:
        """Forget everything; the log goes on after `upto`."""
        self._first.clear()
        self._terms.clear()
        self._nodes.clear()
        self.purged = upto
        self.last = upto

    def last_at_or_below(self, index: int, term: Term) -> LogId:
        """Return the last id with an index up to `index` and a term up to `term`; at worst the purge point.

        It is where two logs may still agree when the entry (`index`, `term`) is not there.
        Source: Raft paper 5.3 (fast back-up); etcd `raftLog.findConflictByTerm`.
        """
        if index <= self.purged.index:
            return self.purged
        run = bisect_right(self._first, min(index, self.last.index)) - 1
        end = min(index, self.last.index)
        while run >= 0 and self._terms[run] > term:
            end = self._first[run] - 1
            run -= 1
        return self.at(end) if run >= 0 else self.purged

    def runs(self) -> list[tuple[int, Term, NodeId]]:
        """Return (first index, term, node id) of every run."""
        return list(zip(self._first, self._terms, self._nodes, strict=True))

    def __repr__(self) -> str:
        return f"LogIdList(purged {self.purged}, last {self.last}, {len(self._first)} runs)"
