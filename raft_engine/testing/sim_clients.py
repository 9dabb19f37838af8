"""Simulated clients: they write and read a few keys, and remember what they were told.

The history they leave is what a checker of linearizability needs: when an operation was called, when it was answered, and
with what. An operation that was never answered may have happened at any time, or never; one that was refused certainly did
not and is not in the history. A write whose outcome is unknown is sometimes sent again with its idempotency key, as a
client would, until it is known what became of it.
Source: Jepsen (histories); dissertation 6.3 (idempotency) and 6.4 (reads).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from raft_engine.core.events import ClientWrite, ClientWritesRequested, ReadsRequested
from raft_engine.kv.commands import Applied, Condition, ConditionFailed, encode_delete, encode_put
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.testing.linearizability import Action, Operation, StaleRead, check, check_stale
from raft_engine.types.ids import NodeId
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import Outcome, ReadOutcome, Refusal, RefusalCode, WriteOutcome

if TYPE_CHECKING:
    from raft_engine.testing.sim_node import SimNode
    from raft_engine.testing.simulator import Simulation

CLIENTS: Final = 8
KEYS: Final = tuple(f"k{number}" for number in range(5))
READ_WAIT_MS: Final = 1000.0
_WORK_MAX: Final = 20_000
"""Steps of the checker for each key: a fraction of a second of real time."""
_NOT_DONE: Final = {
    RefusalCode.NOT_LEADER,
    RefusalCode.NO_LEADER,
    RefusalCode.NO_QUORUM,
    RefusalCode.OVERLOADED,
    RefusalCode.TRANSFER_IN_PROGRESS,
}
"""A write refused for one of these was never appended."""
_TRIES_MAX: Final = 4


@dataclass(slots=True)
class ClientOperation:
    """One call. `kind`: put, get, delete, cas. `mode` of a read: index, lease, stale.

    `expected`: the value a cas compares with, None: absent. `result`: for a get the value or None; for a cas whether it
    wrote; else True. `returned_at` None: never answered. `index`: the revision of a write, the applied index of a read.
    `life`: which start of the node served a read.
    """

    client: int
    kind: str
    key: str
    value: str | None
    expected: str | None
    invoked_at: float
    node: NodeId
    mode: str = ""
    returned_at: float | None = None
    result: str | bool | None = None
    index: int = 0
    life: int = 0


class Clients:
    """Everybody who uses the cluster."""

    def __init__(self, simulation: Simulation) -> None:
        self.history: list[ClientOperation] = []
        self.acknowledged: dict[int, LogId] = {}
        """Writes that were acknowledged: number -> where they stand in the log."""
        self.acknowledged_index = 0
        self.reads = 0
        self._simulation = simulation
        self._writing = simulation.chaos.stream("writes")
        self._reading = simulation.chaos.stream("reads")
        self._retrying = simulation.chaos.stream("retries")
        self._numbers = 0
        self._leader = NodeId(1)
        self._last_read: dict[str, tuple[str, int] | None] = {}

    # -- writing -----------------------------------------------------------------------------------------------------------

    def write(self, node: SimNode | None = None) -> None:
        chance = self._writing
        key, client, roll = chance.choice(KEYS), chance.randrange(CLIENTS), chance.random()
        node = node or self._whom(chance)
        self._numbers += 1
        number = self._numbers
        value, identity = f"v{number}", f"w{number}".encode() if chance.random() < 0.5 else None
        kind, expected = "put", None
        known = self._last_read.get(key)
        if roll < 0.08:
            kind = "delete"
            data = encode_delete(key.encode(), None, identity)
        elif roll < 0.25 and key in self._last_read:
            kind, expected = "cas", known[0] if known is not None else None
            condition = Condition(known[1]) if known is not None else Condition(absent=True)
            data = encode_put(key.encode(), value.encode(), condition, identity)
        else:
            data = encode_put(key.encode(), value.encode(), None, identity)
        now = self._simulation.now
        operation = ClientOperation(client, kind, key, None if kind == "delete" else value, expected, now, node.node_id)
        self.history.append(operation)
        self._submit(operation, number, data, node, 0 if identity is not None else _TRIES_MAX)

    def _submit(self, operation: ClientOperation, number: int, data: bytes, node: SimNode, tried: int) -> None:
        """Send it; `tried`: how often it was sent before, at the maximum: it must not be sent again."""
        is_first = tried in {0, _TRIES_MAX}
        if node.engine is None:
            if is_first:
                self._forget(operation)
            return

        def told(outcome: WriteOutcome | Refusal) -> None:
            if isinstance(outcome, WriteOutcome):
                self._done(operation, number, outcome)
            elif is_first and outcome.code in _NOT_DONE:
                self._forget(operation)
                if outcome.leader is not None:
                    self._leader = outcome.leader
            elif tried + 1 < _TRIES_MAX:
                chance = self._retrying
                again = self._whom(chance)
                self._simulation.at(chance.random() * 300.0, lambda: self._submit(operation, number, data, again, tried + 1))

        ticket = node.tickets.open_write(told)
        node.feed(ClientWritesRequested([ClientWrite(ticket, data)]))

    def _done(self, operation: ClientOperation, number: int, outcome: WriteOutcome) -> None:
        if operation.returned_at is not None:
            return
        result = outcome.result
        operation.returned_at = self._simulation.now
        operation.index = result.revision if isinstance(result, Applied) else outcome.log_id.index
        self.acknowledged[number] = outcome.log_id
        self.acknowledged_index = max(self.acknowledged_index, outcome.log_id.index)
        if isinstance(result, ConditionFailed) and result.duplicate:
            operation.index = 0  # it failed where it stood first, and nobody said where that was
        if operation.kind == "cas":
            operation.result = isinstance(result, Applied)
            if not isinstance(result, Applied | ConditionFailed):
                self._simulation.violated(f"client history: a cas was answered with {result}")
        else:
            operation.result = True
            if not isinstance(result, Applied):
                self._simulation.violated(f"client history: a {operation.kind} was answered with {result}")

    # -- reading -----------------------------------------------------------------------------------------------------------

    def read(self, node: SimNode | None = None) -> None:
        chance = self._reading
        key, client, roll = chance.choice(KEYS), chance.randrange(CLIENTS), chance.random()
        node = node or self._whom(chance)
        if node.engine is None:
            return
        mode = "lease" if roll < 0.45 else "index" if roll < 0.9 else "stale"
        operation = ClientOperation(client, "get", key, None, None, self._simulation.now, node.node_id, mode)
        if mode == "stale":
            self._see(operation, node)
            self.history.append(operation)
            return
        floor, asked_at = self.acknowledged_index, self._simulation.now

        def told(outcome: Outcome) -> None:
            if not isinstance(outcome, ReadOutcome):
                return
            if mode == "lease" and self._simulation.lease_is_void(asked_at):
                return  # a clock has jumped: nobody promised anything
            self.reads += 1
            if outcome.index < floor:
                self._simulation.violated(
                    f"client history: a read by {mode} saw {outcome.index} after {floor} was acknowledged"
                )
            self._see(operation, node)
            self.history.append(operation)

        ticket = node.tickets.open(told)
        node.feed(ReadsRequested([ticket], mode == "lease", READ_WAIT_MS))

    def _see(self, operation: ClientOperation, node: SimNode) -> None:
        store = node.machine.inner
        assert isinstance(store, MemoryStore)
        item = store.get(operation.key.encode())
        operation.result = None if item is None else item[0].decode()
        operation.index = node.machine.last_applied.index
        operation.life = node.life
        operation.returned_at = self._simulation.now
        if operation.mode != "stale":
            self._last_read[operation.key] = None if item is None else (item[0].decode(), item[1])

    # -- what they were told, as a whole -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Demand that the answers fit one register per key, and every read a state the cluster was in.

        The log says in which order writes took effect: with that order given, all answers must fit it in real time (strict
        serializability, over all keys at once). Whether each key alone is linearizable is then asked once more of a checker
        that knows nothing of any log; where it finds too many orders to try, the log's one has been tried already.
        Raises: AssertionError.
        """
        writes = [
            (index, key.decode(), None if value is None else value.decode())
            for index, key, value in self._simulation.checks.writes()
        ]
        self._fit_the_log()
        for name, modes in (("stale", {"stale"}), ("other", {"index", "lease"})):
            reads = [
                StaleRead(
                    (name, *((item.node, item.life) if name == "stale" else (number,))), item.key, item.result, item.index
                )
                for number, item in enumerate(self.history)
                if item.mode in modes
            ]
            verdict = check_stale(reads, writes)
            assert verdict.ok, f"client history: {verdict}"
        told = [_as_operation(item) for item in self.history if item.mode != "stale"]
        verdict = check(told, _WORK_MAX)
        assert verdict.ok or verdict.undecided, f"client history: {verdict}"

    def _fit_the_log(self) -> None:
        """What was answered before something was asked must have taken effect before it."""
        floor, last = 0, None
        calls = [(item.invoked_at, 1, number) for number, item in enumerate(self.history) if _is_placed(item)]
        ends = [(item.returned_at or 0.0, 0, number) for number, item in enumerate(self.history) if _is_placed(item)]
        # What touches at one instant is concurrent: an end at the time of a call counts after it.
        floors: dict[int, tuple[int, ClientOperation | None]] = {}
        for _time, is_call, number in sorted([*calls, *ends], key=lambda event: (event[0], -event[1], event[2])):
            item = self.history[number]
            if is_call:
                floors[number] = floor, last
                continue
            before, other = floors[number]
            least = before if item.kind == "get" else before + 1
            assert item.index >= least, (
                f"client history: {item} took effect before {other}, which was over when it was called"
            )
            if item.index > floor:
                floor, last = item.index, item

    # -- in parts ----------------------------------------------------------------------------------------------------------

    def _whom(self, chance: random.Random) -> SimNode:
        """Ask the node last heard to lead, or anybody."""
        nodes = self._simulation.nodes
        anybody = NodeId(chance.randint(1, len(nodes)))
        return nodes[self._leader if chance.random() < 0.5 else anybody]

    def _forget(self, operation: ClientOperation) -> None:
        history = self.history
        for position in range(len(history) - 1, -1, -1):
            if history[position] is operation:
                del history[position]
                return


def _is_placed(operation: ClientOperation) -> bool:
    """Whether it is known where in the log the operation took effect."""
    return (
        operation.returned_at is not None and operation.mode != "stale" and (operation.index > 0 or operation.kind == "get")
    )


def _as_operation(operation: ClientOperation) -> Operation:
    action: Action = cast("Action", operation.kind)
    result = operation.result if action in {"get", "cas"} else None
    return Operation(
        operation.client,
        action,
        operation.key,
        operation.invoked_at,
        operation.returned_at,
        operation.value,
        operation.expected,
        result,
    )
