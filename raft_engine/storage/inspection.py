"""What is in a data directory, and whether it is all right: for people and for `raft-engine inspect`.

Nothing is written, no lock is taken, and one damaged file does not keep the others from being looked at. Beside a running
node a part may be caught in the middle of a write: it is looked at again, and a problem counts when it stays.
Source: etcd `etcdutl`; own.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from zlib import crc32

import msgspec

from raft_engine.errors import Damaged, StorageError
from raft_engine.storage.agreement import check_agreement, continues
from raft_engine.storage.damage_note import NOTE_NAME, load_note
from raft_engine.storage.diagnosis import Kind, Part, next_steps, problem_of, unreadable
from raft_engine.storage.files import Files
from raft_engine.storage.hard_state import FILE_NAME as HARD_STATE_NAME
from raft_engine.storage.hard_state import read_hard_state
from raft_engine.storage.hints import WAY_A_HINT, WAY_B_HINT
from raft_engine.storage.identity import FILE_NAME as IDENTITY_NAME
from raft_engine.storage.identity import LOCK_NAME, Identity, load_identity
from raft_engine.storage.interface import LogState
from raft_engine.storage.log_checks import (
    MARKS_NAME,
    SEGMENT_SUFFIX,
    check_purge_mark,
    check_segment_names,
    load_segment,
    segment_paths,
)
from raft_engine.storage.log_reading import read_marks, salvaged
from raft_engine.storage.looking import LOOKS_MAX, Progress, fingerprint, holder_of
from raft_engine.storage.outline import Outline
from raft_engine.storage.retiring import PARTS, PLAN_NAMES, RETIRED_PATTERN, Wipe
from raft_engine.storage.segment_format import Scan, SegmentHeader
from raft_engine.storage.segment_index import INDEX_SUFFIX, index_path, make_index, read_index, read_table
from raft_engine.storage.segment_log import LOG_DIRECTORY
from raft_engine.storage.snapshot_files import SNAPSHOT_DIRECTORY, SNAPSHOT_SUFFIX
from raft_engine.storage.snapshot_format import check_snapshot, read_meta
from raft_engine.storage.spare_segment import NAME as SPARE_NAME
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import Membership
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.unreadable import UNREADABLE

Report = dict[str, Any]
T = TypeVar("T")
_NEAR_MAX: Final = 3
_LOOKED_AT_MAX: Final = 1000
_OURS: Final = frozenset({LOCK_NAME, IDENTITY_NAME, HARD_STATE_NAME, *PARTS, *PLAN_NAMES, "lost+found"})

_OF_A_LOG: Final = re.compile(rf"{MARKS_NAME}|{SPARE_NAME}|\d+({SEGMENT_SUFFIX}|{INDEX_SUFFIX})".replace(".", r"\."))


def is_data_directory(path: Path) -> bool:
    """Tell whether anything in `path` says that it is a node's directory, or what a wipe retired."""
    return any((path / name).exists() for name in (IDENTITY_NAME, HARD_STATE_NAME, LOG_DIRECTORY, SNAPSHOT_DIRECTORY))


def data_directories_near(path: Path) -> list[Path]:
    """Return the data directories that somebody who names `path` may mean: the one it is in, else those in it, a few of them."""
    if is_data_directory(path.parent):
        return [path.parent]
    below = chain(path.glob("*/"), path.glob("*/*/"))
    return sorted(islice((found for found in islice(below, _LOOKED_AT_MAX) if is_data_directory(found)), _NEAR_MAX))


def bytes_to_verify(path: Path) -> int:
    """Return about how many bytes `describe` is going to read."""
    return sum(size for part in (LOG_DIRECTORY, SNAPSHOT_DIRECTORY) for _, size, _ in fingerprint(path / part))


def describe(
    path: Path,
    *,
    state_machine: tuple[Report | None, list[Report]] = (None, []),
    progress: Progress = lambda _count, _name: None,
) -> Report:
    """Return what stands in a data directory, every checksum verified; JSON can express all of it.

    Args:
        state_machine: what is known of the state machine's own directory, and the problems found there.
    """
    inspection = _Inspection(path, progress)
    report: Report = {"path": str(path), "running_process": holder_of(path)}
    inspection.directory()
    report["identity"] = inspection.settled(Part.IDENTITY, path / IDENTITY_NAME, inspection.identity)
    report["hard_state"] = inspection.settled(Part.HARD_STATE, path / HARD_STATE_NAME, inspection.hard_state)
    report["log"] = inspection.settled(Part.LOG, path / LOG_DIRECTORY, inspection.log)
    report["snapshots"] = inspection.settled(Part.SNAPSHOT, path / SNAPSHOT_DIRECTORY, inspection.snapshots)
    report["state_machine"], problems = state_machine
    inspection.state_machine(report["state_machine"], problems)
    report["retired"] = inspection.retired()
    identity = inspection.found_identity
    report["problems"] = inspection.problems
    report["notes"] = inspection.notes
    report["next"] = (
        next_steps(inspection.problems, path, identity.node_id if identity is not None else None)
        if inspection.problems
        else []
    )
    return report


class _Sealed(NamedTuple):
    """A segment that another one follows."""

    path: Path
    header: SegmentHeader
    scan: Scan
    size: int
    content_crc: int


class _Inspection:
    """One look at a directory; collects what is wrong (`problems`) and what is merely worth knowing (`notes`)."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.problems: list[Report] = []
        self.notes: list[str] = []
        self.found_identity: Identity | None = None
        self._path = path
        self._progress = progress
        self._files = Files()
        self._is_retired = RETIRED_PATTERN.fullmatch(path.resolve().name) is not None
        self._log: LogState | None = None
        self._newest: SnapshotMeta | None = None

    def settled(self, part: Part, path: Path, look: Callable[[], T]) -> T | None:
        """Return what `look` reports, and None if it cannot be read at all; looked at again if somebody wrote meanwhile."""
        known = len(self.problems), len(self.notes)
        result = None
        for _ in range(LOOKS_MAX):
            del self.problems[known[0] :], self.notes[known[1] :]
            before = fingerprint(path)
            result = self._looking_at(part, path, look)
            if (len(self.problems), len(self.notes)) == known or fingerprint(path) == before:
                break
        return result

    def directory(self) -> None:
        """What a node looks at before anything else: owner, mode, and whether a wipe was interrupted."""
        status = self._path.stat()
        if stat.S_IMODE(status.st_mode) & 0o077:
            self._problem(
                StorageError(f"it is open to others (mode {stat.S_IMODE(status.st_mode):04o})", path=str(self._path)),
                Part.DIRECTORY,
            )
        if status.st_uid != os.geteuid():
            self.notes.append(f"it belongs to user {status.st_uid}; a node that runs as another user refuses to start")
        for name in PLAN_NAMES:
            if not self._is_retired and (self._path / name).exists():
                self.notes.append(
                    f"{name}: a wipe or its undo was interrupted; the next start, or repeating it, finishes it"
                )
        self._note_strays(self._path, lambda name: name in _OURS)

    def _note_strays(self, directory: Path, is_ours: Callable[[str], bool]) -> None:
        """Note files that no node put there: none reads them, and somebody may miss them."""
        names = self._files.names(directory) if directory.is_dir() else ()
        unknown = [name for name in names if not is_ours(name) and not _is_passing(name)]
        if unknown:
            where = f"{directory.name}/" if directory != self._path else ""
            self.notes.append(f"not part of a data directory: {', '.join(where + name for name in unknown)}")

    def identity(self) -> Report | None:
        identity = load_identity(self._path, self._files)
        if identity is None:
            if not self._is_retired:
                self._problem(Damaged(f"there is no {IDENTITY_NAME}", path=str(self._path), hint=WAY_B_HINT), Part.IDENTITY)
            return None
        self.found_identity = identity
        return {
            "cluster": identity.cluster,
            "cluster_id": identity.cluster_id,
            "node_id": identity.node_id,
            "incarnation": identity.incarnation,
            "boot_count": identity.boot_count,
            "birth": identity.birth.value,
            "log_created": identity.log_created,
            "membership": _membership(identity.membership),
        }

    def hard_state(self) -> Report | None:
        if self._is_retired:
            return None
        hard_state, is_whole = read_hard_state(self._path, self._files)
        if not is_whole:
            self.notes.append(f"one of the two copies in {HARD_STATE_NAME} is not valid; the next start repairs it")
        vote, recovery = hard_state.vote, hard_state.recovery
        return {
            "vote": {"term": vote.term, "node_id": vote.node_id, "committed": vote.committed},
            "recovery": None if recovery is None else {"until": _log_id(recovery.until), "reason": recovery.reason},
        }

    def log(self) -> Report | None:
        directory = self._path / LOG_DIRECTORY
        self._note_strays(directory, lambda name: _OF_A_LOG.fullmatch(name) is not None)
        if not (directory / MARKS_NAME).exists() and not segment_paths(directory, self._files):
            self._check_never_created(directory)
            return None
        marks = read_marks(self._path, self._files)
        found = segment_paths(directory, self._files)
        paths = [found[first] for first in sorted(found) if first <= marks.newest]
        self._looking_at(Part.LOG, directory, lambda: check_segment_names(paths, marks, directory))
        outline, last, segments = Outline(LogIndex(0)), marks.purged, list[Report]()
        sealed: _Sealed | None = None
        self._log = None
        for path in paths:
            data = self._files.read_whole(path)
            previous = last if segments else None
            load = partial(load_segment, data, path, previous, marks, is_newest=path is paths[-1])
            loaded = self._looking_at(Part.LOG, path, load)
            self._progress(len(data), path.name)
            is_sound = loaded is not None
            if loaded is None and self.problems[-1]["record"] is not None:
                loaded = salvaged(data, path)
            if loaded is not None:
                header, scan = loaded
                last = scan.last
                outline.add_scanned(scan.runs, scan.memberships, scan.last.index)
                segments.append(self._segment(path, header.first_index, scan, len(data), is_sound=is_sound))
                if sealed is not None:
                    segments[-2]["index"] = self._index(sealed, header)
                sealed = _Sealed(path, header, scan, len(data), crc32(memoryview(data)[: scan.end]))
            if not is_sound:
                break
        else:
            self._looking_at(Part.LOG, directory, partial(check_purge_mark, marks, last, outline.runs, directory))
            self._log = LogState(marks.purged, last, tuple(outline.runs), tuple(outline.memberships))
        outline.forget_upto(marks.purged.index)
        self._looking_at(Part.LOG, directory, partial(self._noted_damage, directory, paths))
        return {
            "purged": _log_id(marks.purged),
            "first_index": marks.purged.index + 1 if last.index > marks.purged.index else None,
            "last": _log_id(last),
            "is_complete": self._log is not None,
            "runs": [{"first_index": run.first_index, "term": run.term, "node_id": run.node_id} for run in outline.runs],
            "memberships": [
                {"log_id": _log_id(stored.log_id), **_membership(stored.membership)} for stored in outline.memberships
            ],
            "segments": segments,
        }

    def snapshots(self) -> list[Report]:
        directory = self._path / SNAPSHOT_DIRECTORY
        self._note_strays(directory, lambda name: name.endswith(SNAPSHOT_SUFFIX))
        self._newest = None
        reports = [
            report
            for path in sorted(directory.glob("*" + SNAPSHOT_SUFFIX))
            if (report := self._looking_at(Part.SNAPSHOT, path, partial(self._snapshot, path))) is not None
        ]
        purged = self._log.purged if self._log is not None else BEFORE_LOG
        covered = self._newest.last_log_id.index if self._newest is not None else 0
        if purged.index > covered:
            message = f"entries up to {purged} are purged, but the newest snapshot ends with entry {covered}"
            self._problem(Damaged(message, path=str(directory), hint=WAY_A_HINT), Part.SNAPSHOT)
        return reports

    def state_machine(self, report: Report | None, problems: list[Report]) -> None:
        """Take in what is known of the state machine, and check that it belongs to log and snapshots."""
        for problem in problems:
            error = StorageError(problem["message"], path=problem["path"], offset=problem["offset"])
            self._problem(error, Part.STATE_MACHINE)
        if self._log is None or self._is_retired:
            return
        snapshot_end = self._newest.last_log_id if self._newest is not None else BEFORE_LOG
        found = self._log
        if not continues(found, snapshot_end):
            self.notes.append(
                f"the log does not reach the end of the newest snapshot ({snapshot_end}); the next start resets it"
            )
            found = LogState(purged=snapshot_end, last=snapshot_end)
        own = (report or {}).get("applied") or {"term": 0, "node_id": 0, "index": 0}
        applied = max(LogId(own["term"], own["node_id"], own["index"]), snapshot_end)
        self._looking_at(Part.LOG, self._path, lambda: check_agreement(found, applied, str(self._path)))

    def retired(self) -> list[Report]:
        reports = []
        for directory in sorted(self._path.glob("retired-*")):
            report: Report = {
                "name": directory.name,
                "size_bytes": sum(size for _, size, _ in fingerprint(directory)),
                "reason": None,
            }
            try:
                note = msgspec.json.decode(self._files.read_whole(directory / PLAN_NAMES[0]), type=Wipe)
                report["reason"] = note.recovery.reason
            except (OSError, *UNREADABLE):
                pass  # retired by an undo, or by hand: its contents do not depend on it
            reports.append(report)
        return reports

    def _noted_damage(self, directory: Path, paths: list[Path]) -> None:
        """Take in damage that a running node found: it is a problem also if the disk gives out the right bytes now."""
        note = load_note(directory, self._files)
        if note is None or all(path.name != note.segment for path in paths):
            return
        self.notes.append(f"{NOTE_NAME}: damage was found at {note.found_at} while the node ran: {note.message}")
        error = note.error(directory)
        if all(problem["path"] != error.path for problem in self.problems):
            self._problem(error, Part.LOG)

    def _check_never_created(self, directory: Path) -> None:
        """A node that has promised nothing yet need not have a log."""
        identity = self.found_identity
        if self._is_retired or (identity is not None and not identity.log_created):
            return
        message = "the log is gone: what this node acknowledged is lost"
        self._problem(Damaged(message, path=str(directory), hint=WAY_A_HINT), Part.LOG)

    def _snapshot(self, path: Path) -> Report:
        descriptor = self._files.open(path, write=False)
        try:
            size = self._files.size(descriptor)

            def read_at(offset: int, count: int) -> bytes:
                data = self._files.pread(descriptor, count, offset)
                self._progress(len(data), path.name)
                return data

            meta = read_meta(read_at, size, str(path))
            if self._newest is None or meta.last_log_id > self._newest.last_log_id:
                self._newest = meta
            whole = True
            try:
                check_snapshot(read_at, meta, str(path))
            except StorageError as error:
                self._problem(error, Part.SNAPSHOT, Kind.REBUILDABLE)
                whole = False
        finally:
            self._files.close(descriptor)
        return {
            "snapshot_id": meta.snapshot_id,
            "last_log_id": _log_id(meta.last_log_id),
            "size_bytes": meta.size_bytes,
            "is_whole": whole,
            "membership": _membership(meta.membership.membership),
        }

    def _segment(self, path: Path, first_index: LogIndex, scan: Scan, size: int, *, is_sound: bool) -> Report:
        if is_sound and scan.problem is not None:
            self.notes.append(
                f"{path.name}: a write was cut short behind entry {scan.last.index} (byte {scan.problem.offset}: "
                f"{scan.problem.reason}); it was promised to nobody, and the next start drops {scan.data_end - scan.end} bytes"
            )
        return {
            "file": path.name,
            "first_index": first_index,
            "records": len(scan.offsets),
            "used_bytes": scan.end,
            "size_bytes": size,
            "is_whole": is_sound,
            "index": None,
        }

    def _index(self, sealed: _Sealed, following: SegmentHeader) -> str:
        """Return what the index beside a segment is worth to the next start. It is derived: no promise rests on it."""
        found = read_index(self._files, sealed.path, sealed.size)
        if found is None:
            return "absent"
        right = make_index(sealed.header, sealed.scan, following.salt, sealed.content_crc)
        if found == right and read_table(self._files, sealed.path, found) is not None:
            return "valid"
        self.notes.append(
            f"{index_path(sealed.path).name}: it is not the index of its segment; remove it while the node is stopped, "
            "and the next start makes it anew"
        )
        return "wrong"

    def _looking_at(self, part: Part, path: Path, look: Callable[[], T]) -> T | None:
        """Return what `look` reports; None and a problem if it cannot be read."""
        try:
            return look()
        except StorageError as error:
            self._problem(error, part)
        except OSError as error:
            self.problems.append(unreadable(error, part, path))
        return None

    def _problem(self, error: StorageError, part: Part, kind: Kind | None = None) -> None:
        self.problems.append(problem_of(error, part, kind))


def _is_passing(name: str) -> bool:
    """Whether a file of this name is on its way to another, or was retired."""
    return name.endswith(".tmp") or RETIRED_PATTERN.fullmatch(name) is not None


def _log_id(log_id: LogId) -> Report | None:
    if log_id == BEFORE_LOG:
        return None
    return {"term": log_id.term, "node_id": log_id.node_id, "index": log_id.index}


def _membership(membership: Membership) -> Report:
    return {
        "configs": [{str(node_id): incarnation for node_id, incarnation in config.items()} for config in membership.configs],
        "learners": {str(node_id): incarnation for node_id, incarnation in membership.learners.items()},
        "nodes": {
            str(node_id): {"raft": address.raft, "management": address.management}
            for node_id, address in membership.nodes.items()
        },
    }
