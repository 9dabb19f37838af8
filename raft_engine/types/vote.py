"""For whom a node voted: the pseudo-time of Raft.

One leader per term: in a term a node grants one candidate, and a leader of that term overrides the grant.
Source: Raft paper 5.2; openraft `docs/data/vote.md` (standard mode).
"""

from __future__ import annotations

import msgspec

from raft_engine.types.ids import NOBODY, NodeId, Term


class Vote(msgspec.Struct, frozen=True):
    """Term, the node voted for (0: nobody yet) and whether a quorum is known to have granted it."""

    term: Term
    node_id: NodeId
    committed: bool

    def __str__(self) -> str:
        return f"T{self.term}-N{self.node_id}{':leader' if self.committed else ''}"

    def __repr__(self) -> str:
        return self.__str__()


NO_VOTE = Vote(Term(0), NOBODY, False)
