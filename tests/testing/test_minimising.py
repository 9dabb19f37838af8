"""Is the shortest failing schedule found? On runs that are made up: they fail when certain faults happen."""

from __future__ import annotations

import pytest

from raft_engine.testing.minimising import Schedule, minimise
from raft_engine.testing.sim_failure import ANSWERS, FAULTS, HEALING, SimulationFailed
from raft_engine.testing.sim_faults import Happened

CRASHES = [4_000_000 + number for number in range(40)]
DROPS = [1_066_000_000 + number for number in range(200)]


class Runs:
    """Every second of a run has four drops and a crash. It fails, at `at_ms`, when all of `needed` have happened."""

    def __init__(self, needed, *, at_ms=30_500.0, phase=FAULTS, promise="log matching"):
        self.needed = set(needed)
        self.at_ms = at_ms
        self.phase = phase
        self.promise = promise
        self.seen = []

    def __call__(self, schedule, watch=None):
        self.seen.append(schedule)
        due = [(1000.0 * (number + 1), serial) for number, serial in enumerate(CRASHES)]
        due += [(200.0 * (number + 1), serial) for number, serial in enumerate(DROPS)]
        end = min(schedule.seconds * 1000, self.at_ms if self.phase == FAULTS else 1e9)
        serials = [serial for at, serial in sorted(due) if at <= end and serial not in schedule.without]
        reached = schedule.seconds * 1000 >= self.at_ms and (schedule.heal or self.phase != HEALING)
        if self.needed <= set(serials) and reached:
            raise failure(self.promise, min(self.at_ms, end), self.phase, serials)


def failure(promise, at_ms, phase, serials):
    happened = [Happened(serial, "crash", 0.0, "") for serial in serials]
    return SimulationFailed(1, AssertionError(f"{promise}: so it is"), at_ms, phase, happened, serials, [], [])


def minimised(run, budget_s=1e9, clock=lambda: 0.0):
    schedule = Schedule(1, 60.0)
    with pytest.raises(SimulationFailed) as first:
        run(schedule)
    return minimise(run, schedule, first.value, budget_s, clock)


def test_faults_that_do_not_matter_are_left_out():
    needed = [CRASHES[3], CRASHES[20], DROPS[77]]
    found = minimised(Runs(needed))
    assert sorted(needed) == sorted(found.failure.serials)
    assert found.is_minimal


def test_a_run_is_cut_where_it_failed_and_not_healed():
    found = minimised(Runs([CRASHES[3]]))
    assert (30.5, False) == (found.schedule.seconds, found.schedule.heal)


def test_a_failure_without_any_fault_needs_none():
    found = minimised(Runs([]))
    assert () == found.failure.serials
    assert found.trials <= 4


@pytest.mark.parametrize("phase", [HEALING, ANSWERS])
def test_where_only_the_end_shows_it_the_earliest_end_is_looked_for(phase):
    found = minimised(Runs([CRASHES[1]], at_ms=7_300.0, phase=phase))
    assert 7.3 <= found.schedule.seconds < 7.4
    assert (phase == HEALING) == found.schedule.heal


def test_another_broken_promise_is_another_bug():
    class TwoBugs(Runs):
        def __call__(self, schedule, watch=None):
            if schedule.without:  # whatever is left out, something else is wrong
                raise failure("progress", 5.0, FAULTS, [CRASHES[0]])
            super().__call__(schedule, watch)

    found = minimised(TwoBugs([CRASHES[3], CRASHES[4]]))
    assert "log matching" == found.failure.promise
    assert frozenset() == found.schedule.without


def test_time_is_bounded_and_what_was_found_by_then_still_fails():
    clock = iter(range(10_000))
    run = Runs([CRASHES[3], CRASHES[20], DROPS[77]])
    found = minimised(run, budget_s=12, clock=lambda: next(clock))
    assert not found.is_minimal
    assert found.trials <= 12
    assert len(found.failure.serials) < 40 + 200
    with pytest.raises(SimulationFailed):
        run(found.schedule)
