"""Is one clone faster than another? Their clusters stand side by side, and each is measured for a second in random turns.

    python benchmarks/pairs.py ../before .
    python benchmarks/pairs.py ../before . ../other --connections 1,64 --rounds 12 --epochs 2

Whoever is not measured stands still (SIGSTOP). A round is one turn of each, in random order; figures are compared round by round with
those of the first clone, so that what drifts on the machine drifts for all. In each epoch the clusters are started anew, because two
clusters of the same code differ too. Printed: the medians, and the median ratio with its standard error.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from load import wrk
from systems import BenchError, Ours, System

SETTLES_S = 0.15
"""A cluster that stood still hears its own heartbeats first."""
_MEDIAN_ERROR = math.sqrt(math.pi / 2)
"""The standard error of a median, in those of a mean."""


@dataclass(frozen=True)
class Turn:
    """Puts a second; microseconds of processor time of all nodes a put; milliseconds."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Ratio:
    """A median of ratios, and its standard error."""

    median: float
    error: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ±{self.error:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "clones", nargs="+", type=Path, help="directories with a raft_engine/; the first is what others are compared with"
    )
    parser.add_argument("--connections", type=lambda text: [int(word) for word in text.split(",")], default=[1, 16, 64, 256])
    parser.add_argument("--rounds", type=int, default=12, help="in each epoch (default 12)")
    parser.add_argument("--epochs", type=int, default=2, help="how often the clusters are started (default 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn (default 1)")
    options = parser.parse_args()
    for clone in options.clones:
        if not (clone / "raft_engine").is_dir():
            parser.error(f"{clone} has no raft_engine/; name the directories of clones")
    clones = [clone.resolve() for clone in options.clones]
    turns: dict[int, list[list[Turn]]] = {connections: [] for connections in options.connections}
    try:
        for _ in range(options.epochs):
            with ExitStack() as stack:
                systems = [_standing(stack, clone) for clone in clones]
                for _ in range(options.rounds):
                    for connections, seen in turns.items():
                        seen.append(_round(systems, connections, options.seconds))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(table([str(clone) for clone in options.clones], turns)))
    return 0


def _standing(stack: ExitStack, clone: Path) -> Ours:
    """Return a cluster that is warm and stands still."""
    system = stack.enter_context(Ours(tree=clone))
    wrk(system, 64, 1)
    system.pause()
    return system


def _round(systems: Sequence[System], connections: int, seconds: float) -> list[Turn]:
    """Return a turn of each, in the order of `systems`."""
    turns: dict[int, Turn] = {}
    for number in random.sample(range(len(systems)), len(systems)):
        system = systems[number]
        system.go_on()
        time.sleep(SETTLES_S)
        system.leader()
        before = sum(system.cpu_s())
        load = wrk(system, connections, seconds)
        spent = sum(system.cpu_s()) - before
        system.pause()
        turns[number] = Turn(load.per_s, spent / (load.per_s * seconds) * 1e6, load.p50_ms, load.p99_ms)
    return [turns[number] for number in range(len(systems))]


def table(names: Sequence[str], turns: Mapping[int, Sequence[Sequence[Turn]]]) -> list[str]:
    """Return the lines of a table; `turns`: by connections, the rounds, each with a turn of every clone."""
    lines = [
        "| connections | clone | puts/s | ratio | all nodes' processor a put, µs | ratio | p50, ms | p99, ms |",
        "|---" * 8 + "|",
    ]
    for connections, rounds in turns.items():
        for number, name in enumerate(names):
            per_s, cpu_us, p50_ms, p99_ms = (
                statistics.median(values) for values in zip(*(astuple(each[number]) for each in rounds), strict=True)
            )
            rate = ratio([each[number].per_s / each[0].per_s for each in rounds])
            cpu = ratio([each[number].cpu_us / each[0].cpu_us for each in rounds])
            lines.append(
                f"| {connections} | {name} | {per_s:,.0f} | {rate} | {cpu_us:.1f} | {cpu} | {p50_ms:.3f} | {p99_ms:.2f} |"
            )
    return lines


def ratio(values: Sequence[float]) -> Ratio:
    """Return the median of ratios and how sure it is."""
    return Ratio(statistics.median(values), _MEDIAN_ERROR * statistics.pstdev(values) / math.sqrt(len(values)))


if __name__ == "__main__":
    sys.exit(main())
