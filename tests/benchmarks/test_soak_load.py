"""Would the soak notice a lost write, a stale read, a condition that is not held?"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.soak_load import Client, Held, Reply, differences


class Node:
    """A node that answers what the script says, as long as it says something, and then as an honest store."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[bytes, int]] = {}
        self.script: list[tuple[int, bytes]] = []
        self.seen: list[tuple[str, str]] = []
        """Method and idempotency key of each request."""
        self.revision = 10
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                node.seen.append((self.command, self.headers.get("Idempotency-Key", "")))
                etag, (status, said) = node.answer(self.command, self.path, body, dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                if etag:
                    self.send_header("ETag", etag)
                self.end_headers()
                self.wfile.write(said)

            def do_GET(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def do_DELETE(self) -> None:
                self._answer()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.door = f"127.0.0.1:{self.server.server_address[1]}"

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, tuple[int, bytes]]:
        if self.script:
            return "", self.script.pop(0)
        key = path.partition("?")[0].removeprefix("/v1/kv/")
        if method == "GET":
            value, revision = self.items.get(key, (b"", 0))
            return f'"{revision}"', (200, value) if revision else (404, b"{}")
        if "If-Match" in headers and headers["If-Match"] != f'"{self.items.get(key, (b"", 0))[1]}"':
            return "", (412, b"{}")
        self.revision += 1
        if method == "PUT":
            self.items[key] = (body, self.revision)
        elif method == "DELETE":
            self.items.pop(key, None)
        return "", (200, json.dumps({"revision": self.revision}).encode())


@pytest.fixture
def node():
    node = Node()
    yield node
    node.server.shutdown()
    node.server.server_close()


@pytest.fixture
def client(node):
    client = Client(0, {node.door: 1}, seed=5, epoch=time.monotonic())
    yield client
    client.close()


KEY = "s0/000"


def test_what_was_acknowledged_is_what_the_key_holds(client, node):
    client._put(KEY, {})
    client._read(KEY, "linearizable")
    assert client.wrong == []
    assert client.held[KEY] == Held(node.items[KEY][0], 11)


def test_a_write_without_an_outcome_is_asked_again_with_its_idempotency_key(client, node):
    node.script = [(504, b"{}"), (503, b"{}")]
    client._put(KEY, {})
    assert client.again == 2
    assert len({key for _, key in node.seen}) == 1
    assert client.held[KEY].revision == 11


def test_a_read_of_an_older_value_is_wrong(client, node):
    client._put(KEY, {})
    old = node.items[KEY]
    client._put(KEY, {})
    node.items[KEY] = old
    client._read(KEY, "lease")
    assert len(client.wrong) == 1
    assert client.wrong[0].startswith(f"{KEY}: a lease read found ")


def test_a_read_that_finds_nothing_where_there_is_something_is_wrong(client, node):
    client._put(KEY, {})
    node.items.clear()
    client._read(KEY, "linearizable")
    assert len(client.wrong) == 1


def test_a_read_of_what_was_deleted_is_wrong(client, node):
    client._put(KEY, {})
    kept = node.items[KEY]
    client._write("DELETE", f"/v1/kv/{KEY}", None, {})
    client.held[KEY] = Held()
    node.items[KEY] = kept
    client._read(KEY, "linearizable")
    assert len(client.wrong) == 1


def test_a_condition_that_does_not_hold_must_be_refused(client, node):
    client._put(KEY, {})
    node.script = [(200, b'{"revision": 12}')]
    assert client._write("PUT", f"/v1/kv/{KEY}", b"x", {"If-Match": '"3"'}, wanted=412) is None
    assert len(client.wrong) == 1


def test_a_condition_that_holds_must_not_be_refused(client, node):
    node.script = [(412, b"{}")]
    client._put(KEY, {"If-None-Match": "*"})
    assert len(client.wrong) == 1
    assert client.held[KEY] == Held()


def test_an_answer_that_nobody_should_get_is_wrong(client, node):
    node.script = [(400, b"no")]
    client._put(KEY, {})
    assert len(client.wrong) == 1


def test_every_kind_of_operation_agrees_with_an_honest_store(client, node):
    client._batch = lambda: None  # the store here knows no batches
    while set(client.done) != {"put", "compare-and-set", "delete", "batch", "read", "lease read"}:
        client.act()
    assert client.wrong == []


def test_the_leader_is_asked_next_when_the_answer_names_it():
    doors = {"127.0.0.1:1": 1, "127.0.0.1:2": 2, "127.0.0.1:3": 3}
    client = Client(0, doors, seed=5, epoch=0.0)
    client._turn("127.0.0.1:1", Reply(421, b'{"leader": {"id": 3, "management": "http://127.0.0.1:3"}}'))
    assert client._doors[client._at] == "127.0.0.1:3"
    client._turn("127.0.0.1:3", Reply(503, b"{}"))
    assert client._doors[client._at] == "127.0.0.1:1"


def test_a_key_that_is_missing_other_or_should_not_be_there_is_a_difference():
    held = {"a": Held(b"1", 1), "b": Held(b"2", 2), "c": Held(b"3", 3)}
    found = {"b": Held(b"2", 2), "c": Held(b"3", 9), "d": Held(b"4", 4)}
    assert [line.partition(":")[0] for line in differences(held, found)] == ["a", "c", "d"]
