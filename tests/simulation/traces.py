"""Are runs of the simulator behaviours of the specification, and are altered ones not? TLC decides (spec/CoreTrace.tla).

    python tests/simulation/traces.py                         what each change must pass: 50 runs, 24 altered ones, 8 known bugs
    python tests/simulation/traces.py --runs 2000 --from 5000 before a release
    python tests/simulation/traces.py --seed 7                one run; a rejected one is shown with the line where it stopped
    python tests/simulation/traces.py --bug grants_twice_in_a_term   runs of a core with a known bug, until one is rejected

Runs are recorded by `raft_engine.testing.sim_trace` in the weather of their seed, without what the specification does not know
(bit rot, images put back, planned rejoins). An altered run is an accepted one with one line dropped, doubled, moved or with
another number in it. The exit code is 1 when a run is rejected, or an altered one or a bug is not; 2 when Java is missing.
"""

# ruff: noqa: T201 (this is a command, and printing is what it does)
from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from scripts.tlc import SPEC, MissingToolError, java_command  # noqa: E402 (the path must be set first)

if "--bug" not in sys.argv:
    from raft_engine.testing.sim_trace import After, Line, TraceRecorder

EVENTS = 500
"""Lines of each run."""
SECONDS_MAX = 60.0
PER_FILE = 10
"""Runs that one TLC checks."""
BUGS = {
    "grants_before_the_vote_is_durable": 1,
    "grants_twice_in_a_term": 1,
    "leader_counts_itself_before_its_flush": 2,
    "commits_old_terms_by_counting": 2,
    "stale_append_truncates": 1,
    "accepts_before_entries_are_durable": 1,
    "commits_what_the_leader_committed": 1,
    "new_voters_alone_commit": 29,
}
"""Known bugs whose runs must be rejected, and the seed to begin with: the first one that was."""
BUG_BATCH = 4
BUG_SEEDS = 40


@dataclass(frozen=True)
class Run:
    """One recorded run, ready to be written down."""

    title: str
    founders: tuple[str, ...]
    first: str
    names: tuple[str, ...]
    lines: tuple[Line, ...]
    configurations: tuple[str, ...]


# -- recording -------------------------------------------------------------------------------------------------------------


def record(seed: int, events: int = EVENTS) -> Run:
    """Return the run of a seed; it is shorter where something happened that the specification does not know."""
    from raft_engine.testing.sim_weather import quiet, weather_of
    from raft_engine.testing.simulator import Simulation

    weather = weather_of(seed)
    faults = replace(weather.faults, rot_per_s=0.0, rollbacks_per_s=0.0, rejoins_per_s=0.0)
    recorder = TraceRecorder(events)
    simulation = Simulation(seed, weather.nodes, weather.config, faults, weather.spares, watch=_until_full(recorder))
    with quiet():
        try:
            simulation.run(SECONDS_MAX, heal=False)
        except _Full:
            pass
        except AssertionError as error:  # a bug was put in, and the simulator has seen it; the trace shall show it too
            print(f"seed {seed}: {str(error).splitlines()[0]}", file=sys.stderr)
    return _written(f"seed {seed}", recorder)


class _Full(BaseException):
    """Enough was recorded."""


def _until_full(recorder: TraceRecorder) -> Callable[..., None]:
    def watch(*what: object) -> None:
        recorder.watch(*what)  # type: ignore[arg-type]
        if recorder.is_over:
            raise _Full

    return watch


def _written(title: str, recorder: TraceRecorder) -> Run:
    configurations: list[str] = []

    def number(membership: object) -> int:
        if membership is None:
            return 0
        text = _configuration(membership, recorder)
        if text not in configurations:
            configurations.append(text)
        return configurations.index(text) + 1

    first = _configuration(recorder.first, recorder)
    lines = tuple(
        replace(line, entries=tuple((term, number(membership)) for term, membership in line.entries))  # type: ignore[arg-type]
        for line in recorder.lines
    )
    return Run(title, tuple(recorder.founders), first, tuple(recorder.names.values()), lines, tuple(configurations))


def _configuration(membership: object, recorder: TraceRecorder) -> str:
    from raft_engine.types.ids import PeerId
    from raft_engine.types.membership import Membership

    assert isinstance(membership, Membership)
    sets = ", ".join(_set(recorder.name(PeerId(*item)) for item in sorted(config.items())) for config in membership.configs)
    learners = _set(recorder.name(PeerId(*item)) for item in sorted(membership.learners.items()))
    return f"[v |-> <<{sets}>>, l |-> {learners}]"


def _set(names: Iterator[str]) -> str:
    return "{" + ", ".join(f'"{name}"' for name in names) + "}"


# -- altering --------------------------------------------------------------------------------------------------------------


def altered(run: Run, how: str, chance: random.Random) -> Run | None:
    """Return the run with one line changed so that it can be no behaviour; None: there is no line for that."""
    kind, _, what = how.partition(" ")
    places = [place for place, line in enumerate(run.lines) if _is_place(kind, what, line) and _matters(run, place)]
    if not places:
        return None
    place = chance.choice(places)
    lines, line = list(run.lines), run.lines[place]
    if kind == "drop":
        del lines[place]
    elif kind == "double":
        lines.insert(place, line)
    elif kind == "early":
        before = max(at for at in range(place) if lines[at].server == line.server)
        lines[before], lines[place] = line, lines[before]
    elif kind == "number":
        lines[place] = replace(line, numbers=(line.numbers[0] + 1, *line.numbers[1:]))
    else:
        lines[place] = replace(line, after=_other(line.after, what))
    return replace(run, title=f"{run.title}, {how} at line {place + 1}", lines=tuple(lines))


ALTERATIONS = (
    *(f"drop {step}" for step in ("Flush", "Lead", "Campaign", "Grant", "Win", "Commit", "Append")),
    *(f"double {step}" for step in ("Flush", "Lead", "Campaign", "Win", "Commit")),
    *(f"early {step}" for step in ("Commit", "Win")),
    *(f"number {step}" for step in ("Commit", "Campaign", "Flush")),
    *(
        f"after {name}"
        for name in (
            "term",
            "voted_for",
            "role",
            "last",
            "last_term",
            "committed",
            "flushed",
            "snapshot",
            "purged",
            "config",
        )
    ),
)
"""The ways in which a run is altered; "drop Append": an append that brought entries."""


def _is_place(kind: str, what: str, line: Line) -> bool:
    if kind == "after":
        return line.after is not None
    if line.step != what or line.after is None:
        return False
    return what != "Append" or line.numbers[3] > line.numbers[1]


def _matters(run: Run, place: int) -> bool:
    """Return whether the line changed what its server is like, and the server is seen again: a run without it is another."""
    line = run.lines[place]
    before = [other.after for other in run.lines[:place] if other.server == line.server and other.after is not None]
    later = [other for other in run.lines[place + 1 :] if other.server == line.server and other.after is not None]
    return bool(before and later) and before[-1] != line.after and later[0].step != "Crash"


def _other(after: After | None, name: str) -> After:
    assert after is not None
    if name == "role":
        return replace(after, role="leader" if after.role != "leader" else "follower")
    if name == "voted_for":
        return replace(after, voted_for="n1" if after.voted_for != "n1" else "n2")
    return replace(after, **{name: getattr(after, name) + 1})


# -- writing ---------------------------------------------------------------------------------------------------------------


def module(runs: Sequence[Run]) -> str:
    """Return the module TraceData."""
    configurations = sorted({text for run in runs for text in run.configurations})
    numbers = {text: number + 1 for number, text in enumerate(configurations)}
    servers = sorted({name for run in runs for name in run.names})
    nodes = " @@ ".join(f'"{name}" :> "{name[:-1]}"' for name in servers)
    parts = [
        "----------------------------- MODULE TraceData -----------------------------",
        "EXTENDS Naturals, Sequences, TLC",
        f"Servers == {_set(iter(servers))}",
        f"Nodes == {nodes}",
        "NoStart == {}",
        f"Configurations == <<{', '.join(configurations)}>>",
    ]
    for number, run in enumerate(runs, 1):
        lines = ",\n".join(_line(line, run, numbers) for line in run.lines)
        parts.append(f"\\* {run.title}\nLines{number} == <<\n{lines}>>")
    items = ",\n".join(
        f"[founders |-> {_set(iter(run.founders))}, first |-> {run.first}, lines |-> Lines{number}]"
        for number, run in enumerate(runs, 1)
    )
    parts.append(f"Runs == <<{items}>>")
    parts.append("=============================================================================")
    return "\n".join(parts) + "\n"


def _line(line: Line, run: Run, numbers: dict[str, int]) -> str:
    if line.runs:
        extra = ", ".join(f"<<{first}, {term}>>" for first, term in line.runs)
    else:
        configs = run.configurations
        extra = ", ".join(
            f"<<{term}, {numbers[configs[config - 1]] if config else 0}>>"  # type: ignore[operator]
            for term, config in line.entries
        )
    return (
        f'[a |-> "{line.step}", s |-> "{line.server}", n |-> <<{", ".join(map(str, line.numbers))}>>, o |-> "{line.other}", '
        f"x |-> <<{extra}>>, z |-> {_after(line.after)}]"
    )


def _after(after: After | None) -> str:
    if after is None:
        return "<<>>"
    return (
        f'<<{after.term}, "{after.voted_for}", {str(after.known_to_lead).upper()}, "{after.role}", {after.last}, '
        f"{after.last_term}, {after.committed}, {after.flushed}, {after.snapshot}, {after.purged}, {after.config}, {after.pending}>>"
    )


def configuration_file(runs: Sequence[Run]) -> str:
    """Return what TLC is told."""
    last = max((line.after.term for run in runs for line in run.lines if line.after is not None), default=1)
    constants = {"Server": "<- Servers", "Node": "<- Nodes", "Start": "<- NoStart"}
    lines = ["SPECIFICATION TraceSpec", "VIEW Reached", "INVARIANT NothingBroken", "CONSTANTS"]
    lines += [f"  {name} {value}" for name, value in constants.items()]
    lines += [f"  MaxTerm = {last + 1}", '  Without = "nothing"']
    return "\n".join(lines) + "\n"


# -- judging ---------------------------------------------------------------------------------------------------------------


def accepted(runs: Sequence[Run], *, explain: bool = False) -> tuple[set[int], str]:
    """Return which of the runs (by position) TLC accepts, and what it said. `explain`: it stops where a run goes wrong."""
    with tempfile.TemporaryDirectory(prefix="traces-") as scratch:
        here = Path(scratch)
        for name in ("Core.tla", "CoreTrace.tla"):
            (here / name).write_text((SPEC / name).read_text("utf-8"), "utf-8")
        (here / "TraceData.tla").write_text(module(runs), "utf-8")
        (here / "CoreTrace.cfg").write_text(configuration_file(runs), "utf-8")
        command = [*java_command(scratch), *([] if explain else ["-deadlock"]), "-metadir", str(here / "states")]
        command += ["-config", "CoreTrace.cfg", "CoreTrace.tla"]
        ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    output = ran.stdout + ran.stderr
    found = {int(number) - 1 for number in re.findall(r'<<"accepted", (\d+)>>', output)}
    if not explain and "No error has been found" not in output and "NothingBroken is violated" not in output:
        raise RuntimeError(f"TLC did not finish\n{_error_of(output)}")
    return found, output


def _error_of(output: str) -> str:
    place = output.find("Error:")
    return output[place : place + 1500] if place >= 0 else output[-1500:]


def why_rejected(run: Run) -> str:
    """Return at which line the run stops being a behaviour."""
    _, output = accepted([run], explain=True)
    reached = [int(number) for number in re.findall(r"/\\ at = (\d+)", output)]
    place = max(reached, default=1)
    near = run.lines[max(0, place - 4) : place]
    shown = "\n".join(f"  {place - len(near) + offset + 1} {line}" for offset, line in enumerate(near))
    return f"{run.title}: line {place} of {len(run.lines)} is no step of the specification\n{shown}"


def judged(runs: Sequence[Run], jobs: int) -> list[bool]:
    """Return for each run whether it is accepted."""
    batches = [range(first, min(first + PER_FILE, len(runs))) for first in range(0, len(runs), PER_FILE)]
    with ThreadPoolExecutor(jobs) as pool:
        verdicts = pool.map(lambda batch: accepted([runs[place] for place in batch])[0], batches)
        return [offset in found for batch, found in zip(batches, verdicts, strict=True) for offset in range(len(batch))]


# -- the command -------------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the runs and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=50, help="how many recorded runs (default 50)")
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="SEED", help="the first seed (default 1)")
    parser.add_argument("--events", type=int, default=EVENTS, help="lines of each run (default 500)")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--bug", metavar="NAME", help="only runs of a core with this known bug")
    parser.add_argument("--jobs", type=int, default=2, help="TLC processes at a time (default 2)")
    options = parser.parse_args(arguments)
    try:
        java_command()
    except MissingToolError as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    if options.bug:
        return _bug_in_this_process(options.bug, options.first)
    if options.seed is not None:
        run = record(options.seed, options.events)
        found = judged([run], 1)[0]
        print(f"{run.title}, {len(run.lines)} lines: {'accepted' if found else why_rejected(run)}")
        return 0 if found else 1
    return _all(options.runs, options.first, options.events, options.jobs)


def _all(wanted: int, first: int, events: int, jobs: int) -> int:
    started = time.monotonic()
    runs: list[Run] = []
    for seed in count(first):
        run = record(seed, events)
        if len(run.lines) >= events:
            runs.append(run)
        if len(runs) == wanted:
            break
    print(f"{len(runs)} runs of {events} lines recorded in {time.monotonic() - started:.0f} s", flush=True)
    failures = []
    verdicts = judged(runs, jobs)
    failures += [why_rejected(run) for run, is_accepted in zip(runs, verdicts, strict=True) if not is_accepted]
    print(f"{sum(verdicts)} of {len(runs)} runs accepted ({time.monotonic() - started:.0f} s)", flush=True)
    chance = random.Random(first)
    wrong = [
        next(filter(None, (altered(run, how, chance) for run in chance.sample(runs, len(runs)))), None)
        for how in ALTERATIONS
    ]
    mutants = [run for run in wrong if run is not None]
    survivors = [run.title for run, is_accepted in zip(mutants, judged(mutants, jobs), strict=True) if is_accepted]
    print(
        f"{len(mutants) - len(survivors)} of {len(mutants)} altered runs rejected ({time.monotonic() - started:.0f} s)",
        flush=True,
    )
    failures += [f"{title}: accepted, though it was altered" for title in survivors]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(_hunt, BUGS))
    for name, (found, said) in zip(BUGS, results, strict=True):
        print(f"  {name:40} {said}")
        failures += [] if found else [f"{name}: no run of it was rejected"]
    print("\n".join(failures) or f"all as it should be, {time.monotonic() - started:.0f} s")
    return 1 if failures else 0


def _hunt(name: str) -> tuple[bool, str]:
    """Have a process of its own look for a rejected run of a core with a bug."""
    done = subprocess.run(
        [sys.executable, __file__, "--bug", name, "--from", str(BUGS[name])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0, (done.stdout.strip().splitlines() or [done.stderr[-300:]])[-1]


def _bug_in_this_process(name: str, first: int) -> int:
    from tests.simulation.mutants import known, put_in

    put_in(known(name))
    from raft_engine.testing import sim_trace

    globals().update({each: getattr(sim_trace, each) for each in ("After", "Line", "TraceRecorder")})
    batch: list[Run] = []
    for seed in range(first, first + BUG_SEEDS):
        batch.append(record(seed))
        if len(batch) == BUG_BATCH:
            found, _ = accepted(batch)
            rejected = [run for place, run in enumerate(batch) if place not in found]
            if rejected:
                print(f"rejected: {rejected[0].title} ({len(rejected)} of {len(batch)} runs)")
                return 0
            batch = []
    print("not rejected")
    return 1


if __name__ == "__main__":
    sys.exit(main())
