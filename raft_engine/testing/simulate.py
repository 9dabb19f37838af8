"""Running many simulated clusters, one per seed: the campaign command.

    python -m raft_engine.testing.simulate --seeds 1..500 --seconds 20
    python -m raft_engine.testing.simulate --hours 2 --jobs 2

Each seed draws its own weather (`sim_weather`). A failure is explained: what broke, the shortest schedule of faults that
breaks it, the last steps as a chart, and the command that runs exactly that again (`failure_report`). At the end stands what
was met: every kind of fault, and the pair of kinds that was met least. The exit code is 1 when any seed failed.
Source: TigerBeetle VOPR; FoundationDB simulation.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from raft_engine.testing.failure_report import BUDGET_S, explain, parse_numbers, selection
from raft_engine.testing.minimising import Runner, Schedule
from raft_engine.testing.sequence_chart import ROWS
from raft_engine.testing.sim_failure import SimulationFailed
from raft_engine.testing.sim_faults import KINDS, PAIRS, AllBut
from raft_engine.testing.sim_node import Watch
from raft_engine.testing.sim_weather import weather_of
from raft_engine.testing.simulator import Simulation


def simulate(
    seed: int,
    seconds: float,
    nodes: int | None = None,
    *,
    heal: bool = True,
    watch: Watch | None = None,
    without: Container[int] = frozenset(),
) -> Simulation:
    """Live through `seconds` of virtual time in the weather of `seed` and return the simulation.

    Raises: SimulationFailed: something impossible happened; the message has the seed and the last steps.
    """
    weather = weather_of(seed, nodes)
    simulation = Simulation(
        seed, weather.nodes, weather.config, weather.faults, weather.spares, watch=watch, without=without
    )
    with quiet():
        simulation.run(seconds, heal=heal)
    return simulation


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what thousands of nodes would write into their logs to themselves."""
    logger = logging.getLogger("raft_engine")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


# -- campaigns -------------------------------------------------------------------------------------------------------------


_PROGRAM = "python -m raft_engine.testing.simulate"


@dataclass
class Tally:
    """What one seed, or all of them, came to."""

    seeds: int = 0
    virtual_s: float = 0.0
    acknowledged: int = 0
    reads: int = 0
    rejoins: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    failure: str = ""
    hashes: dict[int, str] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.virtual_s += other.virtual_s
        self.acknowledged += other.acknowledged
        self.reads += other.reads
        self.rejoins += other.rejoins
        self.kinds.update(other.kinds)
        self.pairs.update(other.pairs)
        self.failed += other.failed
        self.hashes.update(other.hashes)


def tally_of(seed: int, seconds: float, nodes: int | None) -> Tally:
    """Run one seed."""
    try:
        simulation = simulate(seed, seconds, nodes)
    except SimulationFailed as failure:
        return Tally(1, failed=[seed], failure=f"seed {seed}: {failure.what}")
    return Tally(
        1,
        simulation.now / 1000,
        len(simulation.acknowledged),
        simulation.clients.reads,
        simulation.operators.rejoins,
        Counter(simulation.chaos.counts),
        Counter(simulation.chaos.pairs),
        hashes={seed: simulation.trace_hash.hexdigest()},
    )


def parse_seeds(text: str) -> range:
    """Return the seeds that `A..B` (both inclusive) or a single number names."""
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _one(options)
    run = partial(tally_of, seconds=options.seconds, nodes=options.nodes)
    total = _campaign(_seeds(options.seeds, options.hours), run, options)
    print(report(total))  # noqa: T201 (this is a command)
    complaints = _missing(total, options.virtual_hours) if options.every_kind and not total.failed else []
    if options.twice and not total.failed:
        complaints += _repeat(sorted(total.hashes)[: options.twice], options.seconds, options.nodes, total)
    for complaint in complaints:
        print(complaint, file=sys.stderr)  # noqa: T201
    return 1 if total.failed or complaints else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--seeds", type=parse_seeds, default=None, metavar="A..B", help="inclusive; default 1..100")
    add("--seconds", type=float, default=20.0, help="virtual seconds of faults per seed (default 20)")
    add("--nodes", type=int, default=None, help="size of every cluster; default: drawn per seed")
    add("--hours", type=float, default=None, help="go on with new seeds for so many hours of real time")
    add("--jobs", type=int, default=1, help="processes that run seeds (default 1)")
    add("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    add("--every-kind", action="store_true", help="fail unless every kind and every pair was met")
    add("--virtual-hours", type=float, default=0.0, help="fail unless so many cluster hours were lived through")
    add("--twice", type=int, default=0, metavar="N", help="run the first N seeds again in a new process")
    add(
        "--minimise",
        type=float,
        default=None,
        metavar="S",
        help=f"look S seconds for a shorter schedule (default {BUDGET_S:g})",
    )
    add("--rows", type=int, default=ROWS, help=f"rows of a failure's chart (default {ROWS})")
    one = parser.add_argument_group("one exact run, as a failure's last line names it")
    one.add_argument("--seed", type=int, default=None, metavar="N", help="run this seed alone")
    one.add_argument("--without", type=parse_numbers, default=None, metavar="A,B..C", help="serials of faults to leave out")
    one.add_argument(
        "--only", type=parse_numbers, default=None, metavar="A,B..C", help="serials of the only faults; none: no fault"
    )
    one.add_argument("--no-heal", action="store_true", help="end when the faults end")
    return parser


def _one(options: argparse.Namespace) -> int:
    """Run one seed, or what is left of it; explain it if it fails."""
    without = options.without or frozenset() if options.only is None else AllBut(options.only)
    schedule = Schedule(options.seed, options.seconds, heal=not options.no_heal, without=without)
    is_exact = options.without is not None or options.only is not None or options.no_heal
    text = _explained(schedule, options, 0.0 if is_exact else BUDGET_S)
    print(text or f"seed {options.seed} passes")  # noqa: T201
    return 1 if text else 0


def _explained(schedule: Schedule, options: argparse.Namespace, budget_s: float) -> str:
    """Return the report of a failure; nothing, if the schedule passes."""
    budget = budget_s if options.minimise is None else options.minimise
    typed = partial(command_line, nodes=options.nodes)
    found = explain(runner(options.nodes), schedule, budget_s=budget, rows=options.rows, command=typed)
    return "" if found is None else str(found)


def runner(nodes: int | None) -> Runner:
    """Return what runs a schedule in the weather of its seed."""

    def run(schedule: Schedule, watch: Watch | None) -> Simulation:
        return simulate(schedule.seed, schedule.seconds, nodes, heal=schedule.heal, watch=watch, without=schedule.without)

    return run


def command_line(schedule: Schedule, failure: SimulationFailed, nodes: int | None = None) -> str:
    """Return what to type to run exactly `schedule`, which failed, once more."""
    parts = [_PROGRAM, f"--seed {schedule.seed}", f"--seconds {schedule.seconds!r}"]
    parts += [f"--nodes {nodes}"] if nodes else []
    parts += [] if schedule.heal else ["--no-heal"]
    return " ".join([*parts, selection(schedule, failure)]).rstrip()


def _seeds(seeds: range | None, hours: float | None) -> Iterator[int]:
    if hours is None:
        yield from seeds or range(1, 101)
        return
    end = time.monotonic() + hours * 3600
    for seed in count(seeds.start if seeds else 1):
        if time.monotonic() >= end:
            return
        yield seed


def _campaign(seeds: Iterator[int], run: partial[Tally], options: argparse.Namespace) -> Tally:
    started = said = time.monotonic()
    total = Tally()
    for tally in _tallies(seeds, run, options.jobs):
        total.add(tally)
        if tally.failure:
            print(f"FAILED {tally.failure}", file=sys.stderr, flush=True)  # noqa: T201
            text = _explained(Schedule(tally.failed[0], options.seconds), options, BUDGET_S)
            print(text or "it did not fail a second time: the same seed is not the same run", file=sys.stderr)  # noqa: T201
            if not options.keep_going:
                break
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            print(f"{_progress(total)}, {said - started:.0f} s", flush=True)  # noqa: T201
    print(f"{_progress(total)}, {time.monotonic() - started:.0f} s")  # noqa: T201
    return total


def _tallies(seeds: Iterator[int], run: partial[Tally], jobs: int) -> Iterator[Tally]:
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        waiting: list[multiprocessing.pool.AsyncResult[Tally]] = []
        for seed in seeds:
            waiting.append(pool.apply_async(run, (seed,)))
            if len(waiting) >= 2 * jobs:
                yield waiting.pop(0).get()
        for result in waiting:
            yield result.get()


def _progress(total: Tally) -> str:
    hours = total.virtual_s / 3600
    return (
        f"{total.seeds} seeds, {hours:.2f} virtual cluster hours, {total.acknowledged} writes acknowledged, "
        f"{total.reads} reads, {total.rejoins} rejoins"
    )


def report(total: Tally) -> str:
    """Return the table of what was met."""
    lines = [f"  {kind:20} {total.kinds[kind]:9}" for kind in KINDS]
    rarest = sorted(PAIRS, key=lambda pair: (total.pairs[pair], pair))[:5]
    lines += [f"  rarest pair: {one} + {other}: {total.pairs[one, other]}" for one, other in rarest]
    met = sum(total.pairs[pair] > 0 for pair in PAIRS)
    lines.append(f"  {met} of {len(PAIRS)} pairs were met within two virtual seconds")
    lines.append(f"failed: {total.failed}" if total.failed else "no seed failed")
    return "\n".join(lines)


def _missing(total: Tally, hours: float) -> list[str]:
    complaints = [f"no {kind} happened" for kind in KINDS if not total.kinds[kind]]
    complaints += [f"{one} and {other} did not meet" for one, other in PAIRS if not total.pairs[one, other]]
    if total.virtual_s < hours * 3600:
        complaints.append(f"{total.virtual_s / 3600:.2f} virtual cluster hours were lived through, not {hours:g}")
    return complaints


def _repeat(seeds: Iterable[int], seconds: float, nodes: int | None, total: Tally) -> list[str]:
    """Run seeds again in a process with another hash seed; return what differed."""
    run = partial(tally_of, seconds=seconds, nodes=nodes)
    with multiprocessing.get_context("spawn").Pool(2) as pool:  # a new process draws a new hash seed
        again = {seed: digest for tally in pool.map(run, seeds) for seed, digest in tally.hashes.items()}
    differing = [seed for seed, digest in again.items() if digest != total.hashes[seed]]
    print(f"{len(again)} seeds run twice, in two processes: {len(differing)} differ")  # noqa: T201
    return [f"seed {seed} was another run the second time" for seed in differing]


if __name__ == "__main__":
    sys.exit(main())
