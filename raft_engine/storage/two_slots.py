"""A small value that is replaced atomically with one write and one sync.

The file has two slots, each in a page of its own: sequence number, length, checksum, value. A new value goes into the slot
that does not hold the durable one, so a write cut short leaves the value before it; the valid slot with the highest sequence
number counts. That is one fdatasync on a file that never grows, where writing a new file and renaming it takes two syncs,
one of them of the directory. Once a value is durable it is copied into the other slot as well, without waiting: from
then on a page that goes bad costs nothing.
Source: own; the idea is that of SQLite's and LMDB's double meta pages.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import Damaged, NewerFormat
from raft_engine.storage.files import Files
from raft_engine.storage.hints import WAY_A_HINT

VERSION: Final = 1
SLOT_BYTES: Final = 4096
"""A page, so that writing one slot never touches the other."""
_HEADER: Final = struct.Struct("<8sHHIQI")
VALUE_BYTES_MAX: Final = SLOT_BYTES - _HEADER.size


class Slot(msgspec.Struct, frozen=True):
    """What one valid slot holds."""

    sequence: int
    value: bytes


def encode_slot(magic: bytes, slot: Slot) -> bytes:
    """Return the page for `slot`.

    Raises: ValueError: the value does not fit.
    """
    if len(slot.value) > VALUE_BYTES_MAX:
        raise ValueError(f"a value of {len(slot.value)} bytes does not fit into a slot ({VALUE_BYTES_MAX})")
    covered = _HEADER.pack(magic, VERSION, 0, len(slot.value), slot.sequence, 0)[:-4]
    crc = zlib.crc32(slot.value, zlib.crc32(covered))
    return (covered + crc.to_bytes(4, "little") + slot.value).ljust(SLOT_BYTES, b"\0")


def decode_slot(magic: bytes, page: bytes, path: str) -> Slot | None:
    """Return what a page holds, or None if it is damaged or was never written.

    Raises: NewerFormat.
    """
    if len(page) < _HEADER.size:
        return None
    found_magic, version, _reserved, length, sequence, crc = _HEADER.unpack_from(page)
    value = page[_HEADER.size : _HEADER.size + length]
    if found_magic != magic or len(value) != length or zlib.crc32(value, zlib.crc32(page[: _HEADER.size - 4])) != crc:
        return None
    if version > VERSION:
        raise NewerFormat(f"format {version} of this file is newer than this program knows ({VERSION})", path=path)
    return Slot(sequence, value)


def read_slots(files: Files, descriptor: int, magic: bytes, path: str) -> tuple[Slot | None, Slot | None]:
    """Return both slots of an open file."""
    pages = [files.pread(descriptor, SLOT_BYTES, at) for at in (0, SLOT_BYTES)]
    return decode_slot(magic, pages[0], path), decode_slot(magic, pages[1], path)


def newest_slot(slots: tuple[Slot | None, Slot | None], path: str, hint: str = WAY_A_HINT) -> Slot:
    """Return the slot that counts.

    Raises: Damaged: neither is valid.
    """
    valid = [slot for slot in slots if slot is not None]
    if not valid:
        raise Damaged("both copies are damaged: what this node promised is lost", path=path, hint=hint)
    return max(valid, key=lambda slot: slot.sequence)


class TwoSlots:
    """An open file of two slots. `write`, then `sync`; both from one thread."""

    def __init__(self, files: Files, path: Path, magic: bytes, initial: bytes, hint: str = WAY_A_HINT) -> None:
        """Open the file; a missing one is created with `initial`.

        Args:
            hint: what to do when both copies are damaged.
        """
        self._files = files
        self._path = path
        self._magic = magic
        if not files.exists(path):
            files.replace(path, encode_slot(magic, Slot(1, initial)) * 2)
        self._descriptor = files.open(path)
        try:
            slots = read_slots(files, self._descriptor, magic, str(path))
            self._newest = newest_slot(slots, str(path), hint)
            self._durable_slot = slots.index(self._newest)
            if slots[0] != slots[1]:
                # A killed process may have left the newest one unsynced; if its sync failed, only writing it again helps.
                page = encode_slot(magic, self._newest)
                files.pwrite(self._descriptor, page, self._durable_slot * SLOT_BYTES)
                files.fdatasync(self._descriptor)
                self._copy()
                files.fdatasync(self._descriptor)
        except BaseException:
            files.close(self._descriptor)
            raise
        self.is_dirty = False

    @property
    def value(self) -> bytes:
        return self._newest.value

    def write(self, value: bytes) -> None:
        """Replace the value; durable after `sync`."""
        newest = Slot(self._newest.sequence + 1, value)
        page = encode_slot(self._magic, newest)
        self.is_dirty = True
        self._files.pwrite(self._descriptor, page, (1 - self._durable_slot) * SLOT_BYTES)
        self._newest = newest

    def sync(self) -> None:
        """Return when the value is durable."""
        if self.is_dirty:
            self._files.fdatasync(self._descriptor)
            self._durable_slot = 1 - self._durable_slot
            self.is_dirty = False
            self._copy()

    def close(self) -> None:
        self._files.close(self._descriptor)

    def _copy(self) -> None:
        """Put the durable value into the other slot too; the next `write` goes there anyway, so nobody waits for it."""
        page = encode_slot(self._magic, self._newest)
        self._files.pwrite(self._descriptor, page, (1 - self._durable_slot) * SLOT_BYTES)
