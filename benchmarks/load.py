"""What is sent to the clusters: closed loops by wrk and h2load, and an open loop that a hung request cannot slow down.

Every generator counts what was not answered as it should be; a measurement with such answers is shown with their number.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from systems import BenchError, System

HANGS_S = 1.0
"""A request that takes longer hangs."""
REDIRECTS_MAX = 5
"""One after the other, as curl and the libraries follow them; they allow for more."""
LUA = Path(__file__).with_name("put.lua")


@dataclass
class Load:
    """What a closed loop saw."""

    per_s: float
    p50_ms: float
    p99_ms: float
    bad: int


def wrk(system: System, connections: int, seconds: float, *, url: str | None = None, **environment: object) -> Load:
    """Send as fast as answers come, over `connections`. `environment` is put.lua's."""
    program = shutil.which("wrk")
    if program is None:
        raise BenchError("wrk is missing (Debian: apt-get install wrk)")
    words = [program, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(LUA)]
    words.append(url or system.urls[system.leader()])
    env = {**os.environ, "DOOR": system.door, **{name: str(value) for name, value in environment.items()}}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=seconds + 60, check=False)
    if done.returncode != 0 or not done.stdout.strip().endswith("}"):
        raise BenchError(f"wrk against {system.name} failed: {done.stderr or done.stdout}")
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    return Load(seen["per_s"], seen["p50_us"] / 1000, seen["p99_us"] / 1000, seen["bad"])


def wrk_on_all(system: System, connections: int, seconds: float, **environment: object) -> Load:
    """As `wrk`, the connections spread evenly over all nodes; the percentiles are those of the slowest node."""
    count = len(system.urls)
    shares = [connections // count + (number < connections % count) for number in range(count)]
    with ThreadPoolExecutor(count) as threads:
        seen = list(threads.map(lambda url, share: wrk(system, share, seconds, url=url, **environment), system.urls, shares))
    return Load(
        sum(load.per_s for load in seen),
        max(load.p50_ms for load in seen),
        max(load.p99_ms for load in seen),
        sum(load.bad for load in seen),
    )


def h2load_put(system: System, connections: int, seconds: float, value_bytes: int = 256) -> Load:
    """Put one key through etcd's gRPC door, `connections` requests under way over as many connections."""
    program = shutil.which("h2load")
    if program is None:
        raise BenchError("h2load is missing (Debian: apt-get install nghttp2-client)")
    key, value = b"key00000001", b"v" * value_bytes
    message = _field(1, key) + _field(2, value)
    with tempfile.NamedTemporaryFile() as frame:
        frame.write(b"\0" + struct.pack(">I", len(message)) + message)
        frame.flush()
        words = [program, f"-c{connections}", "-m1", "-t1", "-D", f"{seconds:g}", "-d", frame.name]
        words += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        words.append(f"{system.urls[system.leader()]}/etcdserverpb.KV/Put")
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 60, check=False)
    rate = re.search(r"finished in [^,]*, ([\d.]+) req/s", done.stdout)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    if rate is None or counts is None:
        raise BenchError(f"h2load against {system.name} failed: {done.stderr or done.stdout}")
    return Load(float(rate[1]), 0.0, 0.0, int(counts[2]) + int(counts[3]))


def _field(number: int, data: bytes) -> bytes:
    """One length-delimited field of a protocol buffer."""
    size = bytearray()
    length = len(data)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes([number << 3 | 2]) + bytes(size) + data


@dataclass
class Gap:
    """What happened to an open loop around an action."""

    gap_ms: float
    """The longest time without an answer that overlaps what came after the action."""
    failed: int
    """Requests that were answered with something else, or whose connection broke."""
    hung: int
    """Requests that took longer than a second."""
    sent: int
    acknowledged: list[float] = field(default_factory=list, repr=False)


def open_loop(
    system: System, action: Callable[[], None], *, seconds: float, every_s: float = 0.004, alive: list[int]
) -> Gap:
    """Send a put every `every_s` to the nodes `alive` in turn, whatever became of the earlier ones; act after 0.5 s.

    Redirects are followed. A refused put is sent again at once to the next node by a new request of the loop, not by the
    generator: what is counted is what a client without cleverness sees. Connections are opened afresh where one broke.
    """
    probe = _Probe(system, alive)
    return asyncio.run(probe.run(action, seconds, every_s))


class _Probe:
    def __init__(self, system: System, alive: list[int]) -> None:
        self._hosts = [system.urls[number].removeprefix("http://").partition(":") for number in alive]
        key, value = "probe", "v" * 256
        if system.door == "etcd":
            body = json.dumps(
                {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value.encode()).decode()}
            )
            line = "POST /v3/kv/put HTTP/1.1"
        else:
            body, line = value, f"PUT /v1/kv/{key}?forward=redirect HTTP/1.1"
        head = f"{line}\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = (head + body).encode()
        self._idle: dict[int, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {n: [] for n in range(len(alive))}
        self._ports = {int(port): position for position, (_, _, port) in enumerate(self._hosts)}
        self.gap = Gap(0.0, 0, 0, 0)

    async def run(self, action: Callable[[], None], seconds: float, every_s: float) -> Gap:
        tasks: set[asyncio.Task[None]] = set()
        start = time.perf_counter()
        acted_at: float | None = None
        acting: threading.Thread | None = None
        number = 0
        while time.perf_counter() - start < seconds:
            if acting is None and time.perf_counter() - start >= 0.5:
                acted_at = time.perf_counter()
                acting = threading.Thread(target=action)
                acting.start()
            task = asyncio.create_task(self._one(number % len(self._hosts)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            await asyncio.sleep(max(0.0, start + number * every_s - time.perf_counter()))
        end = time.perf_counter()
        if tasks:  # what was sent last has a second like the others
            await asyncio.wait(tasks, timeout=HANGS_S)
        for task in list(tasks):
            task.cancel()
        self.gap.hung += len(tasks)
        self.gap.sent = number
        if acting is not None:
            await asyncio.to_thread(acting.join)
        assert acted_at is not None
        times = sorted(at for at in self.gap.acknowledged if at <= end)
        before = [at for at in times if at <= acted_at]
        points = [before[-1] if before else acted_at, *[at for at in times if at > acted_at], end]
        self.gap.gap_ms = 1000 * max(later - earlier for earlier, later in pairwise(points))
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        return self.gap

    async def _one(self, position: int) -> None:
        begun = time.perf_counter()
        try:
            status, location = await self._ask(position)
            for _ in range(REDIRECTS_MAX):
                if status != 307 or location not in self._ports:
                    break
                status, location = await self._ask(self._ports[location])
            if status == 200:
                self.gap.acknowledged.append(time.perf_counter())
            else:
                self.gap.failed += 1
        except (OSError, EOFError, ValueError):
            self.gap.failed += 1
        if time.perf_counter() - begun > HANGS_S:
            self.gap.hung += 1

    async def _ask(self, position: int) -> tuple[int, int | None]:
        if self._idle[position]:
            reader, writer = self._idle[position].pop()
        else:
            host, _, port = self._hosts[position]
            reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = re.search(r"content-length: (\d+)", head)
            if length:
                await reader.readexactly(int(length[1]))
            elif "transfer-encoding: chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
        except BaseException:
            writer.close()
            raise
        self._idle[position].append((reader, writer))
        location = re.search(r"location: http://[^:]*:(\d+)", head)
        return int(head.split()[1]), int(location[1]) if location else None
