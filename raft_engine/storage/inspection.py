"""What is in a data directory, and whether it is all right: for people and for `raft-engine inspect`.

Nothing is written, no lock is taken, and one damaged file does not keep the others from being looked at. While the node runs
it may be caught in the middle of a write; a problem counts when it is still there with the node stopped.
Source: etcd `etcdutl`; own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from raft_engine.errors import StorageError
from raft_engine.storage.files import Files
from raft_engine.storage.hard_state import FILE_NAME as HARD_STATE_NAME
from raft_engine.storage.hard_state import read_hard_state
from raft_engine.storage.identity import FILE_NAME as IDENTITY_NAME
from raft_engine.storage.identity import load_identity
from raft_engine.storage.log_checks import (
    MARKS_MAGIC,
    MARKS_NAME,
    Marks,
    check_purge_mark,
    check_segment_names,
    decode_marks,
    load_segment,
    segment_paths,
)
from raft_engine.storage.outline import Outline
from raft_engine.storage.segment_format import Scan
from raft_engine.storage.segment_log import LOG_DIRECTORY
from raft_engine.storage.snapshot_files import SNAPSHOT_DIRECTORY, SNAPSHOT_SUFFIX
from raft_engine.storage.snapshot_format import check_snapshot, read_meta
from raft_engine.storage.two_slots import newest_slot, read_slots
from raft_engine.types.entry import EntryKind, decode_record
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import Membership

Report = dict[str, Any]


def describe(path: Path, entries: tuple[LogIndex, LogIndex] | None = None) -> Report:
    """Return what stands in a data directory, every checksum verified; JSON can express all of it.

    Args:
        entries: also list the entries from the first to the second index, inclusive.
    """
    inspection = _Inspection(path, entries)
    return {
        "path": str(path),
        "identity": inspection.looking_at(path / IDENTITY_NAME, inspection.identity),
        "hard_state": inspection.looking_at(path / HARD_STATE_NAME, inspection.hard_state),
        "log": inspection.looking_at(path / LOG_DIRECTORY, inspection.log),
        "snapshots": inspection.looking_at(path / SNAPSHOT_DIRECTORY, inspection.snapshots),
        "retired": sorted(retired.name for retired in path.glob("retired-*")),
        "problems": inspection.problems,
        "notes": inspection.notes,
    }


class _Inspection:
    """One look at a directory; collects what is wrong (`problems`) and what is merely worth knowing (`notes`)."""

    def __init__(self, path: Path, entries: tuple[LogIndex, LogIndex] | None) -> None:
        self.problems: list[Report] = []
        self.notes: list[str] = []
        self._path = path
        self._entries = entries
        self._files = Files()

    def looking_at(self, path: Path, part: Callable[[], Any]) -> Any:
        """Return what `part` reports; None and a problem if it cannot be read at all."""
        try:
            return part()
        except StorageError as error:
            self._problem(error)
        except OSError as error:
            self.problems.append({"path": str(path), "offset": None, "message": f"cannot be read: {error.strerror}"})
        return None

    def identity(self) -> Report | None:
        identity = load_identity(self._path, self._files)
        if identity is None:
            self.problems.append({"path": str(self._path), "offset": None, "message": f"there is no {IDENTITY_NAME}"})
            return None
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

    def hard_state(self) -> Report:
        hard_state, is_whole = read_hard_state(self._path, self._files)
        if not is_whole:
            self.notes.append(f"one of the two copies in {HARD_STATE_NAME} is not valid; the next start repairs it")
        vote, recovery = hard_state.vote, hard_state.recovery
        return {
            "vote": {"term": vote.term, "node_id": vote.node_id, "committed": vote.committed},
            "recovery": None if recovery is None else {"until": _log_id(recovery.until), "reason": recovery.reason},
        }

    def log(self) -> Report:
        directory = self._path / LOG_DIRECTORY
        marks = self._marks(directory / MARKS_NAME)
        found = segment_paths(directory, self._files)
        paths = [found[first] for first in sorted(found) if first <= marks.newest]
        self.looking_at(directory, lambda: check_segment_names(paths, marks, directory))
        outline, last, segments, listed = Outline(LogIndex(0)), marks.purged, list[Report](), list[Report]()
        for path in paths:
            data = self._files.read_whole(path)
            previous = last if segments else None
            loaded = self.looking_at(path, partial(load_segment, data, path, previous, marks, is_newest=path is paths[-1]))
            if loaded is None:
                break
            header, scan = loaded
            last = scan.last
            outline.add_scanned(scan.runs, scan.memberships, scan.last.index)
            segments.append(self._segment(path, header.first_index, scan, len(data)))
            listed += self._listed(data, header.first_index, scan)
        else:
            self.looking_at(directory, partial(check_purge_mark, marks, last, outline.runs, directory))
        outline.forget_upto(marks.purged.index)
        report: Report = {
            "purged": _log_id(marks.purged),
            "first_index": marks.purged.index + 1 if last.index > marks.purged.index else None,
            "last": _log_id(last),
            "runs": [{"first_index": run.first_index, "term": run.term, "node_id": run.node_id} for run in outline.runs],
            "memberships": [
                {"log_id": _log_id(stored.log_id), **_membership(stored.membership)} for stored in outline.memberships
            ],
            "segments": segments,
        }
        if self._entries is not None:
            report["entries"] = listed
        return report

    def snapshots(self) -> list[Report]:
        directory = self._path / SNAPSHOT_DIRECTORY
        reports = []
        for path in sorted(directory.glob("*" + SNAPSHOT_SUFFIX)):
            report = self.looking_at(path, partial(self._snapshot, path))
            if report is not None:
                reports.append(report)
        return reports

    def _snapshot(self, path: Path) -> Report:
        descriptor = self._files.open(path, write=False)
        try:
            size = self._files.size(descriptor)

            def read_at(offset: int, count: int) -> bytes:
                return self._files.pread(descriptor, count, offset)

            meta = read_meta(read_at, size, str(path))
            self.looking_at(path, lambda: check_snapshot(read_at, meta, str(path)))
        finally:
            self._files.close(descriptor)
        return {
            "snapshot_id": meta.snapshot_id,
            "last_log_id": _log_id(meta.last_log_id),
            "size_bytes": meta.size_bytes,
            "membership": _membership(meta.membership.membership),
        }

    def _marks(self, path: Path) -> Marks:
        descriptor = self._files.open(path, write=False)
        try:
            slots = read_slots(self._files, descriptor, MARKS_MAGIC, str(path))
        finally:
            self._files.close(descriptor)
        return decode_marks(newest_slot(slots, str(path)).value, path)

    def _segment(self, path: Path, first_index: LogIndex, scan: Scan, size: int) -> Report:
        if scan.problem is not None:
            self.notes.append(
                f"{path.name}: a write was cut short behind entry {scan.last.index} (byte {scan.problem.offset}: "
                f"{scan.problem.reason}); the next start drops {scan.data_end - scan.end} bytes"
            )
        return {
            "file": path.name,
            "first_index": first_index,
            "records": len(scan.offsets),
            "used_bytes": scan.end,
            "size_bytes": size,
        }

    def _listed(self, data: bytes, first_index: LogIndex, scan: Scan) -> list[Report]:
        if self._entries is None:
            return []
        first, last = self._entries
        return [
            {
                "index": entry.index,
                "term": entry.term,
                "node_id": entry.node_id,
                "kind": EntryKind(entry.kind).name.lower(),
                "data_bytes": len(entry.data),
            }
            for index, offset in enumerate(scan.offsets, first_index)
            if first <= index <= last
            for entry in [decode_record(data, offset)]
        ]

    def _problem(self, error: StorageError) -> None:
        self.problems.append({"path": error.path, "offset": error.offset, "message": str(error)})


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
