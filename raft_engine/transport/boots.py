"""Which run of a node's process speaks: one that goes on from the last one heard of, or one from an older copy of its directory?

Every start counts itself and draws a name, durably, before it says anything; a hello carries the last few of these names.
Whoever knows run 6 of a peer as `a` lets in run 6 `a`, and a run 8 whose run 6 was `a`. A directory restored from an older
copy (a rolled back virtual machine, a backup) counts on from there under other names: it has forgotten votes and entries that
it promised, and does not know it. It is let in by nobody who has heard of a run that it does not descend from.
What is known outlives restarts, or one old copy would pass after a power cut of all. A whole cluster restored from one backup starts,
since what its nodes know of each other is as old.
Source: rejoin_safety (way B, the boot counter).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from raft_engine.types.ids import Boot, PeerId

LIVES_KEPT: Final = 8
"""Lives of one node whose runs are remembered: those heard of last."""
KNOWN_MAX: Final = 1024
"""Lives of all nodes that are remembered; a new one beyond that is not."""

Lineage = tuple[Boot, ...]
"""Newest first; empty: not told (a transport without a disk behind it)."""


class Boots:
    """What this node has heard of its peers' runs."""

    def __init__(
        self,
        mine: Callable[[], Lineage] = lambda: (),
        known: Mapping[PeerId, Boot] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            known: what was heard before this process began.
            changed: called when something new was heard, which is to be kept.
        """
        self._mine = mine
        self._changed = changed
        self.refused_by: dict[PeerId, str] = {}
        """Peers that know a later run of this node, and what they say: this directory is the older copy."""
        self._known: dict[PeerId, Boot] = dict(known or {})

    @property
    def mine(self) -> Lineage:
        return self._mine()

    @property
    def known(self) -> dict[PeerId, Boot]:
        return dict(self._known)

    def why_stale(self, peer: PeerId, lineage: Lineage) -> str:
        """Return why this run of `peer` does not go on from the last one known, empty if it does; then it is the one known."""
        if not lineage:
            return ""
        newest, known = lineage[0], self._known.get(peer)
        if known is not None:
            names = dict(lineage)
            if newest.number < known.number:
                return (
                    f"it was started {newest.number} times, but start {known.number} of node {peer.node_id} is known already"
                )
            if names.get(known.number, known.name) != known.name:
                return (
                    f"its start {known.number} is not the one that is known: it runs on an older copy of its data directory"
                )
        if known != newest:
            self._remember(peer, newest)
        return ""

    def _remember(self, peer: PeerId, newest: Boot) -> None:
        """Know this run from now on. Whoever makes up lives or ids does not fill memory and disk."""
        if peer not in self._known and len(self._known) >= KNOWN_MAX:
            return
        self._known.pop(peer, None)
        self._known[peer] = newest
        lives = [other for other in self._known if other.node_id == peer.node_id]
        for forgotten in lives[: max(0, len(lives) - LIVES_KEPT)]:
            del self._known[forgotten]
        self._changed()
