"""Is a node counted as back when it is whole again, and not before?"""

from __future__ import annotations

import pytest

from raft_engine.testing.sim_node import DATA
from raft_engine.testing.sim_returns import BLANK, BY_HAND, OLDER_COPY, PLANNED, WAYS
from raft_engine.testing.simulate import main
from raft_engine.testing.simulator import CALM, Faults, Simulation


@pytest.fixture
def simulation():
    made = Simulation(1, faults=CALM)
    made.run(2, heal=False)
    return made


@pytest.fixture
def follower(simulation):
    leader = simulation.leader()
    return next(node for node in simulation.nodes.values() if node is not leader)


def go_on(simulation, ms):
    simulation._advance(simulation.now + ms)


def test_a_lost_directory_is_made_up_for_when_the_new_life_counts_and_holds_everything(simulation, follower):
    old = follower.me
    simulation.operators.lose(follower, simulation.chaos.dice(1))
    go_on(simulation, 5)
    assert 1 == simulation.returns.begun[BLANK] + simulation.returns.begun[BY_HAND]
    assert 0 == simulation.returns.completed.total()
    go_on(simulation, 8000)
    assert simulation.returns.begun == simulation.returns.completed
    assert follower.me != old
    assert simulation.leader().engine.state.membership.is_voter(follower.me)


def test_a_planned_rejoin_is_done_when_the_recovery_is_over(simulation, follower):
    simulation.operators.rejoin(follower, simulation.leader(), lambda: None, simulation.chaos.dice(1))
    go_on(simulation, 8000)
    assert {PLANNED: 1} == simulation.returns.completed
    assert follower.engine.state.recovery is None


def test_who_is_cut_off_is_not_back(simulation, follower):
    simulation.operators.lose(follower, simulation.chaos.dice(1))
    simulation.network.close({(one, other) for one in simulation.nodes for other in simulation.nodes if one != other})
    go_on(simulation, 5000)
    assert 0 == simulation.returns.completed.total()


def test_an_older_copy_counts_when_it_has_caught_up():
    simulation = Simulation(2, faults=Faults(rollbacks_per_s=3, crashes_per_s=0))
    simulation.run(30)
    returns = simulation.returns
    assert returns.completed[OLDER_COPY] > 0
    assert returns.begun[OLDER_COPY] == returns.completed[OLDER_COPY] + returns.overtaken[OLDER_COPY]


def test_a_campaign_of_rejoins_ends_when_enough_are_back_by_every_way(capsys):
    assert 0 == main(["--rejoins", "12", "--seconds", "40"])
    said = capsys.readouterr().out
    back = [int(line.split()[-1]) for line in said.splitlines() if "back after" in line]
    assert len(WAYS) == len(back)
    assert all(back)
    assert sum(back) >= 12


def test_a_node_whose_time_of_day_went_back_between_two_wipes_comes_back_and_keeps_both(simulation, follower):
    for times in (1, 2):
        simulation.operators.rejoin(follower, simulation.leader(), lambda: None, simulation.chaos.dice(times))
        go_on(simulation, 8000)
        follower.wall_jump_ms -= 3_600_000
    assert {PLANNED: 2} == simulation.returns.completed
    names = sorted(name for name in follower.files.names(DATA) if name.startswith("retired-"))
    assert ["retired-20251231T", "retired-20260101T"] == [name[:17] for name in names]
