"""One TCP connection: bytes in become whole frames, frames out are joined and bounded.

What is sent within one turn of the event loop leaves in one system call. A connection whose other side does not read is
given up as soon as more than `queue_bytes_max` waits, so a slow peer costs a bounded amount of memory not others' time.
Source: performance measurements of the project; etcd `rafthttp/peer.go` (drop and report when the stream is full).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, cast

from raft_engine.errors import TransportError
from raft_engine.transport.codec import LENGTH

# A dead host is noticed by whoever has something unacknowledged after 5 s, by an idle side after 1 s and 3 probes.
_USER_TIMEOUT_MS: Final = 5000
_KEEPALIVE_S: Final = 1
_KEEPALIVE_PROBES: Final = 3


class Connection(asyncio.Protocol):
    """A stream of length-prefixed frames.

    `on_frame` gets each whole frame, first the greeting; a TransportError it raises ends the connection, as does a length
    above `frame_bytes_max`. `on_lost` is called once, with the reason.
    """

    def __init__(
        self,
        on_frame: Callable[[memoryview], None],
        on_lost: Callable[[str], None],
        *,
        frame_bytes_max: int,
        queue_bytes_max: int,
    ) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._frame_bytes_max = frame_bytes_max
        self._queue_bytes_max = queue_bytes_max
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._rest = bytearray()
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._reason = ""
        self._is_greeted = False
        self.is_open = False
        self.is_broken = False
        """It was given up because of what arrived."""

    def frames_from_now_on(self, on_frame: Callable[[memoryview], None], frame_bytes_max: int) -> None:
        """The greeting is over: the next frame goes to `on_frame`."""
        self._on_frame = on_frame
        self._frame_bytes_max = frame_bytes_max
        self._is_greeted = True

    def abort_unless_greeted(self, reason: str) -> None:
        if not self._is_greeted:
            self.abort(reason)

    # --- sending ---

    def send(self, frame: bytes) -> bool:
        """Queue one frame. False: the connection is closed, or closes now because its queue is full."""
        transport = self._transport
        if not self.is_open or transport is None:
            return False
        if self._outgoing_bytes + transport.get_write_buffer_size() > self._queue_bytes_max:
            self.abort("queue full: it does not read what is sent")
            return False
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        self._outgoing.append(frame)
        self._outgoing_bytes += len(frame)
        return True

    def flush(self) -> None:
        """Let what is queued leave now."""
        frames = self._outgoing
        if not frames:
            return
        self._outgoing, self._outgoing_bytes = [], 0
        if self.is_open and self._transport:
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def finish(self) -> None:
        """Send what is queued, then close."""
        self.flush()
        self.is_open = False
        if self._transport:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once (before it is made: as soon as it is); what is queued is gone. `on_lost` follows."""
        self._reason = self._reason or reason
        self.is_open = False
        self._outgoing, self._outgoing_bytes = [], 0
        if self._transport:
            self._transport.abort()

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._reason:
            self._transport.abort()
            return
        self.is_open = True
        _tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            buffer = self._rest
        try:
            taken = self._take_frames(buffer)
        except TransportError as error:
            self.is_broken = True
            self.abort(str(error))
            return
        if taken < len(buffer):
            if taken or not self._rest:
                self._rest = bytearray(buffer[taken:])
        elif self._rest:
            self._rest = bytearray()

    def _take_frames(self, buffer: bytes | bytearray) -> int:
        """Hand out every whole frame; return how many bytes that were."""
        end = len(buffer)
        offset = 0
        with memoryview(buffer) as view:
            while self.is_open and end - offset >= LENGTH.size:
                (length,) = LENGTH.unpack_from(buffer, offset)
                if not LENGTH.size <= length <= self._frame_bytes_max:
                    raise TransportError(f"frame length {length} is not between {LENGTH.size} and {self._frame_bytes_max}")
                if offset + length > end:
                    break
                with view[offset : offset + length] as frame:
                    self._on_frame(frame)
                offset += length
        return offset

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._transport = None
        self._outgoing, self._outgoing_bytes = [], 0
        self._rest = bytearray()
        self._on_lost(self._reason or (str(exc) if exc else "the other side closed the connection"))


def _tune(sock: socket.socket | None) -> None:
    """Send at once, and notice a dead host."""
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _KEEPALIVE_S),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _KEEPALIVE_S),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", _KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
    ]
    for level, name, value in options:
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(level, option, value)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`.

    Raises: TransportError: it is neither.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise TransportError(f"{address!r} is not an address; write host:port")
    return host, int(port)
