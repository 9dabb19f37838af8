"""The endpoint on a real socket: what a client does that no library would do."""

from __future__ import annotations

import asyncio
import json
import signal
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raft_engine.errors import TransportError
from raft_engine.management import connection
from raft_engine.management.server import ManagementServer
from tests.management.fakes import FakeNode


class Endpoint:
    """A served fake node and raw connections to it."""

    def __init__(self, node: FakeNode, server: ManagementServer, port: int) -> None:
        self.node = node
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    async def send(self, data: bytes, *, half_close: bool = True) -> bytes:
        """Send bytes and return everything that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(20):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def endpoint(node):
    server = ManagementServer(node)
    endpoint = Endpoint(node, server, await server.start("127.0.0.1", 0))
    yield endpoint
    await server.stop()


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def problem_of(reply: bytes) -> dict:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"x-raft-node: 1" in head
    return json.loads(body)


async def test_a_write_goes_through_a_socket_and_comes_back(endpoint):
    async with httpx.AsyncClient(base_url=endpoint.url) as client:
        assert (await client.put("/v1/kv/a%20b", content=b"x" * 200_000)).status_code == 200
        reply = await client.get("/v1/kv/a%20b")
        assert (reply.status_code, len(reply.content)) == (200, 200_000)
        assert (await client.head("/v1/kv/a%20b")).content == b""
        assert (await client.get("/v1/status")).json()["state"] == "leader"


async def test_pipelined_requests_are_answered_in_order(endpoint):
    keys = [f"k{number}" for number in range(50)]
    data = b"".join(
        f"PUT /v1/kv/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".encode() for key in keys
    ) + request("GET", "/v1/kv")
    reply = await endpoint.send(data, half_close=False)
    assert reply.count(b"HTTP/1.1 200 OK") == 51
    revisions = [int(part.split(b"}")[0]) for part in reply.split(b'"revision":')[1:51]]
    assert revisions == list(range(13, 63))


async def test_a_port_that_is_taken_is_named_in_one_sentence(endpoint):
    with pytest.raises(TransportError) as refused:
        await ManagementServer(FakeNode()).start("127.0.0.1", endpoint.port)
    assert f"cannot listen on 127.0.0.1:{endpoint.port}: Address already in use" in str(refused.value)


async def test_a_host_that_is_none_is_named_too():
    with pytest.raises(TransportError, match=r"cannot listen on no\.such\.host\.invalid:80"):
        await ManagementServer(FakeNode()).start("no.such.host.invalid", 80)


async def test_the_node_keeps_its_signal_handlers(node):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = ManagementServer(node)
    await server.start("127.0.0.1", 0)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    await server.stop()


async def test_a_stopped_endpoint_is_gone_and_its_port_free(node):
    server = ManagementServer(node)
    port = await server.start("127.0.0.1", 0)
    await server.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_stopping_answers_a_long_poll(endpoint):
    async with httpx.AsyncClient(base_url=endpoint.url, timeout=20) as client:
        etag = (await client.get("/v1/status")).headers["etag"]
        asking = asyncio.create_task(client.get("/v1/status", params={"since": etag, "wait": "10m"}))
        await endpoint.node.raft.watched.wait()
        await endpoint.server.stop()
        assert (await asking).status_code == 304


async def test_stopping_answers_a_write_that_hangs_and_does_not_claim_that_it_was_not_done(endpoint, monkeypatch):
    endpoint.node.raft.write_answer = "never"
    submitted = asyncio.Event()
    monkeypatch.setattr(endpoint.node.raft, "submit_write", lambda data, done: submitted.set() or 1)
    async with httpx.AsyncClient(base_url=endpoint.url, timeout=20) as client:
        writing = asyncio.create_task(client.put("/v1/kv/k", content=b"v", params={"timeout": "10m"}))
        await submitted.wait()
        await endpoint.server.stop()
        reply = await writing
    assert (reply.status_code, reply.json()["code"]) == (504, "outcome_unknown")


# --- what is not HTTP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\x00: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=lambda data: repr(data[:50]),
)
async def test_what_is_not_a_request_is_400_or_404_as_a_problem_and_changes_nothing(endpoint, data):
    reply = await endpoint.send(data)
    assert status_of(reply) in {400, 404, 405}
    assert problem_of(reply)["status"] == status_of(reply)
    assert endpoint.node.raft.now.applied.index == 12


@pytest.mark.parametrize(
    "headers",
    [
        ["X: " + "x" * 40_000],
        [f"X{number}: y" for number in range(200)],
        ["X" * 40_000 + ": y"],
        ["Cookie: " + "y" * 33_000],
    ],
    ids=["value", "count", "name", "cookie"],
)
async def test_headers_that_are_too_large_are_431(endpoint, headers):
    reply = await endpoint.send(request("GET", "/livez", b"", *headers), half_close=False)
    assert (status_of(reply), problem_of(reply)["code"]) == (431, "headers_too_large")


async def test_a_path_that_is_too_long_is_431(endpoint):
    assert status_of(await endpoint.send(request("GET", "/" + "x" * 40_000), half_close=False)) == 431


async def test_headers_that_never_end_are_cut_off_while_they_come(endpoint):
    reply = await endpoint.send(b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, half_close=False)
    assert status_of(reply) == 431


@pytest.mark.parametrize(
    "header", ["Host: localhost", "Content-Type: a", "If-Match: 1", "Idempotency-Key: 1", "Authorization: x"]
)
async def test_a_header_given_twice_is_400(endpoint, header):
    reply = await endpoint.send(request("PUT", "/v1/kv/k", b"v", header, header))
    assert (status_of(reply), problem_of(reply)["code"]) == (400, "malformed")


async def test_a_request_without_a_host_is_400(endpoint):
    reply = await endpoint.send(b"GET /livez HTTP/1.0\r\n\r\n")
    assert (status_of(reply), problem_of(reply)["code"]) == (400, "malformed")


async def test_a_giant_body_is_refused_before_it_is_sent(endpoint):
    head = "PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99999999999\r\n"
    reply = await endpoint.send(head.encode() + b"Expect: 100-continue\r\n\r\n", half_close=False)
    assert (status_of(reply), problem_of(reply)["code"]) == (413, "too_large")


async def test_a_connection_that_dawdles_is_closed(endpoint, monkeypatch):
    monkeypatch.setattr(connection, "REQUEST_ARRIVES_WITHIN_S", 0.0)
    assert await endpoint.send(b"", half_close=False) == b""
    assert await endpoint.send(b"GET /livez HT", half_close=False) == b""
    assert (
        await endpoint.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx", half_close=False)
        == b""
    )


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_writes_nothing(endpoint, caplog):
    await endpoint.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\nx")
    assert endpoint.node.store.get(b"k") is None
    assert not caplog.records


async def test_too_many_connections_are_turned_away(endpoint, monkeypatch):
    monkeypatch.setattr(connection, "CONNECTIONS_MAX", 1)
    _, first = await asyncio.open_connection("127.0.0.1", endpoint.port)
    reply = await endpoint.send(b"", half_close=False)
    first.close()
    assert (status_of(reply), problem_of(reply)["code"]) == (503, "too_many_connections")
    assert b"retry-after: 1\r\n" in reply
    assert [("-", 503)] == [(method, status) for method, _, status in endpoint.server.app.context.requests]


async def test_an_upgrade_is_answered_as_if_it_had_not_been_asked_for(endpoint):
    asked = request("GET", "/livez", b"", "Upgrade: websocket", "Connection: Upgrade")
    assert status_of(await endpoint.send(asked.replace(b"Connection: close\r\n", b""))) == 200


words = st.sampled_from(
    ["GET", "PUT", "POST", "HEAD", "DELETE", "PATCH", "OPTIONS", "/v1/kv", "/v1/kv/k", "/v1/status", "/v1/trigger/purge-log"]
)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    method=st.one_of(words, texts),
    path=st.one_of(words, texts.map(lambda text: "/" + text)),
    query=st.one_of(
        st.just(""), texts.map(lambda text: "?" + text), st.sampled_from(["?wait=0", "?limit=1", "?timeout=1s"])
    ),
    headers=st.lists(
        st.one_of(
            texts,
            st.tuples(
                st.sampled_from(
                    ["Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "Expect", "Accept", "Range"]
                ),
                st.one_of(texts, st.sampled_from(["application/json", "1", "*", '"1"'])),
            ).map(": ".join),
        ),
        max_size=3,
    ),
    body=st.one_of(st.binary(max_size=60), st.sampled_from([b"{}", b'{"upto":1}', b'{"ops":[]}'])),
)
async def test_nothing_a_client_sends_is_answered_with_a_500(endpoint, method, path, query, headers, body):
    reply = await endpoint.send(request(method, path + query, body, *headers))
    assert reply == b"" or status_of(reply) < 500


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=300))
async def test_no_bytes_are_answered_with_a_500(endpoint, data):
    reply = await endpoint.send(data)
    assert reply == b"" or status_of(reply) < 500


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_taken_while_the_endpoint_stops_is_closed_too(node, turns):
    server = ManagementServer(node)
    port = await server.start("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stranger:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        assert await asyncio.to_thread(gone, stranger)


def gone(sock: socket.socket) -> bool:
    """Whether the other side closes or resets."""
    try:
        return not sock.recv(1)
    except ConnectionResetError:
        return True


async def test_events_are_streamed_until_the_client_goes(endpoint):
    endpoint.node.raft.watched.clear()
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", endpoint.url + "/v1/events") as reply,
    ):
        assert reply.headers["content-type"] == "text/event-stream"
        lines = reply.aiter_lines()
        assert (await anext(lines)).startswith("id: ")
        assert await anext(lines) == "event: status"
        await endpoint.node.raft.watched.wait()
        endpoint.node.raft.change(term=8)
        async for line in lines:
            if line == "event: term":
                break
    reply = await endpoint.send(request("GET", "/v1/status"))
    assert status_of(reply) == 200


async def test_a_stopping_endpoint_ends_its_streams(endpoint):
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", endpoint.url + "/v1/events") as reply,
    ):
        lines = reply.aiter_lines()
        await anext(lines)
        stopping = asyncio.create_task(endpoint.server.stop())
        assert [line async for line in lines]
        await stopping
