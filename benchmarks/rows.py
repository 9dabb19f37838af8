"""What is measured, beside whom, and what is wanted: one function a row.

A row runs its systems in turns, several rounds, and gives for each system its samples; the ratio is made round by round, so that a
machine that drifts drifts for both. Under a closed loop the processes of whoever is not measured stand still. Goals are ratios inside
one run, because shared machines are only comparable with themselves.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from load import Gap, h2load_put, open_loop, wrk, wrk_on_all
from systems import BIN, COMPILED, SKELETON, WORK, BenchError, Etcd, Ours, Skeleton, System, call, etcd_binaries, is_compiled

HERE = Path(__file__).resolve().parent
COMPILED_NAME = "ours compiled"
SETTLES_WITHIN_S = 30
MEMORY_GOAL = "80 MiB"


@dataclass
class Options:
    rounds: int
    seconds: float
    repetitions: int


Group = Callable[[Options], Iterator["Row"]]


@dataclass
class Row:
    """`samples[name]`: one number a round. `ours` is compared with each peer: `goal` is the least (or, `below`: the most) ratio."""

    name: str
    unit: str
    goals: dict[str, float]
    below: bool = False
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        self.samples.setdefault(name, []).append(value)

    def ratios(self, peer: str) -> list[float]:
        pairs = zip(self.samples["ours"], self.samples[peer], strict=False)
        return [ours / theirs for ours, theirs in pairs if theirs]

    def ratio(self, peer: str) -> float:
        return statistics.median(self.ratios(peer))

    def is_met(self, peer: str) -> bool:
        ratio, goal = self.ratio(peer), self.goals[peer]
        return ratio <= goal if self.below else ratio >= goal


def turns(systems: list[str], rounds: int) -> Iterator[str]:
    """Yield whose turn it is: every round has everybody once, each time somebody else first. A terminal shows how far it is."""
    for number in range(rounds):
        shift = number % len(systems)
        for name in systems[shift:] + systems[:shift]:
            if sys.stderr.isatty():
                print(f"\r\x1b[K   round {number + 1} of {rounds}: {name}", end="", file=sys.stderr, flush=True)
            yield name
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def _alone(systems: dict[str, System], name: str) -> Iterator[System]:
    """Have one system run and the others stand still: their heartbeats and compactions would be charged to it."""
    for other, system in systems.items():
        if other != name:
            system.pause()
    chosen = systems[name]
    chosen.go_on()
    try:
        until = time.monotonic() + SETTLES_WITHIN_S
        chosen.leader()
        while wrk(chosen, 16, 1).bad:  # standing still it lost its leader
            if time.monotonic() > until:
                raise BenchError(f"{name} does not take writes {SETTLES_WITHIN_S} s after it stood still")
        yield chosen
    finally:
        for system in systems.values():
            system.go_on()


def _peers(stack: ExitStack, timeouts: tuple[int, int] | None = None, *, compiled: bool = False) -> dict[str, System]:
    """Start ours, every etcd there is and, if asked for, the compiled build where it was made."""
    binaries = etcd_binaries()
    if not binaries:
        raise BenchError("there is no etcd (Debian: apt-get install etcd-server; or sh benchmarks/install.sh)")
    systems: dict[str, System] = {"ours": stack.enter_context(Ours(timeouts))}
    if compiled and is_compiled():
        systems[COMPILED_NAME] = stack.enter_context(Ours(timeouts, tree=COMPILED))
    for version, binary in binaries.items():
        systems[f"etcd {version}"] = stack.enter_context(Etcd(binary, timeouts))
    return systems


def _compiled_too(group: Group) -> Group:
    """Have each row followed by the same one with the compiled build in the place of ours, where that was measured."""

    @functools.wraps(group)
    def measured(options: Options) -> Iterator[Row]:
        for row in group(options):
            compiled = row.samples.pop(COMPILED_NAME, None)
            yield row
            if compiled is not None:
                others = {name: values for name, values in row.samples.items() if name != "ours"}
                name = f"{row.name}; the compiled build"
                yield Row(name, row.unit, row.goals, row.below, {"ours": compiled, **others}, row.notes)

    return measured


def _best(row: Row, names: list[str], *, most: bool = True) -> None:
    """Add the samples of the better etcd of each round."""
    pick = max if most else min
    row.samples["best etcd"] = [pick(values) for values in zip(*(row.samples[name] for name in names), strict=False)]


@_compiled_too
def puts(options: Options) -> Iterator[Row]:
    """PUT over HTTP at 1, 16, 64 and 256 connections: rate, and the 99th percentile at 64; memory afterwards."""
    goals = {1: 1.5, 16: 3.0, 64: 4.0, 256: 4.0}
    latency = Row("p99 of a PUT at 64 connections", "ms", {"best etcd": 0.5}, below=True)
    share = Row("PUT/s at 64 connections beside an upper bound without Raft", "1/s", {"upper bound": 0.5})
    with ExitStack() as stack:
        systems = _peers(stack, compiled=True)
        if SKELETON.exists():
            systems["upper bound"] = stack.enter_context(Skeleton())
        etcds = [name for name in systems if name.startswith("etcd")]
        for connections, goal in goals.items():
            row = Row(f"PUT/s over HTTP, {connections} connection{'s' * (connections > 1)}", "1/s", {"best etcd": goal})
            grpc = connections >= 64
            for name in turns(list(systems), options.rounds):
                with _alone(systems, name) as system:
                    seen = wrk(system, connections, options.seconds)
                    if grpc and name in etcds:
                        row.add(f"{name} gRPC", h2load_put(system, connections, options.seconds).per_s)
                row.add(name, seen.per_s)
                if seen.bad:
                    row.notes.append(f"{name}: {seen.bad} answers were no success")
                if connections == 64 and name != "upper bound":
                    latency.add(name, seen.p99_ms)
                if connections == 64 and name in {"ours", "upper bound"}:
                    share.add(name, seen.per_s)
            _best(row, etcds)
            if grpc:
                row.samples["best etcd gRPC"] = [
                    max(values) for values in zip(*(row.samples[f"{name} gRPC"] for name in etcds), strict=False)
                ]
                row.goals["best etcd gRPC"] = 2.0
            yield row
        _best(latency, etcds, most=False)
        yield latency
        if "upper bound" in share.samples:
            yield share
        memory = Row("memory of a node after these loads (largest of three)", "MiB", {MEMORY_GOAL: 1.0}, below=True)
        memory.add(MEMORY_GOAL, 80.0)
        for name, system in systems.items():
            if name != "upper bound":
                memory.add(name, max(system.rss_mib()))
        yield memory


@_compiled_too
def batches(options: Options) -> Iterator[Row]:
    """100 puts in one atomic request, 8 requests under way."""
    row = Row("puts/s in atomic batches of 100, 8 outstanding", "1/s", {"best etcd": 1.5})
    with ExitStack() as stack:
        systems = _peers(stack, compiled=True)
        for name in turns(list(systems), options.rounds):
            with _alone(systems, name) as system:
                seen = wrk(system, 8, options.seconds, BATCH=100)
            row.add(name, seen.per_s * 100)
            if seen.bad:
                row.notes.append(f"{name}: {seen.bad} answers were no success")
        _best(row, [name for name in systems if name.startswith("etcd")])
    row.notes.append("goal besides the ratio: 80,000 puts/s on the machine of the design's measurements")
    yield row


@_compiled_too
def reads(options: Options) -> Iterator[Row]:
    """Linearizable GET, 64 connections, on the leader, on a follower, and spread over all nodes."""
    with ExitStack() as stack:
        systems = _peers(stack, compiled=True)
        for system in systems.values():
            for _ in range(2):  # random keys: nearly all of 1,000 are there after twice 1 s
                wrk(system, 64, 1.0, KEYS=1000)
        for where in ("on the leader", "on a follower", "spread over all nodes"):
            row = Row(f"linearizable GET/s, 64 connections, {where}", "1/s", {"best etcd": 3.0})
            for name in turns(list(systems), options.rounds):
                with _alone(systems, name) as system:
                    if where == "spread over all nodes":
                        seen = wrk_on_all(system, 64, options.seconds, ACTION="get", KEYS=1000)
                    else:
                        node = system.leader() if where == "on the leader" else (system.leader() + 1) % 3
                        seen = wrk(system, 64, options.seconds, url=system.urls[node], ACTION="get", KEYS=1000)
                row.add(name, seen.per_s)
                if seen.bad:
                    row.notes.append(f"{name}: {seen.bad} answers were no success")
            _best(row, [name for name in systems if name.startswith("etcd")])
            yield row


TIMEOUTS = (20, 200)
"""Heartbeat and election timeout in ms, the same for both sides."""


def failover(options: Options) -> Iterator[Row]:
    """kill -9 of the leader: how long no write succeeds, seen by an open loop at the two other nodes."""

    def act(system: System, leader: int) -> tuple[Callable[[], None], list[int]]:
        return (lambda: system.kill(leader)), [n for n in range(3) if n != leader]

    yield from _gaps("kill -9 of the leader", options, act, 0.8, restart=True)


def transfer(options: Options) -> Iterator[Row]:
    """Leadership handed over on request, seen by an open loop at all nodes."""

    def act(system: System, leader: int) -> tuple[Callable[[], None], list[int]]:
        return (lambda: system.transfer((leader + 1) % 3)), [0, 1, 2]

    yield from _gaps("planned transfer of leadership", options, act, 1.0, restart=False)


def _gaps(
    what: str,
    options: Options,
    act: Callable[[System, int], tuple[Callable[[], None], list[int]]],
    goal: float,
    *,
    restart: bool,
) -> Iterator[Row]:
    row = Row(f"{what}: time without a successful write (median)", "ms", {"best etcd": goal}, below=True)
    worst = Row(f"{what}: the same, 99th percentile", "ms", {}, below=True)
    gaps: dict[str, list[Gap]] = {}
    with ExitStack() as stack:
        systems = _peers(stack, TIMEOUTS)
        for name in turns(list(systems), options.repetitions):
            system = systems[name]
            leader = system.leader()
            action, alive = act(system, leader)
            seen = open_loop(system, action, seconds=2.5, alive=alive)
            gaps.setdefault(name, []).append(seen)
            row.add(name, seen.gap_ms)
            if restart:
                system.restart(leader)
                _wait_for_all(system)
        # Gaps are drawn by chance: the smaller of two draws would be nobody's, so the better etcd is the one with the better median.
        etcds = [name for name in systems if name.startswith("etcd")]
        row.samples["best etcd"] = list(min((row.samples[name] for name in etcds), key=statistics.median))
    for name, seen_by in gaps.items():
        times = sorted(gap.gap_ms for gap in seen_by)
        worst.add(name, times[min(len(times) - 1, int(0.99 * len(times)))])
        refused, hung = sum(gap.failed for gap in seen_by), sum(gap.hung for gap in seen_by)
        sent = sum(gap.sent for gap in seen_by)
        row.notes.append(f"{name}: of {sent} requests {refused} were refused or broken, {hung} took over 1 s")
    row.notes.append(f"timeouts of both sides: heartbeat {TIMEOUTS[0]} ms, election {TIMEOUTS[1]} ms")
    yield row
    yield worst


def _wait_for_all(system: System) -> None:
    """Return when every node answers a write or a status again."""
    until = time.monotonic() + 30
    for url in system.urls:
        while time.monotonic() < until:
            try:
                call(
                    f"{url}/v1/status" if system.door == "ours" else f"{url}/v3/maintenance/status",
                    None if system.door == "ours" else {},
                )
                break
            except OSError:
                time.sleep(0.05)
    time.sleep(0.5)


def library(options: Options) -> Iterator[Row]:
    """`client_write` in a program of one's own, 256 outstanding, beside PySyncObj, which does not fsync."""
    row = Row("library writes/s, 256 outstanding", "1/s", {"PySyncObj tuned": 1.5, "PySyncObj defaults": 10.0})
    python = WORK / "venv" / "bin" / "python"
    programs = {
        "ours": [sys.executable, str(HERE / "library_writes.py"), "ours"],
        "PySyncObj tuned": [str(python), str(HERE / "library_writes.py"), "pysyncobj-tuned"],
        "PySyncObj defaults": [str(python), str(HERE / "library_writes.py"), "pysyncobj"],
    }
    if not python.exists():
        raise BenchError("PySyncObj is not installed (sh benchmarks/install.sh)")
    for name in turns(list(programs), options.rounds):
        words = [*programs[name], "--seconds", f"{options.seconds:g}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise BenchError(f"{name} failed: {done.stderr.strip().splitlines()[-1:] or done.stdout}")
        row.add(name, float(done.stdout.split()[-1]))
    row.notes.append("PySyncObj flushes its journal once a second and never calls fsync; ours has every write on two disks")
    yield row


def command_line(options: Options) -> Iterator[Row]:
    """Whole runs of raftctl beside `etcdctl endpoint status`."""
    etcdctl = WORK / "venv" / "bin" / "etcdctl"
    with ExitStack() as stack:
        systems = _peers(stack)
        etcd = next(system for name, system in systems.items() if name.startswith("etcd"))
        ours = systems["ours"]
        program = next((str(path) for path in (Path("/usr/bin/etcdctl"), etcdctl) if path.exists()), None)
        if program is None:
            raise BenchError("etcdctl is missing (Debian: apt-get install etcd-client)")
        raftctl = [str(BIN / "raftctl"), "-e", ours.urls[0]]
        theirs = [program, "--endpoints", etcd.urls[0], "endpoint", "status"]
        for name, words, goal in (
            ("raftctl version", [str(BIN / "raftctl"), "version"], 5.0),
            ("raftctl status -o json", [str(BIN / "raftctl"), "status", "-o", "json", *raftctl[1:]], 8.0),
            ("raftctl health", [str(BIN / "raftctl"), "health", *raftctl[1:]], 15.0),
            ("raftctl: the Tab key", [*TAB_KEY, str(BIN / "raftctl")], 5.0),
            ("raftctl heartbeat", [str(BIN / "raftctl"), "heartbeat", *raftctl[1:]], 15.0),
            ("raftctl --help", [str(BIN / "raftctl"), "--help"], 15.0),
        ):
            row = Row(f"{name}: start to end", "ms", {"etcdctl endpoint status": goal}, below=True)
            for who in turns(["ours", "etcdctl endpoint status"], max(15, options.rounds)):
                row.add(who, _time_ms(words if who == "ours" else theirs))
            yield row


TAB_KEY = ["env", "_RAFTCTL_COMPLETE=complete_bash", "COMP_WORDS=raftctl sta", "COMP_CWORD=1"]


def _time_ms(words: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return 1000 * (time.perf_counter() - begun)


GROUPS: dict[str, Group] = {
    "puts": puts,
    "batches": batches,
    "reads": reads,
    "failover": failover,
    "transfer": transfer,
    "library": library,
    "command-line": command_line,
}
