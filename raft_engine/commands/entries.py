"""Entries of a log as JSON can express them: decoded where they are commands of the bundled key-value store."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from raft_engine.kv.inspection import describe_command
from raft_engine.storage.log_reading import LAST
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.ids import LogIndex
from raft_engine.types.membership import decode_membership

_RANGE: Final = re.compile(r"(\d*)\.\.(\d*)|(\d+)")


def entry_range(text: str) -> tuple[LogIndex, LogIndex]:
    """Return the two ends, both included, of `A..B`, `A..`, `..B` or `A`."""
    match = _RANGE.fullmatch(text)
    if match is None or text == "..":
        raise argparse.ArgumentTypeError(f"{text!r} is no range of entries such as 1100..1180, 1100.., ..1180 or 1180")
    first, last = (match[3], match[3]) if match[3] else (match[1] or "1", match[2] or str(LAST))
    if int(first) > int(last) or int(last) > LAST:
        raise argparse.ArgumentTypeError(f"{text!r} names no entry: the first one comes after the last one")
    return LogIndex(int(first)), LogIndex(int(last))


def entry_report(entry: Entry) -> dict[str, Any]:
    """Return what stands in an entry."""
    report: dict[str, Any] = {
        "index": entry.index,
        "term": entry.term,
        "node_id": entry.node_id,
        "kind": EntryKind(entry.kind).name.lower(),
        "data_bytes": len(entry.data),
    }
    if entry.kind == EntryKind.MEMBERSHIP:
        report["membership"] = str(decode_membership(entry.data))
    elif entry.kind == EntryKind.NORMAL:
        command = describe_command(entry.data)
        if command is not None:
            return report | {"command": command}
    return report | {"data_hex": entry.data.hex()}
