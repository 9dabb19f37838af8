"""What a simulated cluster is used for, when it is not the bundled key-value store: your own state machine.

    class Counting:
        def new_machine(self):                  # for each start of a node: empty, in memory
            return MyCounter()

        def command(self, number, chance):      # what the `number`-th write asks for
            return b"+%d" % chance.randrange(9)

        def content(self, machine):             # equal if, and only if, two states are
            return machine.total

    Simulation(seed=7, workload=Counting()).run(virtual_s=20)

Checked is all that is checked of the bundled store, but what its values mean: every machine applies the same entries with the
same results and is in the same state at the same index, also after snapshots; writes that were acknowledged stay, in real time's
order; reads are served as of an index that is new enough.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, Protocol

from raft_engine.core.events import ClientWrite, ClientWritesRequested, ReadsRequested
from raft_engine.storage.interface import StateMachine
from raft_engine.types.ids import NodeId
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import Outcome, ReadOutcome, Refusal, WriteOutcome

if TYPE_CHECKING:
    from raft_engine.testing.sim_node import SimNode
    from raft_engine.testing.simulator import Simulation

READ_WAIT_MS: Final = 1000.0


class Workload(Protocol):
    """A state machine, and what clients ask of it. See the module's first lines."""

    def new_machine(self) -> StateMachine:
        """Return the state machine of a process that starts: empty, it is filled from the snapshot and the log."""

    def command(self, number: int, chance: random.Random) -> bytes:
        """Return the data of a write. All chance must come from `chance`."""

    def content(self, machine: Any) -> object:
        """Return the whole state as a value that can be compared."""


class Users(Protocol):
    """Everybody who uses the cluster."""

    acknowledged: dict[int, LogId]
    """Number of the write -> where it stands in the log."""
    reads: int

    def write(self, node: SimNode | None = None) -> None:
        """Ask `node`, or whom a client would ask, for a write."""

    def read(self, node: SimNode | None = None) -> None:
        """Ask for a read."""

    def check(self) -> None:
        """Look at all answers together. Raises: AssertionError: they do not fit."""


class WorkloadUsers:
    """Clients of a workload: they know where their writes stand, not what they mean."""

    def __init__(self, simulation: Simulation, workload: Workload) -> None:
        self.acknowledged: dict[int, LogId] = {}
        self.reads = 0
        self._simulation = simulation
        self._workload = workload
        self._writing = simulation.chaos.stream("writes")
        self._reading = simulation.chaos.stream("reads")
        self._data: list[bytes] = []
        self._floor = 0
        self._leader = NodeId(1)

    def write(self, node: SimNode | None = None) -> None:
        node = node or self._whom(self._writing)
        number, floor = len(self._data), self._floor
        self._data.append(self._workload.command(number, self._writing))
        if node.engine is None:
            return

        def told(outcome: WriteOutcome | Refusal) -> None:
            if isinstance(outcome, Refusal):
                self._leader = outcome.leader or self._leader
                return
            self.acknowledged[number] = outcome.log_id
            self._floor = max(self._floor, outcome.log_id.index)
            if outcome.log_id.index <= floor:
                self._simulation.violated(
                    f"client history: write {number} stands at {outcome.log_id}, {floor} was acknowledged before it was asked for"
                )

        node.feed(ClientWritesRequested([ClientWrite(node.tickets.open_write(told), self._data[number])]))

    def read(self, node: SimNode | None = None) -> None:
        node = node or self._whom(self._reading)
        is_lease, floor, asked_at = self._reading.random() < 0.5, self._floor, self._simulation.now

        def told(outcome: Outcome) -> None:
            if not isinstance(outcome, ReadOutcome) or (is_lease and self._simulation.lease_is_void(asked_at)):
                return
            self.reads += 1
            if outcome.index < floor:
                self._simulation.violated(f"client history: a read saw {outcome.index} after {floor} was acknowledged")

        node.feed(ReadsRequested([node.tickets.open(told)], is_lease, READ_WAIT_MS))

    def check(self) -> None:
        committed = self._simulation.committed
        for number, log_id in self.acknowledged.items():
            entry = committed[log_id.index - 1]
            is_there = entry.term == log_id.term and entry.data == self._data[number]
            assert is_there, f"no lost write: write {number} was acknowledged at {log_id}, where {entry} stands"

    def _whom(self, chance: random.Random) -> SimNode:
        """Ask the node last heard to lead, or anybody."""
        nodes = self._simulation.nodes
        anybody = NodeId(chance.randint(1, len(nodes)))
        return nodes[self._leader if chance.random() < 0.5 else anybody]
