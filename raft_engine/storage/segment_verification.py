"""Whether a sealed segment is still what it was when it was sealed, and its index what the records say.

A start reads indexes instead of records, so damage that a start no longer sees is looked for here: by whoever wants to know
about all of the log at once, and by a reader that met something damaged.
Source: own.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from raft_engine.errors import Damaged
from raft_engine.storage.files import Files
from raft_engine.storage.log_checks import Marks, load_segment
from raft_engine.storage.segment_index import SegmentIndex, content_crc, index_path, make_index


def verify_segment(files: Files, segment: Path, index: SegmentIndex) -> None:
    """Read a whole segment and check that no byte of it has changed since its index was made.

    Raises: Damaged: a record is altered, or the index; OSError: the disk fails.
    """
    descriptor = files.open(segment, write=False)
    try:
        is_unchanged = content_crc(files, descriptor, index.end) == index.content_crc
    finally:
        files.close(descriptor)
    if not is_unchanged:
        check_index(files, segment, index)


def check_index(files: Files, segment: Path, index: SegmentIndex) -> None:
    """Check each record of a segment, and that the index says of them what they are.

    Raises: Damaged: as `verify_segment`; an index that is wrong is removed. OSError.
    """
    data = files.read_whole(segment)
    header, scan = load_segment(data, segment, index.header.previous, Marks(), is_newest=False)
    if make_index(header, scan, index.next_salt, crc32(memoryview(data)[: scan.end])) != index:
        if files.exists(index_path(segment)):
            files.unlink(index_path(segment))
        raise Damaged(
            "the records are whole, but their index says something else of them",
            path=str(index_path(segment)),
            hint="it was removed: start the node again, and it is made from the records",
        )
