"""The shortest schedule of faults that still breaks the same promise.

First the run is cut where it failed. Then faults are left out: all of them, all of one kind, halves, quarters … single ones, as long
as what remains fails in the same way (delta debugging), and the run is cut again. Each trial is a whole run of its own, so the
result is not guessed: it was seen to fail. Time is bounded; what was not tried is said.
Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002); `sim_faults` keeps serials stable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from raft_engine.testing.sim_failure import ANSWERS, FAULTS, SimulationFailed
from raft_engine.testing.sim_faults import SERIALS_EACH, AllBut, is_of_a_link
from raft_engine.testing.sim_node import Watch

SHORTEST_CUT_S = 0.05
"""A run is not cut more finely than this where only trying shows how long it must be."""


@dataclass(frozen=True)
class Schedule:
    """One exact run: `seconds` of faults, all that the seed draws but `without`; then, with `heal`, the healing."""

    seed: int
    seconds: float
    heal: bool = True
    without: Container[int] = frozenset()


class Runner(Protocol):
    """Runs a schedule: with the weather, state machine and settings that belong to it."""

    def __call__(self, schedule: Schedule, watch: Watch | None, /) -> object:
        """Run it. Raises: SimulationFailed."""


@dataclass(frozen=True)
class Minimised:
    """The shortest schedule found, how it fails, and how well it was looked for.

    `trials`: runs made. `is_minimal`: without any single one of the faults that remain the run passes. `took_s`: real time.
    """

    schedule: Schedule
    failure: SimulationFailed
    trials: int
    is_minimal: bool
    took_s: float


def failure_of(run: Runner, schedule: Schedule, watch: Watch | None = None) -> SimulationFailed | None:
    """Return how a schedule fails, if it does."""
    try:
        run(schedule, watch)
    except SimulationFailed as failure:
        return failure
    return None


def minimise(
    run: Runner, schedule: Schedule, failure: SimulationFailed, budget_s: float, clock: Callable[[], float] = time.monotonic
) -> Minimised:
    """Return the shortest schedule that was found in `budget_s` seconds of real time.

    Args:
        failure: how `schedule` fails; shorter ones must break the same promise.
        clock: seconds.
    """
    began = clock()
    search = _Search(run, schedule, failure, began + budget_s, clock)
    is_minimal = False
    try:
        before = None
        while search.best != before:
            before = search.best
            search.shorten()
            search.leave_out()
        is_minimal = True
    except TimeoutError:
        pass
    return Minimised(search.best, search.failure, search.trials, is_minimal, clock() - began)


class _Search:
    """Keeps the best schedule so far."""

    def __init__(
        self, run: Runner, schedule: Schedule, failure: SimulationFailed, deadline: float, clock: Callable[[], float]
    ) -> None:
        self.best = schedule
        self.failure = failure
        self.trials = 0
        self._run = run
        self._deadline = deadline
        self._clock = clock

    def shorten(self) -> None:
        """Cut the run where it failed; where that shows at the end only, look for the earliest end that still shows it."""
        if self.failure.phase == FAULTS:
            self._cut_at_failure()
            return
        if self.failure.phase == ANSWERS and self.best.heal:
            self._try(replace(self.best, heal=False))
        least = 0.0
        while self.failure.phase != FAULTS and self.best.seconds - least > SHORTEST_CUT_S:
            middle = round((least + self.best.seconds) / 2, 3)
            if not self._try(replace(self.best, seconds=middle)):
                least = middle

    def _cut_at_failure(self) -> None:
        if self.failure.phase == FAULTS:
            seconds = math.ceil(self.failure.at_ms) / 1000
            self.best = replace(self.best, seconds=min(seconds, self.best.seconds), heal=False)

    def leave_out(self) -> None:
        """Leave out as many faults as possible."""
        if not self.failure.serials or self._only(()):
            return
        for group in _groups(self.failure.serials):
            self._only([serial for serial in self.failure.serials if serial not in group])
        parts = 2
        while kept := self.failure.serials:
            if any(self._only(rest) for rest in _without_each_part(kept, parts)):
                parts = max(parts - 1, 2)
            elif parts >= len(kept):
                return
            else:
                parts = min(2 * parts, len(kept))

    def _only(self, serials: Sequence[int]) -> bool:
        return self._try(replace(self.best, without=AllBut(frozenset(serials))))

    def _try(self, schedule: Schedule) -> bool:
        """Run it; if it breaks the same promise it is the best from now on. Raises: TimeoutError: time is up."""
        if self._clock() >= self._deadline:
            raise TimeoutError
        self.trials += 1
        failure = failure_of(self._run, schedule)
        if failure is None or failure.promise != self.failure.promise:
            return False
        self.best, self.failure = schedule, failure
        self._cut_at_failure()
        return True


def _groups(serials: Sequence[int]) -> list[set[int]]:
    """Return the serials by kind, many first: what happened to messages is one kind."""
    groups: dict[int, set[int]] = {}
    for serial in serials:
        groups.setdefault(0 if is_of_a_link(serial) else serial // SERIALS_EACH, set()).add(serial)
    return sorted(groups.values(), key=lambda group: (-len(group), min(group)))


def _without_each_part(serials: Sequence[int], parts: int) -> Iterator[list[int]]:
    """Yield the serials without the first of so many parts, without the second, …; later ones first, they matter less."""
    size = math.ceil(len(serials) / parts)
    for first in range((len(serials) - 1) // size * size, -1, -size):
        yield [*serials[:first], *serials[first + size :]]
