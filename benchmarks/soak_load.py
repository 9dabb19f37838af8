"""A mixed load at a steady rate whose every answer is checked, and what the cluster must hold in the end.

Each key has one client, which does one thing at a time: so what a key holds is known exactly, a read that answers anything else is
wrong at once, and no history has to be searched. A write whose outcome is unknown is asked again with its idempotency key until
it has one, so it takes effect once and nothing stays in doubt.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from benchmarks.soak_samples import Latencies

CLIENTS: Final = 4
KEYS_EACH: Final = 250
VALUE_BYTES: Final = (16, 2000)
MIX: Final = {"put": 28, "compare-and-set": 10, "delete": 6, "batch": 6, "read": 30, "lease read": 20}
"""In hundredths: half of the requests write."""
BATCH_OPERATIONS: Final = 5
STALE_CONDITIONS: Final = 0.3
"""The share of compare-and-sets that name a revision the key no longer has: those must be refused."""
REQUEST_S: Final = 5.0
PAUSE_S: Final = 0.02
GIVES_UP_S: Final = 90.0
"""No answer for so long means that the cluster does not serve: a failure, whatever the fault was."""
BEHIND_MAX_S: Final = 1.0
"""A client that could not do its work for longer than that does not make up for it: the load stays a load, not a flood."""
TRANSIENT: Final = frozenset({0, 409, 421, 500, 503, 504})
"""No answer, or one that says: ask again, perhaps somebody else."""


@dataclass(frozen=True)
class Held:
    """What a key holds; `value` None: it is absent, and `revision` has no meaning."""

    value: bytes | None = None
    revision: int = 0


@dataclass
class Reply:
    """An answer. `status` 0: none came. `etag`: the revision of a value that was read."""

    status: int
    body: bytes = b""
    etag: str | None = None

    @property
    def leader(self) -> str:
        """The address of the leader, if the answer names it."""
        found = (json.loads(self.body).get("leader") or {}).get("management", "") if self.status == 421 else ""
        return str(found).removeprefix("http://")


class Client:
    """One thread's connections, keys and notes."""

    def __init__(self, number: int, doors: Mapping[str, int], seed: int, epoch: float) -> None:
        self.number = number
        self.held = {f"s{number}/{slot:03}": Held() for slot in range(KEYS_EACH)}
        self.latencies = Latencies()
        self.done: Counter[str] = Counter()
        self.again = 0
        """Attempts that were refused, cut off or not answered in time, and made again."""
        self.wrong: list[str] = []
        self._nodes = doors
        self._doors = list(doors)
        self._at = number % len(doors)
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._dice = random.Random(f"{seed}/{number}")
        self._epoch = epoch
        self._writes = 0
        self._life = f"{seed:x}-{epoch:.6f}"
        """In every idempotency key: another soak of the same seed must not find the keys of this one."""

    # -- one operation -------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do one operation of the mix and note what came of it."""
        kind = self._dice.choices(list(MIX), list(MIX.values()))[0]
        key = self._dice.choice(list(self.held))
        if kind == "put":
            self._put(key, {})
        elif kind == "compare-and-set":
            self._compare_and_set(key)
        elif kind == "delete":
            if self._write("DELETE", f"/v1/kv/{key}", None, {}) is not None:
                self.held[key] = Held()
        elif kind == "batch":
            self._batch()
        else:
            self._read(key, "lease" if kind == "lease read" else "linearizable")
        self.done[kind] += 1

    def _put(self, key: str, headers: dict[str, str]) -> None:
        value = self._value(key)
        revision = self._write("PUT", f"/v1/kv/{key}", value, headers)
        if revision is not None:
            self.held[key] = Held(value, revision)

    def _compare_and_set(self, key: str) -> None:
        held = self.held[key]
        if held.value is None:
            self._put(key, {"If-None-Match": "*"})
        elif self._dice.random() >= STALE_CONDITIONS:
            self._put(key, {"If-Match": f'"{held.revision}"'})
        else:
            self._write("PUT", f"/v1/kv/{key}", b"x", {"If-Match": f'"{held.revision - 1}"'}, wanted=412)

    def _batch(self) -> None:
        """Some puts, a delete and a check of what is known, as one entry."""
        keys = self._dice.sample(list(self.held), BATCH_OPERATIONS)
        checked, deleted, *put = keys
        held = self.held[checked]
        values = {key: self._value(key) for key in put}
        operations: list[dict[str, object]] = [
            {"op": "check", "key": checked, "revision": None if held.value is None else held.revision},
            {"op": "delete", "key": deleted},
        ]
        operations += [
            {"op": "put", "key": key, "value_base64": base64.b64encode(value).decode()} for key, value in values.items()
        ]
        body = json.dumps({"ops": operations}).encode()
        revision = self._write("POST", "/v1/kv", body, {"Content-Type": "application/json"})
        if revision is not None:
            self.held[deleted] = Held()
            self.held.update({key: Held(value, revision) for key, value in values.items()})

    def _read(self, key: str, consistency: str) -> None:
        """Ask any node; it must answer what the key holds."""
        door = self._dice.choice(self._doors)
        reply = self._until_answered("GET", door, f"/v1/kv/{key}?consistency={consistency}&timeout=3s", None, {}, {200, 404})
        if reply is None:
            return
        held = self.held[key]
        found = Held(reply.body, int((reply.etag or "0").strip('"'))) if reply.status == 200 else Held()
        if (found.value, found.revision) != (held.value, held.revision if held.value is not None else 0):
            self.wrong.append(f"{key}: a {consistency} read found {said(found)}, the key holds {said(held)}")

    def _write(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], *, wanted: int = 200
    ) -> int | None:
        """Return the revision it got; None if it was refused as `wanted`, or went wrong."""
        self._writes += 1
        headers = {**headers, "Idempotency-Key": f"{self._life}-{self.number}-{self._writes}"}
        reply = self._until_answered(method, "", f"{path}?timeout=3s", body, headers, {200, 412})
        if reply is None:
            return None
        if reply.status != wanted:
            self.wrong.append(f"{method} {path} was answered with {reply.status} instead of {wanted}: {reply.body[:200]!r}")
            return None
        return int(json.loads(reply.body)["revision"]) if reply.status == 200 else None

    def _value(self, key: str) -> bytes:
        return f"{key}:{self._writes}:".encode() + self._dice.randbytes(self._dice.randint(*VALUE_BYTES))

    # -- asking --------------------------------------------------------------------------------------------------------

    def _until_answered(
        self, method: str, door: str, path: str, body: bytes | None, headers: dict[str, str], definite: set[int]
    ) -> Reply | None:
        """Ask until an answer is one of `definite`; return None after noting that none was.

        Args:
            door: whom to ask first; empty: who is thought to lead.
        """
        until = time.monotonic() + GIVES_UP_S
        while time.monotonic() < until:
            asked = door or self._doors[self._at]
            begun = time.monotonic()
            reply = self._ask(asked, method, path, body, headers)
            if reply.status in definite:
                took_s = time.monotonic() - begun
                self.latencies.add(begun - self._epoch, self._nodes[asked], took_s, is_write=method != "GET")
                return reply
            if reply.status not in TRANSIENT:
                self.wrong.append(f"{method} {path} was answered with {reply.status}: {reply.body[:200]!r}")
                return None
            self.again += 1
            self._turn(asked, reply)
            door = door and self._doors[self._at]
            time.sleep(PAUSE_S)
        self.wrong.append(f"{method} {path} had no definite answer within {GIVES_UP_S:g} s")
        return None

    def _turn(self, asked: str, reply: Reply) -> None:
        """Ask the leader next if the answer names it, otherwise the node after the one that was asked."""
        after = (self._doors.index(asked) + 1) % len(self._doors)
        self._at = self._doors.index(reply.leader) if reply.leader in self._nodes else after

    def _ask(self, door: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        connection = self._connections.get(door)
        if connection is None:
            connection = self._connections[door] = http.client.HTTPConnection(door, timeout=REQUEST_S)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), answer.getheader("ETag"))
        except (OSError, http.client.HTTPException):
            connection.close()
            del self._connections[door]
            return Reply(0)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def said(held: Held) -> str:
    return "nothing" if held.value is None else f"{held.value[:20]!r}… with revision {held.revision}"


@dataclass
class MixedLoad:
    """As a context: clients that do `rate` operations a second together, until its end.

    Args:
        doors: host:port of each node, and its id.
        epoch: the monotonic time that minutes are counted from.
    """

    doors: Mapping[str, int]
    rate: float
    seed: int
    epoch: float
    clients: list[Client] = field(init=False)

    def __post_init__(self) -> None:
        self.clients = [Client(number, self.doors, self.seed, self.epoch) for number in range(CLIENTS)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in self.clients]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Return when every client has its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: Client) -> None:
        due = time.monotonic()
        try:
            while not self._stop.is_set():
                client.act()
                due = max(due + CLIENTS / self.rate, time.monotonic() - BEHIND_MAX_S)
                self._stop.wait(due - time.monotonic())
        except Exception as error:  # a client that ends must not be taken for one that found nothing wrong
            client.wrong.append(f"client {client.number} ended with {error!r}")
            raise
        finally:
            client.close()

    @property
    def held(self) -> dict[str, Held]:
        """What every key must hold, once the load has ended."""
        return {key: held for client in self.clients for key, held in client.held.items()}

    @property
    def wrong(self) -> list[str]:
        return [sentence for client in self.clients for sentence in client.wrong]

    @property
    def done(self) -> Counter[str]:
        return sum((client.done for client in self.clients), Counter())

    @property
    def again(self) -> int:
        return sum(client.again for client in self.clients)

    @property
    def latencies(self) -> Latencies:
        merged = Latencies()
        for client in self.clients:
            merged.merged(client.latencies)
        return merged


def differences(held: Mapping[str, Held], found: Mapping[str, Held]) -> list[str]:
    """Return what a node has otherwise than it must, a sentence a key."""
    return [
        f"{key}: {said(found.get(key, Held()))} instead of {said(held.get(key, Held()))}"
        for key in sorted(held.keys() | found.keys())
        if found.get(key, Held()) != held.get(key, Held())
    ]
