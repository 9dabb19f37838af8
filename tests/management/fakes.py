"""A node whose engine does what the test says, and an HTTP client that talks to its endpoint."""

from __future__ import annotations

import asyncio

import msgspec

from raft_engine.errors import Stopped
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.kv.store import KeyValueStore
from raft_engine.management.access import Security
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.counters import Counters
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.ids import Incarnation, LogIndex, NodeId, PeerId, Term, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import Membership, NodeAddress, StoredMembership
from raft_engine.types.metrics import RaftMetrics, RuntimeFlags, ServerState
from raft_engine.types.outcomes import (
    BarrierOutcome,
    ReadOutcome,
    Refusal,
    RefusalCode,
    TriggerOutcome,
    WriteOutcome,
)
from raft_engine.types.vote import Vote

INCARNATION = Incarnation("1" * 32)
PEERS = {NodeId(n): Incarnation(str(n) * 32) for n in (1, 2, 3)}


def log_id(index: int, term: int = 7, node: int = 1) -> LogId:
    return LogId(Term(term), NodeId(node), LogIndex(index))


def address(n: int) -> NodeAddress:
    """Ports 1 to 3: nobody listens there, whatever else runs on the machine."""
    return NodeAddress(raft=f"127.0.0.1:{9200 + n}", management=f"http://127.0.0.1:{n}")


MEMBERSHIP = StoredMembership(log_id(1, term=1), Membership((PEERS,), {}, {n: address(n) for n in PEERS}))


def leader_metrics(**changes) -> RaftMetrics:
    metrics = RaftMetrics(
        me=PeerId(NodeId(1), INCARNATION),
        state=ServerState.LEADER,
        term=Term(7),
        vote=Vote(Term(7), NodeId(1), True),
        leader=NodeId(1),
        last_log=log_id(12),
        committed=log_id(12),
        applied=log_id(12),
        snapshot=log_id(10),
        purged=log_id(4),
        membership=MEMBERSHIP,
        committed_membership=MEMBERSHIP,
        last_quorum_acked_ms_ago=1.25,
        replication={},
    )
    return msgspec.structs.replace(metrics, **changes)


def refused(code: RefusalCode, detail: str = "because", **more) -> Refusal:
    return Refusal(code, detail, **more)


class FakeTrigger:
    """Records every call; answers with `outcome`, or raises it."""

    def __init__(self) -> None:
        self.calls = []
        self.outcome = TriggerOutcome(True, True, "done", {})
        self.called = asyncio.Event()
        self.gate: asyncio.Event | None = None

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            self.called.set()
            if self.gate is not None:
                await self.gate.wait()
            if isinstance(self.outcome, Exception):
                raise self.outcome
            return self.outcome

        return call


class FakeRaft:
    """Applies writes at once to the store, unless `write_answer` says otherwise (a Refusal, or "never")."""

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self.trigger = FakeTrigger()
        self.now = leader_metrics()
        self.version = 1
        self.changed = asyncio.Event()
        self.watched = asyncio.Event()
        self.write_answer = None
        self.read_answer = None
        self.barrier_answer = BarrierOutcome(log_id(13), (NodeId(2), NodeId(3)))
        self.barriers = []
        self.forgotten = []
        self.flags_stick = True
        self.counters = Counters()
        self._ticket = 0

    def metrics(self) -> RaftMetrics:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def change(self, **changes) -> None:
        self.now = msgspec.structs.replace(self.now, **changes)
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait_change(self, version: int, timeout_s: float) -> RaftMetrics:
        if self.version == version:
            self.watched.set()
            try:
                async with asyncio.timeout(timeout_s):
                    await self.changed.wait()
            except TimeoutError:
                pass
        return self.now

    def set_runtime_flags(self, flags: RuntimeFlags) -> None:
        if self.flags_stick:
            asyncio.get_running_loop().call_soon(lambda: self.change(runtime_flags=flags))

    async def barrier(self, exclude=(), *, marker=b"", wait_s=5.0, expect=None):
        self.barriers.append((exclude, marker, wait_s, expect))
        if isinstance(self.barrier_answer, Exception):
            raise self.barrier_answer
        return self.barrier_answer

    async def change_membership(self, voters=None, **kwargs):
        self.trigger.calls.append(("change_membership", voters, kwargs))
        if isinstance(self.trigger.outcome, Exception):
            raise self.trigger.outcome
        return self.trigger.outcome

    def submit_write(self, data: bytes, done) -> Ticket:
        self._ticket += 1
        if self.write_answer is None:
            asyncio.get_running_loop().call_soon(lambda: done(self.apply(data)))
        elif isinstance(self.write_answer, Refusal):
            asyncio.get_running_loop().call_soon(done, self.write_answer)
        return Ticket(self._ticket)

    def apply(self, data: bytes, kind: int = EntryKind.NORMAL) -> WriteOutcome:
        index = LogIndex(self.now.applied.index + 1)
        entry = make_entry(Term(7), NodeId(1), index, kind, data)
        [result] = self.store.apply([entry])
        self.change(applied=entry.log_id, last_log=entry.log_id, committed=entry.log_id)
        return WriteOutcome(entry.log_id, result)

    def submit_read(self, lease: bool, wait_ms: float, done) -> Ticket:
        self._ticket += 1
        answer = self.read_answer or ReadOutcome(self.now.applied.index)
        if answer != "never":
            asyncio.get_running_loop().call_soon(done, answer)
        return Ticket(self._ticket)

    def forget(self, ticket: Ticket) -> None:
        self.forgotten.append(ticket)


class FakeNode:
    """A started node that leads, with everything settable."""

    cluster = "demo"
    cluster_id = "c" * 32
    node_id = NodeId(1)
    incarnation = INCARNATION
    boot_count = 3
    engine_starts = 2
    election_timeout_max_ms = 300.0
    version = "0.1.0"

    def __init__(self) -> None:
        self.birth = BirthState.STARTED
        self.advertised = address(1)
        self.security = Security(hosts=frozenset({"127.0.0.1", "localhost", "testserver"}))
        self.store = MemoryStore()
        self.store.last_applied = log_id(12)
        self.raft: FakeRaft | None = FakeRaft(self.store)
        self.last_metrics: RaftMetrics | None = None
        self.fatal: str | None = None
        self.alarms = ()
        self.calls = []
        self.failure: Exception | None = None
        self.lives = {}

    async def _record(self, *call) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure

    def fail(self, why: str) -> None:
        """As when the engine ends by itself: nothing is taken any more."""
        self.fatal = why

        def refuse(*_: object) -> Ticket:
            raise Stopped("the engine is stopped")

        assert self.raft is not None, "what is stopped cannot fail"
        self.raft.submit_write = self.raft.submit_read = refuse

    async def stop_raft(self) -> None:
        await self._record("stop_raft")
        if self.raft is not None:
            self.last_metrics = self.raft.metrics()
        self.raft = None

    async def start_raft(self) -> None:
        await self._record("start_raft")
        if self.raft is None:
            self.raft = FakeRaft(self.store)

    async def restore(self, retired) -> str:
        await self._record("restore", retired)
        return "retired-20261124T120500Z"

    async def wipe(self, recover_until, reason) -> str:
        await self._record("wipe", recover_until, reason)
        return "data/n1/retired-1"

    async def init(self, members) -> None:
        await self._record("init", dict(members))

    async def abort_init(self) -> None:
        await self._record("abort_init")

    async def identify(self, node_id, raft_address) -> PeerId:
        await self._record("identify", node_id, raft_address)
        return self.lives.get(node_id, PeerId(node_id, Incarnation("e" * 32)))

    def request_shutdown(self) -> None:
        self.calls.append(("request_shutdown",))

    def free_bytes(self) -> int:
        return 10**9
