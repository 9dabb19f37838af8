"""Stories in which a voter loses what it stored, and that go wrong without one of the rules that make its return safe.

Each story drives real engines by hand and is told twice: with every rule, when nothing may be lost, and without one, when the
judge must see the loss. Rules of the operator and the identity of a node are left out by `without`; rules of the core by the
known bugs in tests/simulation/mutants.py. Who finds what stands in test_rejoin_traces.py.

Nodes: x = 1 leads first, p = 2 is its rival, w = 3 is wiped, a = 4, b = 5. No clock runs by itself, so nobody campaigns unasked.
Source: traces T1 to T10 of the rejoin's design; TLC's traces of spec/ where a guard is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from raft_engine.config import Config
from raft_engine.core.commands import Command, Respond
from raft_engine.core.events import Event
from raft_engine.testing.scenario_cluster import Actor, Cluster, Flight
from raft_engine.testing.scenario_commands import perform
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import PeerId
from raft_engine.types.log_id import LogId
from raft_engine.types.messages import VoteRequest
from raft_engine.types.outcomes import BarrierOutcome, Outcome
from raft_engine.types.vote import NO_VOTE

X, P, W, A, B = 1, 2, 3, 4, 5
LEASE_IS_OVER_MS: Final = 200.0


class Loss(AssertionError):
    """Something happened that Raft promises never to happen."""


class Story(Cluster):
    """A hand-driven cluster with a judge, and an operator who may forget rules.

    `without`: "barrier" (wipes as soon as the node has stopped; it recovers until the first entry), "holders" (it recovers until
    what the leader has committed, whoever else holds that), "stop first" (asks for the barrier while the node runs), "kept
    vote", "recovery marker", "identity" (whoever has the node's id is the node, as where ids are all there is).
    """

    def __init__(self, voters: int, *without: str, blank: int = 0, **settings: object) -> None:
        super().__init__(Config(snapshot_logs_since_last=0, max_in_snapshot_log_to_keep=0, enable_pre_vote=False))
        self.without = frozenset(without)
        self.outcomes: dict[int, Outcome] = {}
        self.leaders: dict[int, PeerId] = {}
        self.agreed: dict[int, tuple[LogId, int]] = {}
        """Index to the committed entry's id, and the term in which that was first known."""
        options = " ".join(f"{name}={value}" for name, value in settings.items())
        self.do(f"nodes {voters} blank={blank} {options}")

    # -- hands ---------------------------------------------------------------------------------------------------------

    def do(self, *lines: str) -> list[str]:
        return [said for line in lines for said in perform(self, line)]

    def new_life(self, number: int) -> PeerId:
        if "identity" in self.without and number in self.actors:
            return self.actors[number].me
        return super().new_life(number)

    def alive(self, *numbers: int) -> None:
        """Only these nodes and the links among them work from now on; whatever was on its way to others is gone."""
        for one in self.actors:
            for other in self.actors:
                if one != other and not {one, other} <= set(numbers):
                    self.cut.add((one, other))
                elif one != other:
                    self.cut.discard((one, other))
        self.connect_all()

    def link(self, one: int, other: int) -> None:
        """These two reach each other, with a new connection."""
        self.cut -= {(one, other), (other, one)}
        self.do(f"lose {one} {other}")
        self.connect_all()

    def unlink(self, one: int, *others: int) -> None:
        self.cut |= {pair for other in others for pair in ((one, other), (other, one))}

    def take(self, sender: int, target: int) -> list[Flight]:
        """Hold back what is on its way from one node to another."""
        held = [item for item in self.flights if (item.sender.node_id, item.target.node_id) == (sender, target)]
        self.flights = [item for item in self.flights if item not in held]
        return held

    def give(self, held: list[Flight]) -> None:
        """What was held back arrives at last, whoever is there by now and whatever has been cut since it was sent."""
        cut = self.cut
        self.cut = set()
        for flight in held:
            self.flights.append(flight)
            self.deliver(flight)
        self.cut = cut

    def elect(self, number: int, *path: str) -> None:
        """Leases are over; this node campaigns, and everybody talks until nothing is left to say."""
        self.now += LEASE_IS_OVER_MS
        self.do(f"campaign {number} {' '.join(path)}", "settle")

    def leads(self, number: int) -> bool:
        engine = self.actors[number].engine
        return engine is not None and engine.is_leader

    def write(self, leader: int, word: str = "e") -> int:
        """Propose and talk; return the entry's index."""
        self.do(f"propose {leader} {word}")
        index = self.actors[leader].view.last.index
        self.do("settle")
        return index

    def is_committed(self, index: int) -> bool:
        return index in self.agreed

    def lose_old_copy(self, number: int, keep: int) -> None:
        """A backup of the directory is put back: same identity, same vote or an older one, a shorter log."""
        self.do(f"crash {number}", f"wipe {number} keep={keep}")

    # -- the operator --------------------------------------------------------------------------------------------------

    def rejoin(self, leader: int, target: int) -> Iterator[str]:
        """The planned way, step by step: stop, barrier, permission, look again, wipe with the vote kept, start."""
        stop_first = "stop first" not in self.without
        if stop_first:
            self.do(f"crash {target}")
            yield "stopped"
        until = self._barrier(leader, target)
        if until is None:
            self.do(f"restart {target}")
            yield "given up"
            return
        yield "held"
        if not stop_first:
            self.do(f"crash {target}")
        term = self._term(leader)
        self.do(f"arm {leader} {target}")
        yield "armed"
        if not {"barrier", "holders"} & self.without and not (self.leads(leader) and self._term(leader) == term):
            self.do(f"restart {target}")
            yield "given up"
            return
        self._wipe(target, until)
        yield "wiped"
        self.do(f"restart {target}")
        yield "started"

    def rejoin_wholly(self, leader: int, target: int) -> str:
        """Return the last step."""
        *_, last = self.rejoin(leader, target)
        return last

    def _term(self, number: int) -> int:
        engine = self.actors[number].engine
        return engine.term if engine is not None else 0

    def _barrier(self, leader: int, target: int) -> int | None:
        if "barrier" in self.without:
            return 1
        if "holders" in self.without:
            return self.actors[leader].committed
        self.outcomes.clear()
        self.do(f"barrier {leader} exclude={target}")
        self.do("settle")
        found = [outcome for outcome in self.outcomes.values() if isinstance(outcome, BarrierOutcome)]
        return found[-1].log_id.index if found else None

    def _wipe(self, target: int, until: int) -> None:
        actor = self.actors[target]
        self.do(f"wipe {target} until={until}")
        fresh, kept = self.actors[target], actor.durable.hard_state.vote
        marker = None if "recovery marker" in self.without else fresh.durable.hard_state.recovery
        fresh.durable.hard_state = HardState(NO_VOTE if "kept vote" in self.without else kept, marker)

    def blank(self, target: int) -> None:
        """Somebody removes the directory."""
        if self.actors[target].engine is not None:
            self.do(f"crash {target}")
        self.do(f"wipe {target} blank", f"restart {target}")

    # -- the judge -----------------------------------------------------------------------------------------------------

    def _carry_out(self, actor: Actor, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Respond):
                self.outcomes[command.ticket] = command.outcome
        super()._carry_out(actor, commands)
        self._judge(actor)

    def feed(self, actor: Actor, event: Event) -> None:
        """As the cluster does, but for the invariants of one engine: here it is the loss that is to be seen."""
        if actor.engine is None:
            return
        self._carry_out(actor, actor.engine.handle(event, self.now))
        if actor.engine is None:
            return
        if not actor.slow_disk:
            self.flush(actor)
        if self._dial:
            self._dial = False
            self.connect_all()

    def _judge(self, actor: Actor) -> None:
        engine = actor.engine
        if engine is None:
            return
        state = engine.state
        if state.leader is not None:
            known = self.leaders.setdefault(state.term, actor.me)
            if known != actor.me:
                raise Loss(f"term {state.term} has two leaders: {known} and {actor.me}")
            for log_id, term in self.agreed.values():
                if term < state.term and not actor.view.holds(log_id):
                    raise Loss(f"node {actor.number} leads term {state.term} without committed {log_id}")
        for entry in actor.view.read(actor.view.purged.index, state.committed):
            known_id, _ = self.agreed.setdefault(entry.index, (entry.log_id, state.term))
            if known_id.term != entry.term:
                raise Loss(f"node {actor.number} committed {entry.log_id}, others {known_id}")


# -- the traces of the design ------------------------------------------------------------------------------------------


def t1_planned(*without: str) -> None:
    """Three nodes, lost log: e is on x and w alone; w is wiped, x dies, p asks w for its vote."""
    story = Story(3, *without)
    story.elect(X)
    story.unlink(X, P)
    e = story.write(X)
    assert story.is_committed(e)
    story.rejoin_wholly(X, W)
    story.do("drop", f"crash {X}")
    story.alive(P, W)
    story.elect(P)
    assert not story.leads(P)


def t1_blank(*without: str) -> None:
    """The same, but that somebody removes w's directory and asks nobody."""
    story = Story(3, *without)
    story.elect(X)
    story.unlink(X, P)
    e = story.write(X)
    assert story.is_committed(e)
    story.blank(W)
    story.do("drop", f"crash {X}")
    story.alive(P, W)
    story.elect(P)
    assert not story.leads(P)


def t1_barrier_held_by_the_wiped_node(*without: str) -> None:
    """The operator asks for the barrier while w still runs, and p cannot be reached: w's own copy must not count."""
    story = Story(3, "stop first", *without)
    story.elect(X)
    story.unlink(X, P)
    story.write(X)
    story.rejoin_wholly(X, W)
    story.do("drop", f"crash {X}")
    story.alive(P, W)
    story.elect(P)
    assert not story.leads(P)


def barrier_before_the_stop(*without: str) -> None:
    """Three nodes: the barrier is on x and p; then, if w still runs, it helps to commit e; then it is wiped."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "before")
    for step in story.rejoin(X, W):
        if step == "held":
            story.unlink(X, P)
            story.write(X, "e")
    story.do("drop", f"crash {X}")
    story.alive(P, W)
    story.elect(P)


def t2_planned(*without: str) -> None:
    """Three nodes, lost vote: x and p campaign in one term, w votes for x, is wiped, and is asked by p."""
    story = Story(3, *without)
    story.unlink(X, P)
    held = _two_candidates(story)
    assert story.leads(X)
    story.rejoin_wholly(X, W)
    story.link(P, W)
    story.give(held)
    story.do("settle")
    assert not story.leads(P)


def t2_blank(*without: str) -> None:
    """The same, but that somebody removes w's directory."""
    story = Story(3, *without)
    story.unlink(X, P)
    held = _two_candidates(story)
    assert story.leads(X)
    story.unlink(X, W)
    story.blank(W)
    story.give(held)
    story.do("settle")
    assert not story.leads(P)


def _two_candidates(story: Story) -> list[Flight]:
    """x and p stand in term 1; w grants x. Return p's request to w, which is still on its way."""
    story.do(f"campaign {P}")
    held = story.take(P, W)
    story.do(f"campaign {X}", "settle")
    return held


def t3_blank(*without: str) -> None:
    """Three nodes, "caught up" is not enough: w's vote for p is on its way when w is wiped, let in again, and counted."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "e1")
    held = _vote_on_its_way(story)
    story.unlink(P, X, W)
    story.do(f"crash {W}", f"arm {X} {W}")
    story.blank(W)
    story.do("settle")
    _caught_up_then_commit(story, held)


def t3_planned(*without: str) -> None:
    """The same with the vote kept: w is in p's term, so it takes nothing from x any more."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "e1")
    held = _vote_on_its_way(story)
    story.unlink(P, X, W)
    if story.rejoin_wholly(X, W) != "given up":
        story.do("settle")
    _caught_up_then_commit(story, held)


def t3_old_copy(*without: str) -> None:
    """An old copy of w's directory is put back, from before it voted for p; nobody allowed that."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "e1")
    before = story.actors[W].durable.hard_state
    held = _vote_on_its_way(story)
    story.unlink(P, X, W)
    story.lose_old_copy(W, keep=1)
    story.actors[W].durable.hard_state = before
    story.do(f"restart {W}", "settle")
    _caught_up_then_commit(story, held)


def _vote_on_its_way(story: Story) -> list[Flight]:
    """p campaigns in the next term, out of x's sight; w grants, and the grant stays on its way."""
    story.unlink(X, P)
    story.now += LEASE_IS_OVER_MS
    story.do(f"campaign {P}", f"deliver {P}->{W}")
    return story.take(W, P)


def _caught_up_then_commit(story: Story, held: list[Flight]) -> None:
    story.do(f"heartbeat {X}", "settle")  # x has quorum contact, if w counts
    if story.leads(X):
        story.write(X, "e2")
        story.do("settle")
    story.do("drop")
    story.give(held)
    story.do("settle")


def t4_blank(*without: str) -> None:
    """Five nodes, a quorum's word is not enough: p has w's vote of its old life, and wins with a's after w was let in."""
    _t4(Story(5, *without), planned=False)


def t4_planned(*without: str) -> None:
    """The same, planned; without the barrier (T5) the word of a quorum, given before, is all there is."""
    _t4(Story(5, *without), planned=True)


def _t4(story: Story, *, planned: bool) -> None:
    story.elect(X)
    story.write(X, "e1")
    story.unlink(P, X, A, B)
    story.now += LEASE_IS_OVER_MS
    story.do(f"campaign {P}", f"deliver {P}->{W}")
    held = story.take(W, P)
    story.do("drop")
    story.unlink(W, P, X)
    story.do(f"heartbeat {X}", "settle")  # a quorum without w confirms that x leads
    story.cut -= {(X, W), (W, X)}
    if planned:
        story.rejoin_wholly(X, W)
    else:
        story.do(f"crash {W}", f"arm {X} {W}")
        story.blank(W)
    story.do("settle")
    story.unlink(A, X, W, B)
    if story.leads(X):
        story.write(X, "e2")
    story.do("drop")
    story.give(held)
    story.link(P, A)
    # p's request to a was lost with the link; it asks as a candidate whose round goes on does.
    story.now += LEASE_IS_OVER_MS
    _ask_again(story, P, A)
    story.do("settle")


def _ask_again(story: Story, candidate: int, voter: int) -> None:
    """The request of a running candidacy, once more."""
    actor = story.actors[candidate]
    assert actor.engine is not None
    running = actor.engine.state.candidate
    if running is not None:
        request = VoteRequest(running.term, actor.view.last, False, running.leadership_transfer)
        story.give([Flight(actor.me, story.actors[voter].me, request)])


def t6_planned(*without: str) -> None:
    """Five nodes (openraft's FAQ): e is on x, p and w; w is wiped; x dies; b wins with itself, a and w."""
    _t6(Story(5, *without), planned=True)


def t6_blank(*without: str) -> None:
    """The same, but that somebody removes w's directory."""
    _t6(Story(5, *without), planned=False)


def _t6(story: Story, *, planned: bool) -> None:
    story.elect(X)
    story.unlink(X, A, B)
    e = story.write(X)
    assert story.is_committed(e)
    story.unlink(X, P)
    if planned:
        story.rejoin_wholly(X, W)
    else:
        story.blank(W)
    story.do("drop", f"crash {X}")
    story.alive(A, B, W)
    story.elect(B)
    assert not story.leads(B)


def t7_two_wipes(*without: str) -> None:
    """Four nodes: one wipe without any rule is survived, a second one is not."""
    story = Story(4, *without)
    story.elect(X)
    story.unlink(X, P)
    e = story.write(X)
    assert story.is_committed(e)
    story.unlink(W, X, P)
    story.rejoin_wholly(X, W)
    story.unlink(A, P)
    story.rejoin_wholly(X, A)
    story.do("drop", f"crash {X}")
    story.alive(P, W, A)
    story.elect(P)


def t8_stale_matching(*without: str) -> None:
    """Five nodes: w acknowledged e, lost it with permission, and p's copy must be the second one, not the third."""
    story = Story(5, *without)
    story.elect(X)
    story.unlink(X, A, B)
    story.do(f"propose {X} e", f"deliver {X}->{W}", f"deliver {W}->{X}")
    held = story.take(X, P)
    e = story.actors[X].view.last.index
    story.do(f"crash {W}", f"arm {X} {W}", f"wipe {W} keep={e - 1}", "drop")
    story.unlink(X, W)
    story.do(f"restart {W}")
    story.give(held)
    story.do(f"deliver {P}->{X}")
    story.do("drop", f"crash {X}")
    story.alive(A, B, W)
    story.elect(B)


def t8_late_answer(*without: str) -> None:
    """The same, but that w's acknowledgement arrives after the permission was given."""
    story = Story(5, *without)
    story.elect(X)
    story.unlink(X, A, B)
    story.do(f"propose {X} e", f"deliver {X}->{W}")
    late, held = story.take(W, X), story.take(X, P)
    e = story.actors[X].view.last.index
    story.do(f"crash {W}", f"arm {X} {W}", f"wipe {W} keep={e - 1}")
    story.give(held)
    story.do(f"deliver {P}->{X}")
    story.give(late)
    story.do("drop", f"crash {X}")
    story.alive(A, B, W)
    story.do(f"restart {W}")
    story.elect(B)


def _grown_from_one(*without: str) -> Story:
    """w = 1 was the whole cluster; 2 and 3 joined, and 2 leads. One entry a request, so a log is replayed step by step."""
    story = Story(1, *without, blank=2, max_payload_entries=1)
    story.elect(1)
    story.do("learner 1 2", "settle", "learner 1 3", "settle", "voters 1 1 2 3", "settle", "transfer 1 2", "settle")
    assert story.leads(2)
    story.write(2, "e")
    return story


def _first_entry_only(story: Story) -> None:
    """Node 1 is sent entry 1, the configuration in which it was alone, and then the link is cut."""
    for _ in range(40):
        if story.actors[1].view.last.index >= 1 or not story.flights:
            break
        story.deliver(story.flights[0])
    story.unlink(1, 2, 3)
    story.do("drop")


def t9_old_configuration(path: str) -> Callable[..., None]:
    """The log that w replays begins with a configuration in which it alone was a quorum; w is asked to lead by `path`."""

    def trace(*without: str) -> None:
        story = _grown_from_one(*without)
        story.rejoin_wholly(2, 1)
        _first_entry_only(story)
        assert story.actors[1].view.last.index == 1
        _try_to_lead(story, path)
        assert not story.leads(1)

    return trace


def _try_to_lead(story: Story, path: str) -> None:
    if path == "timer":
        story.do("advance 1000 1")
    else:
        story.elect(1, *(["pre-vote"] if path == "pre-vote" else []))


def t9_blank(*without: str) -> None:
    """The same for a removed directory: the old configuration names another life of w."""
    story = _grown_from_one(*without)
    story.do("crash 1", "arm 2 1")
    story.blank(1)
    _first_entry_only(story)
    _try_to_lead(story, "elect")
    assert not story.leads(1)


def t9_killed_while_recovering(*without: str) -> None:
    """Terms went by while w was down: it saves a new vote, still recovering, and is killed. It must know that it recovers."""
    story = _grown_from_one(*without)
    for step in story.rejoin(2, 1):
        if step == "wiped":
            story.do("transfer 2 3", "settle", "transfer 3 2", "settle")
            assert story.leads(2)
    _first_entry_only(story)
    story.do("restart 1")
    _try_to_lead(story, "elect")
    assert not story.leads(1)


def t10_planned(*without: str) -> None:
    """Five nodes: w followed p in term 2 and is wiped behind p's barrier; then the deposed x wants its answer in term 1."""
    _t10(Story(5, *without), planned=True)


def t10_blank(*without: str) -> None:
    """The same for a removed directory that p allowed."""
    _t10(Story(5, *without), planned=False)


def _t10(story: Story, *, planned: bool) -> None:
    story.unlink(X, W)
    story.do(f"campaign {X}")
    story.alive(X, A, P)
    story.do("settle")
    assert story.leads(X)
    story.do("drop")
    # e1 of term 1 is on x and a, and x knows it. (The entry with which x began is one of them.)
    story.alive(X, A)
    story.do(f"propose {X} e1", "settle")
    story.unlink(X, P, A, B, W)
    for one in (P, A, B, W):
        for other in (P, A, B, W):
            if one < other:
                story.cut -= {(one, other), (other, one)}
    story.connect_all()
    story.now += LEASE_IS_OVER_MS
    story.unlink(A, P)
    story.do(f"campaign {P}", "settle")
    if not story.leads(P):
        story.elect(P)
    story.link(A, P)
    story.do("settle")
    if planned:
        story.rejoin_wholly(P, W)
    else:
        story.do(f"crash {W}", f"arm {P} {W}")
        story.blank(W)
    story.do("drop")
    story.unlink(W, P, A, B)
    story.link(W, X)
    story.do("settle")


# -- and what else was asked -------------------------------------------------------------------------------------------


def armed_twice_is_one_loss(*without: str) -> None:
    """Two permissions, two losses: the second one is fenced."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "e0")
    story.do(f"arm {X} {W}", f"arm {X} {W}", "settle")
    story.lose_old_copy(W, keep=1)
    story.do(f"restart {W}", "settle")
    _second_loss(story)


def second_wipe_after_use(*without: str) -> None:
    """The permission was used; the next loss was not allowed."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "e0")
    story.do(f"arm {X} {W}", "settle")
    story.lose_old_copy(W, keep=1)
    story.do(f"restart {W}", "settle")
    _second_loss(story)


def disarmed(*without: str) -> None:
    """A permission that was taken back is none."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "e0")
    story.do(f"arm {X} {W}", f"disarm {X} {W}", "settle")
    _second_loss(story)


def expired(*without: str) -> None:
    """A permission whose time is over is none."""
    story = Story(3, *without)
    story.elect(X)
    story.write(X, "e0")
    story.do(f"arm {X} {W} ttl=100", "settle")
    story.now += 150
    _second_loss(story)


def leader_changed_after_arming(*without: str) -> None:
    """The permission lives in the memory of the leader that gave it."""
    story = Story(3, *without)
    story.elect(P)
    story.do(f"arm {P} {W}", "settle")
    story.elect(X)
    story.write(X, "e0")
    _second_loss(story)


def leader_restarted_after_arming(*without: str) -> None:
    """The leader was killed after it gave the permission, and leads again."""
    story = Story(3, *without)
    story.elect(X)
    story.do(f"arm {X} {W}", "settle", f"restart {X}")
    story.elect(X)
    story.write(X, "e0")
    _second_loss(story)


def _second_loss(story: Story) -> None:
    """w loses, unallowed, its vote for p and its log; then x writes with w's help, if it has it, and p wins with w's old vote."""
    before = story.actors[W].durable.hard_state
    held = _vote_on_its_way(story)
    story.unlink(P, X, W)
    story.lose_old_copy(W, keep=1)
    story.actors[W].durable.hard_state = before
    story.do(f"restart {W}", "settle")
    _caught_up_then_commit(story, held)


def armed_after_the_loss_was_seen(*without: str) -> None:
    """The permission comes when w is fenced already: it is let in, and its old acknowledgements stay void (T8)."""
    story = Story(5, *without)
    story.elect(X)
    story.unlink(X, A, B)
    story.do(f"propose {X} e", f"deliver {X}->{W}", f"deliver {W}->{X}")
    held = story.take(X, P)
    e = story.actors[X].view.last.index
    story.lose_old_copy(W, keep=e - 1)
    story.do(f"restart {W}", "settle")
    story.unlink(X, W)
    story.do(f"arm {X} {W}")
    story.give(held)
    story.do(f"deliver {P}->{X}", "drop", f"crash {X}")
    story.alive(A, B, W)
    story.elect(B)


def killed_at_every_step(*without: str) -> None:
    """w is killed and started after every single message of its return; at the end x dies, and whoever wins has everything."""
    for moment in range(60):
        story = Story(3, *without, max_payload_entries=1)
        story.elect(X)
        for word in "abc":
            story.write(X, word)
        steps, happened = story.rejoin(X, W), 0
        for step in steps:
            if step in {"held", "armed"}:
                continue
            if step == "started":
                story.actors[W].slow_disk = True
                while story.flights and happened < moment:
                    story.deliver(story.flights[0])
                    if happened % 2:
                        story.flush(story.actors[W], 1 if story.actors[W].writing else 0)
                    happened += 1
                story.do(f"restart {W}")
                story.actors[W].slow_disk = False
                story.flush(story.actors[W])
                story.do("settle")
        story.link(X, W)
        story.do("settle", f"crash {X}")
        story.alive(P, W)
        story.elect(W)
        if not story.leads(W):
            story.elect(P)
        assert story.leads(W) or story.leads(P)


TRACES: Final[dict[str, Callable[..., None]]] = {
    "T1 planned": t1_planned,
    "T1 blank": t1_blank,
    "T1 barrier held by the wiped node": t1_barrier_held_by_the_wiped_node,
    "T2 planned": t2_planned,
    "T2 blank": t2_blank,
    "T3 planned": t3_planned,
    "T3 blank": t3_blank,
    "T3 old copy": t3_old_copy,
    "T4 planned (T5)": t4_planned,
    "T4 blank": t4_blank,
    "T6 planned": t6_planned,
    "T6 blank": t6_blank,
    "T7 two wipes": t7_two_wipes,
    "T8 stale matching": t8_stale_matching,
    "T8 late answer": t8_late_answer,
    "T9 by timer": t9_old_configuration("timer"),
    "T9 by elect": t9_old_configuration("elect"),
    "T9 by pre-vote": t9_old_configuration("pre-vote"),
    "T9 blank": t9_blank,
    "T9 killed while recovering": t9_killed_while_recovering,
    "T10 planned": t10_planned,
    "T10 blank": t10_blank,
    "barrier before the stop": barrier_before_the_stop,
    "armed twice": armed_twice_is_one_loss,
    "second wipe after use": second_wipe_after_use,
    "disarmed": disarmed,
    "expired": expired,
    "leader changed after arming": leader_changed_after_arming,
    "leader restarted after arming": leader_restarted_after_arming,
    "armed after the loss was seen": armed_after_the_loss_was_seen,
    "killed at every step": killed_at_every_step,
}
