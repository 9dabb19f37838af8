"""Running many simulated clusters, one per seed: the campaign command.

    python -m raft_engine.testing.simulate --seeds 1..500 --seconds 20
    python -m raft_engine.testing.simulate --hours 2

Each seed draws its own weather (size of the cluster, kinds and rates of faults, settings), so that a campaign meets
combinations that no fixed setting would: a fault that always happens hides what its absence would show. A failure prints the
seed and the last steps, and the same seed fails again. The exit code is 1 when any seed failed.
Source: "Swarm testing" (Groce et al., ISSTA 2012); TigerBeetle VOPR; FoundationDB simulation.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from raft_engine.config import Config
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
    "partitions_per_s": [0.2, 1.0, 3.0],
    "pauses_per_s": [0.05, 0.5],
    "triggers_per_s": [0.2, 1.0, 5.0],
    "contests_per_s": [0.5, 2.0],
    "coups_per_s": [0.3, 1.0],
    "ambush": [0.1, 0.4],
    "rejoins_per_s": [0.1, 0.5, 1.0],
    "losses_per_s": [0.1],
    "changes_per_s": [0.5],
}
"""What can go wrong, and how often when it does."""

_MEMBERSHIP = {"losses_per_s", "changes_per_s"}
_TARGETED = [
    "contests_per_s",
    "coups_per_s",
    "ambush",
    "rejoins_per_s",
    "crashes_per_s",
    "partitions_per_s",
    "triggers_per_s",
]
"""Each of them is aimed at one promise."""


def weather_of(seed: int, nodes: int | None = None) -> Weather:
    """Return the weather that belongs to `seed`; `nodes` fixes the cluster's size.

    Some seeds have most kinds of faults at once, some have a few, some have one, often, in an otherwise calm world: faults hide
    what others would show.
    """
    chance = random.Random(f"weather {seed}")  # noqa: S311 (a simulation must be repeatable)
    draw = chance.choice
    mode = draw(["storm", "mixed", "focus", "focus"])
    kinds = sorted(_KINDS.keys() - (_MEMBERSHIP if chance.random() < 0.7 else set()))
    if mode == "storm":
        happening = [kind for kind in kinds if chance.random() < 0.6]
    else:
        happening = chance.sample(kinds, 3) if mode == "mixed" else [draw(_TARGETED)]
    faults = replace(
        CALM,
        **{kind: draw(_KINDS[kind][-2:]) for kind in happening},
        delay_ms_max=3.0 if mode == "focus" else draw([3.0, 20.0, 60.0]),
        fsync_ms_max=draw([1.0, 8.0, 40.0, 150.0]),
        writes_per_s=draw([10.0, 60.0, 150.0]),
        reads_per_s=draw([5.0, 40.0]),
    )
    config = Config(
        enable_pre_vote=draw([True, True, False]),
        election_timeout_max_ms=draw([200, 300]),
        max_payload_entries=draw([1, 3, 7, 300]),
        max_inflight_requests=draw([1, 4, 64]),
        snapshot_logs_since_last=draw([0, 20, 60, 200]),
        max_in_snapshot_log_to_keep=draw([0, 10]),
    )
    spares = 2 if "changes_per_s" in happening else 0
    return Weather(nodes or draw([3, 3, 3, 4, 5]), spares, faults, config)


def simulate(seed: int, seconds: float, nodes: int | None = None, *, heal: bool = True) -> Simulation:
    """Live through `seconds` of virtual time in the weather of `seed` and return the simulation.

    Raises: AssertionError: something impossible happened; the message has the seed and the last steps.
    """
    weather = weather_of(seed, nodes)
    simulation = Simulation(seed, weather.nodes, weather.config, weather.faults, weather.spares)
    simulation.run(seconds, heal=heal)
    return simulation


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
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    options = parser.parse_args(arguments)
    return _campaign(_seeds(options.seeds, options.hours), options.seconds, options.nodes, keep_going=options.keep_going)


def _seeds(seeds: range | None, hours: float | None) -> Iterator[int]:
    if hours is None:
        yield from seeds or range(1, 101)
        return
    end = time.monotonic() + hours * 3600
    for seed in count(seeds.start if seeds else 1):
        if time.monotonic() >= end:
            return
        yield seed


def _campaign(seeds: Iterator[int], seconds: float, nodes: int | None, *, keep_going: bool) -> int:
    started = said = time.monotonic()
    done, failed, virtual_s, acknowledged = 0, [], 0.0, 0
    for seed in seeds:
        try:
            simulation = simulate(seed, seconds, nodes)
        except AssertionError as error:
            failed.append(seed)
            print(f"FAILED {error}", file=sys.stderr)  # noqa: T201 (this is a command)
            if not keep_going:
                break
        else:
            virtual_s += simulation.now / 1000
            acknowledged += len(simulation.acknowledged)
        done += 1
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            print(_progress(done, virtual_s, acknowledged, said - started), flush=True)  # noqa: T201
    print(_progress(done, virtual_s, acknowledged, time.monotonic() - started))  # noqa: T201
    print(f"failed: {failed}" if failed else "no seed failed")  # noqa: T201
    return 1 if failed else 0


def _progress(done: int, virtual_s: float, acknowledged: int, real_s: float) -> str:
    hours = virtual_s / 3600
    return f"{done} seeds, {hours:.2f} virtual cluster hours, {acknowledged} writes acknowledged, {real_s:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
