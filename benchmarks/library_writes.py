"""Three processes that use a Raft library; one of them, the leader, keeps 256 writes outstanding. Prints writes per second.

    library_writes.py ours|pysyncobj|pysyncobj-tuned [--seconds 4]

Source: PySyncObj's own examples for how it is used; `appendEntriesPeriod` and friends are its documented settings.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
OUTSTANDING = 256
VALUE = b"v" * 256


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("library", choices=["ours", "pysyncobj", "pysyncobj-tuned"])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--node", type=int)
    parser.add_argument("--ports", type=lambda text: [int(port) for port in text.split(",")])
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    if options.node is None:
        return _run_three(options)
    if options.library == "ours":
        import uvloop

        uvloop.run(_ours(options))
    else:
        _pysyncobj(options)
    return 0


def _run_three(options: argparse.Namespace) -> int:
    from systems import free_ports

    ports = ",".join(map(str, free_ports(3)))
    directory = Path(tempfile.mkdtemp(dir=Path(__file__).resolve().parent.parent))
    nodes: list[subprocess.Popen[str]] = []
    try:
        for node in (1, 2, 3):
            words = [sys.executable, __file__, options.library, "--seconds", str(options.seconds), "--node", str(node)]
            words += ["--ports", ports, "--directory", str(directory)]
            nodes.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        until = time.monotonic() + options.seconds + 40
        while time.monotonic() < until:
            for node in nodes:
                if node.poll() == 0 and node.stdout is not None:
                    print(node.stdout.read().strip())
                    return 0
            time.sleep(0.05)
        print("nobody led", file=sys.stderr)
        return 1
    finally:
        for node in nodes:
            if node.poll() is None:
                node.send_signal(signal.SIGKILL)
                node.wait()
        shutil.rmtree(directory, ignore_errors=True)


async def _ours(options: argparse.Namespace) -> None:
    from raft_engine import BEFORE_LOG, open_raft

    class Last:
        """Keeps the last value."""

        value = b""

        def applied(self):
            return BEFORE_LOG

        def apply(self, entries):
            self.value = entries[-1].data
            return [None] * len(entries)

        def snapshot(self):
            return iter([self.value])

        def restore(self, chunks, last_log_id):  # noqa: ARG002 (the protocol's)
            self.value = b"".join(chunks)

    members = {number: f"127.0.0.1:{port}" for number, port in zip((1, 2, 3), options.ports, strict=True)}
    directory = options.directory / str(options.node)
    raft = await open_raft(directory, node_id=options.node, members=members, state_machine=Last())
    await raft.wait(30).leader()
    await asyncio.sleep(1)
    if raft.metrics().leader != options.node:
        await asyncio.sleep(3600)
    end = time.perf_counter() + options.seconds
    count = 0

    async def write() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await raft.client_write(VALUE)
            count += 1

    begun = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(OUTSTANDING)))
    print(count / (time.perf_counter() - begun), flush=True)
    os._exit(0)


def _pysyncobj(options: argparse.Namespace) -> None:
    from pysyncobj import SyncObj, SyncObjConf, replicated

    class Last(SyncObj):
        def __init__(self, me: str, others: list[str], conf: SyncObjConf) -> None:
            super().__init__(me, others, conf)
            self.value = b""

        @replicated
        def put(self, value: bytes) -> None:
            self.value = value

    addresses = [f"127.0.0.1:{port}" for port in options.ports]
    me = addresses.pop(options.node - 1)
    settings = {"journalFile": str(options.directory / f"journal-{options.node}")}
    if options.library == "pysyncobj-tuned":
        settings |= {"appendEntriesPeriod": 0.002, "autoTickPeriod": 0.001, "commandsQueueSize": 100_000}
    last = Last(me, addresses, SyncObjConf(**settings))
    while last._getLeader() is None or not last.isReady():
        time.sleep(0.05)
    time.sleep(1)
    if not last._isLeader():
        time.sleep(3600)
    free = threading.Semaphore(OUTSTANDING)
    count = 0

    def done(_result: object, error: int) -> None:
        nonlocal count
        count += error == 0
        free.release()

    begun = time.perf_counter()
    while time.perf_counter() - begun < options.seconds:
        free.acquire()
        last.put(VALUE, callback=done)
    for _ in range(OUTSTANDING):
        free.acquire(timeout=5)
    print(count / (time.perf_counter() - begun), flush=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
