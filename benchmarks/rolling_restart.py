"""Restarting every node under load: what writers notice of `raftctl rolling-restart`.

    python benchmarks/rolling_restart.py            four restarts of the whole cluster with each driver, in turns
    python benchmarks/rolling_restart.py --quick    one with each

A sandbox of three nodes on loopback, as `raftctl dev up` makes it, and writers that each put one small value after the other.
A writer keeps its connection, goes where `not_leader` points to, and tries the next node when it is refused or cut off; the
latency of a write counts from its first attempt to its acknowledgement. It is measured beside the restarts and during them, in
the same run: `http` restarts the engines, `local` the processes. In the end every acknowledged write must be on every node.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parent))

import itertools

from systems import BIN, ROOT, WORK, BenchError, is_taken
from writing import WriterThreads, missing

NODES = 3
WRITERS = 3
BESIDE_S = 8.0
"""So long before and after each restart the writers are measured alone."""
SETTLE_S = 2.0
"""Nothing is measured so long after the start, while the nodes warm up."""
PAUSE_S = 0.005
"""Between two writes of a writer: a load, not a flood."""
RETRY_S = 0.01
"""Before a writer tries again what was not acknowledged."""
REQUEST_S = 5.0
"""No answer for so long counts as a failed request."""
Span: TypeAlias = tuple[float, float]
"""Begin and end, in seconds of the monotonic clock."""


class Sandbox:
    """What `raftctl dev up` starts, in a directory of its own. `urls[i]` is where node `i + 1` answers."""

    def __init__(self) -> None:
        self.directory = WORK / "data" / f"rolling-{os.getpid()}"
        base = _free_base()
        self.urls = [f"http://127.0.0.1:{base + number}" for number in range(NODES)]
        self._base = base

    def __enter__(self) -> Self:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        try:
            self.raftctl("dev", "up", "--base-port", str(self._base))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.raftctl("dev", "down", must=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def raftctl(self, *words: str, must: bool = True) -> dict[str, object]:
        """Run a command and return its data. Raises: BenchError: it `must` succeed and does not."""
        place = {
            "PYTHONPATH": str(ROOT),
            "RAFTCTL_STATE": str(self.directory / "raftctl"),
            "RAFTCTL_CONFIG": str(self.directory / "config.toml"),
            "RAFTCTL_DEV_DIR": str(self.directory / "dev"),
        }
        command = [str(BIN / "python"), "-m", "raftctl", *words, "--yes", "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **place})
        if done.returncode != 0 and must:
            raise BenchError(f"raftctl {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        data: dict[str, object] = json.loads(done.stdout)["data"] if done.returncode == 0 else {}
        return data


class Writers(WriterThreads):
    """Threads that write one value after the other.

    `took`: begin and end of each acknowledged write; `failed`: when an attempt was not acknowledged, and why.
    """

    def __init__(self, urls: Sequence[str], count: int) -> None:
        self.took: list[Span] = []
        self.failed: list[tuple[float, str]] = []
        super().__init__(count)
        self._doors = [url.removeprefix("http://") for url in urls]

    def _write(self, writer: int) -> None:
        client = Client(self._doors)
        number = 0
        while not self._stop.is_set():
            key, value = f"load/{writer}-{number}", f"{writer}-{number}-".encode().ljust(200, b"v")
            begun = time.monotonic()
            while (why := client.put(key, value)) is not None:
                self.failed.append((time.monotonic(), why))
                if self._stop.is_set():
                    return
                time.sleep(RETRY_S)
            self.took.append((begun, time.monotonic()))
            self.acknowledged[key] = value
            number += 1
            time.sleep(PAUSE_S)


class Client:
    """One connection, kept to the node that acknowledged last."""

    def __init__(self, doors: Sequence[str]) -> None:
        self._doors = doors
        self._at = 0
        self._connection: http.client.HTTPConnection | None = None

    def put(self, key: str, value: bytes) -> str | None:
        """Try once; return None if it is acknowledged, else why not, and be ready to try elsewhere."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._doors[self._at], timeout=REQUEST_S)
            self._connection.request("PUT", f"/v1/kv/{key}", value)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._go((self._at + 1) % len(self._doors))
            return type(error).__name__
        if answer.status < 300:
            return None
        problem = json.loads(text)
        self._go(_pointed_to(problem, self._at, len(self._doors)))
        return str(problem.get("code", answer.status))

    def _go(self, at: int) -> None:
        self._at = at
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _pointed_to(problem: dict[str, object], at: int, count: int) -> int:
    leader = problem.get("leader")
    node = leader.get("id") if isinstance(leader, dict) else None
    return int(node) - 1 if isinstance(node, int) and node - 1 != at else (at + 1) % count


def _free_base() -> int:
    """Return a port with room above it, for management and for peers (100 above)."""
    for base in range(21_000, 30_000, 200):
        ports = [base + offset + number for offset in (0, 100) for number in range(NODES)]
        if not any(is_taken(port) for port in ports):
            return base
    raise BenchError("no ports are free")


def measure(rounds: int, writers: int, beside_s: float) -> dict[str, object]:
    """Return what writers saw beside the restarts and during those by each driver."""
    spans: dict[str, list[Span]] = {"beside": [], "http": [], "local": []}
    with Sandbox() as system:
        with Writers(system.urls, writers) as load:
            time.sleep(SETTLE_S)
            for _ in range(rounds):
                for driver in ("http", "local"):
                    begun = time.monotonic()
                    time.sleep(beside_s)
                    spans["beside"].append((begun, time.monotonic()))
                    begun = time.monotonic()
                    system.raftctl("rolling-restart", "--driver", driver)
                    spans[driver].append((begun, time.monotonic()))
            begun = time.monotonic()
            time.sleep(beside_s)
            spans["beside"].append((begun, time.monotonic()))
        lost = sum(missing(url, load.acknowledged) for url in system.urls)
        return {
            "writers": writers,
            "rounds": rounds,
            **{name: seen(load, among) for name, among in spans.items()},
            "acknowledged": len(load.acknowledged),
            "lost": lost,
        }


def seen(load: Writers, spans: Sequence[Span]) -> dict[str, object]:
    """Return what the writers saw within the spans: latencies and gaps in milliseconds, failed requests by reason."""
    ordered = sorted((end - begun) * 1000 for begun, end in load.took if _within(begun, spans))
    if not ordered:
        raise BenchError("not one write was acknowledged")
    reasons = Counter(why for at, why in load.failed if _within(at, spans))
    return {
        "seconds": [round(end - begun, 1) for begun, end in spans],
        "writes": len(ordered),
        "p50_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 1),
        "max_ms": round(ordered[-1], 1),
        "longest_gaps_ms": [round(max(gaps(load, span)) * 1000) for span in spans],
        "failed": dict(reasons),
        "failed_per_round": round(reasons.total() / len(spans), 1),
    }


def gaps(load: Writers, span: Span) -> list[float]:
    """Return the times between one acknowledgement and the next, whoever the writer, in seconds."""
    ends = sorted([*span, *(end for _, end in load.took if span[0] <= end <= span[1])])
    return [after - before for before, after in itertools.pairwise(ends)]


def _within(at: float, spans: Sequence[Span]) -> bool:
    return any(begun <= at <= end for begun, end in spans)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=4, help="restarts of the whole cluster by each driver (default 4)")
    parser.add_argument("--writers", type=int, default=WRITERS, help=f"writing at once (default {WRITERS})")
    parser.add_argument("--quick", action="store_true", help="one round, measured alone for 3 s beside it")
    options = parser.parse_args()
    try:
        result = measure(1 if options.quick else options.rounds, options.writers, 3.0 if options.quick else BESIDE_S)
    except BenchError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2))
    return 0 if result["lost"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
