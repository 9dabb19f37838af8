"""Simulated operators: they wipe and rejoin nodes by the runbook, change members, and mend what has broken.

Way A (`rejoin`): stop the node, barrier without it, permission, wipe with the vote kept, start. Way B (`lose`): the directory
is gone, by hand, asked or not; the node comes back as a new life and is permitted before or after. A node that refuses to
start because something on its disk is damaged comes back by A where its vote can be read, by B where it cannot.

The budget: an operator begins only when nobody else is blank, recovering, damaged or in an operator's hands, and the
configuration is settled; Raft survives the loss of a minority's disks, not more. Crashes and partitions go on meanwhile:
they lose nothing that was promised.
Source: docs/decisions (ways back of a wiped node); rejoin_safety.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from raft_engine.core.events import AllowNextRevertRequested, BarrierRequested, Event, MembershipChangeRequested
from raft_engine.core.progress import Mode
from raft_engine.errors import RaftError
from raft_engine.storage.hard_state import read_hard_state
from raft_engine.testing.sim_disk import SimDisk
from raft_engine.testing.sim_node import DATA, ProcessEnds, SimNode, Wiped
from raft_engine.testing.sim_returns import BLANK, BY_HAND, PLANNED
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import NodeId, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import BarrierOutcome, Outcome, TriggerOutcome

if TYPE_CHECKING:
    from raft_engine.testing.simulator import Simulation

GIVE_UP_MS = 3000.0
LOOK_EVERY_MS = 400.0


class Operators:
    """What people do to a cluster."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._chance = simulation.chaos.stream("operators")

    def ask(self, node: SimNode, make: Callable[[Ticket], Event], then: Callable[[Outcome], None] | None = None) -> None:
        """Give a node a request; `then` gets its outcome."""
        if node.engine is None:
            return

        def told(outcome: Outcome) -> None:
            if then is not None:
                self._simulation.at(0.0, lambda: then(outcome))  # the node finishes what it is doing first

        node.feed(make(node.tickets.open(told)))

    def all_whole(self, leader: SimNode) -> bool:
        """Whether every member that the leader knows is in the life that it knows, undamaged, and in nobody's hands."""
        assert leader.engine is not None
        state = leader.engine.state
        nodes = self._simulation.nodes
        return (
            not state.membership.is_joint
            and state.effective.log_id.index <= state.committed
            and all(nodes[peer.node_id].me == peer for peer in state.membership.members())
            and not any(node.in_hand or node.broken or node.is_rotten for node in nodes.values())
            and not any(node.durable.hard_state.recovery or node.view.hard_state.recovery for node in nodes.values())
        )

    # -- way A -------------------------------------------------------------------------------------------------------------

    def rejoin(self, node: SimNode, leader: SimNode, wiped: Callable[[], None], dice: random.Random) -> None:
        """Wipe a node the safe way."""
        if node.in_hand or node is leader or node.me.node_id == leader.me.node_id:
            return
        node.in_hand = True
        if node.engine is not None:
            self._simulation.stop(node)
        self._simulation.note("rejoin", f"{node.me} stopped, barrier on {leader.me}")
        life = node.life

        def give_up() -> None:
            if node.in_hand and node.life == life:
                node.in_hand = False
                self._simulation.boot(node)

        def armed(barrier: LogId) -> None:
            if not node.in_hand or node.life != life:
                return  # everything was healed meanwhile, or somebody started it: that barrier is from before
            node.in_hand = False
            self._wipe(node, barrier)
            self._simulation.at(dice.random() * 10, wiped)

        def held(outcome: Outcome) -> None:
            if isinstance(outcome, BarrierOutcome):
                wanted = NodeId(node.me.node_id)
                self.ask(leader, lambda ticket: AllowNextRevertRequested(ticket, wanted, True, 60_000.0))
                self._simulation.at(dice.random() * 300, lambda: armed(outcome.log_id))
            else:
                give_up()

        excluded = frozenset({node.me.node_id})
        self.ask(leader, lambda ticket: BarrierRequested(ticket, excluded, 1000.0), held)
        self._simulation.at(GIVE_UP_MS, give_up)

    def _wipe(self, node: SimNode, barrier: LogId) -> None:
        """Retire the data with the vote kept, then start the node; it may die at any call meanwhile."""
        node.life += 1
        node.open_process()
        try:
            data_dir = node.open(stores=False)
            data_dir.wipe(barrier, "rejoin")
            node.forget_promises(read_hard_state(DATA, node.files)[0])
            data_dir.close()
        except (RaftError, OSError, ProcessEnds) as error:
            # The next start finishes the wipe, or finds that it had not begun.
            self._simulation.note("wipe_interrupted", f"{node.me} {error}")
            node.forget_promises(node.durable.hard_state)
        else:
            self._simulation.returns.begin(node, PLANNED)
            self._simulation.note("wipe", f"{node.me} until {barrier}")
            self._simulation.told(node, Wiped("kept_vote", barrier), [])
        node.end()
        self._simulation.boot(node)

    # -- way B -------------------------------------------------------------------------------------------------------------

    def lose(self, node: SimNode, dice: random.Random) -> None:
        """The data directory is gone; the node is started again blank, and permitted at some time."""
        simulation = self._simulation
        leader = simulation.leader()
        is_member = leader is not None and _is_known(leader, node)
        if node.engine is not None:
            simulation.stop(node)
        simulation.note("lose", f"{node.me}")
        simulation.checks.lost.append((node.me, node.durable))
        node.life += 1
        node.disk = SimDisk()
        node.open_process()
        node.forget_promises(HardState())
        node.needs_reboot, node.in_hand = False, False
        node.be_created()
        node.end()
        simulation.told(node, Wiped("blank"), [])
        started_ms, permitted_ms = dice.random() * 1000, dice.random() * 3000
        if is_member:
            simulation.returns.begin(node, BLANK if permitted_ms < started_ms else BY_HAND)
        simulation.at(started_ms, lambda: simulation.restart(node))
        simulation.at(permitted_ms, self.allow_all)

    def allow_all(self) -> None:
        """Permit every node that a leader fences because it came back with less than it had."""
        leader = self._simulation.leader()
        if leader is None or leader.engine is None or leader.engine.state.leader is None:
            return
        state = leader.engine.state
        fenced = {peer for peer, progress in leader.engine.state.leader.progress.items() if progress.mode is Mode.REVERTED}
        for peer in sorted(state.membership.members()):
            if self._simulation.nodes[peer.node_id].me != peer or peer in fenced:
                self._allow(leader, peer.node_id)

    def _allow(self, leader: SimNode, wanted: NodeId) -> None:
        self.ask(leader, lambda ticket: AllowNextRevertRequested(ticket, wanted, True, 0.0))

    # -- members -----------------------------------------------------------------------------------------------------------

    def change(self, leader: SimNode, dice: random.Random) -> bool:
        """Ask for other members; return whether anybody was asked."""
        if leader.engine is None or not self.all_whole(leader):
            return False
        simulation = self._simulation
        membership = leader.engine.state.membership
        wanted = frozenset(number for number in sorted(simulation.nodes) if dice.random() < 0.6)
        wanted = wanted or frozenset({leader.me.node_id})
        retain = dice.random() < 0.3
        missing = [number for number in sorted(wanted) if not membership.names(number)]
        add = {simulation.nodes[number].me: simulation.addresses[number] for number in missing}
        simulation.note("change", f"{membership} -> {sorted(wanted)}")

        def promote(outcome: Outcome) -> None:
            if isinstance(outcome, TriggerOutcome) and outcome.observed and leader.engine is not None:
                self.ask(leader, lambda ticket: MembershipChangeRequested(ticket, 3000.0, voters=wanted, retain=retain))

        if add:
            self.ask(leader, lambda ticket: MembershipChangeRequested(ticket, 3000.0, add_learners=add), promote)
        else:
            self.ask(leader, lambda ticket: MembershipChangeRequested(ticket, 3000.0, voters=wanted, retain=retain))
        return True

    # -- mending -----------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look around, as somebody on call does: bring back what does not start, permit what is fenced."""
        simulation = self._simulation
        simulation.returns.look()
        leader = simulation.leader()
        if leader is not None and leader.engine is not None:
            for node in simulation.nodes.values():
                if node.broken and not node.in_hand and leader.engine.state.membership.is_member(node.me):
                    self._mend(node, leader)
            fenced = leader.engine.state.leader.progress.values() if leader.engine.state.leader is not None else ()
            if any(progress.mode is Mode.REVERTED for progress in fenced) and self._chance.random() < 0.3:
                self.allow_all()
        for node in simulation.nodes.values():
            if node.broken and not node.in_hand and (leader is None or not _is_known(leader, node)):
                self._mend_stranger(node)
        simulation.at(LOOK_EVERY_MS, self.look)

    def _mend(self, node: SimNode, leader: SimNode) -> None:
        assert leader.engine is not None
        dice = self._chance
        membership = leader.engine.state.membership
        if membership.is_joint or any(other.in_hand for other in self._simulation.nodes.values()):
            return
        if self._vote_is_readable(node) and dice.random() < 0.7:
            self._simulation.chaos.count("rejoin_planned")
            self.rejoin(node, leader, lambda: None, dice)
        elif len(membership.voters()) >= 3 or not membership.is_voter(node.me):
            self._simulation.chaos.count("rejoin_blank")
            self.lose(node, dice)

    def _mend_stranger(self, node: SimNode) -> None:
        """Nobody counts on it: it may begin anew at once."""
        leader = self._simulation.leader()
        if leader is not None and not _is_known(leader, node):
            self.lose(node, self._chance)

    def _vote_is_readable(self, node: SimNode) -> bool:
        node.open_process()
        try:
            node.open(stores=False).close()
        except (RaftError, OSError, ProcessEnds):
            return False
        finally:
            node.disk.kill()
        return True


def _is_known(leader: SimNode, node: SimNode) -> bool:
    return leader.engine is not None and leader.engine.state.membership.names(node.me.node_id)
