"""The short way answers exactly as the long way would, keeps the order, and takes nothing that is not beyond doubt."""

from __future__ import annotations

import asyncio
import hashlib
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raft_engine.management import connection, fast_lane
from raft_engine.management.access import Role, Security, Token
from raft_engine.management.context import Context
from raft_engine.management.fast_lane import MORE, FastLane, Request
from raft_engine.management.kv_routes import ITEM
from raft_engine.management.server import ManagementServer
from raft_engine.types.outcomes import RefusalCode
from tests.management.fakes import FakeNode, refused

DATE = re.compile(rb"date: [^\r]*\r\n")
PUT = b"PUT /v1/kv/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv"
GET = b"GET /v1/kv/key HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def lane(node):
    return FastLane(Context(node), list, lambda: 0.0)


class Two:
    """The same fake node twice: behind an endpoint with the short way, and behind one without."""

    def __init__(self, ports: tuple[int, int], nodes: tuple[FakeNode, FakeNode], servers: list[ManagementServer]) -> None:
        self.ports = ports
        self.servers = servers
        self.nodes = nodes

    async def send(self, data: bytes, count: int, chunk: int = 0) -> tuple[bytes, bytes]:
        """Return what comes back for `count` requests either way, without the date."""
        with_lane, without = [await _replies(port, data, count, chunk) for port in self.ports]
        return DATE.sub(b"", with_lane), DATE.sub(b"", without)


async def _replies(port: int, data: bytes, count: int, chunk: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for start in range(0, len(data), chunk or len(data)):
            writer.write(data[start : start + (chunk or len(data))])
            await writer.drain()
            if chunk:
                await asyncio.sleep(0)  # the other side's turn: pieces arrive one by one
        received = b""
        async with asyncio.timeout(20):
            while received.count(b"HTTP/1.1 ") < count or not _whole(received):
                piece = await reader.read(65536)
                if not piece:
                    break
                received += piece
        return received
    except ConnectionError:
        return received
    finally:
        writer.close()


def _whole(received: bytes) -> bool:
    """Whether the last reply has come to its end."""
    head, found, body = received[received.rfind(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(found) and (length is None or len(body) >= int(length[1]))


@pytest.fixture
async def two():
    nodes = (FakeNode(), FakeNode())
    servers = [ManagementServer(node) for node in nodes]
    ports = [await server.start("127.0.0.1", 0) for server in servers]
    servers[1]._server._lane = None
    yield Two((ports[0], ports[1]), nodes, servers)
    for server in servers:
        await server.stop()


# --- what is taken --------------------------------------------------------------------------------------------------------


def test_a_plain_write_is_taken(lane):
    assert Request(b"key", b"v", b"", len(PUT)) == lane.find(PUT, 0)


def test_a_plain_read_is_taken(lane):
    assert Request(b"key", None, b"", len(GET)) == lane.find(GET, 0)


@pytest.mark.parametrize("consistency", [b"?consistency=lease", b"?consistency=stale"])
def test_a_read_says_how_fresh_it_must_be(lane, consistency):
    assert Request(b"key", None, consistency, len(GET) + len(consistency)) == lane.find(
        GET.replace(b"/key", b"/key" + consistency), 0
    )


def test_the_second_request_is_found_behind_the_first(lane):
    first = lane.find(PUT + GET, 0)
    assert Request(b"key", None, b"", len(PUT + GET)) == lane.find(PUT + GET, first.end)


def test_an_escaped_key_is_unescaped(lane):
    assert lane.find(PUT.replace(b"/key", b"/a%20b%2Fc"), 0).key == b"a b/c"


@pytest.mark.parametrize("length", range(12, len(PUT)))
def test_the_beginning_of_a_request_is_not_whole(lane, length):
    assert lane.find(PUT[:length], 0) is MORE


@pytest.mark.parametrize(
    "data",
    [
        PUT.replace(b"PUT", b"POST"),
        PUT.replace(b"PUT", b"DELETE"),
        PUT.replace(b"/v1/kv/key", b"/v1/kv"),
        PUT.replace(b"/v1/kv/key", b"/v1/kv/"),
        PUT.replace(b"/v1/kv/key", b"/v1/kv/" + b"x" * 1025),
        PUT.replace(b"/v1/kv/key", b"/v1/kv/key?timeout=1s"),
        PUT.replace(b"/v1/kv/key", b"/v1/kv/%zz"),
        PUT.replace(b"/v1/kv/key", b"/v1/kv/a b"),
        PUT.replace(b"/v1/kv/key", b"/v1/kv/\xff"),
        PUT.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PUT.replace(b"\r\n", b"\n"),
        PUT.replace(b"Content-Length: 1", b"Content-Length: -1"),
        PUT.replace(b"Content-Length: 1", b"Content-Length: +1"),
        PUT.replace(b"Content-Length: 1", b"Content-Length : 1"),
        PUT.replace(b"Content-Length: 1", b"Content-Length: 1\r\nContent-Length: 1"),
        PUT.replace(b"Content-Length: 1", b"Content-Length: 1\r\n folded"),
        PUT.replace(b"Content-Length: 1", b"Content-Length: 99999999999999999999"),
        PUT.replace(b"Content-Length: 1", b"Content-Length: 70000"),
        PUT.replace(b"Content-Length: 1\r\n", b""),
        PUT.replace(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        PUT.replace(b"Host: localhost\r\n", b""),
        PUT.replace(b"Host: localhost", b"Host: elsewhere"),
        PUT.replace(b"\r\n\r\n", b"\r\nOrigin: http://localhost\r\n\r\n"),
        PUT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        PUT.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        PUT.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
        PUT.replace(b"\r\n\r\n", b"\r\nIf-Match: 1\r\n\r\n"),
        PUT.replace(b"\r\n\r\n", b"\r\nIdempotency-Key: a\r\n\r\n"),
        PUT.replace(b"\r\n\r\n", b"\r\nX-Other: a\r\n\r\n"),
        PUT.replace(b"\r\n\r\n", b"\r\nAccept: \x00\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
        GET.replace(b"\r\n\r\n", b"\r\nIf-None-Match: 1\r\n\r\n"),
        GET.replace(b"/key", b"/key?consistency=lease&timeout=1s"),
        b"GET /v1/kv/key HTTP/1.1\r\nAccept: " + b"x" * 9000,
    ],
    ids=lambda data: repr(data[:70]),
)
def test_what_is_not_plain_goes_the_long_way(lane, data):
    assert lane.find(data, 0) is None


def test_what_a_token_may_not_do_goes_the_long_way(node, lane):
    node.security = Security(
        hosts=frozenset({"localhost"}), tokens=(Token(Role.READ, "reader", hashlib.sha256(b"secret").digest()),)
    )
    with_token = b"\r\nAuthorization: Bearer secret\r\n\r\n"
    assert lane.find(PUT, 0) is None
    assert lane.find(GET, 0) is None
    assert lane.find(PUT.replace(b"\r\n\r\n", with_token), 0) is None
    assert lane.find(GET.replace(b"\r\n\r\n", with_token), 0).key == b"key"


def test_a_header_block_that_was_admitted_is_not_admitted_under_other_rules(node, lane):
    assert lane.find(GET, 0) is not None
    node.security = Security(hosts=frozenset({"elsewhere"}))
    assert lane.find(GET, 0) is None


def test_as_many_header_blocks_are_remembered_as_there_may_be(lane, monkeypatch):
    monkeypatch.setattr(fast_lane, "HEADS_MAX", 3)
    for number in range(10):
        assert lane.find(GET.replace(b"\r\n\r\n", b"\r\nUser-Agent: %d\r\n\r\n" % number), 0) is not None
        assert len(lane._heads) <= 3


# --- the same answers -----------------------------------------------------------------------------------------------------


async def test_a_write_and_a_read_are_answered_alike(two):
    with_lane, without = await two.send(PUT + GET + GET.replace(b"/key", b"/absent"), 3)
    assert with_lane == without
    assert with_lane.count(b"HTTP/1.1 200 OK") == 2
    assert with_lane.count(b'"code":"key_not_found"') == 1


@pytest.mark.parametrize("value", [b"", b"%d%b", b"\r\n\r\n", bytes(range(256)), b"v" * 60_000])
async def test_any_value_is_read_alike(two, value):
    put = PUT.replace(b"Length: 1\r\n\r\nv", b"Length: %d\r\n\r\n%b" % (len(value), value))
    with_lane, without = await two.send(put + GET, 2)
    assert with_lane == without
    assert with_lane.endswith(b"\r\n\r\n" + value)


async def test_reads_are_counted_alike(two):
    await two.send(PUT + GET + GET + GET.replace(b"/key", b"/absent"), 4)
    counts = [server.app.context.requests for server in two.servers]
    assert counts[0] == counts[1]
    assert counts[0]["GET", ITEM, 200] == 2


@pytest.mark.parametrize(
    "code", [RefusalCode.NOT_LEADER, RefusalCode.OVERLOADED, RefusalCode.OUTCOME_UNKNOWN, RefusalCode.BLANK]
)
async def test_a_refusal_is_worded_alike(two, code):
    for node in two.nodes:
        node.raft.write_answer = node.raft.read_answer = refused(code)
    with_lane, without = await two.send(PUT + GET, 2)
    assert with_lane == without
    assert b"HTTP/1.1 200" not in with_lane


async def test_a_stopped_engine_is_told_alike(two):
    for node in two.nodes:
        await node.stop_raft()
    with_lane, without = await two.send(PUT + GET + GET.replace(b"/key", b"/key?consistency=stale"), 3)
    assert with_lane == without
    assert with_lane.count(b'"code":"raft_stopped"') == 3


async def test_a_failed_engine_is_told_alike(two):
    for node in two.nodes:
        node.fail("the disk is full")
    with_lane, without = await two.send(PUT + GET + GET.replace(b"/key", b"/key?consistency=stale"), 3)
    assert with_lane == without
    assert with_lane.count(b'"detail":"the disk is full"') == 3


async def test_requests_of_both_kinds_on_one_connection_are_answered_in_order(two):
    status = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with_lane, without = await two.send(PUT + PUT + status + GET + status + status + PUT + GET, 8)
    assert with_lane == without
    assert with_lane.count(b"HTTP/1.1 200 OK") == 8


async def test_a_read_waits_for_the_write_before_it_on_its_connection(two):
    raft = two.nodes[0].raft
    waiting = []
    submitted = asyncio.Event()
    raft.submit_write = lambda data, done: waiting.append((data, done)) or submitted.set() or 1
    replies = asyncio.create_task(_replies(two.ports[0], PUT + GET, 2, 0))
    await submitted.wait()
    data, done = waiting.pop()
    done(raft.apply(data))
    assert (await replies).endswith(b"\r\n\r\nv")


@pytest.mark.parametrize("chunk", [1, 7, 40])
async def test_requests_in_pieces_are_answered_like_whole_ones(two, chunk):
    data = PUT + b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET
    with_lane, without = await two.send(data, 3, chunk)
    assert with_lane == without
    assert with_lane.count(b"HTTP/1.1 200 OK") == 3


async def test_more_requests_than_one_connection_may_have_under_way_are_all_answered(two, monkeypatch):
    monkeypatch.setattr(connection, "SLOTS_MAX", 4)
    with_lane, without = await two.send(PUT * 50, 50)
    assert with_lane == without


texts = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12)
lines = st.one_of(
    st.sampled_from(
        [
            "Host: localhost",
            "host: 127.0.0.1",
            "Host: elsewhere",
            "Content-Length: 2",
            "Content-Length: 0",
            "Content-Type: text/plain",
            "Accept: */*",
            "User-Agent: x",
            "Connection: keep-alive",
            "Connection: close",
            'If-Match: "1"',
            "If-None-Match: *",
            "Idempotency-Key: a",
            "Authorization: Bearer x",
            "Origin: null",
        ]
    ),
    st.tuples(texts, texts).map(": ".join),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    method=st.sampled_from(["PUT", "GET", "HEAD", "DELETE", "PUT "]),
    target=st.one_of(
        st.sampled_from(
            ["/v1/kv/key", "/v1/kv/a/b", "/v1/kv/%41", "/v1/kv/key?consistency=stale", "/v1/kv/key?consistency=x", "/v1/kv"]
        ),
        texts.map(lambda text: "/v1/kv/" + text),
    ),
    version=st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2"]),
    head=st.lists(lines, max_size=5),
)
async def test_whatever_comes_is_answered_alike(two, method, target, version, head):
    request = "\r\n".join([f"{method} {target} {version}", "Host: localhost", *head]).encode("latin-1") + b"\r\n\r\n"
    if head.count("Content-Length: 2") == 1:
        request += b"vv"
    end = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with_lane, without = await two.send(request + end, 99)
    assert with_lane == without


# --- time and the end -----------------------------------------------------------------------------------------------------


async def test_a_write_that_is_never_answered_ends_as_unknown(two, monkeypatch):
    monkeypatch.setattr(connection, "DEFAULT_WAIT_S", -1.0)
    two.nodes[0].raft.write_answer = "never"
    reply = await _replies(two.ports[0], PUT, 1, 0)
    assert b"HTTP/1.1 504 " in reply
    assert b'"code":"outcome_unknown"' in reply
    assert two.nodes[0].raft.forgotten == [1]


async def test_a_read_that_nobody_confirms_ends_with_its_time(two, monkeypatch):
    monkeypatch.setattr(connection, "DEFAULT_WAIT_S", -1.0)
    two.nodes[0].raft.read_answer = "never"
    assert b'"code":"timed_out"' in await _replies(two.ports[0], GET, 1, 0)


async def test_whoever_hangs_up_is_forgotten(two):
    raft = two.nodes[0].raft
    submitted, forgotten = asyncio.Event(), asyncio.Event()
    raft.submit_write = lambda data, done: submitted.set() or 7
    raft.forget = lambda ticket: forgotten.set() if ticket == 7 else None
    _, writer = await asyncio.open_connection("127.0.0.1", two.ports[0])
    writer.write(PUT)
    await submitted.wait()
    writer.close()
    async with asyncio.timeout(20):
        await forgotten.wait()


async def test_a_stopping_endpoint_tells_a_writer_who_still_waits_that_the_outcome_is_unknown(node, monkeypatch):
    server = ManagementServer(node)
    port = await server.start("127.0.0.1", 0)
    submitted = asyncio.Event()
    monkeypatch.setattr(node.raft, "submit_write", lambda data, done: submitted.set() or 1)
    waiting = asyncio.create_task(_replies(port, PUT, 1, 0))
    await submitted.wait()
    await server.stop()
    assert b'"code":"outcome_unknown"' in await waiting


async def test_a_stopping_endpoint_tells_a_reader_who_still_waits(node, monkeypatch):
    server = ManagementServer(node)
    port = await server.start("127.0.0.1", 0)
    submitted = asyncio.Event()
    monkeypatch.setattr(node.raft, "submit_read", lambda lease, wait_ms, done: submitted.set() or 1)
    waiting = asyncio.create_task(_replies(port, GET, 1, 0))
    await submitted.wait()
    await server.stop()
    assert b'"code":"shutting_down"' in await waiting


async def test_an_idle_connection_is_closed(two, monkeypatch):
    monkeypatch.setattr(connection, "KEEP_ALIVE_S", -1.0)
    assert (await _replies(two.ports[0], PUT, 2, 0)).count(b"HTTP/1.1 200") == 1
