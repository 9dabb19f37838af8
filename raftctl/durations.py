"""`500ms`, `30s`, `2m`, `1h` and plain seconds as people type them."""

from __future__ import annotations

import re
from typing import Final

from raftctl.errors import CtlError, usage

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)?")
_UNIT_S: Final = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str, name: str, *, may_be_zero: bool = False) -> float:
    """Return seconds.

    Args:
        may_be_zero: where 0 means something of its own; elsewhere it leaves no time for anything.
    Raises: CtlError: usage, naming the option.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise not_a_duration(text, name)
    seconds = float(match[1]) * _UNIT_S[match[2]]
    if seconds == 0 and not may_be_zero:
        raise usage(f"{name}: {text} is no time at all", "write 500ms, 30s, 2m or 1h")
    return seconds


def not_a_duration(text: str, name: str) -> CtlError:
    return usage(f"{name}: {text!r} is not a duration", "write 500ms, 30s, 2m or 1h")
