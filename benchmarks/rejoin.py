"""Rebuilding a node under load: how long `raftctl rejoin-node` takes, and what writers notice of it.

    python benchmarks/rejoin.py                     200 MB of values, three rounds
    python benchmarks/rejoin.py --megabytes 20      less of them

Three nodes on loopback with their logs purged, so that only a snapshot helps. Two writers put small values all the time; their
latency is measured beside the rejoins and during them, in the same run. Each round rebuilds a follower, and in the end
every acknowledged write must be on the node that was rebuilt last.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from systems import BIN, BenchError, Ours, call
from writing import WriterThreads, missing

VALUE_BYTES = 100_000
BATCH = 20
BESIDE_S = 10.0
"""So long before and after each rejoin the writers are measured alone."""
PAUSE_S = 0.002
"""Between two writes of a writer: a load, not a flood."""


class Writers(WriterThreads):
    """Two threads that put small values to the leader. `took`: when each write began, and how long it took, in seconds."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.took: list[tuple[float, float]] = []
        super().__init__(2)

    def _write(self, writer: int) -> None:
        at = number = 0
        while not self._stop.is_set():
            key, value = f"load/{writer}-{number}", b"v" * 200
            request = urllib.request.Request(f"{self.urls[at]}/v1/kv/{key}", value, method="PUT")
            begun = time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=10):
                    self.took.append((begun, time.monotonic() - begun))
            except (urllib.error.URLError, OSError):
                at = (at + 1) % len(self.urls)
                time.sleep(0.02)
                continue
            self.acknowledged[key] = value
            number += 1
            time.sleep(PAUSE_S)


def fill(leader: str, megabytes: int) -> None:
    """Put so many megabytes of values that cannot be compressed."""
    for number in range(megabytes * 1_000_000 // VALUE_BYTES // BATCH):
        values = [base64.b64encode(os.urandom(VALUE_BYTES)).decode() for _ in range(BATCH)]
        ops = [{"op": "put", "key": f"big/{number}-{at}", "value_base64": value} for at, value in enumerate(values)]
        call(f"{leader}/v1/kv", {"ops": ops}, timeout_s=60)


def raftctl(system: Ours, *arguments: str) -> dict[str, object]:
    """Run a command that must succeed; return its data."""
    endpoints = [word for url in system.urls for word in ("-e", url)]
    state = {**system.environment(), "RAFTCTL_STATE": str(system.directory / "raftctl")}
    command = [str(BIN / "python"), "-m", "raftctl", *arguments, *endpoints, "--yes", "--timeout", "300s", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=state)
    if done.returncode != 0:
        raise BenchError(f"raftctl {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    data: dict[str, object] = json.loads(done.stdout)["data"]
    return data


def measure(megabytes: int, rounds: int) -> dict[str, object]:
    """Return the seconds of each rejoin, the writers' latencies, and the last receipt."""
    with Ours() as system:
        leader = system.leader()
        fill(system.urls[leader], megabytes)
        raftctl(system, "snapshot", "--all")
        raftctl(system, "purge-log", "--upto", str(10**9), "--all")
        cluster = str(call(f"{system.urls[leader]}/v1/status")["cluster"])
        spans: list[tuple[float, float]] = []
        receipts: list[dict[str, object]] = []
        with Writers(system.urls) as writers:
            for number in range(rounds):
                time.sleep(BESIDE_S)
                node = (leader + 1 + number % 2) % 3 + 1
                begun = time.monotonic()
                receipts.append(raftctl(system, "rejoin-node", str(node), "--confirm", cluster))
                spans.append((begun, time.monotonic()))
            time.sleep(BESIDE_S)
        lost = missing(system.urls[node - 1], writers.acknowledged)
        during = [took for begun, took in writers.took if any(a <= begun <= b for a, b in spans)]
        beside = [took for begun, took in writers.took if not any(a <= begun <= b for a, b in spans)]
        return {
            "megabytes": megabytes,
            "rejoin_s": [round(end - begun, 2) for begun, end in spans],
            "catch_up_s": [receipt["catch_up"]["seconds"] for receipt in receipts],  # type: ignore[index]
            "write_ms_beside": summary(beside),
            "write_ms_during": summary(during),
            "acknowledged": len(writers.acknowledged),
            "lost": lost,
            "receipt": receipts[-1],
        }


def summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return {
        "count": len(ordered),
        "median": round(statistics.median(ordered) * 1000, 2),
        "p99": round(at99 * 1000, 2),
        "max": round(ordered[-1] * 1000, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--megabytes", type=int, default=200, help="of values in the store (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="nodes that are rebuilt, one after the other (default 3)")
    options = parser.parse_args()
    try:
        result = measure(options.megabytes, options.rounds)
    except BenchError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2))
    return 0 if result["lost"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
