"""Where the time of a lone put goes, step by step: leader, deciding follower, disk and wake-ups, ours beside the upper bound.

    python benchmarks/timeline.py
    python benchmarks/timeline.py --rounds 5 --seconds 1

One connection puts as fast as answers come; perf notes when the nodes and the generator enter and leave which system call. The deciding
follower of a put is the one whose answer leaves first. Each system runs alone, one after the other. Needs root and perf (Debian: linux-perf),
which slows a put: the last two rows tell how much. Source: perf's tracepoints.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from load import wrk
from systems import BenchError, System, ours_and_the_bound

T = TypeVar("T")
STEPS = (
    "the request, until the leader reads it",
    "leader: from its read to its first message",
    "the message, until the follower reads it",
    "follower: from its read to its log's write",
    "follower: writing",
    "follower: fdatasync",
    "follower: from the sync to its answer",
    "the answer, until the leader reads it",
    "leader: from its read to its reply, or until it has synced itself",
    "the reply, until the next request",
)
CALLS = ("enter_read", "enter_write", "enter_pwrite64", "enter_fdatasync", "exit_fdatasync")
_LINE = re.compile(r"\s*(\d+)\s+([\d.]+):\s+syscalls:sys_(\w+):\s+(?:fd: (0x[0-9a-f]+))?")


@dataclass(frozen=True)
class Call:
    """A thread entered or left a system call. `at_us`: of one clock; `file`: the descriptor, where it was noted."""

    at_us: float
    thread: int
    name: str
    file: int | None = None


@dataclass(frozen=True)
class Threads:
    """Whose calls are whose. `followers`: the threads of each; its first thread talks to the others, as the leader's one does."""

    generator: int
    leader: int
    client_file: int
    followers: Sequence[Sequence[int]]


@dataclass
class Seen:
    """Microseconds of each step of each put; of a put while nobody looks."""

    steps: list[list[float]] = field(default_factory=list)
    alone_us: list[float] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long perf looks, in each round")
    options = parser.parse_args()
    seen: dict[str, Seen] = {}
    try:
        systems = ours_and_the_bound()
        for _ in range(options.rounds):
            for name, make in systems.items():
                with make() as system:
                    _look(system, options.seconds, seen.setdefault(name, Seen()))
    except BenchError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(seen)))
    return 0


def table(seen: dict[str, Seen]) -> list[str]:
    """Return medians, in microseconds, as the lines of a table."""
    lines = ["| a lone put, µs | " + " | ".join(seen) + " |", "|---" * (len(seen) + 1) + "|"]
    rows = {
        step: [statistics.median(put[number] for put in one.steps) for one in seen.values()]
        for number, step in enumerate(STEPS)
    }
    rows["**a put**"] = [statistics.median(map(sum, one.steps)) for one in seen.values()]
    rows["a put, perf not looking"] = [statistics.median(one.alone_us) for one in seen.values()]
    lines += [f"| {step} | " + " | ".join(f"{value:.0f}" for value in values) + " |" for step, values in rows.items()]
    return [*lines, "", ", ".join(f"{name}: {len(one.steps):,} puts" for name, one in seen.items())]


def steps_of_puts(calls: Iterable[Call], threads: Threads) -> list[list[float]]:
    """Return how long each step took, of every put that was seen whole."""
    found = []
    put: list[Call] = []
    for call in sorted(calls, key=lambda one: one.at_us):
        if put and (call.thread, call.name) == (threads.generator, "enter_write"):
            ends = _ends(put, threads)
            if ends:
                moments = [put[0].at_us, *ends, call.at_us]
                found.append([later - before for before, later in pairwise(moments)])
            put = [call]
        elif put or (call.thread, call.name) == (threads.generator, "enter_write"):
            put.append(call)
    return found


def _ends(put: Sequence[Call], threads: Threads) -> list[float] | None:
    """Return when each step but the last ended; None: something of it was not seen."""

    def first(
        after: float, who: Iterable[int], name: str, told: Callable[[int | None], bool] = lambda _: True
    ) -> float | None:
        return next((c.at_us for c in put if c.at_us > after and c.thread in who and c.name == name and told(c.file)), None)

    def is_client(file: int | None) -> bool:
        return file == threads.client_file

    leader = [threads.leader]
    taken = first(put[0].at_us, leader, "enter_read", is_client)
    sent = taken and first(taken, leader, "enter_write", lambda file: not is_client(file))
    if not taken or not sent:
        return None
    ways = []
    for talks, *others in threads.followers:
        written = first(sent, others, "enter_pwrite64")
        syncs = written and first(written, others, "enter_fdatasync")
        synced = syncs and first(syncs, others, "exit_fdatasync")
        answered = synced and first(synced, [talks], "enter_write")
        reads = [c.at_us for c in put if sent < c.at_us < (written or 0) and c.thread == talks and c.name == "enter_read"]
        if written and syncs and synced and answered and reads:
            ways.append((answered, [reads[-1], written, syncs, synced, answered]))
    if not ways:
        return None
    answered, way = min(ways)
    heard = first(answered, leader, "enter_read", lambda file: not is_client(file))
    replied = heard and first(heard, leader, "enter_write", is_client)
    return [taken, sent, *way, heard, replied] if heard and replied else None


def _look(system: System, seconds: float, seen: Seen) -> None:
    leader = system.leader()
    wrk(system, 1, 1)  # what is done once is done
    seen.alone_us.append(1e6 / wrk(system, 1, 2).per_s)
    with ThreadPoolExecutor(1) as beside, tempfile.NamedTemporaryFile() as file:
        load = beside.submit(wrk, system, 1, math.ceil(seconds) + 2)  # wrk takes whole seconds
        try:
            process, generator = _awaited(_generator, "wrk does not run")
            nodes = [node.pid for node in system.processes]
            port = urlsplit(system.urls[leader]).port or 0
            client_file = _awaited(lambda: _file_of_client(nodes[leader], port), f"nobody is connected to port {port}")
            followers = [_threads(pid) for pid in nodes if pid != nodes[leader]]
            _record([process, *nodes], seconds, file.name)
        finally:
            load.result()
        threads = Threads(generator, nodes[leader], client_file, followers)
        seen.steps += steps_of_puts(_calls(file.name), threads)
    if not seen.steps:
        raise BenchError(f"perf saw no whole put of {system.name}")


def _awaited(look: Callable[[], T | None], otherwise: str) -> T:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found = look()
        if found is not None:
            return found
        time.sleep(0.02)
    raise BenchError(otherwise)


def _generator() -> tuple[int, int] | None:
    """Return wrk's process and its thread that sends, the only one beside its first."""
    words = ["ps", "-L", "--ppid", str(os.getpid()), "-o", "pid=,lwp=,comm="]
    rows = [line.split() for line in subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()]
    return next(((int(pid), int(thread)) for pid, thread, name in rows if name == "wrk" and pid != thread), None)


def _threads(pid: int) -> list[int]:
    """Return the process's threads, the first one first."""
    return [pid, *(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if task.name != str(pid))]


def _file_of_client(pid: int, port: int) -> int | None:
    """Return the descriptor of the connection that the process has taken on `port`."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[3] == "01"}
    return next((int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir() if str(file.readlink()) in sockets), None)


def _record(pids: Sequence[int], seconds: float, path: str) -> None:
    perf = shutil.which("perf")
    if perf is None:
        raise BenchError("perf is missing (Debian: apt-get install linux-perf)")
    events = ",".join(f"syscalls:sys_{name}" for name in CALLS)
    words = [perf, "record", "-q", "-m", "16M", "-e", events, "-p", ",".join(map(str, pids)), "-o", path]
    done = subprocess.run([*words, "--", "sleep", str(seconds)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"perf cannot look (it needs root): {done.stderr.strip()}")


def _calls(path: str) -> list[Call]:
    words = ["perf", "script", "-i", path, "-F", "tid,time,event,trace", "--ns"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rows = filter(None, map(_LINE.match, text.splitlines()))
    return [Call(float(row[2]) * 1e6, int(row[1]), row[3], int(row[4], 16) if row[4] else None) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
