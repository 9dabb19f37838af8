"""The sockets below httpx, with one limit for all that a request waits for.

httpx bounds each single wait: for a connection, for each part that is sent, for each that arrives. A reply of a byte a second
never ends so. Here every wait is given what is left of the request's time, and none begins when that is over.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpcore

_PIECE_BYTES: Final = 16 * 1024
"""A record of TLS: so much goes out in one wait."""


class Limit(threading.local):
    """Until when the request of this thread may last; a request is made on one thread from its begin to its end."""

    def __init__(self) -> None:
        self._ends_at = math.inf

    @contextmanager
    def of(self, seconds: float) -> Iterator[None]:
        """Nothing that is awaited inside lasts longer than that in all."""
        before = self._ends_at
        self._ends_at = time.monotonic() + seconds
        try:
            yield
        finally:
            self._ends_at = before

    def left_s(self, timeout_s: float | None) -> float | None:
        """Return how long the next wait may be: `timeout_s`, or what is left; not above zero: there is no time for it."""
        left_s = self._ends_at - time.monotonic()
        if math.isinf(left_s):
            return timeout_s
        return left_s if timeout_s is None else min(timeout_s, left_s)


def _is_over(left_s: float | None) -> bool:
    return left_s is not None and left_s <= 0.0


class BoundedNetwork(httpcore.NetworkBackend):
    """Connects as httpcore does."""

    def __init__(self, limit: Limit) -> None:
        self._network = httpcore.SyncBackend()
        self._limit = limit

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left_s = self._limit.left_s(timeout)
        if _is_over(left_s):
            raise httpcore.ConnectTimeout
        stream = self._network.connect_tcp(host, port, left_s, local_address, socket_options)
        return _BoundedStream(stream, self._limit)


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, limit: Limit) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left_s = self._limit.left_s(timeout)
        if _is_over(left_s):
            raise httpcore.ReadTimeout
        return self._stream.read(max_bytes, left_s)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), _PIECE_BYTES):
            left_s = self._limit.left_s(timeout)
            if _is_over(left_s):
                raise httpcore.WriteTimeout
            self._stream.write(buffer[at : at + _PIECE_BYTES], left_s)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = self._limit.left_s(timeout)
        if _is_over(left_s):
            self.close()
            raise httpcore.ConnectTimeout
        return _BoundedStream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
