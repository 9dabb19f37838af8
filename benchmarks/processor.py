"""Where the processors' time of a put goes: what each node spends in the kernel and outside it, ours beside etcd and the upper bound.

    python benchmarks/processor.py
    python benchmarks/processor.py --connections 1,64 --rounds 3 --seconds 2

Outside the kernel is the interpreter and its libraries (in etcd: Go); inside are sockets, wake-ups and the disk, which cost a server in any
language the same. Each system runs alone, one after the other. Idle is what both cores had left. Source: /proc.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from load import wrk
from systems import BenchError, Etcd, System, etcd_binaries, ours_and_the_bound

COLUMNS = ("puts/s", "leader: user", "system", "each follower: user", "system", "generator", "idle, %")


@dataclass(frozen=True)
class Spent:
    """Puts a second; microseconds a put; share of both cores that was idle."""

    per_s: float
    leader_user: float
    leader_system: float
    follower_user: float
    follower_system: float
    generator: float
    idle: float


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--connections", type=lambda text: [int(word) for word in text.split(",")], default=[1, 16, 64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    print("| connections | system | " + " | ".join(COLUMNS) + " |")
    print("|---|---" + "|---" * len(COLUMNS) + "|")
    try:
        systems = _systems()
        for connections in options.connections:
            seen: dict[str, list[Spent]] = {}
            for _ in range(options.rounds):
                for name, make in systems.items():
                    with make() as system:
                        seen.setdefault(name, []).append(_measure(system, connections, options.seconds))
            for name, spent in seen.items():
                medians = [statistics.median(values) for values in zip(*map(astuple, spent), strict=True)]
                cells = " | ".join([f"{medians[0]:,.0f}", *(f"{value:.1f}" for value in medians[1:])])
                print(f"| {connections} | {name} | {cells} |", flush=True)
    except BenchError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    return 0


def _systems() -> dict[str, Callable[[], System]]:
    systems = ours_and_the_bound()
    for version, binary in list(etcd_binaries().items())[:1]:
        systems[f"etcd {version}"] = lambda binary=binary: Etcd(binary)  # type: ignore[misc]
    return systems


def _measure(system: System, connections: int, seconds: float) -> Spent:
    leader = system.leader()
    wrk(system, connections, 1)  # what is done once is done
    nodes, generator, machine = system.cpu_parts_s(), _children(), _machine()
    load = wrk(system, connections, seconds)
    puts = load.per_s * seconds / 1e6
    used = [(now[0] - before[0], now[1] - before[1]) for before, now in zip(nodes, system.cpu_parts_s(), strict=True)]
    followers = [one for number, one in enumerate(used) if number != leader]
    idle, whole = (now - before for before, now in zip(machine, _machine(), strict=True))
    return Spent(
        load.per_s,
        used[leader][0] / puts,
        used[leader][1] / puts,
        statistics.fmean(user for user, _ in followers) / puts,
        statistics.fmean(system for _, system in followers) / puts,
        (_children() - generator) / puts,
        100 * idle / whole,
    )


def _children() -> float:
    """Return the seconds of the generators that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _machine() -> tuple[int, int]:
    """Return the ticks in which the cores were idle, and all."""
    words = [int(word) for word in Path("/proc/stat").read_text().split("\n", maxsplit=1)[0].split()[1:9]]
    return words[3] + words[4], sum(words)


if __name__ == "__main__":
    sys.exit(main())
