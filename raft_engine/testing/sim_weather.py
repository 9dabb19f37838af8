"""What one seed's cluster is like: its size, its settings, and which faults happen how often.

Each seed draws its own weather, so that a campaign meets combinations that no fixed setting would: a fault that always happens
hides what its absence would show.
Source: "Swarm testing" (Groce et al., ISSTA 2012).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from raft_engine.config import Config
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

_RESETS = (0.0, 0.3, 1.5)
"""How often connections end; drawn apart from the others, in all but calm weather."""
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
        resets_per_s=0.0 if mode == "focus" else _resets_of(seed),
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
    size = nodes or draw([3, 3, 3, 4, 5])
    if nodes is None and seed % 10 == 2:
        size = 6 + seed // 10 % 2  # larger ones cost more time than they find
    return Weather(size, spares, faults, config)


def _resets_of(seed: int) -> float:
    return random.Random(f"resets {seed}").choice(_RESETS)  # noqa: S311 (as above)


def rejoin_weather_of(seed: int, nodes: int | None = None) -> Weather:
    """Return a weather in which nodes are wiped, lost and put back all the time, under many other faults."""
    weather = weather_of(seed, nodes)
    chance = random.Random(f"rejoin weather {seed}")  # noqa: S311 (a simulation must be repeatable)
    rates = {kind: chance.choice(_KINDS[kind][:2]) if chance.random() < 0.5 else 0.0 for kind in sorted(_KINDS)}
    # While members change nobody is wiped: few changes, so that there are many returns.
    rates |= {"rejoins_per_s": 1.0, "losses_per_s": 0.7, "rollbacks_per_s": 2.0, "changes_per_s": rates["changes_per_s"] / 3}
    spares = 2 if rates["changes_per_s"] > 0 else 0
    return replace(weather, spares=spares, faults=replace(weather.faults, **rates))


def mixed_weather_of(seed: int, nodes: int | None = None) -> Weather:
    """Return any weather, and for every tenth seed that of rejoins: what is rare elsewhere is met there."""
    return rejoin_weather_of(seed, nodes) if seed % 10 == 0 else weather_of(seed, nodes)


WEATHERS = {"any": weather_of, "rejoins": rejoin_weather_of, "mixed": mixed_weather_of}
"""What `--weather` names."""


def simulate(
    seed: int,
    seconds: float,
    nodes: int | None = None,
    *,
    weather: str = "any",
    heal: bool = True,
    watch: Watch | None = None,
    without: Container[int] = frozenset(),
) -> Simulation:
    """Live through `seconds` of virtual time in the weather of `seed` and return the simulation.

    Args:
        weather: a key of `WEATHERS`.

    Raises: SimulationFailed: something impossible happened; the message has the seed and the last steps.
    """
    drawn = WEATHERS[weather](seed, nodes)
    simulation = Simulation(seed, drawn.nodes, drawn.config, drawn.faults, drawn.spares, watch=watch, without=without)
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
