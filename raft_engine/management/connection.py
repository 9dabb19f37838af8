"""One client's connection: which way a request goes, and how much may be asked before anything useful was said.

Plain key-value requests take the fast lane, everything else uvicorn's parser and the application; on one connection the two take
turns, in the order of the requests. uvicorn's parser puts no bound on headers, on the time a request may take to arrive, or on
the number of connections. Here a connection that sends too many header bytes is told so and closed, one that dawdles is closed,
and beyond a number of connections new ones are turned away.
Source: RFC 9110 15.5.9, RFC 6585 5; uvicorn `protocols/http/httptools_impl.py` for what is overridden.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Protocol, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from raft_engine.management.exchange import DEFAULT_WAIT_S, HeaderList
from raft_engine.management.fast_lane import MORE, FastLane, Slot
from raft_engine.management.problems import PROBLEM_JSON, PROBLEMS, ProblemError, malformed, problem_headers

HEADER_BYTES_MAX: Final = 32 * 1024
"""Twice what nginx and Apache take together for a request line and a field; a key of 1,024 bytes fits escaped."""
HEADER_COUNT_MAX: Final = 100
CONNECTIONS_MAX: Final = 4096
REQUEST_ARRIVES_WITHIN_S: Final = 30.0
SWEEP_INTERVAL_S: Final = 0.25
SLOTS_MAX: Final = 256
"""Plain requests under way on one connection; what a client sends beyond that stays in its socket."""
KEEP_ALIVE_S: Final = 75
"""nginx's default: an operator's tool that looks every minute keeps its connection."""
_IDLE: Final = float("inf")


class Doorman(Protocol):
    """What the application tells of the node when nobody gets as far as a path."""

    def standing(self) -> HeaderList: ...

    def count_refused(self, status: int) -> None:
        """Count a reply to what was no request that any path could take."""


class Connection(HttpToolsProtocol):
    """One client's connection. `begun`: since when a request, or the first byte of one, is awaited."""

    def __init__(self, lane: FastLane | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.begun = _IDLE
        self._lane = lane
        self._slots: deque[Slot] = deque()
        self._header_bytes = 0
        self._refused = False
        self._parsing = False
        """The parser is inside a message."""
        self._partial = b""
        """The beginning of a plain request."""
        self._held: bytearray | None = None
        """What came behind a request that must wait for the replies before it."""
        self._closing = False
        self._idle_since = _IDLE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.begun = self.loop.time()
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse(ProblemError("too_many_connections", f"more than {CONNECTIONS_MAX} connections are open"))

    # -- which way -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._held is not None:
            self._held += data
        elif self._lane is None or self._parsing or (self.cycle is not None and not self.cycle.response_complete):
            super().data_received(data)  # a request that went the long way is not over yet
        else:
            self._take(self._lane, self._partial + data if self._partial else data)

    def _take(self, lane: FastLane, data: bytes) -> None:
        """Begin every plain request in `data`; the first other one goes to the parser, with all that follows.

        Writes that follow on writes are under way together, and reads that follow on reads: their order is kept by the log, or
        does not matter (RFC 9112 9.3.2).
        """
        self._partial = b""
        at, end = 0, len(data)
        while at < end:
            request = lane.find(data, at) if len(self._slots) < SLOTS_MAX else None
            if request is MORE:
                self._partial = data[at:]
                if not self._slots and self.begun == _IDLE:
                    self.begun = self.loop.time()
                return
            if request is None or (self._slots and self._slots[-1].is_read != (request.value is None)):
                if self._slots:
                    self._held = bytearray(data[at:])
                    self.flow.pause_reading()
                else:
                    self._idle_since = _IDLE
                    super().data_received(data[at:])
                return
            if not self._slots:
                self.begun, self._idle_since = _IDLE, _IDLE
                if self.timeout_keep_alive_task is not None:
                    self._unset_keepalive_if_required()
            at = request.end
            slot = Slot(lane, self._send_replies, lane.now(), request.key, request.value is None)
            self._slots.append(slot)
            slot.begin(request)

    def _send_replies(self) -> None:
        """Send what is answered, in the order of the requests."""
        slots = self._slots
        while slots and (reply := slots[0].reply) is not None:
            slots.popleft()
            self.transport.write(reply)
            self.server_state.total_requests += 1
        if slots:
            return
        self._idle_since = self.loop.time()
        if self._partial:
            self.begun = self._idle_since
        if self._closing:
            self.transport.close()
        elif self._held is not None:
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """The replies that were waited for are sent: take what came meanwhile."""
        held, self._held = self._held, None
        if held is not None and not self.transport.is_closing():
            self.flow.resume_reading()
            self.data_received(bytes(held))

    # -- time and the end ----------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Time has passed: answer whoever waited too long, close a connection on which nothing arrives."""
        for slot in [slot for slot in self._slots if slot.reply is None and slot.begun < now - DEFAULT_WAIT_S]:
            slot.time_out()
        if self.begun < now - REQUEST_ARRIVES_WITHIN_S or self._idle_since < now - KEEP_ALIVE_S:
            self.transport.close()

    def shutdown(self) -> None:
        """The endpoint ends: what is under way is still answered."""
        if self._slots:
            self._closing = True
        else:
            super().shutdown()

    def give_up(self) -> None:
        """The endpoint waits no longer."""
        for slot in [slot for slot in self._slots if slot.reply is None]:
            slot.give_up()
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for slot in self._slots:
            slot.forget()
        self._slots.clear()
        self._held = None
        super().connection_lost(exc)

    def eof_received(self) -> None:
        if self._partial:  # it will never be whole; the parser knows what to say
            partial, self._partial = self._partial, b""
            super().data_received(partial)
        super().eof_received()

    def pause_writing(self) -> None:
        """The client does not read its replies: nothing more is taken from it."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held is None:
            self.flow.resume_reading()

    # -- the parser ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.begun = self.loop.time()
        self._header_bytes = 0
        self._parsing = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._take_header_bytes(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._take_header_bytes(len(name) + len(value))
        if len(self.headers) >= HEADER_COUNT_MAX:
            raise _HeadersTooLargeError
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        self.begun = _IDLE
        self._parsing = False
        super().on_message_complete()

    def _take_header_bytes(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > HEADER_BYTES_MAX:
            raise _HeadersTooLargeError

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's word for every cause)
        """The parser gave up, for a reason of its own or for one of ours."""
        if self._header_bytes > HEADER_BYTES_MAX or len(self.headers or ()) >= HEADER_COUNT_MAX:
            detail = f"more than {HEADER_BYTES_MAX} bytes or {HEADER_COUNT_MAX} headers"
            self._refuse(ProblemError("headers_too_large", detail))
        else:
            self._refuse(malformed("this is not an HTTP/1.1 request"))

    def _refuse(self, problem: ProblemError) -> None:
        """Answer without an application, then close. Nothing more is read."""
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or cycle.response_started or not cycle.more_body:
                # A whole request is being answered: its reply is the truth, and the last one.
                self.pipeline.clear()
                cycle.keep_alive = False
                return
            # The broken part is this request's body: nothing was done, and nobody else will answer it.
            cycle.disconnected = True
            cycle.message_event.set()
        body = msgspec.json.encode(
            {
                "type": "urn:raft-engine:problem:" + problem.code,
                "title": PROBLEMS[problem.code].title,
                "status": problem.status,
                "detail": problem.detail,
                "code": problem.code,
            }
        )
        lines = [(b"content-type", PROBLEM_JSON), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        doorman = cast("Doorman", self.app)
        doorman.count_refused(problem.status)
        headers = (*doorman.standing(), *problem_headers(problem), *lines)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)
        self.transport.close()


class _HeadersTooLargeError(Exception):
    """Stops the parser, which then calls `send_400_response`."""


async def sweep(connections: Iterable[object], loop: asyncio.AbstractEventLoop) -> None:
    """Look after all connections, for ever."""
    while True:
        await asyncio.sleep(SWEEP_INTERVAL_S)
        now = loop.time()
        for connection in [cast("Connection", one) for one in connections]:
            connection.look(now)
