"""The one owner of the engine: takes what happened, in batches, has the core decide, hands out what to do.

Events gather in a list; one pass over it (a drain) reads the clock once and asks for no task and no future. Writes that
come in between drains become one event, and so do reads. What the hands report while commands are carried out (entries applied in place)
is taken up in the same drain.
When something fails here, in the core, the state machine or the disk, the engine ends for good: everybody who waits is
told, and nothing is acknowledged afterwards.
Source: openraft `core/raft_core.rs`; etcd `node.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from raft_engine.config import Config
from raft_engine.core.commands import Command
from raft_engine.core.events import (
    ClientWrite,
    ClientWritesRequested,
    Event,
    LogIoFlushed,
    MessageReceived,
    PeerConnected,
    PeerLost,
    PeerReplaced,
    PeerRolledBack,
    ReadsRequested,
    ShutdownRequested,
    Ticked,
    WriteRequested,
)
from raft_engine.errors import Fatal, Panicked, StorageError, StorageFailed
from raft_engine.runtime.apply_worker import ApplyWorker
from raft_engine.runtime.batching import Batching
from raft_engine.runtime.busy_polling import BusyPolling
from raft_engine.runtime.dispatcher import Dispatcher
from raft_engine.runtime.entry_cache import EntryCache
from raft_engine.runtime.io_threads import IoThreads
from raft_engine.runtime.log_worker import LogWorker
from raft_engine.runtime.metrics_watch import MetricsWatch
from raft_engine.runtime.ticker import Ticker, now_ms
from raft_engine.runtime.tickets import NO_TICKET, Done, Tickets, WriteDone
from raft_engine.storage.interface import LogStorage, SnapshotStorage, StateMachine, WorksBeside
from raft_engine.transport.interface import Transport
from raft_engine.types.counters import Counters
from raft_engine.types.ids import Incarnation, IoId, Millis, PeerId, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import StoredMembership
from raft_engine.types.messages import Message
from raft_engine.types.metrics import Alarm, RaftMetrics, ServerState
from raft_engine.types.outcomes import Expectation, Refusal, RefusalCode

logger = logging.getLogger(__name__)

ROUNDS_PER_DRAIN = 4
"""A drain goes on with what its own commands caused, but not for ever: sockets want their turn."""


class EngineLike(Protocol):
    """What the loop needs of `core.engine.Engine`."""

    def start(self, now: Millis) -> list[Command]: ...

    def handle(self, event: Event, now: Millis) -> list[Command]: ...

    def metrics(self, now: Millis) -> RaftMetrics: ...


class EngineLoop:
    """One running engine with its hands. Also what the transport reports to (`TransportEvents`)."""

    def __init__(
        self,
        engine: EngineLike,
        *,
        config: Config,
        log: LogStorage,
        snapshots: SnapshotStorage,
        state_machine: StateMachine,
        transport: Transport,
        last_index: int,
        applied: LogId,
        membership: StoredMembership,
        ended: Callable[[], None],
    ) -> None:
        self._engine = engine
        self.config = config
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._events: list[Event] = []
        self._reads: dict[tuple[bool, Millis], list[Ticket]] = {}
        """By their terms: (lease, wait)."""
        self._writes: list[ClientWrite] = []
        self._writes_bytes = 0
        self._batching = Batching(config.api_batch_linger_ms / 1000, config.max_append_entries, self._wake)
        """Until then the writes wait for others; everything else is handled meanwhile."""
        self._busy_polling = BusyPolling(config.busy_poll_us, self._loop.call_soon)
        self._scheduled = True  # nothing is drained before `start`
        self._final: RaftMetrics | None = None
        self.is_over = False
        """Everybody was answered; nothing is taken any more."""
        self._ticker: Ticker | None = None
        self.fatal: Fatal | None = None
        self.tickets = Tickets()
        self.counters = Counters()
        self._threads = IoThreads(self.fail)
        self._log_worker = LogWorker(log, self._flushed_in_thread, self._failed_in_thread)
        cache = EntryCache(last_index)
        self._apply_worker = ApplyWorker(
            state_machine=state_machine,
            snapshots=snapshots,
            log=log,
            cache=cache,
            threads=self._threads,
            post=self.post,
            applied=applied,
            membership=membership,
            counters=self.counters,
        )
        self._stores = (log, snapshots, state_machine)
        self._dispatcher = Dispatcher(
            config=config,
            log=log,
            snapshots=snapshots,
            transport=transport,
            tickets=self.tickets,
            cache=cache,
            log_worker=self._log_worker,
            apply_worker=self._apply_worker,
            threads=self._threads,
            post=self.post,
            counters=self.counters,
        )
        self.watch = MetricsWatch(self._picture)

    def start(self) -> None:
        """Let the engine begin."""
        for store in self._stores:
            if isinstance(store, WorksBeside):
                store.watch_failure(self._failed_in_thread)
        try:
            self._dispatcher.dispatch(self._engine.start(now_ms()))
            self._dispatcher.flush()
        except Exception as error:  # noqa: BLE001 (reported as the engine's end)
            self.fail(error)
            return
        self._ticker = Ticker(self.config.tick_interval_ms, self.config.heartbeat_interval_ms, self._tick)
        self._loop.call_soon(self._drain)

    # -- in ------------------------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        self._events.append(event)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def write(self, data: bytes, done: WriteDone) -> Ticket:
        """Have `data` appended; `done` is called once, never before this returns. That it is bytes, the handle has checked."""
        self._writes_bytes += len(data)
        config = self.config
        fits = self._writes_bytes <= config.max_uncommitted_bytes or not self._writes
        ticket = self.tickets.open_write(done, config.api_channel_size) if fits else NO_TICKET
        if ticket == NO_TICKET:
            self._loop.call_soon(done, self._overloaded())
            self._writes_bytes -= len(data)
            return NO_TICKET
        self._writes.append(ClientWrite(ticket, data))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)
        return ticket

    def read(self, lease: bool, wait_ms: Millis, done: Done) -> Ticket:
        """Have a read confirmed, with all others on the same terms; `done` is called once, never before this returns."""
        if self._is_full():
            self._loop.call_soon(done, self._overloaded())
            return NO_TICKET
        ticket = self.tickets.open(done)
        self._reads.setdefault((lease, wait_ms), []).append(ticket)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)
        return ticket

    def write_on_conditions(self, data: bytes | None, expect: Expectation, committed: Done, done: WriteDone) -> None:
        """Have `data` (None: a blank entry) appended after what was submitted before, if the world is as expected.

        Both are called once, never before this returns: `committed` with a `CommitOutcome` or a `Refusal`.
        """
        if self._is_full():
            self._loop.call_soon(committed, self._overloaded())
            self._loop.call_soon(done, self._overloaded())
            return
        for batch in self._batches(self._take_writes()):
            self.counters.write_batches += 1
            self.counters.writes += len(batch.writes)
            self.post(batch)
        self.counters.write_batches += 1
        self.counters.writes += 1
        commit_ticket = self.tickets.open(committed)
        self.post(WriteRequested(self.tickets.open_write(done), data, expect, commit_ticket))

    def _take_writes(self) -> list[ClientWrite]:
        writes, self._writes, self._writes_bytes = self._writes, [], 0
        self._batching.begun()
        return writes

    def _batches(self, writes: list[ClientWrite]) -> list[ClientWritesRequested]:
        batch_max = self.config.max_append_entries
        return [ClientWritesRequested(writes[start : start + batch_max]) for start in range(0, len(writes), batch_max)]

    def _wake(self) -> None:
        if not self._scheduled and not self.is_over:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def request(self, event: Callable[[Ticket], Event], done: Done) -> Ticket:
        """Have a request with its own ticket handled; `done` is called once, never before this returns."""
        if self._is_full():
            self._loop.call_soon(done, self._overloaded())
            return NO_TICKET
        ticket = self.tickets.open(done)
        self.post(event(ticket))
        return ticket

    def message_received(self, sender: PeerId, message: Message) -> None:
        self.post(MessageReceived(sender, message))

    def peer_connected(self, peer: PeerId) -> None:
        self.post(PeerConnected(peer))

    def peer_lost(self, peer: PeerId, reason: str) -> None:
        self.post(PeerLost(peer, reason))

    def peer_replaced(self, peer: PeerId, seen: Incarnation) -> None:
        self.post(PeerReplaced(peer, seen))

    def peer_rolled_back(self, peer: PeerId, why: str) -> None:
        self.post(PeerRolledBack(peer, why))

    def _tick(self) -> None:
        self.post(Ticked())

    def _is_full(self) -> bool:
        return len(self.tickets) >= self.config.api_channel_size

    def _overloaded(self) -> Refusal:
        waiting = (
            f"{len(self.tickets)} requests are waiting (api_channel_size {self.config.api_channel_size}), "
            f"{self._writes_bytes} bytes of writes not yet taken (max_uncommitted_bytes {self.config.max_uncommitted_bytes})"
        )
        return Refusal(RefusalCode.OVERLOADED, f"{waiting}; nothing was accepted", hint="try again later")

    # -- the drain -----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        if self.is_over:
            return
        now = now_ms()
        try:
            rounds, is_waiting = 0, True
            while is_waiting and rounds < ROUNDS_PER_DRAIN:
                self._handle_waiting(now)
                is_waiting = self._is_waiting()
                rounds += 1
            self._dispatcher.flush()
        except Exception as error:  # noqa: BLE001 (reported as the engine's end)
            self.fail(error)
            return
        self._scheduled = is_waiting or bool(self._events)  # letting messages leave may have failed
        if self._scheduled:
            self._loop.call_soon(self._drain)
        self._busy_polling.step(now, self.counters.appended_entries, self.tickets.open_writes)
        if self.watch.watchers:
            self.watch.look(now)

    def _is_waiting(self) -> bool:
        return bool(self._events or self._reads or (self._writes and self._may_take_writes()))

    def _may_take_writes(self) -> bool:
        waiting = len(self._writes)
        return self._batching.may_begin(waiting, self.tickets.open_writes - waiting)

    def _handle_waiting(self, now: Millis) -> None:
        events, self._events = self._events, []
        for event in events:
            self._dispatcher.notice(event)
            commands = self._engine.handle(event, now)
            if commands:
                self._dispatcher.dispatch(commands)
        if self._reads:
            reads, self._reads = self._reads, {}
            for (lease, wait_ms), tickets in reads.items():
                self._dispatcher.dispatch(self._engine.handle(ReadsRequested(tickets, lease, wait_ms), now))
        for requested in self._batches(self._take_writes()) if self._writes and self._may_take_writes() else ():
            self.counters.write_batches += 1
            self.counters.writes += len(requested.writes)
            self._dispatcher.dispatch(self._engine.handle(requested, now))

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """End on purpose: everybody who waits is answered."""
        if self.is_over:
            return
        try:
            self._dispatcher.dispatch(self._engine.handle(ShutdownRequested(reason), now_ms()))
            self._dispatcher.send_notices()  # without this node the others may have no quorum to find it out
            self._dispatcher.flush()
        except Exception as error:  # noqa: BLE001 (reported as the engine's end)
            self.fail(error)
            return
        self._end(reason)

    def fail(self, error: BaseException) -> None:
        """End because of `error`."""
        if self.is_over:
            return
        self.fatal = _fatal(error)
        logger.critical("the engine ends: %s", self.fatal, exc_info=error if _has_a_story(error) else None)
        self._end(str(self.fatal))

    def close(self) -> None:
        """Let the threads finish and end. Blocks."""
        self._log_worker.stop()
        self._threads.stop()

    def _end(self, reason: str) -> None:
        self._final = self._final_picture()
        self.is_over = True
        self._threads.abandon()
        if self._ticker is not None:
            self._ticker.stop()
        self._batching.begun()
        self._busy_polling.stop()
        not_taken = Refusal(RefusalCode.SHUTTING_DOWN, f"{reason}; the write was not accepted")
        for write in self._writes:
            self.tickets.answer(write.ticket, not_taken)
        self.tickets.answer_all(reason)
        self._events.clear()
        self._reads.clear()
        self._writes.clear()
        self.watch.current()
        self._ended()

    def _picture(self) -> RaftMetrics:
        if self._final is not None:
            return self._final
        picture = self._engine.metrics(now_ms())
        restoring = self._apply_worker.restoring
        return picture if restoring is None else msgspec.structs.replace(picture, restoring=restoring)

    def _final_picture(self) -> RaftMetrics:
        try:
            picture = self._engine.metrics(now_ms())
        except Exception:
            logger.exception("the engine's last picture is an older one")
            picture = self.watch.latest
        alarms = picture.alarms
        if self.fatal is not None:
            alarm = Alarm("engine_failed", str(self.fatal), "read the node's log, mend the cause, start the node again")
            alarms = (*alarms, alarm)
        fatal = None if self.fatal is None else str(self.fatal)
        return msgspec.structs.replace(
            picture, state=ServerState.SHUTDOWN, leader=None, replication=None, alarms=alarms, fatal=fatal
        )

    # -- from the stores' threads -----------------------------------------------------------------------------------------

    def _flushed_in_thread(self, io_id: IoId) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(self.post, LogIoFlushed(io_id))

    def _failed_in_thread(self, error: BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self.fail, error)


def _fatal(error: BaseException) -> Fatal:
    """Return the end of the engine that `error` means."""
    if isinstance(error, Fatal):
        return error
    if isinstance(error, StorageError | OSError):
        fatal: Fatal = StorageFailed(f"storage failed: {error}; the node stops and acknowledges nothing more")
    else:
        fatal = Panicked(f"{type(error).__name__}: {error}; this is a bug, and the node stops rather than go on with it")
    fatal.__cause__ = error
    return fatal


def _has_a_story(error: BaseException) -> bool:
    """Whether its traceback tells more than its words: nobody foresaw it, or a state machine raised it."""
    return not isinstance(error, Fatal) or (isinstance(error, Panicked) and error.__cause__ is not None)


def outcome_error(refusal: Refusal, fatal: Fatal | None) -> Fatal | None:
    """Return the engine's end as an exception, if that is why a request was not answered."""
    if fatal is None or refusal.code not in {RefusalCode.SHUTTING_DOWN, RefusalCode.OUTCOME_UNKNOWN}:
        return None
    again = type(fatal)(str(fatal))
    again.__cause__ = fatal
    return again
