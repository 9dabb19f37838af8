"""How much one connection may ask of this process before it has said anything useful.

uvicorn's parser puts no bound on headers, on the time a request may take to arrive, or on the number of connections.
Here a connection that sends too many header bytes is told so and closed, one that dawdles is closed, and beyond a number
of connections new ones are turned away.
Source: RFC 9110 15.5.9, RFC 6585 5; uvicorn `protocols/http/httptools_impl.py` for what is overridden.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from raft_engine.management.exchange import HeaderList
from raft_engine.management.problems import PROBLEM_JSON, PROBLEMS, ProblemError, malformed

HEADER_BYTES_MAX: Final = 32 * 1024
"""Twice what nginx and Apache take together for a request line and a field; a key of 1,024 bytes fits escaped."""
HEADER_COUNT_MAX: Final = 100
CONNECTIONS_MAX: Final = 4096
REQUEST_ARRIVES_WITHIN_S: Final = 30.0
SWEEP_INTERVAL_S: Final = 1.0
_IDLE: Final = float("inf")


class Doorman(Protocol):
    """What the application tells of the node when nobody gets as far as a path."""

    def standing(self) -> HeaderList: ...


class Connection(HttpToolsProtocol):
    """One client's connection. `begun`: since when a request, or the first byte of one, is awaited."""

    begun = _IDLE
    _header_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.begun = self.loop.time()
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse(ProblemError("too_many_connections", f"more than {CONNECTIONS_MAX} connections are open"))

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def on_message_begin(self) -> None:
        self.begun = self.loop.time()
        self._header_bytes = 0
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
        standing = cast("Doorman", self.app).standing()
        head = b"".join(name + b": " + value + b"\r\n" for name, value in (*standing, *lines))
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)
        self.transport.close()


class _HeadersTooLargeError(Exception):
    """Stops the parser, which then calls `send_400_response`."""


async def sweep(connections: Iterable[object], loop: asyncio.AbstractEventLoop) -> None:
    """Close, for ever, every connection whose request does not arrive in time."""
    while True:
        await asyncio.sleep(SWEEP_INTERVAL_S)
        latest = loop.time() - REQUEST_ARRIVES_WITHIN_S
        for connection in [cast("Connection", one) for one in connections]:
            if connection.begun < latest:
                connection.transport.close()
