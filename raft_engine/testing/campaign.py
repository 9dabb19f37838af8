"""Many simulated clusters, one per seed, and what they came to together."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from raft_engine.testing.sim_failure import SimulationFailed
from raft_engine.testing.sim_faults import KINDS, PAIRS
from raft_engine.testing.sim_returns import WAYS
from raft_engine.testing.sim_weather import simulate


@dataclass(frozen=True)
class Setting:
    """What is the same for every seed. `seconds` of faults, virtual; `nodes` None: drawn; `weather`: see `sim_weather`."""

    seconds: float
    nodes: int | None = None
    weather: str = "any"


@dataclass
class Tally:
    """What one seed, or all of them, came to."""

    seeds: int = 0
    virtual_s: float = 0.0
    acknowledged: int = 0
    reads: int = 0
    rejoins: int = 0
    """Nodes wiped, lost or put back."""
    returns: Counter[str] = field(default_factory=Counter)
    """Of those, the ones that were whole members again, by way."""
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
        self.returns.update(other.returns)
        self.kinds.update(other.kinds)
        self.pairs.update(other.pairs)
        self.failed += other.failed
        self.hashes.update(other.hashes)


def tally_of(seed: int, setting: Setting) -> Tally:
    """Run one seed."""
    try:
        simulation = simulate(seed, setting.seconds, setting.nodes, weather=setting.weather)
    except SimulationFailed as failure:
        return Tally(1, failed=[seed], failure=f"seed {seed}: {failure.what}")
    return Tally(
        1,
        simulation.now / 1000,
        len(simulation.acknowledged),
        simulation.clients.reads,
        simulation.returns.begun.total(),
        simulation.returns.completed.copy(),
        Counter(simulation.chaos.counts),
        Counter(simulation.chaos.pairs),
        hashes={seed: simulation.trace_hash.hexdigest()},
    )


def tallies(seeds: Iterator[int], run: Callable[[int], Tally], jobs: int) -> Iterator[Tally]:
    """Yield what each seed came to, in the order of the seeds."""
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


def progress(total: Tally) -> str:
    """Return one line about what was lived through so far."""
    hours = total.virtual_s / 3600
    return (
        f"{total.seeds} seeds, {hours:.2f} virtual cluster hours, {total.acknowledged} writes acknowledged, "
        f"{total.reads} reads, {total.rejoins} nodes wiped, lost or put back, {total.returns.total()} back"
    )


def report(total: Tally) -> str:
    """Return the table of what was met."""
    lines = [f"  {kind:20} {total.kinds[kind]:9}" for kind in KINDS]
    rarest = sorted(PAIRS, key=lambda pair: (total.pairs[pair], pair))[:5]
    lines += [f"  rarest pair: {one} + {other}: {total.pairs[one, other]}" for one, other in rarest]
    lines += [f"  back after: {way:28} {total.returns[way]}" for way in WAYS]
    met = sum(total.pairs[pair] > 0 for pair in PAIRS)
    lines.append(f"  {met} of {len(PAIRS)} pairs were met within two virtual seconds")
    lines.append(f"failed: {total.failed}" if total.failed else "no seed failed")
    return "\n".join(lines)


def missing(total: Tally, hours: float) -> list[str]:
    """Return what a campaign must meet and did not: each kind of fault, each pair, so many virtual hours."""
    complaints = [f"no {kind} happened" for kind in KINDS if not total.kinds[kind]]
    complaints += [f"{one} and {other} did not meet" for one, other in PAIRS if not total.pairs[one, other]]
    if total.virtual_s < hours * 3600:
        complaints.append(f"{total.virtual_s / 3600:.2f} virtual cluster hours were lived through, not {hours:g}")
    return complaints


def repeat(seeds: Iterable[int], setting: Setting, total: Tally) -> list[str]:
    """Run seeds again in a process with another hash seed; return what differed."""
    run = partial(tally_of, setting=setting)
    with multiprocessing.get_context("spawn").Pool(2) as pool:  # a new process draws a new hash seed
        again = {seed: digest for tally in pool.map(run, seeds) for seed, digest in tally.hashes.items()}
    differing = [seed for seed, digest in again.items() if digest != total.hashes[seed]]
    print(f"{len(again)} seeds run twice, in two processes: {len(differing)} differ")  # noqa: T201
    return [f"seed {seed} was another run the second time" for seed in differing]
