"""The handle an application holds: starting an engine, writing, reading, watching, ending.

Everything here only carries requests to the engine and answers back; the rules are in the core. Use it on the event loop
on which it was started.
Source: openraft `raft/mod.rs`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random as chance
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from raft_engine.config import Config
from raft_engine.core.engine import Engine
from raft_engine.core.events import BarrierRequested, Event, MembershipChangeRequested, RuntimeFlagsChanged
from raft_engine.core.state import Restored
from raft_engine.errors import Overloaded, RaftError, change_refused, read_refused, refused
from raft_engine.runtime.loop import EngineLike, EngineLoop, outcome_error
from raft_engine.runtime.pending_write import PendingWrite, timed_out
from raft_engine.runtime.restoring import membership_at, restore_node
from raft_engine.runtime.tickets import NO_TICKET, Done, WriteDone, resolve
from raft_engine.runtime.trigger import WAIT_S, Trigger
from raft_engine.runtime.wait import Wait
from raft_engine.runtime.watching import LeaderChange, OfficeCallback, OfficeWatch, Progresses, leader_changes
from raft_engine.storage.interface import LogStorage, SnapshotStorage, StateMachine
from raft_engine.transport.interface import Transport
from raft_engine.types.counters import Counters
from raft_engine.types.ids import LogIndex, NodeId, PeerId, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.metrics import RaftMetrics, RuntimeFlags, ServerState
from raft_engine.types.outcomes import (
    NOTHING_EXPECTED,
    BarrierOutcome,
    Expectation,
    Outcome,
    ReadOutcome,
    Refusal,
    RefusalCode,
    TriggerOutcome,
    WriteOutcome,
)
from raft_engine.types.snapshot import SnapshotMeta

logger = logging.getLogger(__name__)

ANSWER_GRACE_S = 1.0
"""The core keeps a request's deadline with its ticks; this much later the runtime gives up by itself (ticks are off)."""

MakeEngine = Callable[[Config, PeerId, Restored, Callable[[], float]], EngineLike]


class Raft:
    """One running engine. Made by `Raft.start`, ended by `shutdown`; the stores it was given stay open."""

    def __init__(
        self,
        loop: EngineLoop,
        transport: Transport,
        state_machine: StateMachine,
        snapshots: SnapshotStorage,
        over: asyncio.Event,
    ) -> None:
        self._loop = loop
        self._snapshots = snapshots
        self._transport = transport
        self._over = over
        self._owned: list[Callable[[], None]] = []
        self._flags = loop.watch.latest.runtime_flags
        """As last asked for: two changes in a row must not undo each other."""
        self._closing = asyncio.create_task(self._close_when_over(), name="raft-close")
        self.state_machine = state_machine
        self.trigger = Trigger(self._ask)
        self.progress = Progresses(loop.watch)

    @classmethod
    async def start(
        cls,
        config: Config,
        me: PeerId,
        *,
        log: LogStorage,
        snapshots: SnapshotStorage,
        state_machine: StateMachine,
        transport: Transport,
        random: Callable[[], float] | None = None,
        make_engine: MakeEngine = Engine,
    ) -> Raft:
        """Start an engine with what is in the stores.

        Args:
            random: uniform in [0, 1), for election timeouts.
        Raises: Damaged: log, snapshot and state machine do not fit together. TransportError: cannot listen.
        """
        restored = restore_node(log, snapshots, state_machine)
        over = asyncio.Event()
        loop = EngineLoop(
            make_engine(config, me, restored, random or chance.Random().random),  # noqa: S311 (spreads timeouts, guards nothing)
            config=config,
            log=log,
            snapshots=snapshots,
            state_machine=state_machine,
            transport=transport,
            last_index=restored.last.index,
            applied=restored.applied,
            membership=membership_at(restored),
            ended=over.set,
        )
        raft = cls(loop, transport, state_machine, snapshots, over)
        try:
            await transport.start(loop)
        except BaseException:
            await raft.shutdown("the transport could not start")
            raise
        loop.start()
        return raft

    # -- writing and reading -------------------------------------------------------------------------------------------

    def submit_write(self, data: bytes, done: WriteDone) -> Ticket:
        """Have `data` committed and applied; `done` is called once with the result, after this returns.

        Costs no future and no task. Raises: Fatal: the engine is gone. TypeError: `data` is not bytes; nothing was done.
        """
        if self._loop.is_over:
            raise self._stopped()
        if not isinstance(data, bytes):
            raise _not_bytes(data)
        return self._loop.write(data, done)

    async def client_write(
        self, data: bytes, *, timeout_s: float | None = 10, expect: Expectation = NOTHING_EXPECTED
    ) -> WriteOutcome:
        """Return once `data` is durable on a quorum and applied here.

        Args:
            expect: write only if term, leader, members or the log's end are these.
        Raises: ForwardToLeader, Overloaded, PreconditionFailed: nothing was done. OutcomeUnknown: it may yet be committed. Fatal.
        """
        if expect is not NOTHING_EXPECTED:
            return await self.write(data, expect=expect).applied(timeout_s=timeout_s)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ticket = self.submit_write(data, resolve(answer))
        outcome = await self._answered(answer, ticket, timeout_s)
        if isinstance(outcome, Refusal):
            raise self._error(outcome, refused)
        assert isinstance(outcome, WriteOutcome), outcome
        return outcome

    def write(self, data: bytes, *, expect: Expectation = NOTHING_EXPECTED) -> PendingWrite:
        """Begin a write and return at once; it keeps its place among those submitted before and after it.

        Its `committed` and `applied` may be awaited, or not. Raises: Fatal: the engine is gone. TypeError: `data` is not bytes.
        """
        if not isinstance(data, bytes):
            raise _not_bytes(data)
        return self._begin(data, expect)

    def write_blank(self, *, expect: Expectation = NOTHING_EXPECTED) -> PendingWrite:
        """Begin to write an entry without data: once committed, this leader is known to be one, and all before it is."""
        return self._begin(None, expect)

    def _begin(self, data: bytes | None, expect: Expectation) -> PendingWrite:
        self._check_running()
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[Outcome] = loop.create_future()
        applied: asyncio.Future[Outcome] = loop.create_future()
        self._loop.write_on_conditions(data, expect, resolve(committed), resolve(applied))
        return PendingWrite(committed, applied, as_error=lambda refusal: self._error(refusal, refused))

    def client_write_ff(self, data: bytes) -> None:
        """Write and forget: `data` is committed if this node leads and goes on doing so; nobody is told.

        Raises: Overloaded: too much is waiting, nothing was done. Fatal.
        """
        if self.submit_write(data, _nobody) == NO_TICKET:
            raise Overloaded(
                Refusal(RefusalCode.OVERLOADED, "too much is waiting; nothing was accepted", hint="try again later")
            )

    async def client_write_many(
        self, datas: Sequence[bytes], *, timeout_s: float | None = 10
    ) -> list[WriteOutcome | Refusal]:
        """Submit all of `datas` at once, in order; return what became of each.

        Raises: Fatal: the engine is gone. TypeError: one of them is not bytes; nothing was done.
        """
        self._check_running()
        for data in datas:
            if not isinstance(data, bytes):
                raise _not_bytes(data)
        outcomes: list[WriteOutcome | Refusal | None] = [None] * len(datas)
        left = len(datas)
        all_done = asyncio.Event()

        def keep(position: int, outcome: WriteOutcome | Refusal) -> None:
            nonlocal left
            outcomes[position] = outcome
            left -= 1
            if left == 0:
                all_done.set()

        tickets = [self._loop.write(data, functools.partial(keep, position)) for position, data in enumerate(datas)]
        try:
            if datas:
                async with asyncio.timeout(timeout_s):
                    await all_done.wait()
        except TimeoutError:
            pass
        finally:
            for ticket in tickets:
                self._loop.tickets.drop(ticket)
        return [outcome if outcome is not None else timed_out(timeout_s) for outcome in outcomes]

    def submit_read(self, lease: bool, wait_ms: float, done: Done) -> Ticket:
        """Ask for a read index; `done` gets a `ReadOutcome` or a `Refusal`. Raises: Fatal: the engine is gone."""
        if self._loop.is_over:
            raise self._stopped()
        return self._loop.read(lease, wait_ms, done)

    async def read_index(self, *, lease: bool = False, timeout_s: float = 5) -> LogIndex:
        """Return once what is read from the state machine is linearizable, and how far it is applied at least.

        Args:
            lease: trust the leader's lease (clocks of bounded drift) instead of asking a quorum.
        Raises: Refused, Fatal.
        """
        outcome = await self._wait_for(lambda done: self._loop.read(lease, timeout_s * 1000, done), timeout_s, read_refused)
        assert isinstance(outcome, ReadOutcome), outcome
        return outcome.index

    async def barrier(
        self,
        exclude: Collection[int] = (),
        *,
        marker: bytes = b"",
        wait_s: float = WAIT_S,
        expect: Expectation = NOTHING_EXPECTED,
    ) -> BarrierOutcome:
        """Append a no-op and return when enough voters outside `exclude` hold it durably. Leader only.

        Args:
            marker: data of the entry; the state machine sees it.
        Raises: Refused, Fatal.
        """
        excluded = _ids(exclude)
        outcome = await self._ask(
            lambda ticket: BarrierRequested(ticket, excluded, wait_s * 1000, marker, expect), wait_s, refused
        )
        assert isinstance(outcome, BarrierOutcome), outcome
        return outcome

    async def change_membership(
        self,
        voters: Collection[int] | None = None,
        *,
        retain: bool = False,
        add_learners: Mapping[PeerId, NodeAddress] | None = None,
        remove_learners: Collection[int] = (),
        add_voters: Collection[int] = (),
        remove_voters: Collection[int] = (),
        remove_members: Collection[int] = (),
        set_addresses: Mapping[int, NodeAddress] | None = None,
        blocking: bool = True,
        wait_s: float = WAIT_S,
        expect: Expectation = NOTHING_EXPECTED,
    ) -> TriggerOutcome:
        """Change who belongs to the cluster, all of this as one change, by joint consensus. Leader only.

        New nodes that shall vote at once come in two: as learners first, and when they have caught up the rest is done, provided
        that nobody else has changed the members meanwhile. Without `blocking` that is refused: they have nothing of the log yet.

        Args:
            voters: the wanted set, each a member or in `add_learners`; None: the voters stay, but for the next two.
            add_voters, remove_voters: relative to those there are, so that two callers do not undo each other's change.
            remove_members: whatever they are.
            set_addresses: where members listen from now on.
            retain: voters that go become learners.
            blocking: return when added learners have caught up.
        Raises: ChangeMembershipError, Refused, Fatal.
        """
        if blocking and any(peer.node_id in {*(voters or ()), *add_voters} for peer in add_learners or ()):
            deadline = asyncio.get_running_loop().time() + wait_s
            joined = await self.change_membership(add_learners=add_learners, wait_s=wait_s, expect=expect)
            if not joined.observed:
                return joined
            seen = joined.effective["log_id"]
            assert isinstance(seen, LogId), seen
            add_learners, expect = None, Expectation(membership_log_id=seen)
            wait_s = max(0.0, deadline - asyncio.get_running_loop().time())
        outcome = await self._ask(
            lambda ticket: MembershipChangeRequested(
                ticket,
                wait_s * 1000,
                voters=None if voters is None else _ids(voters),
                retain=retain,
                add_learners=dict(add_learners or {}),
                remove_learners=_ids(remove_learners),
                blocking=blocking,
                add_voters=_ids(add_voters),
                remove_voters=_ids(remove_voters),
                remove_members=_ids(remove_members),
                set_addresses={NodeId(node_id): address for node_id, address in (set_addresses or {}).items()},
                expect=expect,
            ),
            wait_s,
            change_refused,
        )
        assert isinstance(outcome, TriggerOutcome), outcome
        return outcome

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more; its callback will not be called."""
        self._loop.tickets.drop(ticket)

    # -- watching ------------------------------------------------------------------------------------------------------

    def metrics(self) -> RaftMetrics:
        """Return a consistent picture of the engine as of now; after its end, the last one."""
        return self._loop.watch.current()

    def get_snapshot(self) -> tuple[SnapshotMeta, Iterator[bytes]] | None:
        """Return the newest complete snapshot, None if there is none: what it is of, and the state machine's chunks.

        The chunks are read, and verified, as they are taken: take them in a thread, and before a newer snapshot replaces this one
        (StorageError says so). Useful for a copy elsewhere; a node is not brought back by it.
        """
        meta = self._snapshots.newest()
        return None if meta is None else (meta, self._snapshots.open(meta))

    @property
    def counters(self) -> Counters:
        """What it has done since it was started: batches, entries, messages, events. Read it, do not write to it."""
        return self._loop.counters

    @property
    def version(self) -> int:
        """Number of the last picture taken; another number, another picture."""
        return self._loop.watch.version

    async def wait_change(self, version: int, timeout_s: float) -> RaftMetrics:
        """Return the picture once its version is not `version`, or when the time is up."""
        return await self._loop.watch.wait_change(version, timeout_s)

    def wait(self, timeout_s: float = 10.0) -> Wait:
        """Wait for the engine to look as it should: `await raft.wait(timeout_s=5).leader()`."""
        return Wait(self._loop.watch, timeout_s)

    def leader_changes(self) -> AsyncIterator[LeaderChange]:
        """Return who leads and every change of that: `async for change in raft.leader_changes()`; ends with the engine."""
        return leader_changes(self._loop.watch)

    def on_leader_change(self, start: OfficeCallback, stop: OfficeCallback) -> OfficeWatch:
        """Have `start(term)` called when this node begins to lead, `stop(term)` when it no longer does, until closed.

        Either may be a coroutine function; it is awaited before the next call.
        """
        return OfficeWatch(self._loop.watch, start, stop)

    @property
    def is_leader(self) -> bool:
        """Whether it leads as far as it knows; `read_index` finds out."""
        return self.metrics().state is ServerState.LEADER

    @property
    def current_leader(self) -> NodeId | None:
        return self.metrics().leader

    @property
    def is_initialized(self) -> bool:
        """Whether it belongs to a cluster: some configuration was written, or learned."""
        return not self.metrics().membership.membership.is_empty

    @property
    def voter_ids(self) -> list[NodeId]:
        """Who votes by the configuration in force, in either set of a joint one."""
        return self.metrics().membership.membership.voter_ids()

    @property
    def learner_ids(self) -> list[NodeId]:
        return sorted(self.metrics().membership.membership.learners)

    @property
    def node_id(self) -> NodeId:
        return self._loop.watch.latest.me.node_id

    @property
    def config(self) -> Config:
        """The settings it was started with."""
        return self._loop.config

    @property
    def runtime_flags(self) -> RuntimeFlags:
        return self.metrics().runtime_flags

    def set_runtime_flags(self, flags: RuntimeFlags) -> None:
        """Switch timers on or off. Raises: Fatal: the engine is gone."""
        self._check_running()
        self._flags = flags
        self._loop.post(RuntimeFlagsChanged(flags))

    def enable(
        self,
        *,
        tick: bool | None = None,
        heartbeat: bool | None = None,
        elect: bool | None = None,
        pre_vote: bool | None = None,
    ) -> None:
        """Switch some of them, the others stay (openraft `runtime_config`). Raises: Fatal: the engine is gone."""
        wanted = {"enable_tick": tick, "enable_heartbeat": heartbeat, "enable_elect": elect, "enable_pre_vote": pre_vote}
        change = {name: value for name, value in wanted.items() if value is not None}
        self.set_runtime_flags(msgspec.structs.replace(self._flags, **change))

    @property
    def fatal(self) -> str | None:
        """Why the engine ended by itself, if it did."""
        return None if self._loop.fatal is None else str(self._loop.fatal)

    async def wait_over(self) -> None:
        """Return when the engine has ended, on purpose or not."""
        await self._over.wait()

    # -- the end -------------------------------------------------------------------------------------------------------

    async def shutdown(self, reason: str = "the engine was shut down") -> None:
        """End the engine: everybody who waits is answered, what was handed to the disk is written."""
        self._loop.stop(reason)
        await asyncio.shield(self._closing)

    def fail(self, error: RaftError) -> None:
        """End the engine because what it rests on failed: everybody who waits is answered, nothing more is acknowledged."""
        self._loop.fail(error)

    def owns(self, close: Callable[[], None]) -> None:
        """Have `close` called, in a thread, when the engine has ended: for what was opened for it."""
        self._owned.append(close)

    async def _close_when_over(self) -> None:
        await self._over.wait()
        try:
            await self._transport.close()
        except (RaftError, OSError) as error:
            logger.warning("closing the transport: %s", error)
        await asyncio.to_thread(self._loop.close)
        for close in self._owned:
            try:
                await asyncio.to_thread(close)
            except (RaftError, OSError) as error:
                logger.warning("closing what the engine used: %s", error)

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _ask(
        self, event: Callable[[Ticket], Event], wait_s: float, as_error: Callable[[Refusal], RaftError]
    ) -> Outcome:
        """Return the outcome of a request that is not a refusal."""
        return await self._wait_for(lambda done: self._loop.request(event, done), wait_s, as_error)

    async def _wait_for(
        self, submit: Callable[[Done], Ticket], wait_s: float, as_error: Callable[[Refusal], RaftError]
    ) -> Outcome:
        self._check_running()
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ticket = submit(resolve(answer))
        outcome = await self._answered(answer, ticket, wait_s + ANSWER_GRACE_S)
        if isinstance(outcome, Refusal):
            raise self._error(outcome, as_error)
        return outcome

    async def _answered(self, answer: asyncio.Future[Outcome], ticket: Ticket, timeout_s: float | None) -> Outcome:
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            return timed_out(timeout_s)
        finally:
            self._loop.tickets.drop(ticket)

    def _error(self, refusal: Refusal, as_error: Callable[[Refusal], RaftError]) -> RaftError:
        return outcome_error(refusal, self._loop.fatal) or as_error(refusal)

    def _check_running(self) -> None:
        if self._loop.is_over:
            raise self._stopped()

    def _stopped(self) -> RaftError:
        return self._error(Refusal(RefusalCode.SHUTTING_DOWN, "the engine is stopped"), refused)


def _ids(node_ids: Collection[int]) -> frozenset[NodeId]:
    return frozenset(map(NodeId, node_ids))


def _not_bytes(data: object) -> TypeError:
    return TypeError(f"a write's data must be bytes, not {type(data).__name__}; encode it first")


def _nobody(_: object) -> None:
    """Nobody wants to know."""
