"""Looking at the bundled stores in every crash: the campaign command.

    python -m raft_engine.testing.crash_campaign --jobs 2
    python -m raft_engine.testing.crash_campaign --only "wipe" --quick
    python -m raft_engine.testing.crash_campaign --mixed 200

Every script is looked at to the end: each crash point, each way to cut or fail the recovery from it, each byte altered.
`--mixed` adds so many scripts of calls drawn from seeds. Prints one line per script and the sums; the exit code is 1 when a crash
point was found after which a store is wrong.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from raft_engine.storage.segment_log import SegmentLog
from raft_engine.storage.snapshot_files import SnapshotFiles
from raft_engine.testing.crash_points import QUICK, THOROUGH, CrashPointFailure, Effort, Report, Script, Subject, explore
from raft_engine.testing.log_scripts import LOG_SCRIPTS, SEGMENT_BYTES, log_subject, mixed_script
from raft_engine.testing.node_scripts import NODE_SCRIPTS, NODE_SUBJECT
from raft_engine.testing.snapshot_scripts import SNAPSHOT_SCRIPTS, snapshot_subject

LOG_SUBJECT: Final = log_subject(
    lambda directory, files: SegmentLog(directory, files=files, segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
)
SNAPSHOT_SUBJECT: Final = snapshot_subject(lambda directory, files: SnapshotFiles(directory, files=files))
KEEPING_SUBJECT: Final = snapshot_subject(lambda directory, files: SnapshotFiles(directory, files=files, keep=2))
SCRIPTS: Final[dict[str, tuple[Subject[Any, Any], Script[Any, Any]]]] = {
    **{f"log: {script.name}": (LOG_SUBJECT, script) for script in LOG_SCRIPTS},
    **{f"snapshots: {script.name}": (SNAPSHOT_SUBJECT, script) for script in SNAPSHOT_SCRIPTS},
    **{f"snapshots, two kept: {script.name}": (KEEPING_SUBJECT, script) for script in SNAPSHOT_SCRIPTS},
    **{f"node: {script.name}": (NODE_SUBJECT, script) for script in NODE_SCRIPTS},
}
"""Every script, and the bundled store it is for."""
_MIXED: Final = "log: mixed "


def explored(name: str, effort: Effort) -> Report:
    """Look at one script, by its name; further mixed ones are known by their seeds.

    Raises: CrashPointFailure.
    """
    if name in SCRIPTS:
        subject, script = SCRIPTS[name]
        return explore(subject, script, effort)
    return explore(LOG_SUBJECT, mixed_script(int(name.removeprefix(_MIXED))), effort)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m raft_engine.testing.crash_campaign", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="scripts whose name contains this")
    parser.add_argument("--mixed", type=int, default=0, metavar="N", help="so many further scripts, drawn from seeds")
    parser.add_argument("--quick", action="store_true", help="only what the tests look at")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(arguments)
    names = [name for name in SCRIPTS if given.only in name]
    names += [f"{_MIXED}{seed}" for seed in range(1001, 1001 + given.mixed)]
    started = time.monotonic()
    total: Counter[str] = Counter()
    failed = 0
    for name, report, failure in _reports(names, partial(_try, effort=QUICK if given.quick else THOROUGH), given.jobs):
        if failure:
            failed += 1
            print(f"FAILED {name}: {failure}", file=sys.stderr, flush=True)  # noqa: T201
        else:
            total += report
            print(f"{report.total():9} crash points  {name}", flush=True)  # noqa: T201
    for kind, count in total.most_common():
        print(f"{count:9} {kind}")  # noqa: T201
    seconds = time.monotonic() - started
    print(f"{total.total()} crash points of {len(names)} scripts in {seconds:.0f} s, {failed} failed")  # noqa: T201
    return 1 if failed or not names else 0


def _try(name: str, effort: Effort) -> tuple[str, Counter[str], str]:
    logging.getLogger("raft_engine").setLevel(logging.CRITICAL)  # a cut tail is said each time
    try:
        return name, explored(name, effort).points, ""
    except CrashPointFailure as failure:
        return name, Counter(), str(failure)


def _reports(
    names: Sequence[str], run: Callable[[str], tuple[str, Counter[str], str]], jobs: int
) -> Iterator[tuple[str, Counter[str], str]]:
    if jobs == 1:
        yield from map(run, names)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run, names)


if __name__ == "__main__":
    sys.exit(main())
