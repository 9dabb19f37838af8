"""What a process uses and how long requests take, minute by minute, and whether any of it grows.

A figure grows when the line through its second half rises by more than an allowance from one end of that half to the other. The
line is Theil and Sen's: the median of the slopes between all pairs of minutes, which neither a restart, which makes a process
small again, nor one bad minute can bend. The first half is left out because caches, the idempotency keys that are remembered and
the allocator fill up in it.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Final

MINUTE_S: Final = 60.0
JUDGED_FROM_MINUTES: Final = 10
"""A shorter run is too short for a slope; what it shows is the start."""
MIB: Final = 1024**2


@dataclass(frozen=True)
class Bound:
    """How much a figure may rise over the second half: `share` of its median, at least `least`.

    `of_process`: a restart begins it anew, so it says something only of a process that lived through that half.
    """

    unit: str
    share: float
    least: float
    of_process: bool = True


BOUNDS: Final = {
    "rss_mib": Bound("MiB", 0.05, 4.0),
    "open_files": Bound("files", 0.0, 4.0),
    "threads": Bound("threads", 0.0, 2.0),
    "disk_mib": Bound(
        "MiB", 0.05, 32.0, of_process=False
    ),  # two log segments: how many are there differs from minute to minute
}


@dataclass(frozen=True)
class Sample:
    """One look at one process. `at_s`: since the start of the soak; `cpu_s`: since the start of the process."""

    pid: int
    at_s: float
    rss_mib: float
    open_files: int
    threads: int
    disk_mib: float
    cpu_s: float


def look(pid: int, directory: Path, at_s: float) -> Sample | None:
    """Return what the process uses now and how much room `directory` takes; None if the process is gone."""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        open_files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        rss_mib = int(fields["VmRSS"].split()[0]) / 1024
    except (OSError, KeyError):  # it has ended, or is a zombie without memory
        return None
    cpu_s = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return Sample(pid, at_s, rss_mib, open_files, int(fields["Threads"]), disk_bytes(directory) / MIB, cpu_s)


def disk_bytes(directory: Path) -> int:
    """Return the room that all files below take on the disk, in bytes; files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def by_minute(samples: Sequence[Sample], name: str) -> list[tuple[int, float]]:
    """Return for each minute in which there was a sample its number and the median of the figure called `name`."""
    minutes: dict[int, list[float]] = {}
    for sample in samples:
        minutes.setdefault(int(sample.at_s // MINUTE_S), []).append(getattr(sample, name))
    return [(minute, statistics.median(values)) for minute, values in sorted(minutes.items())]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of points (Theil 1950, Sen 1968); 0 with fewer than two."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x1 != x2]
    return statistics.median(slopes) if slopes else 0.0


@dataclass(frozen=True)
class Growth:
    """How a figure went. `rise`: of the line, over the second half; `allowed`: the most it may be; both in the figure's unit."""

    node: int
    name: str
    first: float
    median: float
    last: float
    rise: float
    allowed: float
    restarts: int = 0
    """How often the process was replaced in the second half."""

    @property
    def is_judged(self) -> bool:
        return not (self.restarts and BOUNDS[self.name].of_process)

    @property
    def grows(self) -> bool:
        return self.is_judged and self.rise > self.allowed


def growth(node: int, name: str, samples: Sequence[Sample], minutes: float) -> Growth:
    """Hold the second half of a run of so many minutes against the bound of the figure called `name`."""
    later = [sample for sample in samples if sample.at_s >= minutes * MINUTE_S / 2]
    points = [(float(minute), value) for minute, value in by_minute(later, name)]
    values = [value for _, value in points] or [0.0]
    median, bound = statistics.median(values), BOUNDS[name]
    allowed = max(bound.least, bound.share * median)
    restarts = max(0, len({sample.pid for sample in later}) - 1)
    return Growth(node, name, values[0], median, values[-1], slope(points) * minutes / 2, allowed, restarts)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of them lie; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass
class Latencies:
    """How long requests took, by the minute they began in, the node that answered, and whether they wrote."""

    seconds: dict[tuple[int, int, bool], list[float]] = field(default_factory=dict)

    def add(self, at_s: float, node: int, took_s: float, *, is_write: bool) -> None:
        self.seconds.setdefault((int(at_s // MINUTE_S), node, is_write), []).append(took_s)

    def merged(self, other: Latencies) -> None:
        for place, values in other.seconds.items():
            self.seconds.setdefault(place, []).extend(values)

    def of(self, *, minute: int | None = None, node: int | None = None, is_write: bool) -> list[float]:
        """Return those of a minute and a node; None: of all."""
        return [
            value
            for (at, by, wrote), values in self.seconds.items()
            for value in values
            if wrote == is_write and minute in {None, at} and node in {None, by}
        ]
