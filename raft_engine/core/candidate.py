"""An election in progress: one round, whether it asks for real or only whether it would win.

Source: Raft paper 5.2; dissertation 9.6; openraft `proposer/candidate.rs`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raft_engine.types.ids import Millis, PeerId, Term


@dataclass(slots=True)
class CandidateState:
    """Granted and refused voters of one round. `term` is the term asked for; with `pre_vote` nobody has adopted it."""

    term: Term
    pre_vote: bool
    leadership_transfer: bool
    started_at: Millis
    deadline: Millis
    ask_at: Millis | None = None
    """When to ask the others; None: they have been asked. A node that still owes its leader a lease asks when it ends."""
    granted: set[PeerId] = field(default_factory=set)
    refused: dict[PeerId, str] = field(default_factory=dict)

    def refused_for_good(self) -> set[PeerId]:
        """Return who would refuse again in this term: not those who only wait for their leader's lease to end."""
        return {peer for peer, reason in self.refused.items() if reason != "lease"}
