"""Makes the golden directory of segment version 2: a log whose files were segments before.

    python tests/storage/golden/make_v2.py DIRECTORY

It was run once, by the first version that has them; `v2/` is never made anew. Everything but the segments is of version 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

from raft_engine.storage.segment_log import SegmentLog
from raft_engine.testing.storage_suite import entry, log_id
from raft_engine.types.entry import Entry
from raft_engine.types.ids import LogIndex
from tests.storage.golden.make_v1 import SEGMENT_BYTES, Still

PURGED = log_id(1, 12)
KEPT_UPTO = 23
"""A truncation ends in the middle of a batch."""


def made(term: int, first: int, last: int) -> list[Entry]:
    return [entry(term, index, b"value %d " % index * 30) for index in range(first, last + 1)]


BATCHES = (made(1, 1, 17), made(1, 18, 25))
ENTRIES = [*made(1, 13, KEPT_UPTO), *made(2, 24, 31)]
"""What a later version must read."""


def make(directory: Path) -> None:
    log = SegmentLog(directory, files=Still(), segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
    log.append(BATCHES[0])
    log.sync()
    log.purge(PURGED)
    log.append(BATCHES[1])
    log.sync()
    log.truncate(LogIndex(KEPT_UPTO))
    for each in made(2, 24, 31):
        log.append([each])
    log.sync()
    log.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
