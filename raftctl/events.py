"""Server-sent events: from the bytes of a node's stream to events.

Source: WHATWG HTML 9.2 (server-sent events); contract section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

SILENT_S: Final = 40.0
"""A node says something every 15 s even when nothing happens; two and a half times that is a lost connection."""
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A status of a large cluster has some kilobytes."""


class RawEvent(NamedTuple):
    """`data` is JSON that nobody has looked at yet."""

    event_id: str
    kind: str
    data: bytes


def parsed(pieces: Iterable[bytes]) -> Iterator[RawEvent]:
    """Return the events of a stream; comments and fields that are not known are skipped.

    Raises: ValueError: a line without end.
    """
    event_id, kind, data = "", "message", bytearray()
    for line in _lines(pieces):
        if not line:
            if data:
                yield RawEvent(event_id, kind, bytes(data))
            kind, data = "message", bytearray()
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"id":
            event_id = value.decode("utf-8", "replace")
        elif field == b"event":
            kind = value.decode("utf-8", "replace")
        elif field == b"data":
            data += (b"\n" if data else b"") + value


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = bytearray()
    for piece in pieces:
        rest += piece
        *whole, last = rest.split(b"\n")
        for line in whole:
            yield bytes(line).removesuffix(b"\r")
        rest = bytearray(last)
        if len(rest) > LINE_BYTES_MAX:
            raise ValueError(f"a line of the stream is longer than {LINE_BYTES_MAX} bytes")
