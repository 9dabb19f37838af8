"""Whether a sealed segment is still what it was when it was sealed, and its index what the records say.

A start decodes no old records. It compares the bytes of as many segments as its budget allows with the checksum in their indexes;
damage in the others is looked for beside the running node, and by a reader that met something damaged.
Source: own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from zlib import crc32

from raft_engine.errors import Damaged, RaftError
from raft_engine.storage.files import Files
from raft_engine.storage.log_checks import Marks, load_segment
from raft_engine.storage.segment_index import UNKNOWN_CRC, SegmentIndex, content_crc, index_path, make_index

REST_PER_WORK: Final = 9
"""How many times as long as a segment took the verification beside a running node rests: a tenth of one core at the most."""

_logger = logging.getLogger("raft_engine.storage")


class Verification:
    """Verifies what a start has not read, once, in a thread beside the running log."""

    def __init__(self, verify: Callable[[Callable[[], bool]], None]) -> None:
        """
        Args:
            verify: does it; asks its argument before each segment whether to go on. Raises: RaftError.
        """
        self._verify = verify
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._told: Callable[[RaftError], None] = _nobody
        self._worked_since = 0.0

    def begin(self, told: Callable[[RaftError], None]) -> None:
        """Begin, if it has not begun yet; `told` is called in its thread if something is wrong."""
        self._told = told
        if self._thread is None:
            self._worked_since = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="raft-log-verify", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._verify(self._rested)
        except RaftError as error:
            _logger.critical("the log was verified beside the running node: %s", error)
            self._told(error)

    def _rested(self) -> bool:
        self._stopping.wait(REST_PER_WORK * (time.monotonic() - self._worked_since))
        self._worked_since = time.monotonic()
        return not self._stopping.is_set()


def _nobody(_error: RaftError) -> None:
    """Nobody has asked to be told."""


def verify_segment(files: Files, segment: Path, index: SegmentIndex) -> None:
    """Read a whole segment and check that no byte of it has changed since its index was made.

    Raises: Damaged: a record is altered, or the index; OSError: the disk fails.
    """
    if not is_unchanged(files, segment, index):
        check_index(files, segment, index)


def is_unchanged(files: Files, segment: Path, index: SegmentIndex) -> bool:
    """Read a whole segment and tell whether no byte of it has changed since its index was made. Raises: OSError."""
    descriptor = files.open(segment, write=False)
    try:
        return content_crc(files, descriptor, index.end) == index.content_crc
    finally:
        files.close(descriptor)


def check_index(files: Files, segment: Path, index: SegmentIndex) -> None:
    """Check each record of a segment, and that the index says of them what they are.

    Raises: Damaged: as `verify_segment`; an index that is wrong is removed. OSError.
    """
    data = files.read_whole(segment)
    header, scan = load_segment(data, segment, index.header.previous, Marks(), is_newest=False)
    crc = UNKNOWN_CRC if index.content_crc == UNKNOWN_CRC else crc32(memoryview(data)[: scan.end])
    if make_index(header, scan, index.next_salt, crc) != index:
        if files.exists(index_path(segment)):
            files.unlink(index_path(segment))
        raise Damaged(
            "the records are whole, but their index says something else of them",
            path=str(index_path(segment)),
            hint="it was removed: start the node again, and it is made from the records",
        )
