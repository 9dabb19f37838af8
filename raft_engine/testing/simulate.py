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
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count

from raft_engine.testing.campaign import Setting, Tally, missing, progress, repeat, report, tallies, tally_of
from raft_engine.testing.failure_report import BUDGET_S, explain, parse_numbers, selection
from raft_engine.testing.minimising import Runner, Schedule
from raft_engine.testing.sequence_chart import ROWS
from raft_engine.testing.sim_failure import SimulationFailed
from raft_engine.testing.sim_faults import AllBut
from raft_engine.testing.sim_node import Watch
from raft_engine.testing.sim_returns import WAYS
from raft_engine.testing.sim_weather import WEATHERS, simulate
from raft_engine.testing.simulator import Simulation

_PROGRAM = "python -m raft_engine.testing.simulate"


def parse_seeds(text: str) -> range:
    """Return the seeds that `A..B` (both inclusive) or a single number names."""
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _one(options)
    setting = _setting(options)
    total = _campaign(setting, options)
    print(report(total))  # noqa: T201 (this is a command)
    complaints = missing(total, options.virtual_hours) if options.every_kind and not total.failed else []
    if options.twice and not total.failed:
        complaints += repeat(sorted(total.hashes)[: options.twice], setting, total)
    for complaint in complaints:
        print(complaint, file=sys.stderr)  # noqa: T201
    return 1 if total.failed or complaints else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--seeds", type=parse_seeds, default=None, metavar="A..B", help="inclusive; default 1..100")
    add("--seconds", type=float, default=20.0, help="virtual seconds of faults per seed (default 20)")
    add("--nodes", type=int, default=None, help="size of every cluster; default: drawn per seed")
    add(
        "--weather",
        choices=WEATHERS,
        default="any",
        help="rejoins: nodes are wiped, lost and put back all the time; mixed: for every tenth seed",
    )
    add(
        "--rejoins", type=int, default=0, metavar="N", help="weather of rejoins, until N nodes have come back, some each way"
    )
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
    setting = _setting(options)
    typed = partial(command_line, setting)
    found = explain(runner(setting), schedule, budget_s=budget, rows=options.rows, command=typed)
    return "" if found is None else str(found)


def _setting(options: argparse.Namespace) -> Setting:
    return Setting(options.seconds, options.nodes, "rejoins" if options.rejoins else options.weather)


def runner(setting: Setting) -> Runner:
    """Return what runs a schedule in the weather of its seed."""

    def run(schedule: Schedule, watch: Watch | None) -> Simulation:
        return simulate(
            schedule.seed,
            schedule.seconds,
            setting.nodes,
            weather=setting.weather,
            heal=schedule.heal,
            watch=watch,
            without=schedule.without,
        )

    return run


def command_line(setting: Setting, schedule: Schedule, failure: SimulationFailed) -> str:
    """Return what to type to run exactly `schedule`, which failed, once more."""
    parts = [_PROGRAM, f"--seed {schedule.seed}", f"--seconds {schedule.seconds!r}"]
    parts += [f"--nodes {setting.nodes}"] if setting.nodes else []
    parts += [f"--weather {setting.weather}"] if setting.weather != "any" else []
    parts += [] if schedule.heal else ["--no-heal"]
    return " ".join([*parts, selection(schedule, failure)]).rstrip()


def _seeds(options: argparse.Namespace) -> Iterator[int]:
    seeds: range | None = options.seeds
    if options.hours is None and not options.rejoins:
        yield from seeds or range(1, 101)
        return
    end = time.monotonic() + options.hours * 3600 if options.hours is not None else float("inf")
    for seed in count(seeds.start if seeds else 1):
        if time.monotonic() >= end:
            return
        yield seed


def _campaign(setting: Setting, options: argparse.Namespace) -> Tally:
    started = said = time.monotonic()
    total = Tally()
    for tally in tallies(_seeds(options), partial(tally_of, setting=setting), options.jobs):
        total.add(tally)
        if tally.failure:
            print(f"FAILED {tally.failure}", file=sys.stderr, flush=True)  # noqa: T201
            text = _explained(Schedule(tally.failed[0], options.seconds), options, BUDGET_S)
            print(text or "it did not fail a second time: the same seed is not the same run", file=sys.stderr)  # noqa: T201
            if not options.keep_going:
                break
        if options.rejoins and total.returns.total() >= options.rejoins and all(total.returns[way] for way in WAYS):
            break
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            print(f"{progress(total)}, {said - started:.0f} s", flush=True)  # noqa: T201
    print(f"{progress(total)}, {time.monotonic() - started:.0f} s")  # noqa: T201
    return total


if __name__ == "__main__":
    sys.exit(main())
