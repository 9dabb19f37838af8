"""Who was wiped, lost or put back, and whether it came back as a whole member.

A node is back when the leader counts it again under its present incarnation and it holds, durably, everything that was
committed when it left. One that is struck again before that begins anew.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from raft_engine.core.progress import Mode
from raft_engine.types.ids import NodeId

if TYPE_CHECKING:
    from raft_engine.testing.sim_node import SimNode
    from raft_engine.testing.simulator import Simulation

PLANNED: Final = "planned, vote kept"
BLANK: Final = "blank, permitted beforehand"
BY_HAND: Final = "by hand, asking nobody"
OLDER_COPY: Final = "an older copy of its disk"
WAYS: Final = (PLANNED, BLANK, BY_HAND, OLDER_COPY)


class _Away(NamedTuple):
    way: str
    must_hold: int


class Returns:
    """Keeps count of those who are away."""

    def __init__(self, simulation: Simulation) -> None:
        self.begun: Counter[str] = Counter()
        self.completed: Counter[str] = Counter()
        self.overtaken: Counter[str] = Counter()
        """Struck again before they were seen to be back."""
        self._simulation = simulation
        self._away: dict[NodeId, _Away] = {}

    def begin(self, node: SimNode, way: str) -> None:
        """A node has less than it had."""
        self.begun[way] += 1
        before = self._away.get(node.node_id)
        if before is not None:
            self.overtaken[before.way] += 1
        self._away[node.node_id] = _Away(way, len(self._simulation.committed))

    def look(self) -> None:
        """Count those who are back."""
        leader = self._simulation.leader()
        if leader is None or not self._away:
            return
        for number, away in sorted(self._away.items()):
            node = self._simulation.nodes[number]
            if _is_back(node, leader, away.must_hold):
                del self._away[number]
                self.completed[away.way] += 1
                self._simulation.note("back", f"{node.me} after: {away.way}")


def _is_back(node: SimNode, leader: SimNode, must_hold: int) -> bool:
    if node.engine is None or leader.engine is None:
        return False
    leading = leader.engine.state.leader
    is_recovering = node.engine.state.recovery is not None or node.durable.hard_state.recovery is not None
    if leading is None or is_recovering or node.durable.last.index < must_hold:
        return False
    progress = leading.progress.get(node.me)
    return node is leader or (progress is not None and progress.mode is Mode.REPLICATE and progress.matching >= must_hold)
