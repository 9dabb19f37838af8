"""Looking at files that somebody may be writing: who has a directory open, and telling damage from a write under way.

Nothing here takes a lock, creates or writes anything.
Source: proc(5), `/proc/locks`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from raft_engine.storage.identity import LOCK_NAME

LOOKS_MAX: Final = 5
"""A write under way is over after a moment; damage is still there at the last look."""
_LOCKS: Final = Path("/proc/locks")

Fingerprint = tuple[tuple[str, int, int], ...]
Progress = Callable[[int, str], None]
"""Told of bytes that were verified since it was last told, and where: (count, file name)."""


def holder_of(directory: Path, locks: Path = _LOCKS) -> int | None:
    """Return the process that has a data directory open, or None. Asking takes no lock: a node may start meanwhile."""
    try:
        inode = (directory / LOCK_NAME).stat().st_ino
        lines = locks.read_text("ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return int(fields[4])
    return None


def fingerprint(path: Path) -> Fingerprint:
    """Return what changes when somebody writes below `path`: names, sizes and times."""
    found: list[tuple[str, int, int]] = []
    pending = [path]
    while pending:
        here = pending.pop()
        with suppress(FileNotFoundError):
            status = here.stat()
            found.append((str(here), status.st_size, status.st_mtime_ns))
            if here.is_dir():
                pending += (here / name for name in os.listdir(here))  # noqa: PTH208
    return tuple(sorted(found))
