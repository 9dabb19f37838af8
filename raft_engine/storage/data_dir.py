"""Everything one node keeps on disk, opened in the right order.

    lock             one process per directory
    identity.json    who the node is (identity)
    hard_state       its vote, its recovery marker (hard_state)
    log/             its entries (segment_log)
    snapshots/       the newest snapshot (snapshot_files)
    sm/              whatever its state machine keeps by itself
    retired-<time>/  log, snapshots and sm of before a wipe (retiring)

The hard state is created before the identity, so an identity without a hard state has lost its vote; `log_created` is set
before the first segment is made, so a log that is not there has been lost. Both are refused: a node must not go on as if it
had never promised anything.
Source: rejoin_safety (both ways back); Raft paper figure 2.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import Damaged
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.hard_state import FILE_NAME as HARD_STATE_NAME
from raft_engine.storage.hard_state import HardStateFile, read_hard_state
from raft_engine.storage.hints import WAY_A_HINT, WAY_B_HINT
from raft_engine.storage.identity import FILE_NAME as IDENTITY_NAME
from raft_engine.storage.identity import DirectoryLock, Identity, KnownBoot, open_or_create, prepare_directory, save_identity
from raft_engine.storage.log_checks import MARKS_NAME, segment_paths
from raft_engine.storage.retiring import check_barrier, finish_interrupted, restore, wipe
from raft_engine.storage.segment_log import LOG_DIRECTORY, SEGMENT_BYTES, SegmentLog
from raft_engine.storage.snapshot_files import SnapshotFiles
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import NOBODY, Boot, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import encode_membership

STATE_MACHINE_DIRECTORY: Final = "sm"
FIRST_INDEX: Final = LogIndex(1)
BOOTS_KEPT: Final = 16
"""Starts whose names a peer is told: one that was away for fewer can tell whether this directory went on from what it knew."""


class DataDir:
    """One node's directory, locked. `log` and `snapshots` are open between `open_stores` and `close_stores`."""

    def __init__(
        self,
        path: Path,
        cluster: str,
        node_id: NodeId,
        *,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        prepare_ahead: bool = True,
        open_stores: bool = True,
        starts: bool = True,
        snapshots_to_keep: int = 1,
    ) -> None:
        """Lock the directory, read or create the identity, and open the stores.

        Args:
            open_stores: without it the caller does so later; a node whose log is damaged can then still be wiped.
            starts: whether the node is going to run; see `open_or_create`.
        Raises: DirectoryLocked, WrongDirectory, Damaged, NewerFormat, StorageFailed.
        """
        self.path = path
        self._files = files or Files()
        self._segment_bytes = segment_bytes
        self._prepare_ahead = prepare_ahead
        self._snapshots_to_keep = snapshots_to_keep
        self._identity_lock = threading.Lock()  # the log's writer marks the log as created, others note the birth
        self._is_appending_first = False
        self._log: SegmentLog | None = None
        self._snapshots: SnapshotFiles | None = None
        try:
            with ExitStack() as undo:
                prepare_directory(path, self._files)
                self._lock = DirectoryLock(path, self._files)
                undo.callback(self._lock.release)
                self._check_before_identity()
                self._identity = open_or_create(path, cluster, node_id, self._files, starts=starts)
                if open_stores:
                    self.open_stores()
                undo.pop_all()
        except OSError as error:
            raise storage_failed(error, "opening the data directory", path) from error

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def log(self) -> SegmentLog:
        assert self._log is not None, "the stores are closed"
        return self._log

    @property
    def snapshots(self) -> SnapshotFiles:
        assert self._snapshots is not None, "the stores are closed"
        return self._snapshots

    @property
    def state_machine_path(self) -> Path:
        return self.path / STATE_MACHINE_DIRECTORY

    def save_identity(self, identity: Identity) -> None:
        """Replace the identity, durably. What was promised for good (`log_created`, boot counter) is never taken back."""
        with self._identity_lock:
            now = self._identity
            self._save_identity(msgspec.structs.replace(identity, boots=now.boots, known=now.known))

    def name_boot(self, name: str) -> None:
        """Remember, durably, under which name this start makes itself known; before anybody hears of it."""
        with self._identity_lock:
            identity = self._identity
            boots = (Boot(identity.boot_count, name), *identity.boots)[:BOOTS_KEPT]
            self._save_identity(msgspec.structs.replace(identity, boots=boots))

    def keep_known_boots(self, known: Mapping[PeerId, Boot]) -> None:
        """Remember which starts of its peers this node has heard of."""
        kept = tuple(KnownBoot(peer.node_id, peer.incarnation, boot) for peer, boot in sorted(known.items()))
        with self._identity_lock:
            if kept != self._identity.known:
                self._save_identity(msgspec.structs.replace(self._identity, known=kept))

    def mark_log_created(self) -> None:
        """Note, durably, that entries may be acknowledged from now on."""
        with self._identity_lock:
            if not self._identity.log_created:
                self._save_identity(msgspec.structs.replace(self._identity, log_created=True))

    def open_stores(self) -> None:
        """Open log and snapshots again after `close_stores`; an interrupted wipe is finished first.

        Raises: Damaged, NewerFormat, StorageFailed.
        """
        assert self._log is None, "the stores are open"
        with ExitStack() as undo:
            finish_interrupted(self.path, self._files)
            self._check_log_is_there()
            log = SegmentLog(
                self.path,
                files=self._files,
                segment_bytes=self._segment_bytes,
                prepare_ahead=self._prepare_ahead,
                before_first_segment=self._note_first_segment,
            )
            undo.callback(log.close)
            snapshots = SnapshotFiles(self.path, files=self._files, keep=self._snapshots_to_keep)
            undo.callback(snapshots.close)
            self._check_snapshot_covers_purged(log, snapshots)
            if log.state().last.index > 0:
                self.mark_log_created()
            undo.pop_all()
        self._log, self._snapshots = log, snapshots

    def close_stores(self) -> None:
        """Close log and snapshots; the directory stays locked. Nothing if they are closed."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._snapshots is not None:
            self._snapshots.close()
            self._snapshots = None

    def close(self) -> None:
        self.close_stores()
        self._lock.release()

    def ensure_first_entry(self) -> bool:
        """Write the cluster's first configuration into the log of a node that was just born; return whether it was done.

        Every first member writes the same bytes, so their logs agree before anybody has led. The log counts as created
        afterwards: a crash in between must find a node that may still be born.
        """
        identity = self._identity
        if identity.birth is not BirthState.STARTED or identity.log_created or self.log.state().last != BEFORE_LOG:
            return False
        entry = make_entry(Term(0), NOBODY, FIRST_INDEX, EntryKind.MEMBERSHIP, encode_membership(identity.membership))
        self._is_appending_first = True
        try:
            self.log.append([entry])
            self.log.sync()
        finally:
            self._is_appending_first = False
        self.mark_log_created()
        return True

    def check_barrier(self, recover_until: LogId) -> None:
        """Check that a barrier can have been made after this node stopped. The engine must be stopped.

        Raises: WouldLose: the log holds something after it, so what the node acknowledged might be lost.
        """
        check_barrier(self.path, recover_until, self._files)

    def wipe(self, recover_until: LogId, reason: str) -> str:
        """Retire log, snapshots and state machine, keep the vote; return the name of the directory they are in.

        The engine must be stopped; the stores are closed, `open_stores` opens empty ones. Repeating it changes nothing.
        Raises: StorageFailed.
        """
        self.close_stores()
        return wipe(self.path, recover_until, reason, self._files)

    def restore_retired(self, name: str) -> str:
        """Undo a wipe: bring back what `name` holds; return the directory in which the present data is now.

        The engine must be stopped; the stores are closed.
        Raises: StorageError: no such directory, or the node has gone on since, so that only the way forward is left.
        """
        self.close_stores()
        return restore(self.path, name, self._files)

    def stored_hard_state(self) -> HardState:
        """Return the hard state as it is on the disk, also while the stores are closed.

        Raises: Damaged, NewerFormat, StorageFailed.
        """
        try:
            return read_hard_state(self.path, self._files)[0]
        except OSError as error:
            raise storage_failed(error, "reading the hard state", self.path) from error

    def check_in_place(self) -> None:
        """Check that this is still the directory that was opened: files that are open can be written after it is gone.

        Raises: StorageFailed.
        """
        try:
            self._lock.check_in_place()
        except OSError as error:
            raise storage_failed(error, "looking for the data directory", self.path) from error

    def free_bytes(self) -> int:
        """Return how much an ordinary user can still write on this disk; 0 if the disk does not say.

        Where the directory is gone, its nearest parent that is there is measured: a missing directory is no full disk.
        """
        for place in (self.path, *self.path.parents):
            try:
                return self._files.free_bytes(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                break
        return 0

    def _save_identity(self, identity: Identity) -> None:
        kept = msgspec.structs.replace(
            identity,
            log_created=identity.log_created or self._identity.log_created,
            boot_count=max(identity.boot_count, self._identity.boot_count),
        )
        try:
            save_identity(self.path, kept, self._files)
        except OSError as error:
            raise storage_failed(error, "saving the identity", self.path) from error
        self._identity = kept

    def _note_first_segment(self) -> None:
        if not self._is_appending_first:
            self.mark_log_created()

    def _check_before_identity(self) -> None:
        """Create the hard state of a new directory; refuse one in which half of the pair is gone."""
        has_identity = self._files.exists(self.path / IDENTITY_NAME)
        has_hard_state = self._files.exists(self.path / HARD_STATE_NAME)
        if has_identity and not has_hard_state:
            raise Damaged("the hard state is gone: this node's vote is lost", path=str(self.path), hint=WAY_B_HINT)
        if has_identity:
            return
        has_voted = has_hard_state and read_hard_state(self.path, self._files)[0] != HardState()
        if has_voted or segment_paths(self.path / LOG_DIRECTORY, self._files):
            raise Damaged(
                f"{IDENTITY_NAME} is gone, but vote or log of a node are there", path=str(self.path), hint=WAY_B_HINT
            )
        HardStateFile(self.path, self._files).close()
        self._files.fsync_dir(self.path)  # a start that was killed may have left its name unsynced

    def _check_log_is_there(self) -> None:
        if self._identity.log_created and not self._files.exists(self.path / LOG_DIRECTORY / MARKS_NAME):
            raise Damaged(
                "the log is gone: what this node acknowledged is lost",
                path=str(self.path / LOG_DIRECTORY),
                hint=WAY_A_HINT,
            )

    def _check_snapshot_covers_purged(self, log: SegmentLog, snapshots: SnapshotFiles) -> None:
        purged = log.state().purged
        newest = snapshots.newest()
        covered = newest.last_log_id.index if newest is not None else 0
        if purged.index > covered:
            raise Damaged(
                f"entries up to {purged} are purged, but the newest snapshot ends with entry {covered}",
                path=str(snapshots.directory),
                hint=WAY_A_HINT,
            )
