"""A soak: three nodes on disk under a mixed load with faults, every answer checked, and a look at whether anything grows.

    python benchmarks/soak.py --minutes 60     what docs/performance.md reports
    python benchmarks/soak.py --minutes 1      does it run?

The load is moderate and steady (`--rate` operations a second: puts, compare-and-sets, deletes, batches, linearizable and lease
reads), so that what is seen is growth and not a machine at its limit. Every `--every` seconds something happens: kill -9 of a
follower or the leader and a restart, a process that stands still for a second, leadership handed over, a snapshot, a purge, a
node rebuilt. In the end each node must hold exactly what was acknowledged, and its data directory must be sound.

Ends with 0 if nothing was lost or wrong, and nothing grows; latencies are reported, not judged. The samples go to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.soak_faults import TROUBLE, Faults
from benchmarks.soak_load import Held, MixedLoad, differences
from benchmarks.soak_samples import (
    BOUNDS,
    JUDGED_FROM_MINUTES,
    MINUTE_S,
    Growth,
    Latencies,
    Sample,
    by_minute,
    growth,
    look,
    percentile,
)
from benchmarks.surroundings import RESULTS, about, end_on_sigterm
from tests.acceptance.cluster import QUICK, Cluster, Node

SAMPLE_EVERY_S: Final = 5.0
LISTED_MAX: Final = 20
ROWS_MAX: Final = 12
"""Lines of the table of minutes; a long run shows every so many minutes."""


@dataclass
class Soak:
    """What a soak did and saw."""

    minutes: float
    rate: float
    seed: int
    about: dict[str, object] = field(default_factory=about)
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    latencies: Latencies = field(default_factory=Latencies)
    faults: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    again: int = 0
    keys: int = 0
    lost: list[str] = field(default_factory=list)
    """What a node has otherwise than it was acknowledged, in the end."""
    wrong: list[str] = field(default_factory=list)
    """Answers that were not what they had to be."""
    failures: list[str] = field(default_factory=list)
    """Whatever else did not do what it should."""

    @property
    def is_judged(self) -> bool:
        return self.minutes >= JUDGED_FROM_MINUTES

    @property
    def growths(self) -> list[Growth]:
        return [
            growth(node, name, samples, self.minutes) for name in BOUNDS for node, samples in sorted(self.samples.items())
        ]

    @property
    def is_good(self) -> bool:
        grows = self.is_judged and any(each.grows for each in self.growths)
        return not (self.lost or self.wrong or self.failures or grows)


class Watcher:
    """As a context: looks at every node's process every few seconds."""

    def __init__(self, cluster: Cluster, epoch: float, samples: dict[int, list[Sample]]) -> None:
        self._cluster = cluster
        self._epoch = epoch
        self._samples = samples
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            for node in self._cluster:
                process = node.process
                if process is None:
                    continue
                sample = look(process.pid, node.data, time.monotonic() - self._epoch)
                if sample is not None:
                    self._samples.setdefault(node.node_id, []).append(sample)


def soak(directory: Path, minutes: float, rate: float, every_s: float, seed: int, faults_max: int = sys.maxsize) -> Soak:
    """Run a soak in `directory` for so many minutes, or until so many faults were done; return what it saw."""
    seen = Soak(minutes, rate, seed)
    cluster = Cluster(directory, **QUICK)
    try:
        cluster.begin()
        epoch = time.monotonic()
        load = MixedLoad({node.url.removeprefix("http://"): node.node_id for node in cluster}, rate, seed, epoch)
        faults = Faults(cluster, seed)
        try:
            with Watcher(cluster, epoch, seen.samples), load:
                until = epoch + minutes * MINUTE_S
                while seen.faults.total() < faults_max and _rest(every_s, until) and not load.wrong:
                    begun = time.monotonic()
                    kind = faults.next()
                    seen.faults[kind] += 1
                    at, took_s = (begun - epoch) / MINUTE_S, time.monotonic() - begun
                    operations = load.done.total()
                    print(
                        f"minute {at:5.1f}: {kind}, whole again after {took_s:.1f} s; {operations:,} operations", flush=True
                    )
        finally:
            seen.done, seen.again, seen.latencies = load.done, load.again, load.latencies
            seen.wrong += load.wrong
            seen.keys = len(load.held)
        _check(cluster, load.held, seen)
    except TROUBLE as error:
        seen.failures.append(f"the cluster does not do what it should: {error}")
    finally:
        cluster.end()
    return seen


def _rest(seconds: float, until: float) -> bool:
    """Let the load run for a while; return whether there is time left."""
    time.sleep(max(0.0, min(seconds, until - time.monotonic())))
    return time.monotonic() < until


def _check(cluster: Cluster, held: dict[str, Held], seen: Soak) -> None:
    """Hold what was acknowledged against what each node has by itself, and look into its directory."""
    cluster.settled()
    wanted = {key: each for key, each in held.items() if each.value is not None}
    for node in cluster:
        seen.lost += [f"node {node.node_id}: {what}" for what in differences(wanted, dict(_items(node)))]
        fatal, alarms = (node.status()[name] for name in ("fatal", "alarms"))
        if fatal or alarms:
            seen.failures.append(f"node {node.node_id} ends with fatal {fatal}, alarms {alarms}")
    cluster.raftctl("verify", "digest")
    for node in cluster:
        if node.terminate() != 0:
            seen.failures.append(f"node {node.node_id} did not end cleanly")
        command = [sys.executable, "-m", "raft_engine", "inspect", str(node.data)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            seen.failures.append(f"inspect of node {node.node_id} ended with {ran.returncode}: {ran.stdout}{ran.stderr}")


def _items(node: Node) -> Iterator[tuple[str, Held]]:
    after: str | None = ""
    while after is not None:
        params = {"prefix": "s", "limit": "500", "consistency": "stale"} | ({"after": after} if after else {})
        page = node.client.get("/v1/kv", params=params).json()
        for item in page["items"]:
            yield item["key"], Held(base64.b64decode(item["value_base64"]), item["revision"])
        after = page["next"]


# -- what is said ----------------------------------------------------------------------------------------------------------


def minute_rows(seen: Soak) -> list[str]:
    """Return the minutes as a table: each node's figures as node 1 / 2 / 3, latencies of all nodes together."""
    nodes = sorted(seen.samples)
    figures = {(node, name): dict(by_minute(seen.samples[node], name)) for node in nodes for name in BOUNDS}
    minutes = sorted({minute for values in figures.values() for minute in values})
    step = max(1, -(-len(minutes) // ROWS_MAX))
    rows = [
        "| minute | RSS, MiB | open files | threads | disk, MiB | writes p50 / p99, ms | reads p50 / p99, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for minute in minutes[::step]:
        cells = [" / ".join(_cell(figures[node, name].get(minute)) for node in nodes) for name in BOUNDS]
        for is_write in (True, False):
            values = seen.latencies.of(minute=minute, is_write=is_write)
            cells.append(" / ".join(f"{1000 * percentile(values, share):.1f}" for share in (0.5, 0.99)))
        rows.append(f"| {minute} | " + " | ".join(cells) + " |")
    return rows


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def verdict_rows(seen: Soak) -> list[str]:
    """Return each figure's growth over the second half as a table."""
    rows = [
        "| figure | node | second half begins | median | ends | rise of its line | allowed | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in seen.growths:
        verdict = "GROWS" if each.grows else "flat"
        if not seen.is_judged:
            verdict = "not judged"
        elif not each.is_judged:
            verdict = f"not judged: {each.restarts} restarts"
        unit = BOUNDS[each.name].unit
        rows.append(
            f"| {each.name} | {each.node} | {each.first:.1f} | {each.median:.1f} | {each.last:.1f} | {each.rise:+.2f} {unit} "
            f"| {each.allowed:.1f} | {verdict} |"
        )
    return rows


def lines(seen: Soak) -> list[str]:
    writes, reads = (seen.latencies.of(is_write=is_write) for is_write in (True, False))
    found = [
        "",
        *minute_rows(seen),
        "",
        *verdict_rows(seen),
        "",
        f"seed            {seen.seed}",
        f"operations      {seen.done.total():,}: "
        + ", ".join(f"{count:,} {kind}" for kind, count in sorted(seen.done.items())),
        f"asked again     {seen.again:,}",
        "faults          " + ", ".join(f"{count} {kind}" for kind, count in sorted(seen.faults.items())),
        f"writes          p50 {1000 * percentile(writes, 0.5):.1f} ms, p99 {1000 * percentile(writes, 0.99):.1f} ms",
        f"reads           p50 {1000 * percentile(reads, 0.5):.1f} ms, p99 {1000 * percentile(reads, 0.99):.1f} ms",
        "processor       "
        + ", ".join(f"node {node}: {share:.0%}" for node, share in cpu_shares(seen).items())
        + " of a core",
        f"keys checked    {seen.keys:,} on each node",
        f"LOST            {len(seen.lost)}",
        f"WRONG ANSWERS   {len(seen.wrong)}",
        f"FAILURES        {len(seen.failures)}",
    ]
    for title, sentences in (("lost", seen.lost), ("wrong", seen.wrong), ("failure", seen.failures)):
        found += [f"{title}: {sentence}" for sentence in sentences[:LISTED_MAX]]
    growing = [f"{each.name} of node {each.node}" for each in seen.growths if each.grows]
    if not seen.is_judged:
        found.append(f"growth is judged from {JUDGED_FROM_MINUTES} minutes on")
    else:
        found.append(f"GROWS: {', '.join(growing)}" if growing else "flat: nothing grows")
    return found


def cpu_shares(seen: Soak) -> dict[int, float]:
    """Return the processor time of each node per second, the median over pairs of samples of one process."""
    shares: dict[int, float] = {}
    for node, samples in sorted(seen.samples.items()):
        steps = [
            (later.cpu_s - earlier.cpu_s) / (later.at_s - earlier.at_s)
            for earlier, later in pairwise(samples)
            if later.cpu_s >= earlier.cpu_s
        ]
        shares[node] = statistics.median(steps) if steps else 0.0
    return shares


def document(seen: Soak) -> dict[str, Any]:
    """Everything that was seen, for the file of results; latencies as counts and percentiles by minute and node."""
    latencies = [
        {
            "minute": minute,
            "node": node,
            "what": "write" if is_write else "read",
            "count": len(values),
            "p50_ms": round(1000 * percentile(values, 0.5), 2),
            "p99_ms": round(1000 * percentile(values, 0.99), 2),
            "max_ms": round(1000 * max(values), 2),
        }
        for (minute, node, is_write), values in sorted(seen.latencies.seconds.items())
    ]
    return {
        "about": {**seen.about, "minutes": seen.minutes, "rate": seen.rate, "seed": seen.seed},
        "is_good": seen.is_good,
        "done": dict(seen.done),
        "asked_again": seen.again,
        "faults": dict(seen.faults),
        "keys": seen.keys,
        "lost": seen.lost,
        "wrong": seen.wrong,
        "failures": seen.failures,
        "growth": [{**asdict(each), "grows": each.grows} for each in seen.growths],
        "latencies": latencies,
        "samples": {str(node): [asdict(sample) for sample in samples] for node, samples in seen.samples.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the load runs (default 60)")
    parser.add_argument("--rate", type=float, default=150.0, help="operations a second (default 150)")
    parser.add_argument("--every", type=float, default=20.0, metavar="SECONDS", help="between two faults (default 20)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31), help="of load and faults (default: random)")
    parser.add_argument("--directory", type=Path, default=ROOT / ".bench" / "soak", help="where the nodes live")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir(parents=True)
    end_on_sigterm()
    every_s = min(options.every, options.minutes * MINUTE_S / 10)
    print(f"seed {options.seed}, {options.minutes:g} minutes at {options.rate:g} operations a second", flush=True)
    seen = soak(options.directory, options.minutes, options.rate, every_s, options.seed)
    print("\n".join(lines(seen)))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"soak-{time.strftime('%Y%m%d-%H%M', time.gmtime())}.json"
    file.write_text(json.dumps(document(seen), indent=1) + "\n", "utf-8")
    print(f"written: {file.relative_to(ROOT)}")
    if seen.is_good:
        shutil.rmtree(options.directory)
        return 0
    print(f"the nodes' directories and logs are kept in {options.directory}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
