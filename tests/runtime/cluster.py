"""Three engines in one process, on a local network, with stores in memory: what the tests of this room share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from raft_engine.config import Config
from raft_engine.runtime.raft import Raft
from raft_engine.storage.interface import LogStorage
from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.transport.local import LocalNetwork, LocalTransport
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import Incarnation, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import NodeAddress, encode_membership, uniform
from raft_engine.types.metrics import ServerState

CONFIG = Config(election_timeout_min_ms=400, election_timeout_max_ms=800, heartbeat_interval_ms=40)
"""Longer than a busy machine keeps a process waiting: a change of leaders that no test asked for fails it."""


def peer(node_id: int) -> PeerId:
    return PeerId(NodeId(node_id), Incarnation(f"{node_id:032x}"))


def addresses(node_ids: Iterable[int]) -> dict[NodeId, NodeAddress]:
    return {NodeId(i): NodeAddress(f"n{i}:1", f"http://n{i}:2") for i in node_ids}


def first_entry(node_ids: Sequence[int]) -> Entry:
    """What a bootstrapped log begins with: the first configuration."""
    data = encode_membership(uniform([peer(i) for i in node_ids], addresses(node_ids)))
    return make_entry(Term(0), NodeId(0), LogIndex(1), EntryKind.MEMBERSHIP, data)


class Words:
    """A state machine that keeps every word in order; the result of a write is the number of words before it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.restored = 0

    def applied(self) -> LogId:
        return BEFORE_LOG

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        return [self._apply_one(entry) for entry in entries]

    def _apply_one(self, entry: Entry) -> object:
        if entry.kind != EntryKind.NORMAL:
            return None
        word = entry.data.decode()
        if word == "poison":
            raise RuntimeError("the state machine chokes on poison")
        self.words.append(word)
        return len(self.words) - 1

    def snapshot(self) -> Iterator[bytes]:
        return iter([json.dumps(self.words).encode()])

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        self.words = json.loads(b"".join(chunks))
        self.restored += 1


class Cluster:
    """Nodes 1 … n; `stop` and `start` keep a node's stores."""

    def __init__(self, size: int = 3, config: Config = CONFIG) -> None:
        self.ids = list(range(1, size + 1))
        self.config = config
        self.network = LocalNetwork()
        self.logs: dict[int, LogStorage] = {}
        self.snapshots: dict[int, MemorySnapshots] = {}
        self.machines: dict[int, Words] = {}
        self.rafts: dict[int, Raft] = {}
        for node_id in self.ids:
            log = MemoryLog()
            log.append([first_entry(self.ids)])
            self.logs[node_id] = log
            self.snapshots[node_id] = MemorySnapshots()

    async def start(self, *node_ids: int) -> None:
        for node_id in node_ids or self.ids:
            self.machines[node_id] = Words()
            self.rafts[node_id] = await Raft.start(
                self.config,
                peer(node_id),
                log=self.logs[node_id],
                snapshots=self.snapshots[node_id],
                state_machine=self.machines[node_id],
                transport=LocalTransport(self.network, peer(node_id), f"n{node_id}:1"),
            )

        if not node_ids and self.config.enable_elect:
            await self.rafts[self.ids[0]].trigger.elect()  # nobody has to wait for a timeout

    async def stop(self, *node_ids: int) -> None:
        for node_id in node_ids or list(self.rafts):
            await self.rafts.pop(node_id).shutdown()

    async def leader(self) -> Raft:
        """Return the leader once every running node follows it and its first entry is committed."""
        while True:
            pictures = [await raft.wait().leader() for raft in self.rafts.values()]
            for raft in self.rafts.values():
                seen = raft.metrics()
                settled = seen.state is ServerState.LEADER and seen.committed.term == seen.term
                if settled and all((picture.leader, picture.term) == (seen.leader, seen.term) for picture in pictures):
                    return raft
            await next(iter(self.rafts.values())).wait_change(next(iter(self.rafts.values())).version, 0.02)

    async def followers(self) -> list[Raft]:
        leader = await self.leader()
        return [raft for raft in self.rafts.values() if raft is not leader]
