"""Writers that note what was acknowledged, and a check that holds every one of those notes against what a node has.

Each key has one writer, which writes it again and again with a rising number. A write whose outcome is unknown is repeated with
the same number until it is acknowledged. So a key holds the last number acknowledged, or the one in doubt; an older number or
none is a loss, and a value that does not fit its number is an alteration.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from tests.acceptance.cluster import Cluster, Node, read_all

WRITERS: Final = 4
KEYS_EACH: Final = 100
"""Few enough to be read in a moment, so that they are read often."""
VALUE_BYTES: Final = (10, 4000)
TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.02


def value_of(key: str, number: int) -> bytes:
    """Return the value with this number: anybody can tell from it what it must be."""
    digest = hashlib.sha256(f"{key}/{number}".encode()).digest()
    low, high = VALUE_BYTES
    size = low + int.from_bytes(digest[:4], "little") % (high - low)
    return f"{number}:".encode() + (digest * (size // len(digest) + 1))[:size]


@dataclass
class Verdict:
    """What a check found."""

    keys: int = 0
    lost: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)


class Ledger:
    """The writers and their notes. Use as a context; `check` while it runs pauses them."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._urls = {node.url.removeprefix("http://"): node for node in cluster}
        self._seed = seed
        self._acknowledged: dict[str, int] = {}
        self._tried: dict[str, int] = {}
        self._stop = threading.Event()
        self._gate = threading.Condition()
        self._is_paused = False
        self._waiting = 0
        self.writes = 0
        """How many were acknowledged."""
        self.repeated = 0
        """How many attempts had no or an unknown outcome."""
        self.unexpected: list[str] = []
        self._threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(WRITERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.resume()
        for thread in self._threads:
            thread.join(10 * TIMEOUT_S)

    def more(self, count: int, timeout_s: float = 90.0) -> bool:
        """Wait until `count` more writes were acknowledged; return whether they were."""
        with self._gate:
            goal = self.writes + count
            return self._gate.wait_for(lambda: self.writes >= goal or self._stop.is_set(), timeout_s)

    def pause(self) -> None:
        """Return when no writer writes; a write in doubt stays in doubt."""
        with self._gate:
            self._is_paused = True
            self._gate.wait_for(lambda: self._waiting == WRITERS, 20 * TIMEOUT_S)

    def resume(self) -> None:
        with self._gate:
            self._is_paused = False
            self._gate.notify_all()

    def check(self, node: Node, consistency: str = "linearizable") -> Verdict:
        """Hold every acknowledged write against what `node` has; the writers must be paused or ended."""
        verdict = Verdict(keys=len(self._acknowledged))
        found = {key: base64.b64decode(value) for key, value in read_all(node, "w", consistency).items()}
        for key, number in self._acknowledged.items():
            value = found.get(key)
            if value is None:
                verdict.lost.append(f"{key}: number {number} was acknowledged, node {node.node_id} does not have the key")
                continue
            there = int(value.partition(b":")[0])
            if value != value_of(key, there):
                verdict.altered.append(f"{key}: node {node.node_id} has {len(value)} bytes that are not number {there}")
            elif not number <= there <= self._tried[key]:
                verdict.lost.append(f"{key}: number {number} was acknowledged, node {node.node_id} has {there}")
        return verdict

    # -- one writer ----------------------------------------------------------------------------------------------------

    def _write(self, writer: int) -> None:
        dice = random.Random(f"{self._seed}/{writer}")
        addresses: Sequence[str] = list(self._urls)
        at = writer % len(addresses)
        connection: http.client.HTTPConnection | None = None
        numbers = dict.fromkeys((f"w{writer}/{slot:03}" for slot in range(KEYS_EACH)), 0)
        while not self._stop.is_set():
            key = dice.choice(list(numbers))
            numbers[key] += 1
            while not self._stop.is_set():
                self._wait_at_the_gate()
                self._tried[key] = numbers[key]
                if connection is None:
                    connection = http.client.HTTPConnection(addresses[at], timeout=TIMEOUT_S)
                status, leader = put(connection, key, value_of(key, numbers[key]))
                if status == http.client.OK:
                    with self._gate:
                        self._acknowledged[key] = numbers[key]
                        self.writes += 1
                        self._gate.notify_all()
                    break
                self.repeated += 1
                if status not in {0, 421, 500, 503, 504}:
                    self.unexpected.append(f"{key}: {status}")
                connection.close()
                connection = None
                at = addresses.index(leader) if leader in addresses else (at + 1) % len(addresses)
                self._stop.wait(PAUSE_S)
        if connection is not None:
            connection.close()

    def _wait_at_the_gate(self) -> None:
        if not self._is_paused:
            return
        with self._gate:
            self._waiting += 1
            self._gate.notify_all()
            self._gate.wait_for(lambda: not self._is_paused or self._stop.is_set())
            self._waiting -= 1


def put(connection: http.client.HTTPConnection, key: str, value: bytes) -> tuple[int, str]:
    """Return the status (0: no answer came) and the leader's address, if the answer names it."""
    try:
        connection.request("PUT", f"/v1/kv/{key}?timeout=3s", body=value)
        reply = connection.getresponse()
        body = reply.read()
        leader = (json.loads(body).get("leader") or {}).get("management", "") if reply.status == 421 else ""
    except (OSError, http.client.HTTPException, ValueError):
        return 0, ""
    return reply.status, leader.removeprefix("http://")
