"""What a running node found damaged in its log, noted so that every later start refuses at once.

A start does not read all of a long log, so damage that it would not meet must not be forgotten when the node stops. The note lies
in the log's own directory: it goes where the damaged entries go, to the retired data with a wipe and back with its undo. When
the segment it names has left the log for good reason, purged or replaced by a snapshot, the note goes too.
Source: own; protocol-aware recovery (Alagappan et al., FAST 2018): damage is told apart from loss, and never forgotten.
"""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import Damaged, NewerFormat
from raft_engine.storage.files import Files
from raft_engine.storage.log_checks import LOST_HINT, SEGMENT_SUFFIX
from raft_engine.types.unreadable import UNREADABLE

NOTE_NAME: Final = "damage.json"
FORMAT: Final = 1

_logger = logging.getLogger("raft_engine.storage")


class DamageNote(msgspec.Struct, frozen=True):
    """`segment`: name of the damaged file; `offset`: byte in it; `record`: index of the entry there, if that is known."""

    segment: str
    message: str
    offset: int | None
    record: int | None
    found_at: str

    def error(self, directory: Path) -> Damaged:
        """Return what a start says of it."""
        return Damaged(
            f"{self.message} (found at {self.found_at}, while the node ran)",
            path=str(directory / self.segment),
            offset=self.offset,
            hint=LOST_HINT,
            record=self.record,
        )


class _NoteFile(msgspec.Struct, frozen=True):
    format: int
    checksum: str
    damage: msgspec.Raw


def encode_note(note: DamageNote) -> bytes:
    encoded = msgspec.json.encode(note)
    return msgspec.json.encode(_NoteFile(FORMAT, _checksum(encoded), msgspec.Raw(encoded)))


def decode_note(data: bytes, path: str) -> DamageNote:
    """Return the note in a file's bytes.

    Raises: Damaged: it is none, so that nobody knows any more what was found; NewerFormat.
    """
    try:
        found = msgspec.json.decode(data, type=_NoteFile)
        if found.format > FORMAT:
            raise NewerFormat(f"note format {found.format} is newer than this program knows ({FORMAT})", path=path)
        if _checksum(bytes(found.damage)) == found.checksum:
            note = msgspec.json.decode(found.damage, type=DamageNote)
            if note.segment == Path(note.segment).name:
                return note
    except UNREADABLE as error:
        raise _unreadable(path) from error
    raise _unreadable(path)


def load_note(directory: Path, files: Files) -> DamageNote | None:
    """Return what is noted in a log's directory, or None.

    Raises: Damaged, NewerFormat, OSError.
    """
    path = directory / NOTE_NAME
    return decode_note(files.read_whole(path), str(path)) if files.exists(path) else None


def note_damage(directory: Path, error: Damaged, files: Files) -> None:
    """Note damage of a segment, durably, unless some is noted already. A disk that refuses is told of in the log only."""
    segment = Path(error.path)
    if segment.suffix != SEGMENT_SUFFIX or files.exists(directory / NOTE_NAME):
        return
    note = DamageNote(segment.name, error.message, error.offset, error.record, f"{files.utc_now():%Y-%m-%dT%H:%M:%SZ}")
    try:
        files.replace(directory / NOTE_NAME, encode_note(note))
    except OSError as failure:
        _logger.error("the damage cannot be noted for the next start (%s): %s", failure, error)  # noqa: TRY400


def _checksum(encoded: bytes) -> str:
    return f"{zlib.crc32(encoded):08x}"


def _unreadable(path: str) -> Damaged:
    return Damaged("the log is damaged, and the note that says where cannot be read", path=path, hint=LOST_HINT)
