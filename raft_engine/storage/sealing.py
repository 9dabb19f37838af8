"""Writing the index of a segment to which nothing is added any more, beside the log's writer.

The checksum of its 16 MiB would cost the writer more than all else that it does for a batch, and nobody waits for an index: it
is derived, and a start without it reads the segment instead.
Source: own.
"""

from __future__ import annotations

import logging
import threading
from array import array

import msgspec

from raft_engine.storage.files import Files
from raft_engine.storage.segment_index import SegmentIndex, content_crc, write_index
from raft_engine.storage.segment_reader import SegmentReader
from raft_engine.storage.segment_state import Segment

_logger = logging.getLogger("raft_engine.storage")


class Sealing:
    """Writes one index after the other, each in a thread of its own. Used by the log's writer only."""

    def __init__(self, files: Files, reader: SegmentReader, *, beside: bool) -> None:
        """
        Args:
            beside: without it everything happens in the caller's thread.
        """
        self._files = files
        self._reader = reader
        self._beside = beside
        self._thread: threading.Thread | None = None

    def begin(self, segment: Segment, index: SegmentIndex, descriptor: int, offsets: array[int]) -> None:
        """Have the index of a segment written, whose file is open under `descriptor`, and that closed."""
        self.wait()
        if not self._beside:
            self._write(segment, index, descriptor, offsets)
            return
        self._thread = threading.Thread(
            target=self._write, args=(segment, index, descriptor, offsets), name="raft-log-seal", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when no index is being written: before segments leave the log or are added to again."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, segment: Segment, index: SegmentIndex, descriptor: int, offsets: array[int]) -> None:
        try:
            whole = msgspec.structs.replace(index, content_crc=content_crc(self._files, descriptor, segment.end))
        except OSError as error:
            _logger.warning("no index for %s, the next start reads the segment instead: %s", segment.path, error)
        else:
            with self._reader.lock:
                segment.index = whole
            write_index(self._files, segment.path, whole, offsets)
        finally:
            self._files.close(descriptor)
