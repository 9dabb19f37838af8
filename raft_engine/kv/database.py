"""How the store's data lies in an SQLite file: tables, transactions, checksums, and what SQLite's errors mean to us.

    items        key, value, revision, CRC-32 of all three
    remembered   number, idempotency key, fingerprint, result (msgpack), CRC-32: the window of repeated commands
    meta         one row: format, applied log id, counts, the window's ends, CRC-32

Every transaction changes all three, so what is applied and how far are never apart. The write-ahead log is synced before
each checkpoint and not at each commit (`synchronous=NORMAL`): when the power goes, the newest transactions may be gone, never
half of one, and the log of the node has their entries. SQLite does not know when a page was altered behind its back, so
every row carries a checksum that each read verifies.
Source: sqlite.org/wal.html, pragma.html#pragma_synchronous; decision 10.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from raft_engine.errors import Damaged, NewerFormat, StorageFailed
from raft_engine.kv.commands import Applied, ConditionFailed
from raft_engine.kv.views import Item, Remembered
from raft_engine.storage.files import FILE_MODE
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId

FORMAT: Final = 1
REBUILD_HINT: Final = "log and snapshots are not concerned: with the node stopped, move its sm/ directory away, and the next start makes it anew"
_ROWS_PER_STATEMENT: Final = 64
"""The interpreter's lock is given up once a statement: many rows in one keep the writer from queueing for it at each row."""
BUILD_RESTS: Final = 1
"""A new database is filled half of the time: other nodes may share this one's cores and disk, and they answer the clients meanwhile."""
BUILD_REST_MAX_S: Final = 0.01
_WRITER_CACHE_KIB: Final = 4 * 1024
_READER_CACHE_KIB: Final = 2 * 1024
_VIEW_CACHE_KIB: Final = 1024
_FETCH_ROWS: Final = 256
_ADVICE: Final = {
    "SQLITE_FULL": "free space on this disk, then start the node again",
    "SQLITE_IOERR": "the disk or its driver fails: check the kernel log, replace the disk, then rejoin the node",
    "SQLITE_READONLY": "check owner, mode and mount of the data directory, then start the node again",
    "SQLITE_CANTOPEN": "check owner and mode of the data directory, then start the node again",
}
_TABLES: Final = (
    """CREATE TABLE items(
        key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, crc INTEGER NOT NULL)""",
    """CREATE TABLE remembered(
        number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, fingerprint BLOB NOT NULL, result BLOB NOT NULL,
        crc INTEGER NOT NULL)""",
    """CREATE TABLE meta(
        only INTEGER PRIMARY KEY CHECK (only = 1), format INTEGER NOT NULL, term INTEGER NOT NULL, node_id INTEGER NOT NULL,
        log_index INTEGER NOT NULL, key_count INTEGER NOT NULL, data_bytes INTEGER NOT NULL, window_from INTEGER NOT NULL,
        window_to INTEGER NOT NULL, crc INTEGER NOT NULL)""",
)
_SELECT_META: Final = (
    "SELECT format, term, node_id, log_index, key_count, data_bytes, window_from, window_to, crc FROM meta WHERE only = 1"
)
_SCAN_FROM: Final = "SELECT key, value, revision, crc FROM items WHERE key >= ? ORDER BY key LIMIT ?"
_SCAN_AFTER: Final = "SELECT key, value, revision, crc FROM items WHERE key > ? ORDER BY key LIMIT ?"
_SELECT_REMEMBERED: Final = "SELECT number, key, fingerprint, result, crc FROM remembered"
_encode_result = msgspec.msgpack.Encoder().encode
_decode_result = msgspec.msgpack.Decoder(Applied | ConditionFailed).decode


class Meta(msgspec.Struct, frozen=True):
    """What is in the database: the state after `applied`; the window holds the numbers from `window_from` to before
    `window_to`."""

    applied: LogId = BEFORE_LOG
    key_count: int = 0
    data_bytes: int = 0
    window_from: int = 0
    window_to: int = 0


class Numbered(msgspec.Struct, frozen=True, gc=False):
    """A repeated command's result and its place in the window."""

    number: int
    known: Remembered


class Database:
    """One open database: a connection that writes, used by one thread, and one that anybody may read with."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it.

        Raises: Damaged, NewerFormat, StorageFailed.
        """
        self.path = path
        self._reading = threading.Lock()
        is_new = not path.exists()
        try:
            if is_new:
                # SQLite gives its other files the mode of this one.
                os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE))
            self._writer = _connect(path, _WRITER_CACHE_KIB)
        except (OSError, sqlite3.Error) as error:
            raise_ours(error, "opening the state machine", path)
        try:
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = NORMAL")
            # SQLite would check point by itself and keep quiet about a failed sync; and without the limit, the size of the
            # write-ahead log's file would not say how much of it is in use.
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")
            self._writer.execute("PRAGMA journal_size_limit = 0")
            if not self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._create()
            self.meta = read_meta(self._writer, path)
            self._reader = _connect(path, _READER_CACHE_KIB)
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            self._writer.close()
            raise_ours(error, "opening the state machine", path)
        except BaseException:
            self._writer.close()
            raise

    def _create(self) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        for table in _TABLES:
            self._writer.execute(table)
        _write_meta(self._writer, Meta())
        self._writer.execute("COMMIT")

    def close(self) -> None:
        """Close both connections; the last one of a file moves the write-ahead log into it. Nothing if they are closed."""
        with self._reading:
            self._reader.close()
        self._writer.close()

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(
        self,
        changes: Mapping[bytes, Item | None],
        remembered: Sequence[Numbered],
        applied: LogId,
        window: tuple[int, int],
    ) -> None:
        """Carry out changes (None: delete) and note how far they go, all in one transaction.

        Raises: StorageFailed, Damaged: nothing of it was done.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            meta = self._write(changes, remembered, applied, window)
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise_ours(error, "writing the state machine", self.path)
        self.meta = meta

    def _write(
        self,
        changes: Mapping[bytes, Item | None],
        remembered: Sequence[Numbered],
        applied: LogId,
        window: tuple[int, int],
    ) -> Meta:
        keys = sorted(changes)  # neighbours share pages
        key_count, data_bytes = self.meta.key_count, self.meta.data_bytes
        for start in range(0, len(keys), _ROWS_PER_STATEMENT):
            part = keys[start : start + _ROWS_PER_STATEMENT]
            old_count, old_bytes = _size_of(self._writer, part)
            key_count -= old_count
            data_bytes -= old_bytes
            rows: list[bytes | int] = []
            gone: list[bytes] = []
            for key in part:
                item = changes[key]
                if item is None:
                    gone.append(key)
                else:
                    value, revision = item
                    rows += (key, value, revision, _item_crc(key, value, revision))
                    key_count += 1
                    data_bytes += len(key) + len(value)
            if rows:
                self._writer.execute(_upsert(len(rows) // 4), rows)
            if gone:
                self._writer.execute(_delete(len(gone)), gone)
        self._write_window(remembered, window)
        meta = Meta(applied, key_count, data_bytes, *window)
        _write_meta(self._writer, meta)
        return meta

    def _write_window(self, remembered: Sequence[Numbered], window: tuple[int, int]) -> None:
        if window[0] != self.meta.window_from:
            self._writer.execute("DELETE FROM remembered WHERE number < ?", (window[0],))
        self._writer.executemany(
            "INSERT INTO remembered VALUES (?, ?, ?, ?, ?)",
            [_remembered_row(numbered) for numbered in remembered if numbered.number >= window[0]],
        )

    def checkpoint(self, wal_bytes_max: int) -> None:
        """Move the write-ahead log into the file if it has grown beyond `wal_bytes_max`; readers are not disturbed."""
        try:
            if self.wal_bytes() > wal_bytes_max:
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise_ours(error, "checkpointing the state machine", self.path)

    def wal_bytes(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size  # noqa: PTH116 (no path object for a name asked for ten times a second)
        except FileNotFoundError:
            return 0

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> Item | None:
        """Raises: Damaged, StorageFailed; sqlite3.ProgrammingError: it was closed."""
        try:
            with self._reading:
                row = self._reader.execute("SELECT value, revision, crc FROM items WHERE key = ?", (key,)).fetchone()
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            raise_ours(error, "reading the state machine", self.path)
        if row is None:
            return None
        value, revision, crc = row
        return checked_item(key, value, revision, crc, self.path)

    def recall(self, key: bytes) -> Numbered | None:
        """Return what is remembered under an idempotency key. Raises: as `get`."""
        try:
            with self._reading:
                row = self._reader.execute(f"{_SELECT_REMEMBERED} WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise_ours(error, "reading the state machine", self.path)
        return None if row is None else _checked_remembered(row, self.path)

    def scan(self, start: bytes, *, inclusive: bool, limit: int) -> list[tuple[bytes, bytes, int]]:
        """Return the first `limit` rows from `start` on. Raises: as `get`."""
        sql = _SCAN_FROM if inclusive else _SCAN_AFTER
        try:
            with self._reading:
                rows = self._reader.execute(sql, (start, limit)).fetchall()
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            raise_ours(error, "reading the state machine", self.path)
        return [(key, *checked_item(key, value, revision, crc, self.path)) for key, value, revision, crc in rows]

    def counts_after(self, changes: Mapping[bytes, Item | None]) -> tuple[int, int]:
        """Return the number of keys and their size as if `changes` had been made; they may have been."""
        keys = list(changes)
        try:
            with self._reading:
                self._reader.execute("BEGIN")
                try:
                    meta = read_meta(self._reader, self.path)
                    key_count, data_bytes = meta.key_count, meta.data_bytes
                    for start in range(0, len(keys), _ROWS_PER_STATEMENT):
                        old_count, old_bytes = _size_of(self._reader, keys[start : start + _ROWS_PER_STATEMENT])
                        key_count -= old_count
                        data_bytes -= old_bytes
                finally:
                    self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            raise_ours(error, "reading the state machine", self.path)
        for key, item in changes.items():
            if item is not None:
                key_count += 1
                data_bytes += len(key) + len(item[0])
        return key_count, data_bytes

    def pinned(self) -> Pinned:
        """Return the database as it is now, whatever is written later; called by the thread that writes."""
        try:
            return Pinned(self.path)
        except sqlite3.Error as error:
            raise_ours(error, "opening a view of the state machine", self.path)


class Pinned:
    """A read transaction on a connection of its own."""

    def __init__(self, path: Path, uri: str | None = None) -> None:
        """
        Args:
            uri: what SQLite shall open instead of `path`, with its options.
        Raises: Damaged, NewerFormat, sqlite3.Error.
        """
        self._path = path
        self._connection = _connect(path if uri is None else uri, _VIEW_CACHE_KIB)
        try:
            self._connection.execute("BEGIN")
            self.meta = read_meta(self._connection, path)
        except BaseException:
            self._connection.close()
            raise

    def rows(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield (key, value, revision) in order of the keys. Raises: Damaged, StorageFailed."""
        count = 0
        try:
            cursor = self._connection.execute("SELECT key, value, revision, crc FROM items ORDER BY key")
            while rows := cursor.fetchmany(_FETCH_ROWS):
                count += len(rows)
                for key, value, revision, crc in rows:
                    yield key, *checked_item(key, value, revision, crc, self._path)
        except sqlite3.Error as error:
            raise_ours(error, "reading the state machine", self._path)
        if count != self.meta.key_count:
            raise Damaged(f"it has {count} of {self.meta.key_count} keys", path=str(self._path), hint=REBUILD_HINT)

    def remembered(self) -> Iterator[Remembered]:
        """Yield them in order. Raises: Damaged, StorageFailed."""
        expected = self.meta.window_from
        try:
            cursor = self._connection.execute(f"{_SELECT_REMEMBERED} ORDER BY number")
            while rows := cursor.fetchmany(_FETCH_ROWS):
                for row in rows:
                    numbered = _checked_remembered(row, self._path)
                    if numbered.number != expected:
                        break
                    expected += 1
                    yield numbered.known
        except sqlite3.Error as error:
            raise_ours(error, "reading the state machine", self._path)
        if expected != self.meta.window_to:
            raise Damaged(f"idempotency key {expected} is missing", path=str(self._path), hint=REBUILD_HINT)

    def close(self) -> None:
        self._connection.close()


class Builder:
    """Fills a new database file, row after row; it counts for nothing until it is finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key_count = self._data_bytes = self._remembered_count = 0
        descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        os.close(descriptor)
        self._connection = _connect(path, _WRITER_CACHE_KIB)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("BEGIN IMMEDIATE")
        for table in _TABLES:
            self._connection.execute(table)

    @property
    def data_bytes(self) -> int:
        """Bytes of the keys and values so far."""
        return self._data_bytes

    def add_items(self, rows: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Add rows, which have other keys than those before, and rest between statements. Raises: sqlite3.Error."""
        for start in range(0, len(rows), _ROWS_PER_STATEMENT):
            begun = time.monotonic()
            part = rows[start : start + _ROWS_PER_STATEMENT]
            values = [
                field for key, value, revision in part for field in (key, value, revision, _item_crc(key, value, revision))
            ]
            self._connection.execute(_insert(len(part)), values)
            time.sleep(min(BUILD_RESTS * (time.monotonic() - begun), BUILD_REST_MAX_S))
        self._key_count += len(rows)
        self._data_bytes += sum(len(key) + len(value) for key, value, _ in rows)

    def add_remembered(self, rows: Sequence[Remembered]) -> None:
        numbered = [Numbered(number, known) for number, known in enumerate(rows, self._remembered_count)]
        self._connection.executemany(
            "INSERT INTO remembered VALUES (?, ?, ?, ?, ?)", [_remembered_row(each) for each in numbered]
        )
        self._remembered_count += len(rows)

    def finish(self, applied: LogId) -> None:
        _write_meta(self._connection, Meta(applied, self._key_count, self._data_bytes, 0, self._remembered_count))
        self._connection.execute("COMMIT")
        self._connection.close()

    def close(self) -> None:
        self._connection.close()


# --- statements --------------------------------------------------------------------------------------------------------


def _connect(path: Path | str, cache_kib: int) -> sqlite3.Connection:
    """Args: path: a string is a URI."""
    is_uri = isinstance(path, str)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10, uri=is_uri)
    try:
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@lru_cache(_ROWS_PER_STATEMENT)
def _insert(rows: int) -> str:
    return f"INSERT INTO items VALUES {', '.join(['(?, ?, ?, ?)'] * rows)}"  # noqa: S608 (placeholders only)


@lru_cache(_ROWS_PER_STATEMENT)
def _upsert(rows: int) -> str:
    changes = "value = excluded.value, revision = excluded.revision, crc = excluded.crc"
    return f"{_insert(rows)} ON CONFLICT(key) DO UPDATE SET {changes}"


@lru_cache(_ROWS_PER_STATEMENT)
def _delete(rows: int) -> str:
    return f"DELETE FROM items WHERE key IN ({', '.join('?' * rows)})"  # noqa: S608 (placeholders only)


@lru_cache(_ROWS_PER_STATEMENT)
def _size(rows: int) -> str:
    places = ", ".join("?" * rows)
    return f"SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM items WHERE key IN ({places})"  # noqa: S608 (as above)


def _size_of(connection: sqlite3.Connection, keys: Sequence[bytes]) -> tuple[int, int]:
    """Return how many of `keys` there are, and the bytes of keys and values."""
    row: tuple[int, int] = connection.execute(_size(len(keys)), keys).fetchone()
    return row


def read_meta(connection: sqlite3.Connection, path: Path) -> Meta:
    """Raises: Damaged, NewerFormat, sqlite3.Error."""
    row = connection.execute(_SELECT_META).fetchone()
    if row is None:
        raise Damaged("it does not say how far it is applied", path=str(path), hint=REBUILD_HINT)
    *fields, crc = row
    if not all(isinstance(field, int) for field in fields) or crc != _fields_crc(fields):
        raise Damaged("the row that says how far it is applied is altered", path=str(path), hint=REBUILD_HINT)
    version, term, node_id, index, *rest = fields
    if version != FORMAT:
        raise NewerFormat(f"it has format {version}; this program reads {FORMAT}", path=str(path))
    return Meta(LogId(Term(term), NodeId(node_id), LogIndex(index)), *rest)


def _write_meta(connection: sqlite3.Connection, meta: Meta) -> None:
    applied = meta.applied
    fields = [
        FORMAT,
        applied.term,
        applied.node_id,
        applied.index,
        meta.key_count,
        meta.data_bytes,
        meta.window_from,
        meta.window_to,
    ]
    connection.execute("REPLACE INTO meta VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*fields, _fields_crc(fields)))


# --- checksums and errors ----------------------------------------------------------------------------------------------


def _item_crc(key: bytes, value: bytes, revision: int) -> int:
    return zlib.crc32(value, zlib.crc32(key, revision & 0xFFFFFFFF))


def _fields_crc(fields: Sequence[int]) -> int:
    return zlib.crc32(repr(list(fields)).encode())


def checked_item(key: bytes, value: bytes, revision: int, crc: int, path: Path) -> Item:
    """Return the item of a row. Raises: Damaged."""
    try:
        if crc == _item_crc(key, value, revision):
            return value, revision
    except TypeError:
        pass  # a field is of another type than was written
    raise Damaged(f"the item under key {key!r} is altered", path=str(path), hint=REBUILD_HINT)


def _remembered_row(numbered: Numbered) -> tuple[int, bytes, bytes, bytes, int]:
    known = numbered.known
    result = _encode_result(known.result)
    return (
        numbered.number,
        known.key,
        known.fingerprint,
        result,
        _item_crc(known.key + known.fingerprint, result, numbered.number),
    )


def _checked_remembered(row: tuple[int, bytes, bytes, bytes, int], path: Path) -> Numbered:
    number, key, fingerprint, result, crc = row
    try:
        if crc == _item_crc(key + fingerprint, result, number):
            return Numbered(number, Remembered(key, fingerprint, _decode_result(result)))
    except (TypeError, msgspec.MsgspecError):
        pass
    raise Damaged(f"idempotency key {key!r} is altered", path=str(path), hint=REBUILD_HINT)


def raise_ours(error: Exception, doing: str, path: Path) -> NoReturn:
    """Raise what an error of SQLite or of the system means: `StorageFailed` of the disk, `Damaged` of the file."""
    name: str = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT", "SQLITE_ERROR", "SQLITE_CONSTRAINT")):
        raise Damaged(f"{doing}: SQLite says {error}", path=str(path), hint=REBUILD_HINT) from error
    advice = next((advice for prefix, advice in _ADVICE.items() if name.startswith(prefix)), "find out why the disk refuses")
    raise StorageFailed(f"{doing} failed with {name}: {error} ({path}); hint: {advice}") from error
