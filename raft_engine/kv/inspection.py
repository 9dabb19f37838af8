"""What is in the state machine's directory of a node, and in the commands of its log; writes nothing, also beside a running node.

Source: as `storage/inspection.py`, which looks at the rest of the data directory.
"""

from __future__ import annotations

import base64
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from raft_engine.errors import StorageError, StorageFailed
from raft_engine.kv.commands import ABSENT, CHECK, DELETE, PUT, BadCommand, WireOperation, decode_command
from raft_engine.kv.database import Pinned, raise_ours
from raft_engine.kv.disk_store import newest_file
from raft_engine.types.log_id import BEFORE_LOG

Report = dict[str, Any]
_PROGRESS_ROWS: Final = 1000
_WAL_HEADER_BYTES: Final = 32
"""Source: sqlite.org/fileformat2.html, 4.1."""
_OPERATIONS: Final = {PUT: "put", DELETE: "delete", CHECK: "check"}


def describe_state_machine(
    directory: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[Report | None, list[Report]]:
    """Return what is in `sm/` (None: nothing, a store in memory keeps nothing there), and the problems found.

    Args:
        progress: told, now and then, how many keys of how many were verified.
    """
    path = newest_file(directory)
    if path is None:
        return None, []
    report: Report = {"file": path.name, "size_bytes": path.stat().st_size}
    try:
        with _readable(path) as uri:
            report |= _verified(path, uri, progress or (lambda *_: None))
    except StorageError as error:
        return report, [{"path": error.path, "offset": error.offset, "message": error.message}]
    except (StorageFailed, OSError) as error:
        return report, [{"path": str(path), "offset": None, "message": f"cannot be read: {error}"}]
    return report, []


def describe_command(data: bytes) -> Report | None:
    """Return the command in an entry's data, as JSON can express it; None: it is not one of the key-value store."""
    command = decode_command(data)
    if isinstance(command, BadCommand):
        return None
    return {
        "idempotency_key": None if command.idempotency_key is None else base64.b64encode(command.idempotency_key).decode(),
        "operations": [_operation(operation) for operation in command.operations],
    }


def _operation(operation: WireOperation) -> Report:
    """`key` is for people: what is no text in it is escaped. `condition`: what the key must be for anything to happen."""
    report: Report = {
        "op": _OPERATIONS[operation.kind],
        "key": operation.key.decode("utf-8", "backslashreplace"),
        "key_base64": base64.b64encode(operation.key).decode(),
    }
    if operation.kind == PUT:
        report |= {"value_bytes": len(operation.value), "value_base64": base64.b64encode(operation.value).decode()}
    condition = operation.condition
    named = "absent" if condition == ABSENT else f"at revision {condition}"
    return report | {"condition": None if condition is None else named}


def _verified(path: Path, uri: str, progress: Callable[[int, int], None]) -> Report:
    try:
        view = Pinned(path, uri)
    except sqlite3.Error as error:
        raise_ours(error, "reading the state machine", path)
    try:
        meta = view.meta
        for done, _ in enumerate(view.rows()):
            if done % _PROGRESS_ROWS == 0:
                progress(done, meta.key_count)
        remembered = sum(1 for _ in view.remembered())
        progress(meta.key_count, meta.key_count)
    finally:
        view.close()
    applied = meta.applied
    return {
        "applied": None
        if applied == BEFORE_LOG
        else {"term": applied.term, "node_id": applied.node_id, "index": applied.index},
        "keys": meta.key_count,
        "data_bytes": meta.data_bytes,
        "idempotency_keys": remembered,
    }


@contextmanager
def _readable(path: Path) -> Iterator[str]:
    """Give a URI under which the database can be read without leaving a trace.

    A write-ahead log is read where it lies, and not moved into the file. SQLite does that only if there is an index of it
    (`-shm`), as a running node and a crash leave it; a directory that was copied without is read from a copy.
    It opens the log for writing even then, where it may, confirms the owner if it is root, and writes nothing.
    Of a log that a crash left with nothing but its header SQLite says SQLITE_PROTOCOL after ten seconds; there is nothing in it.
    """
    wal, index = (path.with_name(f"{path.name}-{name}") for name in ("wal", "shm"))
    if not wal.exists() or wal.stat().st_size == _WAL_HEADER_BYTES:
        yield f"file:{quote(str(path))}?mode=ro&immutable=1"
    elif index.exists():
        yield f"file:{quote(str(path))}?mode=ro&readonly_shm=1"
    else:
        with tempfile.TemporaryDirectory(prefix="raft-inspect-") as directory:
            for each in (path, wal):
                shutil.copy(each, directory)
            yield f"file:{quote(str(Path(directory) / path.name))}?mode=rw"
