"""Our stores in every crash of every script; and stores with bugs, which must be found.

What a test looks at is every crash point of a script and a part of what may go wrong in the recovery from it;
`make crash-points` looks at all.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from raft_engine.storage import data_dir, log_checks, segment_log
from raft_engine.storage.files import Files
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.storage.segment_seal import Before, Seals
from raft_engine.storage.snapshot_files import SnapshotFiles
from raft_engine.testing.crash_campaign import SCRIPTS, explored
from raft_engine.testing.crash_points import QUICK, CrashPointFailure, Script, Subject, explore
from raft_engine.testing.log_scripts import LOG_SCRIPTS, SEGMENT_BYTES, log_subject
from raft_engine.testing.node_scripts import NODE_SCRIPTS, NODE_SUBJECT
from raft_engine.testing.snapshot_scripts import SNAPSHOT_SCRIPTS, snapshot_subject
from raft_engine.testing.storage_suite import LOG_CASES, run_suite
from raft_engine.types.ids import LogIndex
from tests.storage.one_file_log import OneFileLog

GROUPS = 10
POINTS_MIN = 20_000


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """A cut tail is logged each time; thousands of times it is noise."""
    caplog.set_level(logging.CRITICAL, "raft_engine")


def by_name(scripts, name: str) -> Script:
    (found,) = [script for script in scripts if script.name == name]
    return found


# --- our stores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", range(GROUPS))
def test_nothing_promised_is_lost_at_any_crash_point(group):
    points: Counter[str] = Counter()
    for name in list(SCRIPTS)[group::GROUPS]:
        points += explored(name, QUICK).points
    assert set(points) == {
        "power lost",
        "killed",
        "call failed",
        "recovery cut",
        "recovery failed",
        "went on",
        "file altered",
    }
    assert points.total() - points["file altered"] >= POINTS_MIN / GROUPS


def test_there_are_as_many_scripts_as_the_goal_says():
    assert len(SCRIPTS) >= 50


def test_the_segments_size_does_not_matter():
    for size in (600, 4096, 64 * 1024):
        subject = log_subject(
            lambda directory, files, size=size: SegmentLog(directory, files=files, segment_bytes=size, prepare_ahead=False)
        )
        explore(subject, by_name(LOG_SCRIPTS, "truncate over segments"), QUICK)


# --- a store of somebody else's ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", LOG_SCRIPTS[::4], ids=lambda script: script.name)
def test_a_store_of_ones_own_is_looked_at_in_the_same_way(script):
    assert explore(log_subject(OneFileLog), script, QUICK).total > 30


def test_a_store_of_ones_own_keeps_the_contract_as_well(tmp_path):
    directories = (tmp_path / f"{number}" for number in itertools.count())

    def make_log():
        directory = next(directories)
        directory.mkdir()
        return lambda: OneFileLog(directory, Files())

    assert run_suite(make_log=make_log) == len(LOG_CASES)


def test_the_lines_of_the_documentation_run(monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text("utf-8")
    [example] = [block.partition("```")[0] for block in text.split("```python\n")[1:] if "explore" in block]
    monkeypatch.setattr("raft_engine.testing.log_scripts.LOG_SCRIPTS", LOG_SCRIPTS[:2])
    exec(example, {"MyLog": OneFileLog})
    assert re.fullmatch(r"\d{2,} crash points\n", capsys.readouterr().out)


class WithoutSync(OneFileLog):
    def replace(self, data: bytes) -> None:
        building = self._path.with_suffix(".tmp")
        descriptor = self._files.open(building, create=True)
        self._files.cut(descriptor, 0)
        self._files.pwrite(descriptor, data, 0)
        self._files.close(descriptor)
        self._files.rename(building, self._path)
        self._files.fsync_dir(self._path.parent)


class InPlace(OneFileLog):
    def replace(self, data: bytes) -> None:
        descriptor = self._files.open(self._path, create=True)
        self._files.cut(descriptor, 0)
        self._files.pwrite(descriptor, data, 0)
        self._files.fsync(descriptor)
        self._files.close(descriptor)
        self._files.fsync_dir(self._path.parent)


class TriesAgain(OneFileLog):
    def _guarded(self, write) -> None:
        self._failed = False
        super()._guarded(write)


@pytest.mark.parametrize("store", [WithoutSync, InPlace, TriesAgain], ids=lambda store: store.__name__)
def test_a_bug_in_a_store_of_ones_own_is_found(store):
    with pytest.raises(CrashPointFailure):
        explore(log_subject(store), by_name(LOG_SCRIPTS, "append in batches"), QUICK)


# --- our stores with a bug -----------------------------------------------------------------------------------------------


class Buggy:
    """Passes every call on to a disk, but for the ones that a bug leaves out or changes."""

    def __init__(self, files, bugs: dict[str, Callable]) -> None:
        self._files = files
        self._bugs = bugs
        self.paths: dict[int, Path] = {}

    def open(self, path, **how):
        descriptor = self._files.open(path, **how)
        self.paths[descriptor] = path
        return descriptor

    def replace(self, path, data):
        type(self._files).replace(self, path, data)

    def zero(self, descriptor, since, until):
        type(self._files).zero(self, descriptor, since, until)

    def read_whole(self, path):
        return type(self._files).read_whole(self, path)

    def __getattr__(self, name: str):
        real = getattr(self._files, name)
        if name not in self._bugs:
            return real

        def call(target, *args):
            path = self.paths[target] if isinstance(target, int) else target
            return self._bugs[name](real, path, target, *args)

        return call


def left_out(where: Callable[[Path], bool]) -> Callable:
    """A call that does nothing where a bug forgot it."""
    return lambda real, path, target, *args: None if where(path) else real(target, *args)


def is_segment(path: Path) -> bool:
    return path.suffix in {".seg", ""} and path.parent.name == "log" and path.name != "marks"


def in_one_slot(real, path, target, data, offset):
    real(target, data, 0 if path.name == "hard_state" else offset)


def nothing_written_twice(files_of: list) -> Callable:
    def pwrite(real, path, target, data, offset):
        if files_of[0].pread(target, len(data), offset) != bytes(data):
            real(target, data, offset)

    return pwrite


FILE_BUGS: dict[str, tuple[str, str, dict[str, Callable]]] = {
    "entries acknowledged before they are synced": ("log", "append one", {"fdatasync": left_out(is_segment)}),
    "a vote acknowledged before it is synced": (
        "log",
        "votes",
        {"fdatasync": left_out(lambda path: path.name == "hard_state")},
    ),
    "a new segment's name is not synced": ("log", "append one", {"fsync_dir": left_out(lambda path: path.name == "log")}),
    "the marks are not synced before files go": (
        "log",
        "purge segments",
        {"fdatasync": left_out(lambda path: path.name == "marks")},
    ),
    "a vote overwrites the one before": ("log", "votes", {"pwrite": in_one_slot}),
    "a snapshot is renamed before it is synced": ("snapshots", "build one", {"fsync": left_out(lambda _: True)}),
    "the older snapshot goes before the newer one's name is synced": (
        "snapshots",
        "build one after the other",
        {"fsync_dir": left_out(lambda _: True)},
    ),
    "an identity is renamed before it is synced": (
        "node",
        "born",
        {"fsync": left_out(lambda path: path.name == "identity.json.tmp")},
    ),
    "the way to the data directory is not synced": (
        "node",
        "first start",
        {"fsync_dir": left_out(lambda path: path.name in {"data", "nodes"})},
    ),
    "a fresh log begins before the old one is durably aside": (
        "node",
        "wipe",
        {"fsync_dir": left_out(lambda path: path.name.startswith(("n1", "retired")))},
    ),
    "a name is given anew before it is durably free": (
        "node",
        "wipe, restore, wipe",
        {"fsync_dir": left_out(lambda path: path.name.startswith("retired") or path.name == "n1")},
    ),
}


def buggy_subject(kind: str, bugs: dict[str, Callable]) -> Subject:
    def log(directory, files):
        return SegmentLog(directory, files=Buggy(files, bugs), segment_bytes=SEGMENT_BYTES, prepare_ahead=False)

    if kind == "log":
        return log_subject(log)
    if kind == "snapshots":
        return snapshot_subject(lambda directory, files: SnapshotFiles(directory, files=Buggy(files, bugs)))
    real = NODE_SUBJECT
    return Subject(
        open=lambda files: real.open(Buggy(files, bugs)),
        look=real.look,
        close=real.close,
        blank=real.blank,
        go_on=real.go_on,
        agrees=real.agrees,
        after_start=real.after_start,
        is_checked=real.is_checked,
        refuses_after_failure=False,
    )


SCRIPTS_OF = {"log": LOG_SCRIPTS, "snapshots": SNAPSHOT_SCRIPTS, "node": NODE_SCRIPTS}


@pytest.mark.parametrize("bug", FILE_BUGS)
def test_a_call_that_a_store_forgets_is_found(bug):
    kind, script, bugs = FILE_BUGS[bug]
    with pytest.raises(CrashPointFailure):
        explore(buggy_subject(kind, bugs), by_name(SCRIPTS_OF[kind], script), QUICK)


def test_passing_every_call_on_is_no_bug():
    for kind, script in (("log", "append one"), ("snapshots", "build one"), ("node", "first start")):
        explore(buggy_subject(kind, {}), by_name(SCRIPTS_OF[kind], script), QUICK)


def found_in(name: str) -> bool:
    try:
        explored(name, QUICK)
    except CrashPointFailure:
        return True
    return False


def test_a_tail_cut_before_the_durable_mark_is_found(monkeypatch):
    """Whatever no seal vouches for is cut off, be it synced: the last batch's seal may not have reached the disk."""
    scan = log_checks.scan_segment

    def cut(data, header, path, *upto):
        found = scan(data, header, path, *upto)
        if found.durable < found.end:
            return scan(
                data[: max(found.durable, segment_log.SEGMENT_HEADER_BYTES)].ljust(len(data), b"\0"), header, path, *upto
            )
        return found

    monkeypatch.setattr(log_checks, "scan_segment", cut)
    assert found_in("log: append one")


def test_rot_taken_for_a_torn_write_is_found(monkeypatch):
    """Two things tell rot from a torn write: a seal behind it, and the log's marks. Neither is looked at here."""
    decode = log_checks.decode_marks

    def knows_nothing(value, path):
        return msgspec.structs.replace(decode(value, path), durable=LogIndex(0))

    monkeypatch.setattr(Seals, "behind", lambda _self, _data, since: Before(0, since))
    monkeypatch.setattr("raft_engine.storage.segment_log.decode_marks", knows_nothing)
    assert found_in("log: entries of a sector")


@pytest.mark.parametrize("when", ["", " after a reset"])
def test_a_batch_that_is_believed_without_its_checksum_is_found(monkeypatch, when):
    """A part of it did not reach the disk, and what stood there before looks like the missing entries."""
    monkeypatch.setattr(Seals, "is_whole", lambda *_: True)
    assert found_in(f"log: a segment used again{when} that holds what looks like later entries")


def test_a_batch_in_which_a_truncation_ended_and_that_is_dropped_is_found(monkeypatch):
    """Its checksum is that of the longer batch: only the marks say that what is left of it had been durable."""
    scan = log_checks.scan_segment
    monkeypatch.setattr(
        log_checks, "scan_segment", lambda data, header, path, upto, _durable: scan(data, header, path, upto)
    )
    monkeypatch.setattr(SegmentLog, "_say_durable", lambda _self, _segment: None)
    assert found_in("log: a segment used again, cut in a batch")


def test_a_segment_that_is_kept_before_the_marks_say_that_it_is_gone_is_found(monkeypatch):
    """Between the two nothing says that the log was reset: the start finds segments missing."""
    reset, mark = SegmentLog._reset, SegmentLog._mark

    def marked_last(self, upto):
        later = []
        monkeypatch.setattr(SegmentLog, "_mark", lambda _self, **changes: later.append(changes))
        reset(self, upto)
        monkeypatch.setattr(SegmentLog, "_mark", mark)
        for changes in later:
            self._mark(**changes)

    monkeypatch.setattr(SegmentLog, "_reset", marked_last)
    assert found_in("log: segments used again after a reset")


def test_a_truncated_tail_that_is_left_in_the_file_is_found(monkeypatch):
    def sealed_only(self, segment, until):
        segment.durable = segment.end

    monkeypatch.setattr(SegmentLog, "_zero_tail", sealed_only)
    assert found_in("log: truncate in a segment")


def test_a_log_that_goes_on_after_a_failure_is_found(monkeypatch):
    monkeypatch.setattr(SegmentLog, "failure", property(lambda self: None, lambda self, value: None), raising=False)
    assert found_in("log: append in batches")


def test_a_start_that_is_not_counted_is_found(monkeypatch):
    kept = data_dir.open_or_create
    monkeypatch.setattr(data_dir, "open_or_create", lambda *args, starts: kept(*args, starts=False))
    assert found_in("node: started again and again")


def test_a_write_that_seems_to_change_nothing_is_needed_after_a_failed_sync():
    """The kernel shows what a failed sync did not write; leaving out the write of what it shows already loses it."""

    def open_log(directory, files):
        buggy = Buggy(files, {"pwrite": nothing_written_twice([files])})
        return SegmentLog(directory, files=buggy, segment_bytes=SEGMENT_BYTES, prepare_ahead=False)

    with pytest.raises(CrashPointFailure, match="fdatasync"):
        explore(log_subject(open_log), by_name(LOG_SCRIPTS, "append in batches"), QUICK)


def test_a_failure_says_the_script_the_moment_and_what_was_found():
    kind, script, bugs = FILE_BUGS["entries acknowledged before they are synced"]
    with pytest.raises(CrashPointFailure) as caught:
        explore(buggy_subject(kind, bugs), by_name(LOG_SCRIPTS, script), QUICK)
    text = str(caught.value)
    assert text.startswith("append one: step ")
    assert "power lost" in text
    assert "\n  found    " in text
    assert "\n  legal is " in text
