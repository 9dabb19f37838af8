"""What is measured at several sizes: one function a curve, which yields a point for every size."""

from __future__ import annotations

import base64
import http.client
import os
import random
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from load import Load, wrk
from rejoin import raftctl
from shapes import Point, powers_of
from soak_samples import MIB, disk_bytes, percentile
from systems import BIN, ROOT, WORK, BenchError, Ours, call

QUIET: Final = "snapshot_logs_since_last = 0\n"
"""Snapshots only when they are asked for."""
CALM: Final = (100, 1000)
"""Heartbeat and election timeout in ms: leadership must stay where it is, also on a busy machine."""
FILL_BATCH: Final = 4096
"""Puts in one entry: as many as are allowed."""
FILLED_VALUE: Final = b"v" * 100
LOG_VALUE_BYTES: Final = 16
PAUSE_S: Final = 0.004
"""Between two puts of the steady writer: a load, not a flood."""
SERVES_WITHIN_S: Final = 120.0


@dataclass
class Sizes:
    """How often, how long and how far is measured."""

    rounds: int = 3
    seconds: int = 2
    log_max: int = 1_000_000
    keys_max: int = 1_000_000
    clusters_max: int = 100
    quick: bool = False

    def some(self, sizes: Sequence[int]) -> list[int]:
        """Return all sizes, of a quick run the first two."""
        return list(sizes[:2] if self.quick else sizes)


# -- nodes, clients, values ------------------------------------------------------------------------------------------------


def nodes(sizes: Sizes) -> Iterator[Point]:
    """1, 3, 5 and 7 nodes: puts a second at 64 connections, latency of a put alone, memory of a node."""
    points = [Point(count) for count in sizes.some((1, 3, 5, 7))]
    for _ in range(sizes.rounds):
        for point in points:
            with Ours(CALM, nodes=point.size) as system:
                warm_up(system)
                point.add("puts/s, 64 connections", load(point, system, 64, sizes.seconds).per_s)
                alone = wrk(system, 1, sizes.seconds)
                point.add("p50 of a put alone, ms", alone.p50_ms)
                point.add("memory of a node, MiB", max(system.rss_mib()))
    yield from points


def clients(sizes: Sizes) -> Iterator[Point]:
    """1 to 1,024 connections with one put under way on each: puts a second, latency, memory of the leader."""
    points = [Point(count) for count in sizes.some(powers_of(4, 1, 1024))]
    with Ours(CALM) as system:
        warm_up(system)
        for _ in range(sizes.rounds):
            for point in points:
                seen = load(point, system, point.size, sizes.seconds)
                point.add("puts/s", seen.per_s)
                point.add("p50, ms", seen.p50_ms)
                point.add("p99, ms", seen.p99_ms)
                point.add("memory of the leader, MiB", system.rss_mib()[system.leader()])
    yield from points


def values(sizes: Sizes) -> Iterator[Point]:
    """Values of 16 bytes to 1 MiB over 16 connections: puts and megabytes a second, latency, memory of the leader."""
    points = [Point(size) for size in sizes.some((16, 256, 4096, 65536, MIB))]
    for _ in range(sizes.rounds):
        for point in points:
            with Ours(CALM) as system:
                warm_up(system)
                seen = load(point, system, 16, sizes.seconds, VALUE=point.size, KEYS=64)
                point.add("puts/s", seen.per_s)
                point.add("MB/s of values", seen.per_s * point.size / 1e6)
                point.add("p99, ms", seen.p99_ms)
                point.add("memory of the leader, MiB", system.rss_mib()[system.leader()])
    yield from points


def warm_up(system: Ours) -> None:
    wrk(system, 64, 1)


def load(point: Point, system: Ours, connections: int, seconds: int, **environment: object) -> Load:
    """Put as fast as answers come; note what was refused, and what a put costs the leader and a follower."""
    leader = system.leader()
    before = system.cpu_s()
    seen = wrk(system, connections, seconds, **environment)
    puts = max(1.0, seen.per_s * seconds)
    costs = [1e6 * (later - earlier) / puts for earlier, later in zip(before, system.cpu_s(), strict=True)]
    point.refused += seen.bad
    point.add("the leader's processor a put, µs", costs.pop(leader))
    if costs:
        point.add("a follower's, µs", statistics.median(costs))
    return seen


# -- a long log ------------------------------------------------------------------------------------------------------------


def log(sizes: Sizes) -> Iterator[Point]:
    """Logs of 10,000 entries and more, never purged: time until a killed node serves again, memory, disk."""
    points = [Point(count) for count in sizes.some(powers_of(10, 10_000, sizes.log_max))]
    with Ours(settings=QUIET, nodes=1) as system:
        for point in points:
            grow_log(system, point.size)
            for _ in range(sizes.rounds):
                system.kill(0)
                begun = time.perf_counter()
                system.restart(0)
                until_it_serves(system.urls[0])
                point.add("start until it serves, ms", 1000 * (time.perf_counter() - begun))
                point.add("memory when it serves, MiB", system.rss_mib()[0])
            point.add("disk, MiB", disk_bytes(system.directory / "n1") / MIB)
            yield point


def grow_log(system: Ours, count: int) -> None:
    """Put until the log has `count` entries."""
    while (there := last_index(system)) < count:
        seconds = min(20, max(1, (count - there) // 60_000))
        wrk(system, 256, seconds, url=system.urls[0], VALUE=LOG_VALUE_BYTES, KEYS=1000)


def last_index(system: Ours) -> int:
    last = call(f"{system.urls[0]}/v1/status")["last_log"]
    assert isinstance(last, dict)
    return int(last["index"])


def until_it_serves(url: str) -> None:
    """Return when a linearizable read is answered."""
    until = time.monotonic() + SERVES_WITHIN_S
    while time.monotonic() < until:
        with suppress(OSError):
            call(f"{url}/v1/kv?limit=1&timeout=1s", timeout_s=2)
            return
        time.sleep(0.002)
    raise BenchError(f"{url} does not serve {SERVES_WITHIN_S:g} s after its start")


# -- many keys -------------------------------------------------------------------------------------------------------------


def keys(sizes: Sizes) -> Iterator[Point]:
    """1,000 keys and more: memory, time and size of a snapshot, p99 of puts beside one and while a node is rebuilt from one."""
    there = 0
    with Ours(CALM, QUIET) as system:
        leader = system.leader()
        url = system.urls[leader]
        cluster = str(call(f"{url}/v1/status")["cluster"])
        for count in sizes.some(powers_of(10, 1000, sizes.keys_max)):
            point = Point(count)
            fill(url, there, count)
            there = count
            with Writer(url, count) as writer:
                for _ in range(sizes.rounds):
                    point.add("p99 of a put, ms", writer.p99_ms(lambda: time.sleep(2 * sizes.seconds)))
                    took: list[float] = []
                    p99_ms = writer.p99_ms(lambda took=took: took.extend(snapshots(url, 2 * sizes.seconds)))
                    point.add("p99 of a put beside snapshots, ms", p99_ms)
                    point.add("a snapshot, s", statistics.median(took))
                    raftctl(system, "snapshot", "--all")
                    raftctl(system, "purge-log", "--upto", str(10**12), "--all")
                    begun = time.perf_counter()
                    node = str((leader + 1) % 3 + 1)
                    p99_ms = writer.p99_ms(lambda node=node: raftctl(system, "rejoin-node", node, "--confirm", cluster))
                    point.add("a node rebuilt, s", time.perf_counter() - begun)
                    point.add("p99 of a put meanwhile, ms", p99_ms)
                    if system.leader() != leader:
                        raise BenchError("leadership moved: the machine is too busy for this curve")
            point.add("memory of the leader, MiB", system.rss_mib()[leader])
            point.add("snapshot, MiB", disk_bytes(system.directory / f"n{leader + 1}" / "snapshots") / MIB)
            yield point


def fill(url: str, first: int, last: int) -> None:
    """Put keys number `first` (inclusive) to `last` (exclusive), many in one entry."""
    value = base64.b64encode(FILLED_VALUE).decode()
    for begin in range(first, last, FILL_BATCH):
        numbers = range(begin, min(last, begin + FILL_BATCH))
        call(f"{url}/v1/kv", {"ops": [{"op": "put", "key": name(n), "value_base64": value} for n in numbers]}, timeout_s=60)


def name(number: int) -> str:
    return f"key{number:08}"


def snapshots(url: str, seconds: float) -> list[float]:
    """Have one snapshot after the other for so long, at least one; return how long each took, in seconds."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    while not took or time.perf_counter() < end:
        begun = time.perf_counter()
        call(f"{url}/v1/trigger/snapshot?wait=300s", {}, timeout_s=320)
        took.append(time.perf_counter() - begun)
    return took


class Writer:
    """As a context: one thread that puts small values under random keys at a steady, moderate rate."""

    def __init__(self, url: str, key_count: int) -> None:
        self._door = url.removeprefix("http://")
        self._key_count = key_count
        self._took: list[tuple[float, float]] = []
        self._trouble: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def p99_ms(self, action: Callable[[], object]) -> float:
        """Do it, and return the 99th percentile of the puts that began meanwhile."""
        begun = time.monotonic()
        action()
        ended = time.monotonic()
        while self._thread.is_alive() and (not self._took or self._took[-1][0] < ended):
            time.sleep(PAUSE_S)  # a put that began meanwhile may still be under way: it counts
        if self._trouble:
            raise BenchError(f"the writer was refused: {self._trouble[0]}")
        return 1000 * percentile([took for at, took in self._took if begun <= at <= ended], 0.99)

    def _write(self) -> None:
        dice = random.Random(1)
        connection = http.client.HTTPConnection(self._door, timeout=30)
        try:
            while not self._stop.is_set():
                begun = time.monotonic()
                connection.request("PUT", f"/v1/kv/{name(dice.randrange(self._key_count))}", body=FILLED_VALUE)
                reply = connection.getresponse()
                body = reply.read()
                if reply.status != 200:
                    self._trouble.append(f"{reply.status} {body[:200]!r}")
                    return
                self._took.append((begun, time.monotonic() - begun))
                self._stop.wait(PAUSE_S)
        except OSError as error:
            self._trouble.append(repr(error))
        finally:
            connection.close()


# -- many clusters ---------------------------------------------------------------------------------------------------------


def clusters(sizes: Sizes) -> Iterator[Point]:
    """1, 10 and 100 clusters of one node: `raftctl health` of each, in a shell's loop and four at a time."""
    running: list[Ours] = []
    directory = WORK / "data" / f"contexts-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        for count in sizes.some(powers_of(10, 1, sizes.clusters_max)):
            while len(running) < count:
                system = Ours(timeouts=(500, 5000), nodes=1)
                running.append(system)
                system.__enter__()
            environment = contexts(directory, running)
            point = Point(count)
            for _ in range(sizes.rounds):
                loop_s = timed(["sh", "-c", LOOP], environment)
                point.add("a loop over all, s", loop_s)
                point.add("four at a time, s", timed(["sh", "-c", FOUR], environment))
                point.add("a cluster of the loop, ms", 1000 * loop_s / count)
            yield point
    finally:
        for system in running:
            system.__exit__()
        shutil.rmtree(directory, ignore_errors=True)


LOOP: Final = 'for name in $(raftctl context list -o name); do raftctl -c "$name" health -q >/dev/null || exit; done'
FOUR: Final = "raftctl context list -o name | xargs -P 4 -I NAME raftctl -c NAME health -q >/dev/null"


def contexts(directory: Path, systems: Sequence[Ours]) -> dict[str, str]:
    """Write a raftctl configuration with a context for each cluster; return the environment that names it."""
    tables = [f'[contexts.c{number}]\nendpoints = ["{system.urls[0]}"]\n' for number, system in enumerate(systems)]
    (directory / "config.toml").write_text('current-context = "c0"\n' + "".join(tables), "utf-8")
    place = {"RAFTCTL_CONFIG": str(directory / "config.toml"), "RAFTCTL_STATE": str(directory / "state")}
    return {**os.environ, **place, "PYTHONPATH": str(ROOT), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def timed(words: Sequence[str], environment: dict[str, str]) -> float:
    """Return how long it took, in seconds. Raises: BenchError: it failed."""
    begun = time.perf_counter()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - begun


@dataclass(frozen=True)
class Curve:
    """`axis`: what the size counts. `drawn`: the figures in the picture."""

    axis: str
    measure: Callable[[Sizes], Iterator[Point]]
    drawn: tuple[str, ...]


CURVES: Final = {
    "nodes": Curve(
        "nodes",
        nodes,
        ("puts/s, 64 connections", "the leader's processor a put, µs", "p50 of a put alone, ms", "memory of a node, MiB"),
    ),
    "clients": Curve("connections", clients, ("puts/s", "p50, ms", "p99, ms", "memory of the leader, MiB")),
    "values": Curve("bytes of a value", values, ("puts/s", "MB/s of values", "p99, ms", "memory of the leader, MiB")),
    "log": Curve("entries in the log", log, ("start until it serves, ms", "memory when it serves, MiB", "disk, MiB")),
    "keys": Curve(
        "keys",
        keys,
        (
            "a snapshot, s",
            "a node rebuilt, s",
            "p99 of a put, ms",
            "p99 of a put beside snapshots, ms",
            "memory of the leader, MiB",
        ),
    ),
    "clusters": Curve("clusters", clusters, ("a loop over all, s", "four at a time, s")),
}
