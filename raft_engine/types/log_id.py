"""Which entry is meant: the id of a log entry.

Two entries with the same id are the same entry. Ids are ordered as votes see them: later term first, then longer log.
Source: Raft paper 5.3, 5.4.1; openraft `log_id/`.
"""

from __future__ import annotations

import msgspec

from raft_engine.types.ids import NOBODY, LogIndex, NodeId, Term


class LogId(msgspec.Struct, frozen=True, order=True, gc=False):
    """Term, proposing leader and index of an entry.

    A term has at most one leader, so `node_id` never decides a comparison between real entries; it is there for people.
    """

    term: Term
    node_id: NodeId
    index: LogIndex

    def __str__(self) -> str:
        return f"T{self.term}-N{self.node_id}.{self.index}" if self.index else "-"

    def __repr__(self) -> str:
        return self.__str__()


BEFORE_LOG = LogId(Term(0), NOBODY, LogIndex(0))
"""The id "before the first entry"; shown as null to clients."""
