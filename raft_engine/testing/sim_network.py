"""The simulated network: who hears whom, and what becomes of a message on its way.

Every direction of every link has its own random stream and its own serials, so that a message more or less on one link
changes nothing on the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from raft_engine.testing.sim_faults import Chaos, Faults, link_slot
from raft_engine.types.ids import NodeId

LATE_MS_MAX = 2000.0


class _Link:
    """One direction between two nodes."""

    __slots__ = ("chance", "slot", "slow_until")

    def __init__(self, chance: random.Random, slot: int) -> None:
        self.chance = chance
        self.slot = slot
        self.slow_until = 0.0


class SimNetwork:
    """Decides when, how often and whether something sent arrives."""

    def __init__(self, chaos: Chaos, clock: Callable[[], float], at: Callable[[float, Callable[[], None]], None]) -> None:
        self.cut: dict[tuple[NodeId, NodeId], int] = {}
        """Directions in which nothing passes, and how many faults hold them."""
        self._chaos = chaos
        self._clock = clock
        self._at = at
        self._links: dict[tuple[NodeId, NodeId], _Link] = {}

    def send(self, faults: Faults, sender: NodeId, receiver: NodeId, arrive: Callable[[], None]) -> None:
        """Have `arrive` called when the message does: never, once or twice."""
        if (sender, receiver) in self.cut:
            return
        link = self._link(sender, receiver)
        delay = link.chance.random() ** 3 * faults.delay_ms_max
        if not self._chaos.is_over:
            roll = link.chance.random()
            if roll < faults.drop:
                if self._chaos.strikes(link.slot, "drop", f"{sender} to {receiver}"):
                    return
            elif roll < faults.drop + faults.double:
                again = link.chance.random() * 2 * faults.delay_ms_max
                if self._chaos.strikes(link.slot, "duplicate", f"{sender} to {receiver}"):
                    self._at(again, arrive)
            elif roll < faults.drop + faults.double + faults.late:
                late = link.chance.random() ** 2 * LATE_MS_MAX
                if self._chaos.strikes(link.slot, "reorder", f"{sender} to {receiver}, {late:.0f} ms later"):
                    delay += late
            if self._clock() < link.slow_until:
                delay = 5 * delay + faults.delay_ms_max
        self._at(delay, arrive)

    def close(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> Callable[[], None]:
        """Cut these directions; return what mends them."""
        closed = sorted(set(pairs))
        is_mended = False
        for pair in closed:
            self.cut[pair] = self.cut.get(pair, 0) + 1

        def mend() -> None:
            nonlocal is_mended
            if is_mended:
                return
            is_mended = True
            for pair in closed:
                left = self.cut.get(pair, 0) - 1
                if left > 0:
                    self.cut[pair] = left
                else:
                    self.cut.pop(pair, None)

        return mend

    def slow(self, pairs: Iterable[tuple[NodeId, NodeId]], until: float) -> None:
        for sender, receiver in pairs:
            self._link(sender, receiver).slow_until = until

    def linked(self, one: NodeId, other: NodeId) -> bool:
        return (one, other) not in self.cut and (other, one) not in self.cut

    def _link(self, sender: NodeId, receiver: NodeId) -> _Link:
        link = self._links.get((sender, receiver))
        if link is None:
            link = _Link(self._chaos.stream(f"link {sender} {receiver}"), link_slot(sender, receiver))
            self._links[sender, receiver] = link
        return link


def both_ways(one: NodeId, others: Iterable[NodeId]) -> set[tuple[NodeId, NodeId]]:
    """Return the directions between `one` and each of `others`."""
    return {pair for other in others if other != one for pair in ((one, other), (other, one))}
