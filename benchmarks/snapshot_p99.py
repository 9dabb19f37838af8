"""What writers notice of snapshots: the 99th percentile of a write while one is built, and while one is streamed, beside without.

    python benchmarks/snapshot_p99.py                   10^6 keys of 256 bytes, three rounds
    KEYS=100000 python benchmarks/snapshot_p99.py       fewer of them
    python benchmarks/snapshot_p99.py --quick           one short round: does it run?

Three nodes on loopback, state machine on disk, no snapshots by policy. Eight writers send 400 writes a second to the leader all the
time, by a timetable. In turns: nothing else, the leader builds a snapshot of everything, nothing else, a follower whose data was
wiped is given everything (`raftctl rejoin-node`, from the command to its receipt; the log is purged, so only the snapshot helps).
"""

from __future__ import annotations

import base64
import http.client
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rejoin import raftctl
from rows import Options, Row
from stores import main
from systems import BenchError, Ours, call
from writing import WriterThreads

KEYS = 1_000_000
QUICK_KEYS = 20_000
VALUE = "v" * 256
BATCH = 1000
WRITERS = 8
EVERY_S = 0.02
"""Between two writes of one writer: 400 a second together, far from what the nodes can do, as a load that has a p99 to keep is."""
WITHOUT_S = 8.0
"""How long nothing else happens, before each build and each rejoin."""

Span = tuple[float, float]


class Steady(WriterThreads):
    """Writers with a timetable. `took`: when each write was sent, and how much later it was acknowledged, in seconds."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._addresses = [url.removeprefix("http://") for url in urls]
        self.took: list[Span] = []
        self.refused = 0
        super().__init__(WRITERS)

    def _write(self, writer: int) -> None:
        at = 0
        connection = http.client.HTTPConnection(self._addresses[at], timeout=10)
        due, number = time.monotonic() + writer * EVERY_S / WRITERS, 0
        while not self._stop.wait(max(0.001, due - time.monotonic())):
            begun = time.monotonic()
            try:
                connection.request("PUT", f"/v1/kv/load/{writer}-{number % 1000}", VALUE)
                reply = connection.getresponse()
                reply.read()
                if reply.status != 200:
                    raise http.client.HTTPException("not the leader")  # noqa: TRY301 (as a broken connection)
                self.took.append((begun, time.monotonic() - begun))
            except (OSError, http.client.HTTPException):
                self.refused += 1
                connection.close()
                at = (at + 1) % len(self._addresses)
                connection = http.client.HTTPConnection(self._addresses[at], timeout=10)
                continue  # the same write, still due
            due, number = due + EVERY_S, number + 1
        connection.close()

    def p99_ms(self, spans: list[Span]) -> float:
        times = sorted(took for begun, took in self.took if any(since <= begun <= until for since, until in spans))
        if not times:
            raise BenchError("no write was acknowledged meanwhile")
        return 1000 * times[min(len(times) - 1, int(0.99 * len(times)))]


def fill(url: str, keys: int) -> None:
    """Put so many keys; the last ones are acknowledged on return."""
    encoded = base64.b64encode(VALUE.encode()).decode()
    for first in range(0, keys, BATCH):
        ops = [{"op": "put", "key": f"key{n:08d}", "value_base64": encoded} for n in range(first, min(keys, first + BATCH))]
        call(f"{url}/v1/kv", {"ops": ops}, timeout_s=60)


def timed(seconds: float) -> Span:
    begun = time.monotonic()
    time.sleep(seconds)
    return begun, time.monotonic()


def built(url: str) -> Span:
    """Have a node build a snapshot of what it has applied; return from when to when it did."""
    begun = time.monotonic()
    call(f"{url}/v1/trigger/snapshot?wait=300s", {}, timeout_s=310)
    return begun, time.monotonic()


def rejoined(system: Ours, node: int, cluster: str) -> Span:
    begun = time.monotonic()
    raftctl(system, "rejoin-node", str(node), "--confirm", cluster)
    return begun, time.monotonic()


def measured(keys: int, rounds: int, without_s: float) -> Iterator[Row]:
    building = Row(f"p99 of a write while the leader builds a snapshot of {keys:,} keys", "ms", {"without": 1.5}, below=True)
    streaming = Row(f"p99 of a write while {keys:,} keys are streamed to a node", "ms", {"without": 1.5}, below=True)
    build_s = Row(f"a snapshot of {keys:,} keys, under the same writes", "s", {}, below=True)
    rejoin_s = Row(f"raftctl rejoin-node with {keys:,} keys, under the same writes", "s", {}, below=True)
    with Ours(settings="snapshot_logs_since_last = 0") as system:
        leader, led = system.leader(), 1
        url = system.urls[leader]
        fill(url, keys)
        raftctl(system, "snapshot", "--all")
        cluster = str(call(f"{url}/v1/status")["cluster"])
        with Steady(system.urls) as writers:
            timed(without_s)  # everybody is warm, and the fill is in the databases
            for number in range(rounds):
                before = timed(without_s)
                led, leader = led + (system.leader() != leader), system.leader()
                build = built(system.urls[leader])
                raftctl(system, "purge-log", "--upto", str(10**9), "--all")
                between = timed(without_s)
                led, leader = led + (system.leader() != leader), system.leader()
                rejoin = rejoined(system, (leader + 1 + number % 2) % 3 + 1, cluster)
                for row, length, without, span in (
                    (building, build_s, before, build),
                    (streaming, rejoin_s, between, rejoin),
                ):
                    row.add("ours", writers.p99_ms([span]))
                    row.add("without", writers.p99_ms([without]))
                    length.add("ours", span[1] - span[0])
        building.notes.append(f"{len(writers.took):,} writes acknowledged, {writers.refused} refused, {led} leaders seen")
    yield from (building, streaming, build_s, rejoin_s)


def run(what: str, measured: Callable[[int, int, float], Iterator[Row]]) -> int:
    """Measure with as many keys as KEYS says. `measured`: takes keys, rounds and seconds without anything else."""

    def rows(options: Options) -> Iterator[Row]:
        quick = options.seconds < 1
        keys = int(os.environ.get("KEYS", QUICK_KEYS if quick else KEYS))
        yield from measured(keys, options.rounds, options.seconds if not quick else 1.0)

    return main(what, rows, seconds=WITHOUT_S)


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", measured))
