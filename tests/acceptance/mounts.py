"""Small file systems and failing system calls for real processes; a test that may not have them is skipped with the reason."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STRACE = shutil.which("strace")
DEADLINE_S = 60.0


def ran(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def mounted(path: Path, size: str) -> Iterator[bool]:
    """A file system of its own at `path`, gone when the block ends; tells whether this process may mount one."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_mounted = ran("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", str(path))
    try:
        yield is_mounted
    finally:
        if is_mounted:
            ran("umount", "--lazy", str(path))


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own at `path`; skips the test if this process may not mount."""
    with mounted(path, size) as is_mounted:
        if not is_mounted:
            pytest.skip("this process may not mount file systems")
        yield path


def make_read_only(path: Path) -> None:
    assert ran("mount", "-o", "remount,ro", str(path))


def make_larger(path: Path, size: str) -> None:
    assert ran("mount", "-o", f"remount,size={size}", str(path))


def may_inject() -> bool:
    """Whether this process may attach to another one and have its system calls fail."""
    return STRACE is not None and ran(STRACE, "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true")


def failing_calls(*injections: str) -> list[str]:
    """Return what stands before a command whose system calls shall fail: `fsync:error=EIO:when=3`."""
    if not may_inject():
        pytest.skip("this process may not trace others, or there is no strace")
    calls = sorted({injection.split(":")[0] for injection in injections})
    chosen = [part for injection in injections for part in ("-e", f"inject={injection}")]
    return [str(STRACE), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={','.join(calls)}", *chosen]


@contextmanager
def injected(pid: int, *injections: str) -> Iterator[None]:
    """Have system calls of a running process fail, from the moment it is traced until the block ends (or the process)."""
    tracer = subprocess.Popen([*failing_calls(*injections), "-p", str(pid)], stdin=subprocess.DEVNULL)
    end = time.monotonic() + DEADLINE_S
    try:
        while not is_traced(pid) and not has_ended(pid):
            assert tracer.poll() is None or has_ended(pid), "strace ended at once"
            assert time.monotonic() < end, "strace did not attach"
            time.sleep(0.01)
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to hear of it."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def is_traced(pid: int) -> bool:
    """Whether every thread of a process has a tracer."""
    try:
        statuses = [task.joinpath("status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False
    return all("TracerPid:\t0\n" not in status for status in statuses)
