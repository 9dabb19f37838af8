"""What somebody needs who is told that a simulated run has failed: what broke, after which few faults, and how it came to it.

For a simulation of your own, with your settings or your state machine, say how a schedule is run:

    def run(schedule: Schedule, watch: Watch | None) -> None:
        simulation = Simulation(schedule.seed, nodes=5, config=mine, watch=watch, without=schedule.without)
        simulation.run(schedule.seconds, heal=schedule.heal)

    report = explain(run, Schedule(seed=7, seconds=20))
    assert report is None, report
"""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from raft_engine.core.commands import Command
from raft_engine.testing.minimising import Minimised, Runner, Schedule, failure_of, minimise
from raft_engine.testing.sequence_chart import ROWS, WIDTH, Recorder, chart
from raft_engine.testing.sim_failure import SimulationFailed
from raft_engine.testing.sim_faults import AllBut, Happened
from raft_engine.testing.sim_node import Notice, SimNode
from raft_engine.testing.sim_words import plain
from raft_engine.types.ids import NodeId

BUDGET_S: Final = 60.0
"""Real time for looking for a shorter schedule: some hundreds of runs of a few virtual seconds."""
FAULTS_LISTED: Final = 40
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class FailureReport:
    """A failure, explained. `str(report)` is the text; `command`: what runs exactly this again, if somebody knows."""

    schedule: Schedule
    """As it failed first."""
    first: SimulationFailed
    minimised: Minimised
    chart: str
    code: str
    """Which code it was: commit or version."""
    command: str = ""

    def __str__(self) -> str:
        failure = self.minimised.failure
        lines = [f"seed {self.schedule.seed} FAILED, with {self.code}", "", *_labelled("broken promise", failure.promise)]
        lines += _labelled("", failure.meaning) if failure.meaning else []
        lines += [
            *_labelled("what was seen", plain(failure.what.removeprefix(f"{failure.promise}: "))),
            *_labelled("when", f"{failure.at_ms:.1f} ms from the start, {failure.phase}"),
            "",
            *self._schedule(),
            "",
            "last steps (L leads, C campaigns, | follows or learns, . is down; T4.17: entry 17, of term 4)",
            self.chart,
            f"{failure.at_ms:10.1f}  {failure.promise} is broken",
        ]
        if self.command:
            lines += ["", "to run exactly this again:", f"  {self.command}"]
        return "\n".join(lines)

    def _schedule(self) -> list[str]:
        small, failure = self.minimised, self.minimised.failure
        head = f"schedule        {_size(failure, small.schedule)}"
        if small.trials:
            proof = "each of them is needed" if small.is_minimal else "time was up before every single one had been left out"
            head += f" (at first {_size(self.first, self.schedule)})"
            tried = f"                {small.trials} shorter ones tried in {small.took_s:.0f} s"
            lines = [head, f"{tried}: {proof}" if failure.serials else tried]
        else:
            lines = [f"{head}, no shorter one was looked for"]
        if not failure.happened:
            return [*lines, "                it fails without any fault"]
        lines.append(f"{'at ms':>10}  {'serial':>10}  fault")
        for fault in failure.happened[-FAULTS_LISTED:]:
            lines.append(f"{fault.at:10.1f}  {fault.serial:10}  {textwrap.shorten(_name(fault), WIDTH - 24)}")
        if len(failure.happened) > FAULTS_LISTED:
            lines.append(f"            ({len(failure.happened) - FAULTS_LISTED} earlier ones are not shown)")
        return lines


def explain(
    run: Runner,
    schedule: Schedule,
    failure: SimulationFailed | None = None,
    *,
    budget_s: float = BUDGET_S,
    rows: int = ROWS,
    command: Callable[[Schedule, SimulationFailed], str] | None = None,
) -> FailureReport | None:
    """Return what can be said about a schedule that fails; None: it passes.

    Args:
        run: runs a schedule, as the module's first lines show.
        failure: how it failed, if that is known already; saves one run.
        budget_s: real time for finding a shorter schedule; 0: explain this very one.
        rows: of the chart, at most.
        command: what to type to run a schedule again, given it and how it fails.
    """
    failure = failure or failure_of(run, schedule)
    if failure is None:
        return None
    small = Minimised(schedule, failure, 0, is_minimal=False, took_s=0.0)
    if budget_s > 0:
        small = minimise(run, schedule, failure, budget_s)
    recorder, nodes = Recorder(rows), set[NodeId]()

    def watch(node: SimNode, told: Notice, commands: list[Command], now: float) -> None:
        nodes.update(node.simulation.nodes)
        recorder.watch(node, told, commands, now)

    again = failure_of(run, small.schedule, watch)
    assert again is not None, f"{small.schedule} failed once only: the same seed is not the same run"
    picture = chart(recorder, nodes, small.failure.happened, WIDTH) if nodes else "nobody was watched"
    typed = command(small.schedule, small.failure) if command is not None else ""
    return FailureReport(schedule, failure, small, picture, code_version(), typed)


def selection(schedule: Schedule, failure: SimulationFailed) -> str:
    """Return the options that name exactly the faults of `schedule`: `--without` or `--only`, whichever is shorter."""
    left_out, kept = numbers(failure.left_out), numbers(failure.serials)
    if not failure.left_out:
        return ""
    if isinstance(schedule.without, AllBut) and len(kept) < len(left_out):
        return f"--only {kept or 'none'}"
    return f"--without {left_out}"


def numbers(serials: Iterable[int]) -> str:
    """Return serials as `3,7,10..12`."""
    parts: list[list[int]] = []
    for serial in sorted(set(serials)):
        if parts and parts[-1][-1] == serial - 1:
            parts[-1][1:] = [serial]
        else:
            parts.append([serial])
    return ",".join("..".join(map(str, part)) for part in parts)


def parse_numbers(text: str) -> frozenset[int]:
    """Return the serials that `numbers` wrote. Raises: ValueError: it is something else."""
    found: set[int] = set()
    for part in text.split(",") if text != "none" else ():
        first, _, last = part.partition("..")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def code_version() -> str:
    """Return the commit of a checkout, else the package's version."""
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own words)
        if done.returncode == 0:
            return f"commit {done.stdout.strip()}"
    try:
        return f"raftctl {version('raftctl')}"
    except PackageNotFoundError:
        return "code of an unknown version"


def _labelled(label: str, text: str) -> list[str]:
    """Return `text` behind its label, in as many lines as it needs."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<16}", subsequent_indent=" " * 16)


def _size(failure: SimulationFailed, schedule: Schedule) -> str:
    count = len(set(failure.serials))
    return (
        f"{count} {'fault' if count == 1 else 'faults'} in {schedule.seconds:g} s{', then healing' if schedule.heal else ''}"
    )


def _name(fault: Happened) -> str:
    return f"{fault.kind.replace('_', ' ')}: {plain(fault.detail)}"
