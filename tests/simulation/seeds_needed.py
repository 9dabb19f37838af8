"""How many seeds does the simulator need for each known bug? Measured in several ranges of seeds, kept in a table.

Each line of the table was measured at the commit that it names. What is there already is not measured again, so a measurement
that was cut short goes on where it stopped.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.simulation.known_bugs import Mutant

TABLE: Final = Path(__file__).with_suffix(".md")
RANGES: Final = 5
"""A median is the middle one of so many disjoint ranges of seeds: 1…, 10001…, 20001…"""
RANGE_STEP: Final = 10_000
FOUND_OTHERWISE: Final = "found"
UNKNOWN: Final = "?"
"""Stands for a range that was not measured, or not far enough, while a later one was: as good as not found."""
_LINE = re.compile(r"^\| `(?P<name>\w+)` \| (?P<by>[^|]*) \| (?P<counts>[^|]*) \| [^|]* \| (?P<commit>\w*) \| [^|]* \|$")
_HEAD = """\
# Known bugs, and how many seeds the simulator needs for each

Written by `make mutants`; every bug is a small change of our source (`known_bugs.py`, `rejoin_guards.py`), put in while a process
loads it. Each seed is a cluster in its own weather, {seconds:g} virtual seconds of faults and then healing. The columns: what finds it
(`seeds N`: the simulator, within N seeds); how many seeds that took in each of up to {ranges} disjoint ranges (from 1, {step}, {twice}, …;
`>N`: none of the N found it) and the middle one; the commit at which that was seen; what goes wrong.

{summary}

| bug | found by | seeds needed | median | commit | what goes wrong |
|---|---|---|---|---|---|
"""

Hunt = Callable[[str, str, float], tuple[int, str]]
"""Name, how, virtual seconds -> seeds needed (0: found by something else, -1: not found), and what was seen."""


@dataclass
class Row:
    """One bug. `counts`: one a range of seeds, `>N` where N seeds were not enough."""

    mutant: Mutant
    commit: str = ""
    counts: list[str] = field(default_factory=list)

    @property
    def stated(self) -> int:
        """Within how many seeds the simulator shall find it; 0: something else shall."""
        kind, _, number = self.mutant.by.partition(" ")
        return int(number) if kind == "seeds" else 0

    @property
    def median(self) -> float | None:
        """The middle one; None: there is none, or most ranges did not find it."""
        if not self.stated:
            return None
        took = [int(count) if count.isdecimal() else float("inf") for count in self.counts]
        middle = statistics.median_low(took) if took else float("inf")
        return middle if middle <= self.stated else None

    @property
    def is_found(self) -> bool:
        return self.median is not None if self.stated else self.counts == [FOUND_OTHERWISE]

    def note(self, number: int, took: int) -> None:
        """Write down what a range came to; see `Hunt` for `took`."""
        self.counts += [UNKNOWN] * (number + 1 - len(self.counts))
        if self.stated:
            self.counts[number] = str(took) if took > 0 else f">{self.stated}"
        else:
            self.counts[number] = "NOT FOUND" if took < 0 else FOUND_OTHERWISE

    def __str__(self) -> str:
        middle = "-" if self.median is None else f"{self.median:g}"
        counts = ", ".join(self.counts) or "not measured"
        return f"| `{self.mutant.name}` | {self.mutant.by} | {counts} | {middle} | {self.commit} | {self.mutant.breaks} |"


def load(mutants: Sequence[Mutant], path: Path = TABLE) -> list[Row]:
    """Return a row a bug, with what the table says of it; nothing, if it shall be found in another way now."""
    known: dict[str, re.Match[str]] = {}
    if path.exists():
        found = (_LINE.match(line) for line in path.read_text("utf-8").splitlines())
        known = {match["name"]: match for match in found if match is not None}
    return [_row(mutant, known.get(mutant.name)) for mutant in mutants]


def _row(mutant: Mutant, match: re.Match[str] | None) -> Row:
    if match is None or match["counts"] == "not measured":
        return Row(mutant)
    counts = match["counts"].split(", ")
    if match["by"] == mutant.by:
        return Row(mutant, match["commit"], counts)
    row = Row(mutant, match["commit"])
    if row.stated and match["by"].startswith("seeds "):
        # More seeds are allowed now: what was found stays found.
        row.counts = [UNKNOWN if count.startswith(">") else count for count in counts]
    return row


def save(rows: Sequence[Row], seconds: float, path: Path = TABLE) -> None:
    head = _HEAD.format(seconds=seconds, ranges=RANGES, step=RANGE_STEP + 1, twice=2 * RANGE_STEP + 1, summary=summary(rows))
    building = path.with_suffix(".new")
    building.write_text(head + "".join(f"{row}\n" for row in rows), "utf-8")
    building.replace(path)


def summary(rows: Sequence[Row]) -> str:
    """Return how many bugs were found by what, in a sentence."""
    by_seeds = [row for row in rows if row.stated and row.is_found]
    otherwise = sum(row.is_found for row in rows if not row.stated)
    missing = len(rows) - len(by_seeds) - otherwise
    middle = f", in the middle within {statistics.median_low([row.median or 0 for row in by_seeds]):g}" if by_seeds else ""
    return (
        f"{len(by_seeds)} bugs were found by the simulator{middle} seeds, {otherwise} by a scenario, a story of the rejoin or a "
        f"test; {missing} were not found or not measured."
    )


def measure(
    rows: Sequence[Row],
    chosen: Sequence[Row],
    hunt: Hunt,
    *,
    seconds: float,
    jobs: int = 1,
    minutes: float = 60.0,
    path: Path = TABLE,
    say: Callable[[str], None] = print,
) -> None:
    """Measure what is missing of the chosen rows, as far as time permits, and keep the table up to date."""
    deadline = time.monotonic() + minutes * 60
    commit = _commit()
    tasks = _missing(chosen)
    with ThreadPoolExecutor(jobs) as pool:
        running: dict[Future[tuple[int, str]], tuple[Row, int]] = {}
        while True:
            while len(running) < jobs and time.monotonic() < deadline and (task := next(tasks, None)) is not None:
                row, number, by = task
                running[pool.submit(hunt, row.mutant.name, by, seconds)] = row, number
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                row, number = running.pop(future)
                took, seen = future.result()
                row.note(number, took)
                row.commit = commit
                save(rows, seconds, path)
                say(f"{row.mutant.name:50} {row.counts[number]:>9}  {seen[:100]}")


def _missing(rows: Sequence[Row]) -> Iterator[tuple[Row, int, str]]:
    """Yield what to hunt, in which range and how: every bug in the first range of seeds, then in the second …"""
    before = {row.mutant.name: list(row.counts) for row in rows}
    for number in range(RANGES):
        first = 1 + number * RANGE_STEP
        for row in rows:
            counts = before[row.mutant.name]
            if number < len(counts) and counts[number] != UNKNOWN:
                continue
            if row.stated:
                yield row, number, f"seeds {first}..{first + row.stated - 1}"
            elif number == 0:
                yield row, number, row.mutant.by


def _commit() -> str:
    command = ["git", "-C", str(TABLE.parent), "rev-parse", "--short=9", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
