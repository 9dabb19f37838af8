"""Where and when something was measured: what stands beside every figure; and how a measurement is ended early."""

from __future__ import annotations

import datetime as dt
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def end_on_sigterm() -> None:
    """Have the program end as on an exception when it is told to, so that its clusters are taken down."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def about() -> dict[str, object]:
    """Return date, commit and machine."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} cores of {_processor()}, {_memory_gib()} GiB, {_python()}",
    }


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
