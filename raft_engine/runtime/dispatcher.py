"""Who carries out which command.

Source: openraft `core/raft_core.rs` `run_command`; the contract stands in `core/commands.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import assert_never

from raft_engine.config import Config
from raft_engine.core.commands import (
    AppendEntries,
    Apply,
    BuildSnapshot,
    Command,
    InstallSnapshot,
    PurgeLog,
    ReplicateEntries,
    Report,
    ResetLog,
    Respond,
    RespondReads,
    RespondWrites,
    SaveHardState,
    SendMessage,
    SendSnapshotChunk,
    SetPeers,
    StoreSnapshotChunk,
    TruncateLog,
)
from raft_engine.core.events import Event, LogIoFlushed, MessageReceived, PeerConnected, PeerLost, SnapshotSendFailed, Ticked
from raft_engine.errors import StorageError
from raft_engine.runtime.apply_worker import ApplyWorker
from raft_engine.runtime.entry_cache import EntryCache
from raft_engine.runtime.io_threads import IoThreads
from raft_engine.runtime.log_worker import LogCommand, LogWorker
from raft_engine.runtime.pace import Pace
from raft_engine.runtime.peer_sender import PeerSender
from raft_engine.runtime.tickets import Tickets
from raft_engine.storage.interface import LogStorage, SnapshotStorage
from raft_engine.transport.interface import Transport
from raft_engine.types.counters import Counters
from raft_engine.types.ids import PeerId
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    Message,
    ReadIndexResponse,
    SnapshotChunk,
    TransferRequest,
)

engine_log = logging.getLogger("raft_engine.engine")


class Dispatcher:
    """Hands each command to the one who does it. Used on the event loop."""

    def __init__(
        self,
        *,
        config: Config,
        log: LogStorage,
        snapshots: SnapshotStorage,
        transport: Transport,
        tickets: Tickets,
        cache: EntryCache,
        log_worker: LogWorker,
        apply_worker: ApplyWorker,
        threads: IoThreads,
        post: Callable[[Event], None],
        counters: Counters | None = None,
    ) -> None:
        self._counters = counters or Counters()
        self._config = config
        self._log = log
        self._snapshots = snapshots
        self._transport = transport
        self._tickets = tickets
        self._cache = cache
        self._log_worker = log_worker
        self._apply_worker = apply_worker
        self._threads = threads
        self._post = post
        self._senders: dict[PeerId, PeerSender] = {}
        self._to_log: list[LogCommand] = []
        self._notices: dict[PeerId, AppendRequest] = {}
        """Held back: see `send_notices`."""
        self._paces: dict[PeerId, Pace] = {}

    def dispatch(self, commands: Iterable[Command]) -> None:  # noqa: C901, PLR0912 (one case a command, no rule)
        for command in commands:
            match command:
                case AppendEntries():
                    self._cache.append(command.io_id, command.entries)
                    self._to_log.append(command)
                    self._counters.append_batches += 1
                    self._counters.appended_entries += len(command.entries)
                case ReplicateEntries():
                    self._notices.pop(command.target, None)  # entries tell it too
                    self._sender(command.target).replicate(command)
                case SendMessage():
                    self._send(command.target, command.message)
                case Apply() | BuildSnapshot() | StoreSnapshotChunk() | InstallSnapshot():
                    self._apply_worker.put(command)
                case RespondWrites():
                    self._tickets.answer_writes(command.writes)
                case RespondReads():
                    self._tickets.answer_reads(command.tickets, command.outcome)
                case Respond():
                    self._tickets.answer(command.ticket, command.outcome)
                case SaveHardState():
                    self._to_log.append(command)
                case TruncateLog():
                    self._cache.truncate(command.after)
                    self._to_log.append(command)
                case PurgeLog():
                    self._cache.purge(command.upto)
                    self._to_log.append(command)
                case ResetLog():
                    self._cache.reset(command.upto)
                    self._to_log.append(command)
                case SendSnapshotChunk():
                    self._send_snapshot_chunk(command)
                case SetPeers():
                    self._senders = {peer: sender for peer, sender in self._senders.items() if peer in command.peers}
                    self._paces = {peer: pace for peer, pace in self._paces.items() if peer in command.peers}
                    self._notices = {peer: notice for peer, notice in self._notices.items() if peer in command.peers}
                    self._transport.set_peers(command.peers)
                case Report():
                    self._counters.reports[command.event] += 1
                    _report(command)
                case _:
                    assert_never(command)

    def flush(self) -> None:
        """Begin what was dispatched. The network first: a message that leaves now travels while the own disk writes."""
        self._transport.flush()
        if self._to_log:
            commands, self._to_log = self._to_log, []
            self._log_worker.put(commands)

    # -- what happened, as far as it concerns the hands ----------------------------------------------------------------

    def notice(self, event: Event) -> None:
        """Before the core hears of `event`: what it means for cached entries and for what may be sent."""
        if isinstance(event, MessageReceived):
            message = event.message
            if isinstance(message, AppendResponse) and message.accepted and event.sender in self._senders:
                self._senders[event.sender].acknowledged(message.session, message.matching.index)
        elif isinstance(event, LogIoFlushed):
            self._cache.flushed(event.io_id)
        elif isinstance(event, PeerLost):
            self._notices.pop(event.peer, None)
            if event.peer in self._senders:
                self._senders[event.peer].restart()
        elif isinstance(event, Ticked):
            self.send_notices()

    # -- sending -------------------------------------------------------------------------------------------------------

    def _send(self, target: PeerId, message: Message) -> None:
        if isinstance(message, AppendRequest):
            self._notices.pop(target, None)
            if not message.wants_answer:
                self._notices[target] = message
                return
        elif isinstance(message, ReadIndexResponse | TransferRequest):
            self._send_notice(target)  # who reads there waits until that much is applied; who takes over should know it
        self._transport.send(target, message)
        self._counters.messages[type(message)] += 1

    def send_notices(self) -> None:
        """Let the notices leave that no later message has made needless: with every tick, and at the end.

        A notice tells an idle target how far is committed and wants no answer. While writes go on, the next entries tell it half a millisecond
        later, and a message of its own after each lone write cost all nodes together a twentieth of their processor time.
        """
        for target in [*self._notices]:
            self._send_notice(target)

    def _send_notice(self, target: PeerId) -> None:
        notice = self._notices.pop(target, None)
        if notice is not None:
            self._transport.send(target, notice)
            self._counters.messages[AppendRequest] += 1

    def _sender(self, target: PeerId) -> PeerSender:
        sender = self._senders.get(target)
        if sender is None:
            sender = PeerSender(
                target,
                payload_bytes_max=self._config.max_payload_bytes,
                cache=self._cache,
                log=self._log,
                threads=self._threads,
                transport=self._transport,
                broken=self._stream_broken,
                counters=self._counters,
            )
            self._senders[target] = sender
        return sender

    def _stream_broken(self, target: PeerId, reason: str) -> None:
        """Have the core start over with `target`: as if its connection had broken and stood again."""
        engine_log.warning("replication to %s starts over: %s", target, reason)
        self._post(PeerLost(target, reason))
        self._post(PeerConnected(target))

    def _send_snapshot_chunk(self, command: SendSnapshotChunk) -> None:
        meta, offset = command.meta, command.offset
        pace = self._paces.setdefault(command.target, Pace(self._config))
        bytes_max = pace.next_chunk_bytes()

        def read() -> bytes | StorageError:
            try:
                return self._snapshots.read_chunk(meta, offset, bytes_max)
            except StorageError as error:
                return error

        def then(data: bytes | StorageError) -> None:
            if isinstance(data, StorageError):
                self._post(SnapshotSendFailed(command.target, command.session, str(data)))
                return
            done = offset + len(data) >= meta.size_bytes
            self._counters.messages[SnapshotChunk] += 1
            self._counters.snapshot_bytes_sent += len(data)
            chunk = SnapshotChunk(command.vote, command.session, command.round, meta, offset, data, done)
            pace.in_time(len(data), lambda: self._transport.send(command.target, chunk))

        self._threads.run(read, then)


def _report(report: Report) -> None:
    level = logging.WARNING if report.warning else logging.INFO
    about = "" if report.node is None else f" node={report.node}"
    engine_log.log(level, "%s%s: %s", report.event, about, report.detail)
