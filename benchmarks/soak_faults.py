"""The faults and the operator's work of a soak, each of them mended before it returns.

One node's process is never killed, so that what grows inside a process has the whole run to show; its engine is stopped, wiped
and started like that of the others.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from typing import Final

import httpx

from tests.acceptance.cluster import Cluster, Node

LASTING: Final = 1
"""The node whose process lives through the soak."""
DOWN_S: Final = 2.0
"""So long a killed node is away, and two serve alone."""
STOPPED_S: Final = 1.0
"""So long a process stands still: longer than the election timeout."""


class Faults:
    """`next` does one: every kind once in random order, then again in another."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._dice = random.Random(f"{seed}/faults")
        self._kinds: dict[str, Callable[[], None]] = {
            "kill a follower": lambda: self._kill(self._mortal(self._cluster.followers())),
            "kill the leader": self._kill_the_leader,
            "stop a follower": lambda: self._stop(self._dice.choice(self._cluster.followers())),
            "stop the leader": lambda: self._stop(self._cluster.leader()),
            "transfer": lambda: self._transfer(self._dice.choice(self._cluster.followers())),
            "snapshot": lambda: self._raftctl("snapshot", "--all"),
            "purge": self._purge,
            "rejoin": lambda: self._rejoin(self._dice.choice(list(self._cluster))),
        }
        self._queue: list[str] = []

    def next(self) -> str:
        """Do a fault, wait until one node leads and all follow, and return what was done.

        Raises: AssertionError, httpx.HTTPError: the cluster does not do what it should.
        """
        if not self._queue:
            self._queue = self._dice.sample(list(self._kinds), len(self._kinds))
        kind = self._queue.pop()
        self._kinds[kind]()
        self._cluster.leader()
        return kind

    def _kill(self, node: Node) -> None:
        node.kill()
        time.sleep(DOWN_S)
        node.start()

    def _kill_the_leader(self) -> None:
        leader = self._cluster.leader()
        if leader.node_id == LASTING:
            self._transfer(self._mortal(self._cluster.followers()))
            leader = self._cluster.leader()
        self._kill(self._mortal([leader]))

    def _mortal(self, nodes: list[Node]) -> Node:
        """Return one whose process may be killed; where leadership has moved meanwhile, any other."""
        mortal = [node for node in nodes if node.node_id != LASTING] or [
            node for node in self._cluster if node.node_id != LASTING
        ]
        return self._dice.choice(mortal)

    def _stop(self, node: Node) -> None:
        node.pause()
        time.sleep(STOPPED_S)
        node.resume()

    def _transfer(self, to: Node) -> None:
        self._raftctl("transfer-leader", "--to", str(to.node_id), "--yes")

    def _purge(self) -> None:
        """Drop everything that a snapshot covers, so that whoever comes back later needs the snapshot."""
        self._raftctl("snapshot", "--all")
        applied = self._cluster.leader().status()["applied"]["index"]
        self._raftctl("purge-log", "--upto", str(applied), "--all", "--yes")

    def _rejoin(self, node: Node) -> None:
        """Rebuild a node, and remove what it retired, as an operator does once it is whole."""
        self._raftctl("rejoin-node", str(node.node_id), "--yes", "--confirm", self._cluster.name)
        for retired in node.data.glob("retired-*"):
            shutil.rmtree(retired)

    def _raftctl(self, *words: str) -> None:
        self._cluster.raftctl(*words)


TROUBLE: Final = (AssertionError, httpx.HTTPError)
"""What a fault raises when the cluster does not do what it should."""
