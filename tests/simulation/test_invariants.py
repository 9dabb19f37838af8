"""Does each check of the simulator fire? Something is tampered with on purpose, and it must be noticed."""

import pytest

from raft_engine.core.commands import AppendEntries, ResetLog, TruncateLog
from raft_engine.testing.sim_network import both_ways
from raft_engine.testing.simulator import CALM, Simulation
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import Incarnation, IoId, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import encode_membership, uniform
from raft_engine.types.vote import Vote


@pytest.fixture
def simulation():
    """Three healthy nodes that have committed something."""
    made = Simulation(1, faults=CALM)
    made.run(2, heal=False)
    return made


@pytest.fixture
def leader(simulation):
    return simulation.leader()


@pytest.fixture
def follower(simulation, leader):
    return next(node for node in simulation.nodes.values() if node is not leader)


def go_on(simulation, ms=2000):
    simulation._advance(simulation.now + ms)


def restarted(simulation, node):
    simulation.crash(node, power=False)
    simulation.boot(node)


def other_entry(entry):
    return make_entry(entry.term, entry.node_id, entry.index, EntryKind.NORMAL, b"something else")


def peer(number):
    return PeerId(NodeId(number), Incarnation(f"{number:032x}"))


def test_two_leaders_of_one_term_are_noticed(simulation, leader, follower):
    simulation.checks.leaders[leader.engine.term] = (follower.me, follower.life)
    with pytest.raises(AssertionError, match="two leaders"):
        go_on(simulation)


def test_another_entry_of_the_same_index_and_term_is_noticed(simulation, follower):
    last = follower.view.entries[-1]
    follower.view.entries.pop()
    with pytest.raises(AssertionError, match="log matching"):
        simulation.checks.log_changes(follower, AppendEntries(IoId(0), (other_entry(last),)))


def test_an_entry_behind_another_term_is_noticed(simulation, follower):
    last = follower.view.entries.pop()
    follower.view.entries[-1] = make_entry(Term(0), NodeId(9), LogIndex(last.index - 1), EntryKind.BLANK, b"")
    with pytest.raises(AssertionError, match=r"before .* stands an entry of term 0"):
        simulation.checks.log_changes(follower, AppendEntries(IoId(0), (last,)))


def test_cutting_off_what_is_committed_is_noticed(simulation, follower):
    with pytest.raises(AssertionError, match="was committed"):
        simulation.checks.log_changes(follower, TruncateLog(IoId(0), LogIndex(1)))


def test_going_on_after_something_that_was_never_committed_is_noticed(simulation, follower):
    with pytest.raises(AssertionError, match="goes on after"):
        simulation.checks.log_changes(follower, ResetLog(IoId(0), LogId(Term(9), NodeId(9), LogIndex(2))))


def test_a_leader_that_lacks_a_committed_entry_is_noticed(simulation, leader):
    simulation.chaos.is_over = True  # nobody writes any more
    go_on(simulation)
    last = simulation.committed[-1]
    simulation.committed.append(make_entry(last.term, NodeId(9), LogIndex(last.index + 1), EntryKind.NORMAL, b"gone"))
    simulation.crash(leader, power=False)
    with pytest.raises(AssertionError, match="leader completeness"):
        go_on(simulation)


def test_a_commit_that_the_disks_do_not_hold_is_noticed(simulation, follower):
    follower.holds_on_disk = lambda entry: False
    with pytest.raises(AssertionError, match="its disk does not hold it"):
        go_on(simulation)


def test_a_commit_on_too_few_disks_is_noticed(simulation, leader):
    for node in simulation.nodes.values():
        if node is not leader:
            node.durable.holds = lambda log_id: False
    with pytest.raises(AssertionError, match="is committed with durable copies on"):
        go_on(simulation)


def test_an_altered_committed_entry_is_noticed(simulation, follower):
    upto = follower.engine.state.committed
    simulation.committed[upto - 1] = other_entry(simulation.committed[upto - 1])
    restarted(simulation, follower)
    with pytest.raises(AssertionError, match="others"):
        go_on(simulation)


def test_an_index_that_goes_back_is_noticed(simulation, follower):
    life, seen = simulation.checks._seen[follower.me]
    simulation.checks._seen[follower.me] = (life, seen._replace(applied=seen.applied + 1000))
    with pytest.raises(AssertionError, match=r"applied of .* went back"):
        go_on(simulation)


def test_a_forgotten_vote_is_noticed(simulation, follower):
    follower.durable.hard_state = HardState(Vote(Term(99), NodeId(1), False))
    with pytest.raises(AssertionError, match="has forgotten its vote"):
        restarted(simulation, follower)


def test_a_lost_durable_entry_is_noticed(simulation, follower):
    while (
        follower.view.last != follower.durable.last
    ):  # what is written without a sync survives the death of the process alone
        go_on(simulation, 1)
    last = follower.durable.last
    lost = make_entry(last.term, last.node_id, LogIndex(last.index + 1), EntryKind.NORMAL, b"was durable")
    follower.durable.entries.append(lost)
    with pytest.raises(AssertionError, match="has lost"):
        restarted(simulation, follower)


def test_an_altered_durable_entry_is_noticed(simulation, follower):
    first = follower.durable.entries[-1]
    follower.durable.entries[-1] = make_entry(Term(77), first.node_id, first.index, EntryKind.BLANK, b"")
    with pytest.raises(AssertionError, match=r"has lost .*, which was durable"):
        restarted(simulation, follower)


def test_a_configuration_that_does_not_follow_is_noticed(simulation):
    stranger = uniform([peer(7), peer(8)], {})
    entry = make_entry(Term(1), NodeId(1), LogIndex(9), EntryKind.MEMBERSHIP, encode_membership(stranger))
    with pytest.raises(AssertionError, match="does not follow"):
        simulation.checks._configuration_follows(entry)


def test_a_lease_that_outlives_the_next_leader_is_noticed(simulation, leader):
    leader.set_clock(0.01)  # a clock that nearly stands still: far more than leases allow for
    simulation.network.close(both_ways(leader.node_id, simulation.nodes))
    with pytest.raises(AssertionError, match="lease exclusivity"):
        go_on(simulation, 5000)


def test_another_result_of_the_same_entry_is_noticed(simulation, follower):
    apply = follower.machine.inner.apply
    follower.machine.inner.apply = lambda entries: ["something else" for _ in apply(entries)]
    with pytest.raises(AssertionError, match="state machine safety"):
        go_on(simulation)


def test_another_state_is_noticed(simulation, follower):
    content = follower.machine.content()
    simulation.checks._states[follower.machine.last_applied.index] = content[1:]
    with pytest.raises(AssertionError, match="state machine safety"):
        simulation.checks.state_at(follower, follower.machine)


def test_an_entry_that_is_left_out_is_noticed(simulation, follower):
    applied = follower.machine.last_applied
    follower.machine.last_applied = LogId(applied.term, applied.node_id, LogIndex(applied.index - 1))
    with pytest.raises(AssertionError, match=r"applies .* after"):
        go_on(simulation)


def test_applying_what_is_not_durable_is_noticed(simulation, follower):
    del follower.durable.entries[5:]
    entries = follower.view.read(follower.machine.last_applied.index - 1, follower.machine.last_applied.index)
    with pytest.raises(AssertionError, match="not durable there"):
        simulation.checks.before_apply(follower, LogId(Term(1), NodeId(1), LogIndex(entries[0].index - 1)), entries)


def test_a_stale_answer_is_noticed(simulation):
    simulation.clients.check()
    read = [item for item in simulation.history if item.mode == "index"][-1]
    read.index = 2
    with pytest.raises(AssertionError, match="which was over when it was called"):
        simulation.clients.check()


def test_a_wrong_answer_is_noticed(simulation):
    read = [item for item in simulation.history if item.mode in {"index", "lease"}][-1]
    read.result = "never written"
    with pytest.raises(AssertionError, match="client history: "):
        simulation.clients.check()


def test_a_wrong_stale_answer_is_noticed(simulation):
    read = [item for item in simulation.history if item.mode == "stale"][-1]
    read.result = "never written"
    with pytest.raises(AssertionError, match="client history: "):
        simulation.clients.check()


def test_a_lost_acknowledged_write_is_noticed(simulation):
    number = max(simulation.acknowledged)
    known = simulation.acknowledged[number]
    simulation.acknowledged[number] = LogId(Term(known.term + 1), known.node_id, known.index)
    with pytest.raises(AssertionError, match=r"acknowledged write .* is gone"):
        simulation._heal()


def test_a_cluster_that_makes_no_progress_is_noticed(simulation, leader):
    simulation.network.send = lambda *_: None
    with pytest.raises(AssertionError, match="no write succeeded"):
        simulation._heal()


def test_the_message_has_the_seed_and_the_last_steps(simulation):
    simulation.violated("something impossible")
    with pytest.raises(AssertionError, match=r"seed 1: something impossible\n.*boot"):
        simulation.run(1)
