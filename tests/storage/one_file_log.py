"""The simplest log that keeps its promises: everything in one file, replaced as a whole at each sync. It shows what a store of
somebody else's needs in order to be looked at in every crash, and what is found if it forgets something."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec

from raft_engine.errors import Damaged, StorageFailed
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.memory import MemoryLog
from raft_engine.types.entry import decode_records
from raft_engine.types.hard_state import HardState
from raft_engine.types.log_id import LogId


class Content(msgspec.Struct):
    """What is in the file, behind its checksum."""

    hard_state: HardState
    purged: LogId
    records: bytes


class OneFileLog(MemoryLog):
    """A `LogStorage` whose `sync` writes all of it."""

    def __init__(self, directory: Path, files: Files) -> None:
        super().__init__()
        self._files = files
        self._path = directory / "everything"
        self._failed = False
        self._guarded(self._load)

    def sync(self) -> None:
        state = self.state()
        entries = self.read(state.purged.index, state.last.index, 1 << 30) if state.last.index > state.purged.index else []
        content = Content(self.hard_state(), state.purged, b"".join(entry.record for entry in entries))
        encoded = msgspec.msgpack.encode(content)
        self._guarded(lambda: self.replace(zlib.crc32(encoded).to_bytes(4, "little") + encoded))

    def replace(self, data: bytes) -> None:
        self._files.replace(self._path, data)

    def _load(self) -> None:
        self._files.fsync_dir(self._path.parent)  # a process that was killed may have left the name unsynced
        if not self._files.exists(self._path):
            return
        data = self._files.read_whole(self._path)
        if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
            raise Damaged("the checksum does not match", path=str(self._path))
        content = msgspec.msgpack.decode(data[4:], type=Content)
        self.save_hard_state(content.hard_state)
        self.reset(content.purged)
        self.append(decode_records(content.records))

    def _guarded(self, write) -> None:
        """Stop for good after the first failure."""
        if self._failed:
            raise StorageFailed("this log has failed")
        try:
            write()
        except OSError as error:
            self._failed = True
            raise storage_failed(error, "writing the log", self._path) from error
