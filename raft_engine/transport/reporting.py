"""Handing over what happened, so that one peer's trouble stays its own.

An exception of the listener above must not end a connection or reach the event loop; a flood of the same trouble must not
flood the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from raft_engine.transport.codec import FrameReader, Misaddressed
from raft_engine.transport.interface import TransportEvents
from raft_engine.types.ids import Incarnation, PeerId
from raft_engine.types.messages import Message

_KINDS_MAX: Final = 1000
"""Strangers choose the names they are refused under."""
logger = logging.getLogger("raft_engine.transport")


class LogOnce:
    """Writes a warning of each kind (and peer) once."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, PeerId | None]] = set()

    def warn(self, kind: str, detail: str, peer: PeerId | None = None, *, error: Exception | None = None) -> None:
        """Write `detail`, with the traceback of `error`, unless this kind was written for this peer before."""
        if (kind, peer) not in self._seen and len(self._seen) < _KINDS_MAX:
            self._seen.add((kind, peer))
            logger.warning("transport: %s (reported once): %s", kind, detail, exc_info=error)


class Reporter:
    """`TransportEvents` that cannot fail; silent after `silence`."""

    def __init__(self, events: TransportEvents, log: LogOnce) -> None:
        self.misaddressed_count = 0
        self._events: TransportEvents | None = events
        self._log = log

    def silence(self) -> None:
        self._events = None

    def frame_received(self, reader: FrameReader, sender: PeerId, frame: memoryview) -> None:
        """Decode a frame and report its message; one for another life is counted and refused.

        Raises: TransportError: it is damaged; the connection cannot go on.
        """
        try:
            message = reader.decode(frame)
        except Misaddressed as error:
            self.misaddressed_count += 1
            self._log.warn("a message for another life is refused", str(error), sender)
            return
        self.message_received(sender, message)

    def message_received(self, sender: PeerId, message: Message) -> None:
        if self._events:
            try:
                self._events.message_received(sender, message)
            except Exception as error:  # noqa: BLE001 (as in `_hand_over`, spared here because most reports are messages)
                self._failed(message, error)

    def peer_connected(self, peer: PeerId) -> None:
        if self._events:
            self._hand_over(self._events.peer_connected, peer)

    def peer_lost(self, peer: PeerId, reason: str) -> None:
        if self._events:
            self._hand_over(self._events.peer_lost, peer, reason)

    def peer_replaced(self, peer: PeerId, seen: Incarnation) -> None:
        if self._events:
            self._hand_over(self._events.peer_replaced, peer, seen)

    def peer_rolled_back(self, peer: PeerId, why: str) -> None:
        if self._events:
            self._hand_over(self._events.peer_rolled_back, peer, why)

    def _hand_over(self, report: Callable[..., None], *what: object) -> None:
        try:
            report(*what)
        except Exception as error:  # noqa: BLE001 (one peer's trouble must not end the others' connections)
            self._failed(what[-1], error)

    def _failed(self, what: object, error: Exception) -> None:
        self._log.warn(f"handling a {type(what).__name__} failed", repr(error), error=error)
