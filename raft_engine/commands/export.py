"""Everything a data directory holds, as lines of JSON that another program can read and check.

    {"line": "head", "format": 1, …}             identity, hard state, and where the log begins and ends
    {"line": "snapshot", …}                      what the newest snapshot covers, if there is one; then its contents:
    {"line": "item", …}                            a key, its value and revision, or
    {"line": "idempotency_key", …}                 a command that must not be repeated, or
    {"line": "chunk", …}                           bytes of another state machine's snapshot
    {"line": "entry", …}                         an entry that is in the log
    {"line": "end", "complete": true, …}         how many there were, and the SHA-256 of all lines before this one

Check it with `head -n -1 FILE | sha256sum`. What follows a damaged place cannot be exported: `complete` is false then.
Source: own; etcd's and databend's exports are lines too.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from raft_engine import __version__
from raft_engine.errors import StorageError
from raft_engine.kv.stream import KeyBlock, RememberedBlock, decode_blocks
from raft_engine.storage.log_reading import entries_in, newest_snapshot
from raft_engine.types.entry import EntryKind
from raft_engine.types.log_id import LogId

FORMAT: Final = 1
Line = dict[str, Any]


class Exported(NamedTuple):
    """`missing`: what could not be exported, one sentence each; `counts`: lines of each kind."""

    missing: list[str]
    counts: dict[str, int]
    sha256: str


def export(path: Path, report: Line, stream: BinaryIO) -> Exported:
    """Write the lines for the directory that `report` describes.

    Raises: OSError: the stream cannot be written.
    """
    digest = hashlib.sha256()
    counts = {"item": 0, "idempotency_key": 0, "chunk": 0, "entry": 0}
    missing: list[str] = []
    for line in chain([_head(report)], _guarded(_snapshot(path), missing), _guarded(_entries(path), missing)):
        encoded = _encode(line)
        digest.update(encoded)
        stream.write(encoded)
        if line["line"] in counts:
            counts[line["line"]] += 1
    end = {"line": "end", "complete": not missing, "missing": missing, "counts": counts, "sha256": digest.hexdigest()}
    stream.write(_encode(end))
    stream.flush()
    return Exported(missing, counts, digest.hexdigest())


def _guarded(lines: Iterator[Line], missing: list[str]) -> Iterator[Line]:
    """Yield lines up to the first damaged place, and note it."""
    try:
        yield from lines
    except StorageError as error:
        missing.append(f"{error.message} ({error.path})")
    except FileNotFoundError as error:
        missing.append(f"{error.filename} is not there")


def _head(report: Line) -> Line:
    log = report["log"] or {}
    return {
        "line": "head",
        "format": FORMAT,
        "program": f"raft-engine {__version__}",
        "identity": report["identity"],
        "hard_state": report["hard_state"],
        "purged": log.get("purged"),
        "last": log.get("last"),
    }


def _snapshot(path: Path) -> Iterator[Line]:
    found = newest_snapshot(path)
    if found is None:
        return
    meta, chunks = found
    yield {
        "line": "snapshot",
        "snapshot_id": meta.snapshot_id,
        "last_log_id": _log_id(meta.last_log_id),
        "membership": str(meta.membership.membership),
    }
    blocks = decode_blocks(chunks, meta.last_log_id)
    try:
        first = next(blocks, None)
    except StorageError as error:
        if error.offset is not None:  # of the file, not of what is in it
            raise
        _, chunks = newest_snapshot(path) or (meta, iter(()))
        yield from ({"line": "chunk", "data_base64": _base64(chunk)} for chunk in chunks)
        return
    if first is not None:
        yield from _items(chain([first], blocks))


def _items(blocks: Iterable[KeyBlock | RememberedBlock]) -> Iterator[Line]:
    for block in blocks:
        if isinstance(block, KeyBlock):
            for key, value, revision in block.rows:
                yield {"line": "item", "key_base64": _base64(key), "value_base64": _base64(value), "revision": revision}
        else:
            for known in block.rows:
                yield {"line": "idempotency_key", "key_base64": _base64(known.key), "fingerprint": known.fingerprint.hex()}


def _entries(path: Path) -> Iterator[Line]:
    for entry in entries_in(path):
        yield {
            "line": "entry",
            "index": entry.index,
            "term": entry.term,
            "node_id": entry.node_id,
            "kind": EntryKind(entry.kind).name.lower(),
            "data_base64": _base64(entry.data),
        }


def _log_id(log_id: LogId) -> Line:
    return {"term": log_id.term, "node_id": log_id.node_id, "index": log_id.index}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _encode(line: Line) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
