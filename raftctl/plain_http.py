"""Asking one question over HTTP/1.1 without TLS, with the standard library's sockets and nothing else.

Most runs of this program ask each node once and end; loading a whole HTTP client takes longer than that. One connection a
question, closed afterwards. Whatever is longer than its bound, takes longer, or is not HTTP, is an error.
Source: RFC 9112 (HTTP/1.1), sections 2, 6 and 7.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024
LINE_BYTES_MAX: Final = 8 * 1024
_PIECE_BYTES: Final = 64 * 1024
_URL: Final = re.compile(r"http://(\[[0-9A-Fa-f:.]+\]|[^/?#\s@:\[\]]+)(?::(\d{1,5}))?([/?][!-~]*)?", re.IGNORECASE)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: .*)?")
NO_HOST: Final = "no host is known by the name"
"""How the text begins when an address leads nowhere."""
_HEADER_VALUE: Final = re.compile(r"[ -~]*")


class NotSentError(Exception):
    """The question certainly did not arrive; the text says why."""


class NoReplyError(Exception):
    """The question may have arrived, but no whole reply came back; the text says why."""


def no_answer(timeout_s: float) -> str:
    return f"no answer in {_shown(timeout_s)} s"


def no_connection(timeout_s: float) -> str:
    return f"no connection in {_shown(timeout_s)} s"


def _shown(seconds: float) -> str:
    """Return it to three digits: what is left of a longer time is seldom a round number."""
    return f"{float(f'{seconds:.3g}'):g}"


def no_host(host: str, error: socket.gaierror) -> str:
    return f"{NO_HOST} {host} ({_reason(error)})"


class Answer:
    """A reply whose body is still being read. `headers` have lower-case names.

    Args:
        timeout_s: how long it may take, its body included; of a stream's body: how long nothing may arrive.
        begun: since when, on the monotonic clock.
    """

    def __init__(self, connection: socket.socket, timeout_s: float, begun: float, *, is_stream: bool = False) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._begun: float | None = begun
        self._seen = bytearray()
        self.status, self.headers = self._head()
        if is_stream:
            self._begun = None

    def close(self) -> None:
        self._connection.close()

    def body(self) -> Iterator[bytes]:
        """Return the body in pieces, as they arrive. Raises: NoReplyError."""
        if self.status in {204, 304}:
            return
        length = self.headers.get("content-length")
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif length is None:
            yield from self._until_closed()
        elif length.isdecimal():
            yield from self._exactly(int(length))
        else:
            raise NoReplyError(f"content-length {length!r} is no number")

    # -- the head ------------------------------------------------------------------------------------------------------

    def _head(self) -> tuple[int, Mapping[str, str]]:
        """Return status and headers; interim replies are skipped."""
        while True:
            lines = self._upto(b"\r\n\r\n", HEAD_BYTES_MAX).split(b"\r\n")
            found = _STATUS.fullmatch(lines[0])
            if found is None:
                raise NoReplyError("the reply is not HTTP")
            status = int(found[1])
            if status >= 200:
                break
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise NoReplyError("a header of the reply has no colon")
            headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
        return status, headers

    # -- the body ------------------------------------------------------------------------------------------------------

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = self._upto(b"\r\n", LINE_BYTES_MAX).partition(b";")[0].strip()
            if re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size) is None:
                raise NoReplyError("the reply's chunks have no size")
            if int(size, 16) == 0:
                return
            yield from self._exactly(int(size, 16))
            if self._upto(b"\r\n", 2):
                raise NoReplyError("a chunk of the reply is longer than it says")

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            piece = self._next()
            if len(piece) > count:
                self._seen[:0] = piece[count:]
                piece = piece[:count]
            count -= len(piece)
            yield piece

    def _until_closed(self) -> Iterator[bytes]:
        if self._seen:
            yield bytes(self._seen)
            self._seen.clear()
        while piece := self._received():
            yield piece

    def _next(self) -> bytes:
        """Return some bytes. Raises: NoReplyError: there are no more."""
        piece = bytes(self._seen) or self._received()
        self._seen.clear()
        if not piece:
            raise NoReplyError("the connection was closed in the middle of the reply")
        return piece

    def _received(self) -> bytes:
        """Return what arrives next; nothing: the connection was closed."""
        left_s = self._timeout_s
        if self._begun is not None:
            left_s -= time.monotonic() - self._begun
        if left_s <= 0.0:
            raise NoReplyError(no_answer(self._timeout_s))
        try:
            self._connection.settimeout(left_s)
            return self._connection.recv(_PIECE_BYTES)
        except TimeoutError as error:
            raise NoReplyError(no_answer(self._timeout_s)) from error
        except OSError as error:
            raise NoReplyError(_reason(error)) from error

    def _upto(self, end: bytes, most: int) -> bytes:
        """Return what stands before `end`, and drop both."""
        seen = self._seen
        while (at := seen.find(end)) < 0:
            if len(seen) > most:
                raise NoReplyError(f"a part of the reply is longer than {most} bytes")
            piece = self._received()
            if not piece:
                raise NoReplyError("the connection was closed before the reply was there")
            seen += piece
        found = bytes(seen[:at])
        del seen[: at + len(end)]
        return found


def ask(
    url: str, headers: Mapping[str, str], *, connect_timeout_s: float, timeout_s: float, is_stream: bool = False
) -> Answer:
    """Send a GET and return the reply as soon as its head is there.

    Args:
        timeout_s: until the last byte of the body is there, however slowly the bytes come; the body of a stream does not end by
            itself, and may be silent for so long.
    Raises: NotSentError, NoReplyError.
    """
    begun = time.monotonic()
    host, port, target = _parts(url)
    head = [f"GET {target} HTTP/1.1", f"host: {_authority(host, port)}", "connection: close"]
    for name, value in headers.items():
        if _HEADER_VALUE.fullmatch(value) is None:
            raise NotSentError(f"the value of {name} cannot stand in a header")
        head.append(f"{name}: {value}")
    connection = _connected(host, port, connect_timeout_s)
    try:
        connection.settimeout(timeout_s)
        connection.sendall("\r\n".join([*head, "", ""]).encode("ascii"))
        return Answer(connection, timeout_s, begun, is_stream=is_stream)
    except OSError as error:
        connection.close()
        raise NoReplyError(no_answer(timeout_s) if isinstance(error, TimeoutError) else _reason(error)) from error
    except BaseException:
        connection.close()
        raise


def _parts(url: str) -> tuple[str, int, str]:
    found = _URL.fullmatch(url)
    if found is None:
        raise NotSentError("that is not the URL of an endpoint")
    target = found[3] or "/"
    return found[1].strip("[]"), int(found[2] or 80), target if target.startswith("/") else f"/{target}"


def _authority(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}"


def _connected(host: str, port: int, timeout_s: float) -> socket.socket:
    try:
        # As bytes: for a name in letters Python would load its tables of all the world's.
        return socket.create_connection((host.encode("ascii"), port), timeout_s)  # type: ignore[arg-type]
    except TimeoutError as error:
        raise NotSentError(no_connection(timeout_s)) from error
    except ConnectionRefusedError as error:
        raise NotSentError("connection refused") from error
    except socket.gaierror as error:
        raise NotSentError(no_host(host, error)) from error
    except (OSError, OverflowError, UnicodeError) as error:
        raise NotSentError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
