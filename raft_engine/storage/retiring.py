"""Moving a node's data aside with its vote kept, and bringing it back.

A wipe says durably what it is going to do (`wipe.json`), then: the recovery marker goes beside the kept vote, log, snapshots
and state machine are moved to `retired-<time>/`, a fresh log begins, and `wipe.json` moves to the retired data, where it
tells an undo what to put back. Whenever it is interrupted, the next start finishes it. The undo works the same way.
The marker comes first: from then on the node does not campaign, whatever is left of its log.
Source: rejoin_safety, way A, step 5 and the rules for undoing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from raft_engine.errors import Damaged, StorageError, WouldLose
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.hard_state import REASON_CHARACTERS_MAX, HardStateFile
from raft_engine.storage.log_reading import last_log_id
from raft_engine.storage.segment_log import LOG_DIRECTORY, SegmentLog
from raft_engine.storage.snapshot_files import SNAPSHOT_DIRECTORY, read_snapshot_metas
from raft_engine.types.hard_state import Recovery
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.unreadable import UNREADABLE

PARTS: Final = (LOG_DIRECTORY, SNAPSHOT_DIRECTORY, "sm")
"""What a wipe retires: everything that can be had again from the other nodes."""
RETIRED_PATTERN: Final = re.compile(r"retired-[0-9TZ-]+")
WIPE_NAME: Final = "wipe.json"
RESTORE_NAME: Final = "restore.json"
PLAN_NAMES: Final = (WIPE_NAME, RESTORE_NAME)


class Wipe(msgspec.Struct, frozen=True):
    """`before`: the recovery marker that stood beside the vote until then; an undo puts it back."""

    retired: str
    recovery: Recovery
    before: Recovery | None


class Restore(msgspec.Struct, frozen=True):
    """`parts`: what the retired directory held; `aside`: where the present data goes."""

    retired: str
    aside: str
    parts: tuple[str, ...]
    recovery: Recovery | None


Plan = TypeVar("Plan", Wipe, Restore)


def check_barrier(path: Path, recover_until: LogId, files: Files) -> LogId | None:
    """Check that a barrier can have been made after the node stopped; return the last entry it is known to hold, if any.

    The barrier is made in the node's absence, after everything it ever acknowledged, so nothing in its log comes after it.
    Changes nothing. What cannot be read says nothing: a damaged log is what a wipe is for.
    Raises: WouldLose.
    """
    known = max(_readable_ends(path, files), default=None)
    if known is not None and known >= recover_until:
        raise WouldLose(
            f"nothing was wiped: this node's log holds {known}, so the barrier {recover_until} was made before the node "
            "stopped, or is another cluster's",
            path=str(path),
            hint="with the node stopped, have the leader make another one, then give that",
        )
    return known


def wipe(path: Path, recover_until: LogId, reason: str, files: Files) -> str:
    """Retire the data in a closed data directory and return the name of the directory it is in.

    Raises: StorageFailed.
    """
    try:
        plan = _load(path / WIPE_NAME, Wipe, files)
        if plan is None:
            done = _already_wiped(path, recover_until, files)
            if done is not None:
                return done
        before = _recovery(path, files) if plan is None else plan.before
        until = max(recover_until, before.until) if before is not None else recover_until
        recovery = Recovery(until, reason[:REASON_CHARACTERS_MAX])
        plan = Wipe(_new_name(path, files) if plan is None else plan.retired, recovery, before)
        files.replace(path / WIPE_NAME, msgspec.json.encode(plan))
        _finish_wipe(path, plan, files)
    except OSError as error:
        raise storage_failed(error, "wiping", path) from error
    return plan.retired


def restore(path: Path, name: str, files: Files) -> str:
    """Bring retired data back into a closed data directory and return where the present data is now.

    Raises: StorageError: no such directory; WouldLose: something beyond the recovery may have been acknowledged; StorageFailed.
    """
    retired = path / name
    if (
        not RETIRED_PATTERN.fullmatch(name)
        or not files.is_directory(retired)
        or not files.is_directory(retired / LOG_DIRECTORY)
    ):
        raise StorageError(f"{name!r} is not a directory with retired data", path=str(path))
    try:
        _check_may_be_undone(path, files)
        origin = _load(retired / WIPE_NAME, Wipe, files)
        parts = tuple(part for part in PARTS if files.exists(retired / part))
        plan = Restore(name, _new_name(path, files), parts, origin.before if origin is not None else None)
        files.replace(path / RESTORE_NAME, msgspec.json.encode(plan))
        _finish_restore(path, plan, files)
    except OSError as error:
        raise storage_failed(error, "restoring retired data", path) from error
    return plan.aside


def finish_interrupted(path: Path, files: Files) -> None:
    """Finish a wipe or an undo that a crash interrupted.

    Raises: Damaged: its plan cannot be read; StorageFailed.
    """
    try:
        wipe_plan = _load(path / WIPE_NAME, Wipe, files)
        if wipe_plan is not None:
            _finish_wipe(path, wipe_plan, files)
        restore_plan = _load(path / RESTORE_NAME, Restore, files)
        if restore_plan is not None:
            _finish_restore(path, restore_plan, files)
    except OSError as error:
        raise storage_failed(error, "finishing an interrupted wipe", path) from error


def _finish_wipe(path: Path, plan: Wipe, files: Files) -> None:
    _save_recovery(path, plan.recovery, files)
    retired = path / plan.retired
    _make_directory(retired, files)
    for part in PARTS:
        if files.exists(path / part) and not files.exists(retired / part):
            files.rename(path / part, retired / part)
    files.fsync_dir(retired)
    files.fsync_dir(path)
    SegmentLog(path, files=files, prepare_ahead=False).close()
    files.rename(path / WIPE_NAME, retired / WIPE_NAME)
    files.fsync_dir(retired)
    files.fsync_dir(path)


def _finish_restore(path: Path, plan: Restore, files: Files) -> None:
    retired, aside = path / plan.retired, path / plan.aside
    if not files.exists(aside / WIPE_NAME):
        _make_directory(aside, files)
        present = _recovery(path, files)
        note = Wipe(plan.aside, present or Recovery(BEFORE_LOG, "undone"), present)
        files.replace(aside / WIPE_NAME, msgspec.json.encode(note))
    for part in PARTS:
        # While the retired part is still there, or if there never was one, what stands in its place is the present one.
        is_present = files.exists(retired / part) or part not in plan.parts
        if is_present and files.exists(path / part):
            files.rename(path / part, aside / part)
    _sync_all(files, aside, path)  # no name is given anew before it is durably free
    for part in plan.parts:
        if files.exists(retired / part):
            files.rename(retired / part, path / part)
    _sync_all(files, retired, path)
    _save_recovery(path, plan.recovery, files)
    if files.exists(retired / WIPE_NAME):
        files.unlink(retired / WIPE_NAME)
    if files.exists(retired) and not files.names(retired):
        files.rmdir(retired)
    files.fsync_dir(path)
    files.unlink(path / RESTORE_NAME)
    files.fsync_dir(path)


def _sync_all(files: Files, *directories: Path) -> None:
    for directory in directories:
        if files.exists(directory):
            files.fsync_dir(directory)


def _check_may_be_undone(path: Path, files: Files) -> None:
    """An undo is safe until the node has acknowledged something beyond the entry its recovery ends with."""
    log = SegmentLog(path, files=files, prepare_ahead=False)
    try:
        recovery = log.hard_state().recovery
        last = log.state().last
    finally:
        log.close()
    if recovery is None or last.index > recovery.until.index:
        raise WouldLose(
            f"the node has gone on since it was wiped (its log ends with {last}): what it acknowledged would be lost",
            path=str(path),
            hint="only the way forward is left: let it catch up",
        )


def _readable_ends(path: Path, files: Files) -> Iterator[LogId]:
    """Yield the ends of log and newest snapshot, as far as they can be read."""
    with suppress(StorageError, OSError):
        yield last_log_id(path, files)
    with suppress(StorageError, OSError):
        yield from (meta.last_log_id for meta in read_snapshot_metas(path / SNAPSHOT_DIRECTORY, files))


def _already_wiped(path: Path, recover_until: LogId, files: Files) -> str | None:
    """Return where the data is if this very wipe was done and nothing was received since, or None."""
    for name in reversed(files.names(path)):
        retired = path / name
        if not RETIRED_PATTERN.fullmatch(name):
            continue
        plan = _load(retired / WIPE_NAME, Wipe, files)
        if plan is not None and plan.recovery.until == recover_until and plan.recovery == _recovery(path, files):
            log = SegmentLog(path, files=files, prepare_ahead=False)
            is_empty = log.state().last == BEFORE_LOG
            log.close()
            return retired.name if is_empty and not files.names(path / SNAPSHOT_DIRECTORY) else None
    return None


def _recovery(path: Path, files: Files) -> Recovery | None:
    hard_state = HardStateFile(path, files)
    hard_state.close()
    return hard_state.value.recovery


def _save_recovery(path: Path, recovery: Recovery | None, files: Files) -> None:
    hard_state = HardStateFile(path, files)
    try:
        hard_state.save(msgspec.structs.replace(hard_state.value, recovery=recovery))
        hard_state.sync()
    finally:
        hard_state.close()


def _make_directory(directory: Path, files: Files) -> None:
    if not files.exists(directory):
        files.mkdir(directory)
        files.fsync_dir(directory.parent)


def _new_name(path: Path, files: Files) -> str:
    """Return a name for a retired directory that is not taken."""
    stamp = f"retired-{files.utc_now():%Y%m%dT%H%M%SZ}"
    names = (stamp if number == 1 else f"{stamp}-{number}" for number in count(1))
    return next(name for name in names if not files.exists(path / name))


def _load(file: Path, kind: type[Plan], files: Files) -> Plan | None:
    """Return the plan in `file`, or None if there is no such file."""
    if not files.exists(file):
        return None
    return decode_plan(files.read_whole(file), kind, str(file))


def decode_plan(data: bytes, kind: type[Plan], path: str) -> Plan:
    """Return the plan in a file's bytes.

    Raises: Damaged: it is none, or names something that a wipe does not touch.
    """
    try:
        plan = msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise Damaged(f"the plan cannot be read: {error}", path=path) from error
    _check_moves(plan, path)
    return plan


def _check_moves(plan: Wipe | Restore, path: str) -> None:
    names = [plan.retired, plan.aside] if isinstance(plan, Restore) else [plan.retired]
    parts = plan.parts if isinstance(plan, Restore) else ()
    if not all(map(RETIRED_PATTERN.fullmatch, names)) or not set(parts) <= set(PARTS):
        raise Damaged(f"the plan moves what no wipe moves: {[*names, *parts]}", path=path)
