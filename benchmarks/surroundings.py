"""Where and when something was measured: what stands beside every figure; and how a measurement is ended early."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
_STEPS = 100_000
_TIMES = 15


def end_on_sigterm() -> None:
    """Have the program end as on an exception when it is told to, so that its clusters are taken down."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def stem_for(name: str | None, parser: argparse.ArgumentParser) -> Path:
    """Return where results go: a path without its suffix; or end the program: nothing is measured for hours that then cannot be kept.

    Args: name: None: date, time and commit.
    """
    stem = RESULTS / (name or f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M}-{_commit()}")
    probe = Path(f"{stem}.trial")
    try:
        RESULTS.mkdir(exist_ok=True)
        try:
            probe.write_bytes(bytes(1 << 20))  # as much as a run keeps
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        parser.error(f"the results could not be kept: [Errno {error.errno}] {error.strerror}: {str(probe)!r}")
    return stem


def at_least_one(text: str) -> int:
    """Read a count, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def about() -> dict[str, object]:
    """Return date, commit and machine."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} processors of {_processor()}, {_memory_gib()} GiB, {_python()}",
        "crowding": round(crowding(), 2),
    }


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def crowding() -> float:
    """Return how many times as long the same work takes while every other processor works too.

    1: each is a core for itself. Up to 2: they are threads of one core, as most rented machines have them, and who computes much, as
    an interpreter does, loses more by company than who waits for the kernel.
    """
    alone_s = work_s()
    program = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    others = [subprocess.Popen(program, stdout=subprocess.PIPE) for _ in range((os.cpu_count() or 1) - 1)]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        return work_s() / alone_s
    finally:
        for other in others:
            other.kill()
            other.communicate()


def work_s() -> float:
    """Return how long a small piece of work takes at this moment: the median of a few times, in seconds."""
    times = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        sum(range(_STEPS))
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _python() -> str:
    """Say which Python, and whose: builds of one version differ by a fifth in speed."""
    whose = "the distribution's" if sys.base_prefix == "/usr" else "not the distribution's"
    return f"Python {platform.python_version()} ({whose})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> int:
    return round(int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2)
