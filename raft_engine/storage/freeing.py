"""Giving back the space of a large file without making those wait who sync on the same disk.

Removing a file gives back all of it at once: a system that tells the disk about free blocks (`mount -o discard`) does so for hundreds of
MiB, and every sync meanwhile waits for that; 53 ms for a snapshot of 278 MB, measured. So the name goes first, and the file, which only
the descriptor reaches from then on, is cut shorter in steps. Whoever dies in between has lost nothing: the system frees a file
without a name and without a process.
Source: own design.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from raft_engine.storage.files import Files

STEP_BYTES: Final = 8 * 1024 * 1024
REST_S: Final = 0.005
"""Between two steps: those who wait for the disk come first."""


def unname(files: Files, path: Path) -> int:
    """Remove a file's name and return a descriptor that keeps its bytes, to be freed by `free`. Raises: OSError."""
    descriptor = files.open(path)
    try:
        files.unlink(path)
    except BaseException:
        files.close(descriptor)
        raise
    return descriptor


def free(files: Files, descriptor: int) -> None:
    """Give back a file that has no name any more, a step at a time, and close it. Blocks. Raises: OSError."""
    try:
        for size in reversed(range(STEP_BYTES, files.size(descriptor), STEP_BYTES)):
            files.cut(descriptor, size)
            time.sleep(REST_S)
    finally:
        files.close(descriptor)
