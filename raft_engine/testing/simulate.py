"""Running many simulated clusters, one per seed: the campaign command.

    python -m raft_engine.testing.simulate --seeds 1..500 --seconds 20
    python -m raft_engine.testing.simulate --hours 2 --jobs 2

Each seed draws its own weather (size of the cluster, kinds and rates of faults, settings), so that a campaign meets
combinations that no fixed setting would: a fault that always happens hides what its absence would show. A failure prints the
seed and the last steps, and the same seed fails again. At the end stands what was met: every kind of fault, and the pair of
kinds that was met least. The exit code is 1 when any seed failed.
Source: "Swarm testing" (Groce et al., ISSTA 2012); TigerBeetle VOPR; FoundationDB simulation.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

from raft_engine.config import Config
from raft_engine.testing.sim_faults import KINDS, PAIRS
from raft_engine.testing.sim_node import Watch
from raft_engine.testing.simulator import CALM, Faults, Simulation


@dataclass(frozen=True)
class Weather:
    """What one seed's cluster is like and what happens to it."""

    nodes: int
    spares: int
    faults: Faults
    config: Config


_KINDS: dict[str, Sequence[float]] = {
    "drop": [0.02, 0.1],
    "double": [0.02, 0.2],
    "late": [0.02],
    "crashes_per_s": [0.15, 0.7, 2.0],
    "power_losses_per_s": [0.15, 0.7],
    "disk_crashes_per_s": [0.15, 0.7],
    "disk_errors_per_s": [0.1, 0.5],
    "slow_disks_per_s": [0.2, 0.5],
    "rot_per_s": [0.1, 0.3],
    "rollbacks_per_s": [0.3, 1.0],
    "partitions_per_s": [0.2, 1.0, 3.0],
    "slow_links_per_s": [0.2, 0.5],
    "pauses_per_s": [0.05, 0.5],
    "skews_per_s": [0.2, 0.5],
    "jumps_per_s": [0.1, 0.5],
    "triggers_per_s": [0.2, 1.0, 5.0],
    "contests_per_s": [0.5, 2.0],
    "coups_per_s": [0.3, 1.0],
    "ambush": [0.1, 0.4],
    "rejoins_per_s": [0.1, 0.5, 1.0],
    "losses_per_s": [0.1, 0.3],
    "changes_per_s": [0.3, 0.5],
}
"""What can go wrong, and how often when it does."""

_MEMBERSHIP = {"losses_per_s", "changes_per_s"}
_TARGETED = [
    "contests_per_s",
    "coups_per_s",
    "ambush",
    "rejoins_per_s",
    "crashes_per_s",
    "power_losses_per_s",
    "disk_crashes_per_s",
    "rot_per_s",
    "partitions_per_s",
    "triggers_per_s",
]
"""Each of them is aimed at one promise."""
_TIMEOUTS = [(150, 300, 50), (150, 200, 50), (1000, 2000, 100)]
"""Shortest and longest election timeout, heartbeat interval; the last are etcd's defaults, doubled as etcd spreads them."""


def weather_of(seed: int, nodes: int | None = None) -> Weather:
    """Return the weather that belongs to `seed`; `nodes` fixes the cluster's size.

    Some seeds have most kinds of faults at once, some have a few, some have one, often, in an otherwise calm world: faults hide
    what others would show.
    """
    chance = random.Random(f"weather {seed}")  # noqa: S311 (a simulation must be repeatable)
    draw = chance.choice
    mode = draw(["storm", "storm", "mixed", "focus", "focus"])
    kinds = sorted(_KINDS.keys() - (_MEMBERSHIP if chance.random() < 0.5 else set()))
    if mode == "storm":
        happening = [kind for kind in kinds if chance.random() < 0.7]
    else:
        happening = chance.sample(kinds, 4) if mode == "mixed" else [draw(_TARGETED)]
    shortest, longest, heartbeat = draw(_TIMEOUTS)
    faults = replace(
        CALM,
        **{kind: draw(_KINDS[kind] if mode == "storm" else _KINDS[kind][-2:]) for kind in happening},
        delay_ms_max=3.0 if mode == "focus" else draw([3.0, 20.0, 60.0]),
        fsync_ms_max=draw([1.0, 8.0, 40.0, 150.0]),
        writes_per_s=draw([5.0, 20.0, 60.0]),
        reads_per_s=draw([5.0, 30.0]),
    )
    config = Config(
        election_timeout_min_ms=shortest,
        election_timeout_max_ms=longest,
        heartbeat_interval_ms=heartbeat,
        enable_pre_vote=draw([True, True, False]),
        max_payload_entries=draw([1, 3, 7, 300]),
        max_inflight_requests=draw([1, 4, 64]),
        snapshot_logs_since_last=draw([0, 20, 60, 200]),
        max_in_snapshot_log_to_keep=draw([0, 10]),
        snapshot_max_chunk_size_bytes=draw([500, 4000, 1 << 20]),
    )
    spares = 2 if "changes_per_s" in happening else 0
    return Weather(nodes or draw([3, 3, 3, 4, 5]), spares, faults, config)


def simulate(
    seed: int,
    seconds: float,
    nodes: int | None = None,
    *,
    heal: bool = True,
    watch: Watch | None = None,
    without: frozenset[int] = frozenset(),
) -> Simulation:
    """Live through `seconds` of virtual time in the weather of `seed` and return the simulation.

    Raises: AssertionError: something impossible happened; the message has the seed and the last steps.
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
    except AssertionError as error:
        return Tally(1, failed=[seed], failure=str(error))
    except Exception as error:  # noqa: BLE001 (whatever it was, the campaign reports the seed)
        return Tally(1, failed=[seed], failure=f"seed {seed}: {type(error).__name__}: {error}")
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
    parser = argparse.ArgumentParser(
        prog="python -m raft_engine.testing.simulate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seeds", type=parse_seeds, default=None, metavar="A..B", help="inclusive; default 1..100")
    parser.add_argument("--seconds", type=float, default=20.0, help="virtual seconds of faults per seed (default 20)")
    parser.add_argument("--nodes", type=int, default=None, help="size of every cluster; default: drawn per seed")
    parser.add_argument("--hours", type=float, default=None, help="go on with new seeds for so many hours of real time")
    parser.add_argument("--jobs", type=int, default=1, help="processes that run seeds (default 1)")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    parser.add_argument("--every-kind", action="store_true", help="fail unless every kind and every pair was met")
    parser.add_argument(
        "--virtual-hours", type=float, default=0.0, help="fail unless so many cluster hours were lived through"
    )
    parser.add_argument("--twice", type=int, default=0, metavar="N", help="run the first N seeds again in a new process")
    options = parser.parse_args(arguments)
    run = partial(tally_of, seconds=options.seconds, nodes=options.nodes)
    total = _campaign(_seeds(options.seeds, options.hours), run, options.jobs, keep_going=options.keep_going)
    print(report(total))  # noqa: T201 (this is a command)
    complaints = _missing(total, options.virtual_hours) if options.every_kind and not total.failed else []
    if options.twice and not total.failed:
        complaints += _repeat(sorted(total.hashes)[: options.twice], options.seconds, options.nodes, total)
    for complaint in complaints:
        print(complaint, file=sys.stderr)  # noqa: T201
    return 1 if total.failed or complaints else 0


def _seeds(seeds: range | None, hours: float | None) -> Iterator[int]:
    if hours is None:
        yield from seeds or range(1, 101)
        return
    end = time.monotonic() + hours * 3600
    for seed in count(seeds.start if seeds else 1):
        if time.monotonic() >= end:
            return
        yield seed


def _campaign(seeds: Iterator[int], run: partial[Tally], jobs: int, *, keep_going: bool) -> Tally:
    started = said = time.monotonic()
    total = Tally()
    for tally in _tallies(seeds, run, jobs):
        total.add(tally)
        if tally.failure:
            print(f"FAILED {tally.failure}", file=sys.stderr, flush=True)  # noqa: T201
            if not keep_going:
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
