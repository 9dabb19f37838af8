"""A whole cluster on one thread, from one seed: real cores, real stores on simulated disks, simulated clocks and network.

Everything that the core does not promise is violated here (`sim_faults`, `sim_nemesis`), operators bring back what is lost
(`sim_operators`), clients write, read and remember what they were told (`sim_clients`). After every event the promises of Raft
are checked against what is on the disks (`sim_invariants`). Then everything is healed, and the cluster must make progress.

Same seed, same run, in any process: all chance comes from streams derived from the seed, and no set is iterated unsorted.

    Simulation(seed=7, nodes=3).run(virtual_s=20)

Source: TigerBeetle VOPR, FoundationDB simulation; invariants of Raft paper figure 3.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable, Container
from dataclasses import replace
from typing import Final

from raft_engine.config import Config
from raft_engine.core.commands import Command, Report, SaveHardState
from raft_engine.core.events import MessageReceived, PeerConnected, PeerLost, PeerReplaced
from raft_engine.testing.sim_clients import ClientOperation, Clients
from raft_engine.testing.sim_failure import ANSWERS, FAULTS, HEALING, SimulationFailed
from raft_engine.testing.sim_faults import CALM, MEMBERSHIP, Chaos, Faults
from raft_engine.testing.sim_invariants import Checks
from raft_engine.testing.sim_nemesis import Nemesis
from raft_engine.testing.sim_network import SimNetwork
from raft_engine.testing.sim_node import Died, Notice, SimNode, Watch
from raft_engine.testing.sim_operators import Operators
from raft_engine.testing.sim_returns import Returns
from raft_engine.testing.sim_workload import Users, Workload, WorkloadUsers
from raft_engine.types.entry import Entry
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import NodeAddress, uniform
from raft_engine.types.messages import Message

__all__ = ["CALM", "MEMBERSHIP", "Faults", "Simulation"]

HEAL_MS: Final = 10_000.0
HEALS_MAX: Final = 6
"""Whoever was being brought back when the faults ended needs a few more of these."""
CATCH_UP_S_MAX: Final = 60
"""With one entry in each request and one request at a time a follower is slow, and that is no failure."""
TRACE_LINES: Final = 400


class Simulation:
    """Drives a cluster; `run` raises AssertionError with the trace's end when something impossible happens."""

    def __init__(
        self,
        seed: int,
        nodes: int = 3,
        config: Config | None = None,
        faults: Faults | None = None,
        spares: int = 0,
        *,
        workload: Workload | None = None,
        watch: Watch | None = None,
        without: Container[int] = frozenset(),
    ) -> None:
        """Prepare a cluster of `nodes` voters and `spares` blank machines.

        Args:
            workload: what the cluster is used for; None: the bundled key-value store, with a check of every answer.
            watch: told of everything that a node is told and does, after it has happened.
            without: serials of faults that shall not happen.
        """
        self.seed = seed
        self.config = config or Config(snapshot_logs_since_last=60, max_in_snapshot_log_to_keep=10, max_payload_entries=7)
        self.faults = faults or Faults()
        self.now = 0.0
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self.trace_hash = hashlib.sha256()
        self.counters: dict[str, int] = {}
        self.chaos = Chaos(seed, without, lambda: self.now)
        self.network = SimNetwork(self.chaos, lambda: self.now, self.at)
        self.checks = Checks(self)
        self.workload = workload
        self.clients: Users = Clients(self) if workload is None else WorkloadUsers(self, workload)
        self.operators = Operators(self)
        self.returns = Returns(self)
        self.nemesis = Nemesis(self)
        self._watch = watch
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._violation = ""
        self._leases_void_until = float("-inf")
        ids = [NodeId(number) for number in range(1, nodes + spares + 1)]
        self.addresses = {node_id: NodeAddress(f"n{node_id}:1", f"http://n{node_id}") for node_id in ids}
        self.nodes = {node_id: SimNode(self, node_id) for node_id in ids}
        for node in self.nodes.values():
            node.slowness = node.dice.random() ** 2
            node.be_created()
        members = [self.nodes[node_id].me for node_id in ids[:nodes]]
        first = uniform(members, {peer.node_id: self.addresses[peer.node_id] for peer in members})
        for node_id in ids[:nodes]:
            self.nodes[node_id].be_born(first)
        for node in self.nodes.values():
            self.boot(node)

    @property
    def history(self) -> list[ClientOperation]:
        """What clients did and were told."""
        assert isinstance(self.clients, Clients), "the history of a workload of your own is your own"
        return self.clients.history

    @property
    def acknowledged(self) -> dict[int, LogId]:
        return self.clients.acknowledged

    @property
    def committed(self) -> list[Entry]:
        """The committed log, from index 1 on, as far as it was seen."""
        return self.checks.committed

    # -- time --------------------------------------------------------------------------------------------------------

    def at(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Do `action` after `delay_ms` of virtual time."""
        self._serial += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._serial, action))

    def run(self, virtual_s: float, *, heal: bool = True) -> None:
        """Live through `virtual_s` seconds of faults, then heal and demand progress.

        Raises: SimulationFailed: a promise is broken; the message has the seed and the last steps.
        """
        phase = FAULTS
        try:
            end = self.now + virtual_s * 1000
            self.nemesis.begin()
            self._repeat("times of writes", self.faults.writes_per_s, self.clients.write)
            self._repeat("times of reads", self.faults.reads_per_s, self.clients.read)
            self.at(0.0, self.operators.look)
            self.at(0.0, self._dial)
            self._advance(end)
            if heal:
                phase = HEALING
                self._heal()
            phase = ANSWERS
            self.clients.check()
        except Exception as error:
            chaos, tail = self.chaos, list(self.trace)[-60:]
            raise SimulationFailed(
                self.seed, error, self.now, phase, chaos.happened, chaos.serials, chaos.left_out, tail
            ) from error

    def _repeat(self, name: str, rate: float, action: Callable[[], None]) -> None:
        times = self.chaos.stream(name)

        def happen() -> None:
            if not self.chaos.is_over:
                self.at(times.expovariate(rate) * 1000, happen)
                action()

        if rate > 0:
            self.at(times.expovariate(rate) * 1000, happen)

    def _advance(self, until: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, action = heapq.heappop(queue)
            action()
            assert not self._violation, self._violation
        self.now = until

    def _heal(self) -> None:
        """No more faults: writes must succeed, everybody must come back, and all nodes must agree."""
        self.chaos.is_over = True
        delay, fsync = min(self.faults.delay_ms_max, 20.0), min(self.faults.fsync_ms_max, 8.0)
        self.faults = replace(self.faults, delay_ms_max=delay, fsync_ms_max=fsync)
        self.network.cut.clear()
        self.note("heal", "")
        for node in self.nodes.values():
            node.mend()
            if node.engine is None:
                self.boot(node)
        self.reconnect_all()
        self.operators.allow_all()
        for _ in range(HEALS_MAX):
            self._advance(self.now + HEAL_MS)
            self.operators.allow_all()
            if not any(node.broken or node.in_hand for node in self.nodes.values()):
                break
        before = len(self.acknowledged)
        for _ in range(200):
            self.clients.write()
            self._advance(self.now + 20)
        for _ in range(CATCH_UP_S_MAX):
            self._advance(self.now + 1_000)
            if len({node.machine.last_applied.index for node in self._members()}) == 1:
                break
        self.returns.look()
        assert len(self.acknowledged) > before, "progress: no write succeeded after all faults were healed"
        self._check_healed()

    def _members(self) -> list[SimNode]:
        """Return those that the leader knows."""
        leader = self.leader()
        known = leader.engine.state.membership.members() if leader is not None and leader.engine is not None else set()
        return [node for node in self.nodes.values() if node.me in known]

    def _check_healed(self) -> None:
        leader = self.leader()
        assert leader is not None, "progress: no leader after all faults were healed"
        assert leader.engine is not None
        membership = leader.engine.state.membership
        assert not membership.is_joint, "progress: a joint configuration was left standing"
        members = self._members()
        states = {node.me.node_id: node.engine.state.server_state() if node.engine else node.broken for node in members}
        applied = {node.machine.last_applied.index for node in members}
        assert len(applied) == 1, f"progress: nodes did not converge: {applied}, {states}"
        assert len({node.machine.content() for node in members}) == 1, "state machine safety: members hold different states"
        missing = [peer for peer in sorted(membership.members()) if self.nodes[peer.node_id].me != peer]
        assert not missing, f"progress: {missing} did not come back"
        for log_id in self.acknowledged.values():
            assert self.committed[log_id.index - 1].term == log_id.term, (
                f"no lost write: acknowledged write {log_id} is gone"
            )

    # -- what is told --------------------------------------------------------------------------------------------------

    def note(self, what: str, detail: str) -> None:
        line = f"{self.now:10.2f} {what} {detail}"
        self.trace.append(line)
        self.trace_hash.update(line.encode())
        self.counters[what] = self.counters.get(what, 0) + 1

    def told(self, node: SimNode, event: Notice, commands: list[Command]) -> None:
        """A node has been told something and has answered with commands."""
        for command in commands:
            if isinstance(command, Report):
                self.note(command.event, f"{node.me} {command.detail}")
            elif isinstance(command, SaveHardState):
                self.nemesis.ambush(node)
        if self._watch is not None:
            self._watch(node, event, commands, self.now)

    def violated(self, what: str) -> None:
        """Something impossible was seen where an exception would be swallowed."""
        self._violation = self._violation or what

    def void_leases(self) -> None:
        """A clock has jumped: what rests on clocks that run alike is promised by nobody for a while."""
        self._leases_void_until = self.now + 3 * self.config.election_timeout_max_ms

    def lease_is_void(self, since: float | None = None) -> bool:
        return (self.now if since is None else since) < self._leases_void_until

    # -- nodes -------------------------------------------------------------------------------------------------------

    def leader(self) -> SimNode | None:
        """Return who leads the highest term."""
        leading = [node for node in self.nodes.values() if node.engine is not None and node.engine.is_leader]
        return max(leading, key=lambda node: node.engine.term if node.engine else 0) if leading else None

    def boot(self, node: SimNode) -> None:
        """Start a process on the node's disk."""
        restored = node.start()
        if restored is None:
            if node.broken:
                self.note("refuses_to_start", f"{node.me} {node.broken}")
            return
        self.note("boot", f"{node.me} {restored.hard_state.vote} last {restored.last}")
        node.begin(restored)
        self.reconnect_all()

    def restart(self, node: SimNode) -> None:
        """Start a node that is down, unless an operator has it in hand or it would not start."""
        if node.engine is None and not node.in_hand and not node.broken:
            self.boot(node)

    def crash(self, node: SimNode, *, power: bool, how: str = "") -> None:
        """End a process at once; with the power, what was not synced is lost in any way."""
        if power:
            if node.lose_power(node.dice):
                self.chaos.count("torn_write")
            if how == "crash_at_disk_call":
                self.chaos.count("power_loss")
        self._end(node, how or ("power" if power else "killed"))
        if how == "crash_at_disk_call" and not node.in_hand:
            self.at(node.dice.random() * 1000, lambda: self.restart(node))

    def stop(self, node: SimNode) -> None:
        """An operator stops a process."""
        self._end(node, "stopped")

    def failed(self, node: SimNode, reason: str) -> None:
        """The engine has ended by itself; somebody starts it again, after mending what ails it."""
        self.note("engine_failed", f"{node.me} {reason}")
        self._end(node, "failed")
        if not node.in_hand:
            self.at(200 + node.dice.random() * 1500, lambda: self.restart(node))

    def _end(self, node: SimNode, how: str) -> None:
        was_running = node.engine is not None
        node.end()
        self.note("end", f"{node.me} {how}")
        if was_running:
            self.told(node, Died(how), [])
        for other in self.nodes.values():
            other.feed(PeerLost(node.me, "connection reset"))

    # -- links ---------------------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        """Transports go on dialing those they cannot reach, and find out who answers."""
        self.reconnect_all()
        self.at(float(self.config.reconnect_backoff_max_ms), self._dial)

    def reconnect_all(self) -> None:
        """Tell everybody which of its peers it can reach."""
        for one in self.nodes.values():
            if one.engine is None:
                continue
            for peer in sorted(one.engine.state.membership.members()):
                other = self.nodes[peer.node_id]
                if one is other or other.engine is None or not self.network.linked(one.node_id, other.node_id):
                    continue
                if other.me != peer:
                    one.feed(PeerReplaced(peer, other.me.incarnation))
                elif one.engine is not None and peer not in one.engine.state.connected:
                    one.feed(PeerConnected(peer))
                if one.engine is None:
                    break

    def send(self, node: SimNode, target: PeerId, message: Message) -> None:
        """Send a message to that life of that node, or to nobody."""
        other = self.nodes[target.node_id]
        if other.me != target or other.engine is None:
            return
        life, event = other.life, MessageReceived(node.me, message)

        def arrive() -> None:
            if other.life == life:
                other.feed(event)

        self.network.send(self.faults, node.node_id, target.node_id, arrive)
