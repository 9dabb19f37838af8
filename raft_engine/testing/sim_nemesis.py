"""Who makes things go wrong: every scheduled fault, each from its own random stream.

The budget. Crashes, partitions, pauses, slow disks and lost unsynced writes may strike anybody at any time: nothing promised
is lost by them. What a disk had promised may be damaged on one node at a time only (see `sim_operators`), and

- bits rot where the format promises to notice: records that a later seal covers, one of the two copies of a small value, the
  identity, a snapshot. Rot in the last record whose seal the power took as well looks like a write cut short, and no log
  can tell the two apart;
- a machine is put back to an older image only while every other voter holds all that it ever acknowledged, and while its vote
  and its configuration are the ones in the image. Otherwise a rolled back voter is a voter that lies, which no consensus
  survives. What is asked for is that the leader notices and fences it, and that it comes back.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from raft_engine.core.events import (
    AllowNextRevertRequested,
    ElectRequested,
    Event,
    HeartbeatRequested,
    PeerLost,
    PurgeLogRequested,
    SnapshotRequested,
    TransferLeaderRequested,
)
from raft_engine.storage.hard_state import FILE_NAME as HARD_STATE_NAME
from raft_engine.storage.log_checks import MARKS_NAME
from raft_engine.storage.segment_format import SEGMENT_HEADER_BYTES, decode_segment_header
from raft_engine.storage.segment_log import LOG_DIRECTORY
from raft_engine.storage.two_slots import SLOT_BYTES
from raft_engine.testing.sim_disk import Tree
from raft_engine.testing.sim_faults import slot_of
from raft_engine.testing.sim_network import both_ways
from raft_engine.testing.sim_node import DATA, SimNode, Wiped
from raft_engine.testing.sim_returns import OLDER_COPY
from raft_engine.types.ids import LogIndex, NodeId, Ticket
from raft_engine.types.outcomes import Outcome

if TYPE_CHECKING:
    from raft_engine.testing.simulator import Simulation

SKEW_MAX: Final = 0.04
JUMP_MS_MAX: Final = 1000.0
WALL_JUMP_MS_MAX: Final = 3_600_000.0

Action = Callable[[int, random.Random], None]


class Nemesis:
    """Schedules faults. An action gets the serial of its occurrence and dice of its own."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._ambushes = simulation.chaos.stream("ambush")

    def begin(self) -> None:
        faults = self._simulation.faults
        plan: list[tuple[str, float, Action]] = [
            ("crash", faults.crashes_per_s, self._crash),
            ("power_loss", faults.power_losses_per_s, self._power_loss),
            ("crash_at_disk_call", faults.disk_crashes_per_s, self._crash_at_disk_call),
            ("io_error", faults.disk_errors_per_s / 3, self._io_error),
            ("no_space", faults.disk_errors_per_s / 3, self._no_space),
            ("sync_error", faults.disk_errors_per_s / 3, self._sync_error),
            ("slow_disk", faults.slow_disks_per_s, self._slow_disk),
            ("bit_rot", faults.rot_per_s, self._rot),
            ("rollback", faults.rollbacks_per_s, self._rollback),
            ("one_way_partition", faults.partitions_per_s * 0.35, self._one_way),
            ("partial_partition", faults.partitions_per_s * 0.35, self._partial),
            ("isolation", faults.partitions_per_s * 0.3, self._isolate),
            ("reset", faults.resets_per_s, self._reset),
            ("delay", faults.slow_links_per_s, self._slow_links),
            ("pause", faults.pauses_per_s, self._pause),
            ("clock_skew", faults.skews_per_s, self._skew),
            ("clock_jump", faults.jumps_per_s, self._jump),
            ("election", faults.triggers_per_s * 0.3, self._election),
            ("transfer", faults.triggers_per_s * 0.3, self._transfer),
            ("snapshot_and_purge", faults.triggers_per_s * 0.4, self._snapshot_and_purge),
            ("rejoin_planned", faults.rejoins_per_s, self._rejoin),
            ("rejoin_blank", faults.losses_per_s, self._lose),
            ("membership_change", faults.changes_per_s, self._change),
            ("combined", faults.contests_per_s, self._contest),
            ("ambush", faults.coups_per_s, self._coup),
        ]
        for name, rate, action in plan:
            if rate > 0:
                self._schedule(name, rate, action)

    def _schedule(self, name: str, rate: float, action: Action) -> None:
        simulation, chaos = self._simulation, self._simulation.chaos
        times, slot = chaos.stream(f"times of {name}"), slot_of(name)

        def happen() -> None:
            if chaos.is_over:
                return
            simulation.at(times.expovariate(rate) * 1000, happen)
            serial = chaos.due(slot)
            if serial is not None:
                action(serial, chaos.dice(serial))

        simulation.at(times.expovariate(rate) * 1000, happen)

    def _note(self, serial: int, kind: str, detail: str, lasts_ms: float = 0.0) -> None:
        self._simulation.chaos.note(serial, kind, detail, lasts_ms)
        self._simulation.note(kind, detail)

    def _some(self, dice: random.Random) -> SimNode:
        nodes = self._simulation.nodes
        return nodes[NodeId(dice.randint(1, len(nodes)))]

    def _some_or_leader(self, dice: random.Random, share: float) -> SimNode:
        """Leaders more often than others: they have the most to lose."""
        node, leader, roll = self._some(dice), self._simulation.leader(), dice.random()
        return leader if leader is not None and roll < share else node

    # -- processes and machines ------------------------------------------------------------------------------------------

    def _crash(self, serial: int, dice: random.Random) -> None:
        node = self._some_or_leader(dice, 0.4)
        if node.engine is not None and not node.in_hand:
            self._note(serial, "crash", f"{node.me}")
            self._simulation.crash(node, power=False)
            self._simulation.at(dice.random() ** 2 * 1500, lambda: self._simulation.restart(node))

    def _power_loss(self, serial: int, dice: random.Random) -> None:
        """Of one machine, or of a whole room."""
        struck = [self._some_or_leader(dice, 0.3)]
        if dice.random() < 0.2:
            struck = list(self._simulation.nodes.values())
        for node in struck:
            if node.engine is not None and not node.in_hand:
                self._note(serial, "power_loss", f"{node.me}")
                self._simulation.crash(node, power=True)
                self._simulation.at(dice.random() ** 2 * 1500, lambda node=node: self._simulation.restart(node))  # type: ignore[misc]

    def _crash_at_disk_call(self, serial: int, dice: random.Random) -> None:
        node = self._some_or_leader(dice, 0.3)
        calls, power = dice.randint(1, 25), dice.random() < 0.6
        if node.engine is None or node.in_hand:
            # It is down: it dies while it starts.
            calls = dice.randint(1, 60)
        self._note(serial, "crash_at_disk_call", f"{node.me} in {calls} calls, power: {power}")
        node.die_at_call(calls, power=power)

    def ambush(self, node: SimNode) -> None:
        """A vote is on its way to the disk: end the process, and have it back before anybody has noticed."""
        simulation = self._simulation
        if simulation.chaos.is_over or simulation.faults.ambush == 0 or self._ambushes.random() >= simulation.faults.ambush:
            return
        delay, back, power, life = (
            self._ambushes.random() * 10,
            self._ambushes.random() * 50,
            self._ambushes.random(),
            node.life,
        )
        serial = simulation.chaos.due(slot_of("vote_ambush"))
        if serial is None:
            return

        def strike() -> None:
            if node.life == life and node.engine is not None and not node.in_hand:
                simulation.chaos.note(serial, "vote_ambush", f"{node.me}, power lost: {power < 0.7}")
                simulation.crash(node, power=power < 0.7)
                simulation.at(back, lambda: simulation.restart(node))

        simulation.at(delay, strike)

    def _pause(self, serial: int, dice: random.Random) -> None:
        node, lasts = self._some_or_leader(dice, 0.3), dice.random() * 800
        node.paused_until = self._simulation.now + lasts
        self._note(serial, "pause", f"{node.me} for {lasts:.0f} ms", lasts)

    def _skew(self, serial: int, dice: random.Random) -> None:
        node, rate = self._some(dice), 1 + (2 * dice.random() - 1) * SKEW_MAX
        node.set_clock(rate)
        self._note(serial, "clock_skew", f"{node.me} runs at {rate:.4f}", 1000.0)

    def _jump(self, serial: int, dice: random.Random) -> None:
        node, jump = self._some(dice), dice.random() ** 2 * JUMP_MS_MAX
        node.set_clock(node.rate, jump)
        self._simulation.void_leases()
        wall = (2 * dice.random() - 1) * WALL_JUMP_MS_MAX
        node.wall_jump_ms += wall
        if wall < 0:
            self._simulation.chaos.count("clock_back")
        self._note(serial, "clock_jump", f"{node.me} by {jump:.0f} ms, its time of day by {wall:.0f} ms")

    # -- disks -----------------------------------------------------------------------------------------------------------

    def _slow_disk(self, serial: int, dice: random.Random) -> None:
        node, lasts = self._some(dice), 300 + dice.random() * 2000
        node.slow_until = self._simulation.now + lasts
        self._note(serial, "slow_disk", f"{node.me} for {lasts:.0f} ms", lasts)

    def _io_error(self, serial: int, dice: random.Random) -> None:
        self._break(serial, dice, "io_error", errno.EIO)

    def _no_space(self, serial: int, dice: random.Random) -> None:
        self._break(serial, dice, "no_space", errno.ENOSPC)

    def _sync_error(self, serial: int, dice: random.Random) -> None:
        self._break(serial, dice, "sync_error", errno.EBADF)

    def _break(self, serial: int, dice: random.Random, kind: str, number: int) -> None:
        node = self._some(dice)
        if node.engine is not None and not node.in_hand:
            self._note(serial, kind, f"{node.me}")
            node.break_disk(number)

    def _rot(self, serial: int, dice: random.Random) -> None:
        node = self._some(dice)
        if not self._may_damage(node):
            return
        spots = [spot for spot in _rottable(node.disk.durable) if node.disk.find(DATA / spot[0]) is not None]
        if not spots:
            return
        name, at = dice.choice(spots), dice.random()
        content = node.disk.content(DATA / name[0])
        offset = name[1] + int(at * (name[2] - name[1]))
        assert offset < len(content)
        node.disk.flip(DATA / name[0], offset, 1 << dice.randrange(8))
        node.is_rotten = True
        self._note(serial, "bit_rot", f"{node.me} {name[0]} byte {offset}")
        self._simulation.at(dice.random() * 2000, lambda: self._strike_rotten(node))

    def _strike_rotten(self, node: SimNode) -> None:
        """If nobody has read it by now, a restart does."""
        if node.engine is not None and node.is_rotten and not node.in_hand:
            self._simulation.crash(node, power=False)
            self._simulation.at(100.0, lambda: self._simulation.restart(node))

    def _may_damage(self, node: SimNode) -> bool:
        """Whether the budget allows for one more damaged disk; see the module's first lines."""
        leader = self._simulation.leader()
        return (
            leader is not None
            and leader.engine is not None
            and not node.in_hand
            and not node.broken
            and len(leader.engine.state.membership.voters()) >= 3
            and leader.engine.state.membership.is_voter(node.me)
            and self._simulation.operators.all_whole(leader)
        )

    def _rollback(self, serial: int, dice: random.Random) -> None:
        """Take an image now, put it back later."""
        node = self._some(dice)
        if node.in_hand or node.broken or node.engine is None:
            return
        image, promised, me = node.disk.durable.copy(), node.durable.copy(), node.me
        known = node.engine.state.effective.log_id
        # An image holds more than was reported where a sync had come further, and less where a truncation had.
        unreported = tuple(node.unreported)

        def put_back() -> None:
            lost = node.durable.last.index - promised.last.index
            is_same = node.me == me and node.durable.hard_state == promised.hard_state == node.view.hard_state
            is_same = is_same and node.engine is not None and node.engine.state.effective.log_id == known
            if not is_same or lost <= 0 or self._simulation.chaos.is_over or not self._may_be_put_back(node):
                return
            if node.engine is not None:
                self._simulation.crash(node, power=True, how="stopped")
            node.disk.visible, node.disk.durable = image.copy(), image
            node.disk.pending.clear()
            node.durable = promised.copy()
            node.view = promised.copy()
            node.unreported.clear()
            node.unreported.extend(unreported)
            self._note(serial, "rollback", f"{node.me} loses {lost} entries")
            self._simulation.returns.begin(node, OLDER_COPY)
            self._simulation.told(node, Wiped("rolled_back", promised.last), [])
            self._simulation.boot(node)

        self._simulation.at(300 + dice.random() * 2500, put_back)

    def _may_be_put_back(self, node: SimNode) -> bool:
        if not self._may_damage(node):
            return False
        leader = self._simulation.leader()
        assert leader is not None
        assert leader.engine is not None
        voters = leader.engine.state.membership.voters()
        others = [other for other in self._simulation.nodes.values() if other.me in voters and other is not node]
        return len(others) + 1 == len(voters) and all(other.durable.holds(node.view.last) for other in others)

    # -- links -----------------------------------------------------------------------------------------------------------

    def _one_way(self, serial: int, dice: random.Random) -> None:
        ids = sorted(self._simulation.nodes)
        one, other = dice.sample(ids, 2) if len(ids) > 1 else (ids[0], ids[0])
        pairs = {(one, other)}
        if dice.random() < 0.3:
            pairs = {(one, to) for to in ids if to != one}
        self._cut(serial, dice, "one_way_partition", pairs)

    def _partial(self, serial: int, dice: random.Random) -> None:
        """Some pairs do not hear each other, others hear both."""
        ids = sorted(self._simulation.nodes)
        one = dice.choice(ids)
        others = [other for other in ids if other != one and dice.random() < 0.5]
        self._cut(serial, dice, "partial_partition", both_ways(one, others[: max(1, len(ids) - 2)]))

    def _isolate(self, serial: int, dice: random.Random) -> None:
        """A node alone, or two halves."""
        ids = sorted(self._simulation.nodes)
        alone = [self._some_or_leader(dice, 0.5).me.node_id]
        if dice.random() < 0.4:
            alone = dice.sample(ids, len(ids) // 2)
        rest = [other for other in ids if other not in alone]
        self._cut(serial, dice, "isolation", {pair for one in alone for pair in both_ways(one, rest)})

    def _cut(self, serial: int, dice: random.Random, kind: str, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        simulation = self._simulation
        closed = sorted(pairs)
        lasts, noticed = dice.random() * 1500, dice.random() < 0.5
        if not closed:
            return
        self._note(serial, kind, f"{closed}", lasts)
        mend = simulation.network.close(closed)

        def end() -> None:
            mend()
            if noticed:
                for one, other in closed:
                    simulation.nodes[one].feed(PeerLost(simulation.nodes[other].me, "the link was cut"))
            simulation.reconnect_all()

        simulation.at(lasts, end)

    def _reset(self, serial: int, dice: random.Random) -> None:
        """A node's connections end, all or some, noticed on both sides or on one."""
        simulation = self._simulation
        node = self._some_or_leader(dice, 0.7)
        everywhere, both_sides = dice.random() < 0.7, dice.random() < 0.7
        others = [other for other in simulation.nodes.values() if other is not node and (everywhere or dice.random() < 0.5)]
        self._note(serial, "reset", f"{node.me} and {[other.node_id for other in others]}")
        for other in others:
            other.feed(PeerLost(node.me, "connection reset"))
            if both_sides:
                node.feed(PeerLost(other.me, "connection reset"))
        simulation.at(dice.random() ** 2 * 200, simulation.reconnect_all)

    def _slow_links(self, serial: int, dice: random.Random) -> None:
        one, lasts = self._some(dice).me.node_id, 200 + dice.random() * 1500
        self._simulation.network.slow(both_ways(one, self._simulation.nodes), self._simulation.now + lasts)
        self._note(serial, "delay", f"node {one} for {lasts:.0f} ms", lasts)

    # -- requests --------------------------------------------------------------------------------------------------------

    def _ask(self, node: SimNode, make: Callable[[Ticket], Event], then: Callable[[Outcome], None] | None = None) -> None:
        self._simulation.operators.ask(node, make, then)

    def _election(self, serial: int, dice: random.Random) -> None:
        node, pre_vote, to = self._some(dice), dice.random() < 0.5, self._some(dice).me.node_id
        roll = dice.random()
        if node.engine is None:
            return
        if roll < 0.6:
            self._note(serial, "election", f"{node.me}, pre-vote: {pre_vote}")
            self._ask(node, lambda ticket: ElectRequested(ticket, pre_vote, 500.0))
        elif roll < 0.8:
            self._ask(node, lambda ticket: HeartbeatRequested(ticket, 500.0))
        else:
            self._ask(node, lambda ticket: AllowNextRevertRequested(ticket, to, dice.random() < 0.5, 1000.0))

    def _transfer(self, serial: int, dice: random.Random) -> None:
        node, to, is_cut = self._simulation.leader() or self._some(dice), self._some(dice).me.node_id, dice.random() < 0.3
        if node.engine is None or to == node.me.node_id:
            return
        self._note(serial, "transfer", f"{node.me} to {to}")
        self._ask(node, lambda ticket: TransferLeaderRequested(ticket, to, 500.0))
        if is_cut:  # whom leadership is handed to goes away just then
            self._simulation.at(700.0, self._simulation.network.close(both_ways(to, [node.me.node_id])))

    def _snapshot_and_purge(self, serial: int, dice: random.Random) -> None:
        node, is_purge, strict = self._some(dice), dice.random() < 0.5, dice.random() < 0.2
        if node.engine is None:
            return
        upto = LogIndex(node.machine.last_applied.index)
        if is_purge:
            self._ask(node, lambda ticket: PurgeLogRequested(ticket, upto, strict, 500.0))
        else:
            self._ask(node, lambda ticket: SnapshotRequested(ticket, 500.0))
        self._note(serial, "snapshot_and_purge", f"{node.me} purge: {is_purge}")

    # -- operators, at bad moments -----------------------------------------------------------------------------------------

    def _rejoin(self, serial: int, dice: random.Random) -> None:
        """Half the time at the worst moment: others are cut off, and the leader dies when the node has been wiped."""
        simulation = self._simulation
        leader, node, worst = simulation.leader(), self._some(dice), dice.random() < 0.5
        if leader is None or node.engine is None or node is leader or not simulation.operators.all_whole(leader):
            return
        self._note(serial, "rejoin_planned", f"{node.me}")
        if not worst:
            simulation.operators.rejoin(node, leader, lambda: None, dice)
            return
        bystanders = sorted(simulation.nodes.keys() - {leader.me.node_id, node.me.node_id})
        away = dice.sample(bystanders, min(len(bystanders), (len(simulation.nodes) - 1) // 2))
        pairs = {pair for number in away for pair in both_ways(number, simulation.nodes)}
        mends: list[Callable[[], None]] = []

        def mend() -> None:
            for each in mends:
                each()
            simulation.reconnect_all()

        def wiped() -> None:
            if leader.engine is not None and not leader.in_hand:
                simulation.crash(leader, power=dice.random() < 0.5)
                simulation.at(dice.random() * 100, mend)
                simulation.at(1500.0, lambda: simulation.restart(leader))

        simulation.at(dice.random() * 500, lambda: mends.append(simulation.network.close(pairs)))
        simulation.at(2500.0, mend)
        simulation.at(200.0, lambda: simulation.operators.rejoin(node, leader, wiped, dice))

    def _lose(self, serial: int, dice: random.Random) -> None:
        """Somebody removes a data directory by hand, asked by nobody."""
        node = self._some(dice)
        leader = self._simulation.leader()
        if leader is not node and self._may_damage(node):
            self._note(serial, "rejoin_blank", f"{node.me}")
            self._simulation.operators.lose(node, dice)

    def _change(self, serial: int, dice: random.Random) -> None:
        leader = self._simulation.leader()
        if leader is not None and self._simulation.operators.change(leader, dice):
            self._note(serial, "membership_change", f"asked of {leader.me}", 500.0)

    def _coup(self, serial: int, dice: random.Random) -> None:
        """What a lease must survive: some nodes have heard from the leader later than others when the election begins."""
        simulation = self._simulation
        leader = simulation.leader()
        if leader is None or len(simulation.nodes) == 1:
            return
        others = sorted(simulation.nodes.keys() - {leader.me.node_id})
        first, rival, handed_over = dice.choice(others), simulation.nodes[dice.choice(others)], dice.random() < 0.3
        mends = [simulation.network.close(both_ways(leader.me.node_id, [first]))]
        self._note(serial, "coup", f"{rival.me} against {leader.me}, node {first} is cut off first")

        def cut_off() -> None:
            mends.append(simulation.network.close(both_ways(leader.me.node_id, others)))

        def strike() -> None:
            if handed_over:
                wanted = rival.me.node_id
                self._ask(leader, lambda ticket: TransferLeaderRequested(ticket, wanted, 500.0))
                simulation.at(dice.random() * 15, cut_off)
            else:
                cut_off()
                self._ask(rival, lambda ticket: ElectRequested(ticket, pre_vote=False, wait_ms=500.0))
            for step in range(40):
                simulation.at(step * 10.0, lambda: simulation.clients.write(rival))
                simulation.at(step * 10.0 + 5.0, lambda: simulation.clients.read(leader))

        def mend() -> None:
            for each in mends:
                each()
            simulation.reconnect_all()

        simulation.at(dice.random() * 250, strike)
        simulation.at(900.0, mend)

    def _contest(self, serial: int, dice: random.Random) -> None:
        """Two rivals who do not hear each other, and a crash in between: what a vote must survive."""
        simulation = self._simulation
        if len(simulation.nodes) == 1:
            return
        one, other = (simulation.nodes[number] for number in dice.sample(sorted(simulation.nodes), 2))
        if dice.random() < 0.5 and one.slowness < other.slowness:
            one, other = other, one
        struck = self._some(dice) if dice.random() < 0.5 else one
        mend = simulation.network.close(both_ways(one.me.node_id, [other.me.node_id]))
        self._note(serial, "contest", f"{one.me} and {other.me}, {struck.me} crashes")

        def elect(node: SimNode) -> None:
            self._ask(node, lambda ticket: ElectRequested(ticket, pre_vote=False, wait_ms=0.0))

        def back() -> None:
            simulation.restart(struck)
            elect(one)

        def strike() -> None:
            if struck.engine is not None and not struck.in_hand:
                simulation.crash(struck, power=dice.random() < 0.5)
                simulation.at(dice.random() * 20, back)

        elect(one)
        simulation.at(dice.random() * 40, strike)
        simulation.at(dice.random() * 60, mend)
        if dice.random() < 0.5:
            simulation.at(dice.random() * 80, lambda: elect(other))


def _rottable(tree: Tree) -> Iterable[tuple[str, int, int]]:
    """Yield where rot must be noticed: path below the data directory, first offset, offset behind the last."""
    for path, content in tree.files():
        if content is None or not path.startswith(f"{DATA}/") or "retired" in path:
            continue
        name = path.removeprefix(f"{DATA}/")
        if name.endswith(".seg"):
            mark = decode_segment_header(content, name).seals.mark if len(content) >= SEGMENT_HEADER_BYTES else 0
            seals = list(_find_all(content, mark.to_bytes(4, "little")))
            if len(seals) > 3:
                yield name, SEGMENT_HEADER_BYTES, seals[-3]
        elif name.endswith(".snap") or name == "identity.json":
            yield name, 0, len(content)
        elif name in {HARD_STATE_NAME, f"{LOG_DIRECTORY}/{MARKS_NAME}"} and content[:SLOT_BYTES] == content[SLOT_BYTES:]:
            yield name, 0, len(content[:SLOT_BYTES].rstrip(b"\0"))


def _find_all(content: bytes, mark: bytes) -> Iterable[int]:
    at = content.find(mark)
    while at >= 0:
        yield at
        at = content.find(mark, at + 1)
