"""Does the simulator find bugs? Known ones are put back into the code, one at a time, and hunted.

    python tests/simulation/mutants.py --table --jobs 2         measure what `seeds_needed.md` lacks, and print it
    python tests/simulation/mutants.py NAME…                    these bugs, as their table says
    python tests/simulation/mutants.py NAME --seeds 1..50       one bug, with the simulator whatever its table says
    python tests/simulation/mutants.py NAME --run "--seed 7"    the campaign command, with that bug

A bug is a small change of source text, made while the module is loaded into a process of its own and nowhere else. Each change
must fit exactly once, so a bug that no longer fits the code is reported instead of passing as "not found".
Source: openraft's turmoil tests (issue 1802 put back); mutation testing.
"""

# ruff: noqa: T201 (this is a command, and printing is what it does)
from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.simulation import seeds_needed  # noqa: E402 (the path must be set first)
from tests.simulation.known_bugs import KNOWN_BUGS, Edit, Mutant  # noqa: E402 (the path must be set first)
from tests.simulation.rejoin_guards import GUARDS  # noqa: E402

FOUND, SURVIVED, UNFIT = 10, 0, 3
HANGS_S = 300.0
"""A test that waits for ever with the bug has found it; without, each takes a few seconds."""
SCENARIOS = ROOT / "tests" / "core" / "scenarios"
MUTANTS = (*KNOWN_BUGS, *GUARDS)


# -- putting a bug in ----------------------------------------------------------------------------------------------------


class _Patcher(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the modules that a mutant changes."""

    def __init__(self, mutant: Mutant) -> None:
        self.edits: dict[str, list[Edit]] = {}
        for edit in mutant.edits:
            self.edits.setdefault(edit.module, []).append(edit)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname not in self.edits:
            return None
        return importlib.util.spec_from_file_location(fullname, source_file(fullname), loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        del spec

    def exec_module(self, module: ModuleType) -> None:
        file = source_file(module.__name__)
        source = changed(file.read_text(), self.edits[module.__name__])
        exec(compile(source, str(file), "exec"), module.__dict__)


def source_file(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def changed(source: str, edits: Sequence[Edit]) -> str:
    """Return `source` with the edits made.

    Raises: ValueError: an edit's old text is not there exactly once.
    """
    for edit in edits:
        found = source.count(edit.old)
        if found != 1:
            raise ValueError(f"{edit.module} has {found} times {edit.old!r}")
        source = source.replace(edit.old, edit.new)
    return source


def fits(mutant: Mutant) -> str:
    """Return why the mutant no longer fits the code, or nothing."""
    sources: dict[str, str] = {}
    for edit in mutant.edits:
        source = sources.get(edit.module, source_file(edit.module).read_text())
        try:
            sources[edit.module] = changed(source, [edit])
        except ValueError as error:
            return str(error)
    return ""


# -- hunting ---------------------------------------------------------------------------------------------------------------


def put_in(mutant: Mutant) -> None:
    """Have the modules that are loaded from now on contain the bug."""
    assert not any(edit.module in sys.modules for edit in mutant.edits)
    sys.meta_path.insert(0, _Patcher(mutant))


def run_campaign_command(mutant: Mutant, arguments: Sequence[str]) -> int:
    put_in(mutant)
    from raft_engine.testing.simulate import main as simulate_main

    return simulate_main(arguments)


def run_in_this_process(mutant: Mutant, by: str, seconds: float) -> int:
    """Hunt one mutant as `by` says; print what found it. The first word is the number of seeds, 0 without any."""
    put_in(mutant)
    kind, _, what = by.partition(" ")
    if kind == "seeds":
        return _by_seeds(what, seconds)
    if kind == "trace":
        return _by_trace(what)
    if kind == "scenario":
        return _by_scenario(what)
    assert kind == "test", f"{by!r}: nobody knows how to hunt like that"
    return _by_test(what)


def _by_seeds(seeds: str, seconds: float) -> int:
    from raft_engine.testing.sim_weather import simulate
    from raft_engine.testing.simulate import parse_seeds

    wanted = parse_seeds(seeds if ".." in seeds else f"1..{seeds}")
    for seed in wanted:
        try:
            simulate(seed, seconds)
        except Exception as error:
            first = (str(error).split("\n") or [""])[0]
            print(f"{seed - wanted.start + 1} {type(error).__name__} {first}")
            return FOUND
    return SURVIVED


def _by_trace(what: str) -> int:
    from tests.core.rejoin_traces import TRACES, Loss

    name, _, without = what.partition(" without ")
    try:
        TRACES[name](*(rule.strip() for rule in without.split(",") if rule))
    except Loss as loss:
        print(f"0 trace {what}: {loss}")
        return FOUND
    return SURVIVED


def _by_scenario(what: str) -> int:
    from raft_engine.testing.scenario import difference

    try:
        found = difference(SCENARIOS / f"{what}.txt")
    except Exception as error:
        found = str(error)
    if not found:
        return SURVIVED
    print(f"0 scenario {what} differs")
    return FOUND


def _by_test(what: str) -> int:
    import pytest

    silent = ["-q", "-x", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist"]
    code = pytest.main([str(ROOT / what), *silent])
    if code == pytest.ExitCode.TESTS_FAILED:
        print(f"\n0 test {what} fails")
        return FOUND
    return SURVIVED if code == pytest.ExitCode.OK else UNFIT


def hunt(name: str, by: str, seconds: float = 15.0) -> tuple[int, str]:
    """Hunt one mutant in a process of its own; return how many seeds it took and what was seen.

    0 seeds: something else than the simulator found it. -1: nothing did.
    """
    command = [sys.executable, __file__, name, "--here", by, "--seconds", str(seconds)]
    limit = None if by.startswith("seeds") else HANGS_S
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return 0, f"{by} does not end any more"
    if done.returncode == FOUND:
        took, _, seen = done.stdout.strip().split("\n")[-1].partition(" ")
        return int(took), seen
    assert done.returncode == SURVIVED, f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return -1, ""


def known(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def _chosen(names: Sequence[str]) -> Iterator[Mutant]:
    yield from map(known, names) if names else MUTANTS


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="bugs to hunt; default: all")
    parser.add_argument("--seeds", default=None, metavar="A..B", help="hunt with the simulator, with these seeds")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--table", action="store_true", help="measure what the table lacks, and print it")
    parser.add_argument("--afresh", action="store_true", help="with --table: measure everything again")
    parser.add_argument("--minutes", type=float, default=60.0, help="with --table: begin nothing new after this")
    parser.add_argument("--jobs", type=int, default=1, help="with --table: processes at a time")
    parser.add_argument("--run", default=None, metavar="OPTIONS", help="run the campaign command with one bug")
    parser.add_argument("--here", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        return run_campaign_command(known(options.names[0]), shlex.split(options.run))
    if options.here:
        return run_in_this_process(known(options.names[0]), options.here, options.seconds)
    if options.table:
        return _table(options)
    survivors = 0
    for mutant in _chosen(options.names):
        unfit = fits(mutant)
        if unfit:
            print(f"{mutant.name:48} DOES NOT FIT: {unfit}", flush=True)
            return UNFIT
        began = time.monotonic()
        by = f"seeds {options.seeds}" if options.seeds else mutant.by
        took, seen = hunt(mutant.name, by, options.seconds)
        survivors += took < 0
        verdict = f"{took:4} of {by}" if took > 0 else "NOT FOUND" if took else by.partition(" ")[0]
        print(f"{mutant.name:48} {verdict:18} {time.monotonic() - began:6.1f} s  {seen[:150]}", flush=True)
    print(f"{survivors} were not found" if survivors else "every one was found")
    return 1 if survivors else 0


def _table(options: argparse.Namespace) -> int:
    """Measure what is missing; the exit code says whether every bug was found."""
    unfit = [f"{mutant.name}: {why}" for mutant in MUTANTS if (why := fits(mutant))]
    if unfit:
        print("these no longer fit the code:", *unfit, sep="\n")
        return UNFIT
    rows = seeds_needed.load(MUTANTS)
    if options.afresh:
        rows = [seeds_needed.Row(row.mutant) for row in rows]
    chosen = [row for row in rows if not options.names or row.mutant.name in options.names]
    seeds_needed.measure(rows, chosen, hunt, seconds=options.seconds, jobs=options.jobs, minutes=options.minutes)
    print(
        *(f"{row.mutant.name:50} {row.mutant.by[:30]:30} {row.median or '':>4}  {', '.join(row.counts)}" for row in chosen),
        sep="\n",
    )
    print(seeds_needed.summary(rows))
    return 0 if all(row.is_found for row in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
