"""The bare HTTP client against sockets that say what a test tells them."""

from __future__ import annotations

import socket
import threading

import pytest

from raftctl import plain_http
from raftctl.plain_http import NoReplyError, NotSentError


class Server:
    """Accepts one connection, remembers what it was asked, and sends `pieces`; `None` keeps the connection open."""

    def __init__(self, pieces, *, hold=False):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked = b""
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(pieces, hold), daemon=True)
        self._thread.start()

    def _serve(self, pieces, hold):
        connection, _ = self._listener.accept()
        with connection:
            while b"\r\n\r\n" not in self.asked:
                self.asked += connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)
            if hold:
                self.done.wait(30)

    def close(self):
        self.done.set()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def server():
    made = []

    def make(*pieces, hold=False):
        made.append(Server(pieces, hold=hold))
        return made[-1]

    yield make
    for one in made:
        one.close()


def get(port, path="/v1/status", *, headers=None, timeout_s=20.0):
    url = f"http://127.0.0.1:{port}{path}"
    answer = plain_http.ask(url, headers or {}, connect_timeout_s=20, timeout_s=timeout_s)
    try:
        return answer.status, answer.headers, b"".join(answer.body())
    finally:
        answer.close()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"content-length: 0\r\n\r\n", b""),
        (OK + b"\r\nto the end", b"to the end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.0 200\r\ncontent-length: 1\r\n\r\nx", b"x"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100000])
def test_a_reply_is_read_however_it_is_cut(server, reply, body, step):
    pieces = [reply[at : at + step] for at in range(0, len(reply), step)]
    assert body == get(server(*pieces).port)[2]


def test_status_and_headers_are_told(server):
    status, headers, _ = get(
        server(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After:  1 \r\ncontent-length: 0\r\n\r\n").port
    )
    assert (503, "1") == (status, headers["retry-after"])


def test_the_question_is_a_get_with_host_and_headers(server):
    asked = server(OK + b"content-length: 0\r\n\r\n")
    get(asked.port, "?a=1", headers={"authorization": "Bearer secret"})
    lines = asked.asked.decode().split("\r\n")
    assert lines[0] == "GET /?a=1 HTTP/1.1"
    assert {f"host: 127.0.0.1:{asked.port}", "authorization: Bearer secret", "connection: close"} <= set(lines)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"", "closed before"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
        (OK + b"no colon\r\n\r\n", "no colon"),
        (OK + b"content-length: 10\r\n\r\nshort", "in the middle"),
        (OK + b"content-length: -1\r\n\r\n", "no number"),
        (OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n", "no size"),
        (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nabc\r\n", "longer than"),
        (OK + b"x: " + b"y" * (plain_http.HEAD_BYTES_MAX + 8), "longer than"),
    ],
)
def test_what_is_not_a_whole_reply_is_said_to_be_none(server, reply, why):
    with pytest.raises(NoReplyError, match=why):
        get(server(reply).port)


def test_silence_is_no_answer_in_the_time_that_was_given(server):
    with pytest.raises(NoReplyError, match=r"no answer in 0\.05 s"):
        get(server(OK + b"content-length: 5\r\n\r\nhel", hold=True).port, timeout_s=0.05)


class Trickle:
    """A connection over which a byte comes each second, on a clock of its own."""

    def __init__(self, *pieces):
        self.pieces = [*pieces]
        self.now = 0.0

    def monotonic(self):
        return self.now

    def settimeout(self, seconds):
        assert seconds > 0

    def sendall(self, _data):
        """It takes no time."""

    def recv(self, _most):
        self.now += 1.0
        return self.pieces.pop(0)

    def close(self):
        """There is no connection."""


def letters(text):
    return [bytes([byte]) for byte in text]


@pytest.fixture
def trickle(monkeypatch):
    def made(*pieces):
        one = Trickle(*pieces)
        monkeypatch.setattr(plain_http, "time", one)
        monkeypatch.setattr(plain_http, "_connected", lambda *_words: one)
        return one

    return made


@pytest.mark.parametrize(
    "pieces",
    [
        letters(OK + b"content-length: 5\r\n\r\nhello"),
        [OK + b"content-length: 50\r\n\r\n", *letters(b"h" * 50)],
        [OK + b"\r\n", *letters(b"h" * 50)],
        [OK + b"transfer-encoding: chunked\r\n\r\n", *letters(b"5\r\nhello\r\n0\r\n\r\n")],
    ],
    ids=["head", "body", "to the end", "chunks"],
)
def test_a_reply_that_trickles_in_is_no_answer_in_the_time_that_was_given(trickle, pieces):
    clock = trickle(*pieces)
    with pytest.raises(NoReplyError, match=r"^no answer in 7 s$"):
        get(1, timeout_s=7.0)
    assert 7.0 == clock.now


def test_a_stream_may_last_and_be_silent_for_so_long(trickle):
    trickle(OK + b"\r\n", *letters(b"hello"), b"")
    answer = plain_http.ask("http://127.0.0.1:1/", {}, connect_timeout_s=20, timeout_s=1.5, is_stream=True)
    assert b"hello" == b"".join(answer.body())


def test_nobody_there_is_connection_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSentError, match="connection refused"):
        get(port)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:1/a b", {}),
        ("http://127.0.0.1:1/\r\nx: y", {}),
        ("http://user@127.0.0.1:1/", {}),
        ("ftp://127.0.0.1/", {}),
        ("http://127.0.0.1:1/", {"authorization": "Bearer a\r\nx: y"}),
        ("http://127.0.0.1:99999/", {}),
        ("http://h\u00f6st:1/", {}),
    ],
)
def test_what_cannot_be_asked_is_not_sent(url, headers):
    with pytest.raises(NotSentError):
        plain_http.ask(url, headers, connect_timeout_s=1, timeout_s=1)
