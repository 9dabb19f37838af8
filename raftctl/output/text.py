"""Text of others made fit for a terminal, and numbers made fit for people.

A node's name, an error or a key may contain escape sequences that would repaint the screen or hide a warning; control
characters and the marks that turn the reading direction are shown as escapes instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_DANGEROUS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


_TIED: Final = "\xa0"
"""Stands for a space at which no line ends."""
_COMMAND: Final = re.compile(r"raftctl [a-z][a-z-]*(?: [a-z][a-z-]*(?= --| [0-9]))?(?: --?[a-z-]+| [0-9]+)*")


def printable(text: str) -> str:
    """Return `text` on one line, every control character visible."""
    return _DANGEROUS.sub(lambda match: _escaped(match[0]), text)


def folded(text: str, width: int, indent: str = "  ") -> str:
    """Return `text` on lines of at most `width`, broken between words only, and not within a command: it may be copied."""
    import textwrap

    whole = _COMMAND.sub(lambda match: match[0].replace(" ", _TIED), text)
    lines = textwrap.wrap(whole, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_TIED, " ")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def for_shell(word: str) -> str:
    """Return one argument as it must be typed; control characters, and bytes that are no text, as bash, zsh and ksh read them."""
    import shlex

    before = "-- " if word.startswith("-") else ""
    if word.isprintable():
        return before + shlex.quote(word)
    escaped = "".join(_as_typed(character) for character in word)
    return f"{before}$'{escaped}'"


def _as_typed(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def human_bytes(count: float) -> str:
    """Return `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_ms(millis: float | None) -> str:
    """Return `12 ms`, `3.4 s`; a dash when it is not known."""
    if millis is None:
        return "-"
    return f"{millis:.0f} ms" if millis < 1000 else human_seconds(millis / 1000)


def human_seconds(seconds: float) -> str:
    """Return `3.4 s`, `2 m 05 s`, `1 h 02 m`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def listed(items: Iterable[object]) -> str:
    """Return `1, 2 and 3`, or `none`."""
    words = [str(item) for item in items]
    if len(words) < 2:
        return words[0] if words else "none"
    return f"{', '.join(words[:-1])} and {words[-1]}"
