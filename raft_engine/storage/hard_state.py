"""Keeping the vote and the recovery marker.

Saving is on the path of every election, hence two slots and one fdatasync (see `two_slots`).
Source: Raft paper figure 2 (persistent state); rejoin_safety, way A (the hard state survives a wipe).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import Damaged
from raft_engine.storage.files import Files
from raft_engine.storage.hints import WAY_B_HINT
from raft_engine.storage.two_slots import TwoSlots, newest_slot, read_slots
from raft_engine.types.hard_state import HardState
from raft_engine.types.unreadable import UNREADABLE

FILE_NAME: Final = "hard_state"
REASON_CHARACTERS_MAX: Final = 500
"""A recovery's reason is kept this long, so that the hard state always fits into its slot."""
HARD_STATE_MAGIC: Final = b"RAFTHARD"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(HardState)


class HardStateFile:
    """The hard state of one data directory."""

    def __init__(self, directory: Path, files: Files) -> None:
        """Open it; a missing file is created with the default hard state.

        Raises: Damaged, NewerFormat.
        """
        self._path = directory / FILE_NAME
        self._slots = TwoSlots(files, self._path, HARD_STATE_MAGIC, _encoder.encode(HardState()), WAY_B_HINT)
        try:
            self.value = _decode(self._slots.value, self._path)
        except Damaged:
            self._slots.close()
            raise

    @property
    def is_dirty(self) -> bool:
        return self._slots.is_dirty

    def save(self, hard_state: HardState) -> None:
        """Replace it; durable after `sync`."""
        self._slots.write(_encoder.encode(_bounded(hard_state)))
        self.value = hard_state

    def sync(self) -> None:
        self._slots.sync()

    def close(self) -> None:
        self._slots.close()


def read_hard_state(directory: Path, files: Files) -> tuple[HardState, bool]:
    """Return the hard state without changing anything, and whether both of its copies are undamaged.

    Raises: Damaged, NewerFormat, OSError.
    """
    path = directory / FILE_NAME
    descriptor = files.open(path, write=False)
    try:
        slots = read_slots(files, descriptor, HARD_STATE_MAGIC, str(path))
    finally:
        files.close(descriptor)
    return _decode(newest_slot(slots, str(path), WAY_B_HINT).value, path), None not in slots


def _decode(value: bytes, path: Path) -> HardState:
    try:
        return _decoder.decode(value)
    except UNREADABLE as error:
        raise Damaged(f"the hard state cannot be read: {error}", path=str(path), hint=WAY_B_HINT) from error


def _bounded(hard_state: HardState) -> HardState:
    recovery = hard_state.recovery
    if recovery is None or len(recovery.reason) <= REASON_CHARACTERS_MAX:
        return hard_state
    shorter = msgspec.structs.replace(recovery, reason=recovery.reason[:REASON_CHARACTERS_MAX])
    return msgspec.structs.replace(hard_state, recovery=shorter)
