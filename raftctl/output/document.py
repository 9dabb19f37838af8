"""The one JSON document of `-o json`, and the one for an error.

Everything is valid JSON and nothing in it can steer a terminal: control characters that JSON would let through are escaped.
Source: contract section 5.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Final

from raftctl.errors import CtlError

SCHEMA: Final = "raftctl/v1"
_STEERS_TERMINALS: Final = re.compile(r"[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def document(kind: str, context: str | None, data: object, warnings: Sequence[str], observed_at: str) -> dict[str, Any]:
    import msgspec

    return {
        "schema": SCHEMA,
        "kind": kind,
        "context": context,
        "observed_at": observed_at,
        "data": msgspec.to_builtins(data, str_keys=True),
        "warnings": list(warnings),
    }


def error_document(error: CtlError, context: str | None, observed_at: str) -> dict[str, Any]:
    """Return what goes to stderr when a command fails with `-o json`."""
    import msgspec

    leader = None if error.leader is None else {"id": error.leader[0], "management": error.leader[1]}
    return {
        "schema": SCHEMA,
        "kind": "error",
        "context": context,
        "observed_at": observed_at,
        "exit_code": int(error.exit_code),
        "code": error.code,
        "message": error.message,
        "rule_ids": list(error.rule_ids),
        "hint": error.hint or None,
        "leader": leader,
        "measured": msgspec.to_builtins(error.measured, str_keys=True),
    }


def as_text(value: object, *, indent: int | None = 2) -> str:
    import json

    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _STEERS_TERMINALS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def now() -> str:
    """Return the time as RFC 3339, UTC."""
    millis = time.time_ns() // 1_000_000
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(millis // 1000))}.{millis % 1000:03d}Z"
