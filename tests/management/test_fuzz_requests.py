"""Requests that nobody meant: what the short way takes is what the parser of the long way reads, byte for byte."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import httptools
import pytest

from raft_engine.management.context import Context
from raft_engine.management.exchange import parse_count, parse_duration, parse_text, read_query, unescape, wants_redirect
from raft_engine.management.fast_lane import MORE, FastLane
from raft_engine.management.problems import ProblemError
from raft_engine.testing.fuzz import Target, fuzz

INPUTS = 10_000
HEADERS = b"Host: localhost\r\nUser-Agent: a/1\r\nAccept: */*\r\nConnection: keep-alive\r\n"
REQUESTS = [
    b"PUT /v1/kv/key HTTP/1.1\r\n"
    + HEADERS
    + b"Content-Length: 5\r\n\r\nvalueGET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PUT /v1/kv/a%2Fb%00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    b"GET /v1/kv/key?consistency=lease HTTP/1.1\r\n" + HEADERS + b"\r\n",
    b"GET /v1/kv/~%7e/../x?consistency=stale HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
    b"PUT /v1/kv/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
]


class Parsed:
    """What the long way's parser reads of the first request in some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)
        self.method = self._parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


@pytest.fixture
def lane(node):
    return FastLane(Context(node), list, lambda: 0.0)


def test_the_short_way_takes_only_what_the_long_way_reads_the_same(lane):
    taken = 0

    def read(data: bytes) -> None:
        nonlocal taken
        found = lane.find(data, 0)
        if found is None or found is MORE:
            return
        taken += 1
        parsed = Parsed(data[: found.end])
        assert parsed.is_whole, "the parser waits for more, or ended before"
        path, _, query = parsed.url.partition(b"?")
        assert path.startswith(b"/v1/kv/")
        assert unquote_to_bytes(path[len(b"/v1/kv/") :]) == found.key
        assert (b"?" + query if query else b"") == found.consistency
        assert parsed.method == (b"GET" if found.value is None else b"PUT")
        assert parsed.body == (found.value or b"")
        names = [name for name, _ in parsed.headers]
        assert len(names) == len(set(names))

    assert fuzz(Target("plain request", REQUESTS, read, ()), 0, INPUTS) == INPUTS
    assert taken > INPUTS / 20, "hardly anything is taken"


def test_a_head_that_comes_in_pieces_is_taken_as_it_is_whole(lane):
    for request in REQUESTS[:4]:
        whole = lane.find(request, 0)
        assert whole is not None
        assert whole is not MORE
        for length in range(len(b"PUT /v1/kv/"), whole.end):
            assert lane.find(request[:length], 0) is MORE, request[:length]


@pytest.mark.parametrize(
    ("name", "samples", "read"),
    [
        (
            "query",
            [b"wait=5s&forward=redirect&limit=10", b"wait=&prefix=%41%2f"],
            lambda data: wants_redirect(read_query(data, {"wait", "forward", "limit", "prefix"})),
        ),
        ("duration", [b"500ms", b"5s", b"2m", b"0"], lambda data: parse_duration(data, "wait")),
        ("count", [b"1", b"1000", b"18446744073709551615"], lambda data: parse_count(data, "limit", 1, 1000)),
        ("text", [b"node%2f1", "f\u00e4hre".encode()], lambda data: parse_text(data, "name")),
        ("escaped", [b"a%2Fb%00", b"%25"], lambda data: unescape(data, "the key")),
    ],
)
def test_parts_of_a_request_are_understood_or_refused_in_words(name, samples, read):
    assert fuzz(Target(name, samples, read, (ProblemError,)), 0, 4000) > 100
