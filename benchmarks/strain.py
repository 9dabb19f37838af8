"""Writes and computes at a steady pace: what a disk and two cores cost whoever shares them, whatever the other one does.

    python benchmarks/strain.py FILE --bytes 600000000 --work 0.5 --seconds 8
    python benchmarks/strain.py FILE --work 0.5 --seconds 8 --idle     computing only while nobody else wants the processor

Bytes go to FILE evenly over the time, in steps with a sync after each; computing fills its share of the time. FILE is removed.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from pathlib import Path

STEP_BYTES = 512 * 1024
"""As snapshots and restored databases are synced (`SYNC_BYTES`, `RESTORE_SYNC_BYTES`)."""
TURN_S = 0.002
"""Computing or resting at one go: a statement of a restore takes as long."""


def strain(path: Path, *, total_bytes: int, work: float, seconds: float) -> None:
    """`work`: share of the time in which it computes, 0 to 1."""
    block = os.urandom(STEP_BYTES)
    begun = time.monotonic()
    written = worked = 0.0
    with path.open("wb", buffering=0) as file:
        while (passed := time.monotonic() - begun) < seconds:
            if written < total_bytes * passed / seconds:
                file.write(block)
                os.fdatasync(file.fileno())
                written += STEP_BYTES
            elif worked < work * passed:
                since = time.monotonic()
                while time.monotonic() - since < TURN_S:
                    zlib.crc32(block)
                worked += time.monotonic() - since
            else:
                time.sleep(TURN_S)
        for size in range(int(written), 0, -16 * STEP_BYTES):  # as large files are freed: in steps
            os.ftruncate(file.fileno(), size)
    path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("file", type=Path, help="where the bytes go; it is overwritten, and removed at the end")
    parser.add_argument("--bytes", type=int, default=0, help="in all (default 0)")
    parser.add_argument("--work", type=float, default=0.0, help="share of the time, 0 to 1 (default 0)")
    parser.add_argument("--seconds", type=float, default=8.0, help="in all (default 8)")
    parser.add_argument(
        "--idle", action="store_true", help="in the scheduler's idle class: whoever wakes up comes first, at once"
    )
    options = parser.parse_args()
    if options.idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    strain(options.file, total_bytes=options.bytes, work=options.work, seconds=options.seconds)


if __name__ == "__main__":
    main()
