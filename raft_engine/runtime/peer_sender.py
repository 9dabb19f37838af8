"""Sending log entries to one target: in order, in pieces that fit, never more than the target keeps up with.

The core names ranges, not bytes. Here a range becomes as many requests as the byte limit asks for. What was sent and not
yet answered is bounded (`WINDOW_BYTES`), so a slow target holds back its own requests and nothing else: ranges wait here as
numbers, not as data. A new session makes everything before it meaningless, so it starts with an empty window.
Source: dissertation 10.2.1 (pipelining); openraft `replication/`; TCP's window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from raft_engine.core.commands import ReplicateEntries
from raft_engine.errors import Damaged, StorageError
from raft_engine.runtime.entry_cache import EntryCache
from raft_engine.runtime.io_threads import IoThreads
from raft_engine.storage.interface import LogStorage
from raft_engine.transport.interface import Transport
from raft_engine.types.counters import Counters
from raft_engine.types.entry import Entry, records_bytes
from raft_engine.types.ids import PeerId
from raft_engine.types.messages import AppendRequest
from raft_engine.types.vote import Vote

WINDOW_BYTES = 8 * 1024 * 1024
"""Unanswered bytes to one target; a quarter of what the transport is willing to queue. One larger request still goes."""


class PeerSender:
    """Carries out `ReplicateEntries` for one target."""

    def __init__(
        self,
        target: PeerId,
        *,
        payload_bytes_max: int,
        cache: EntryCache,
        log: LogStorage,
        threads: IoThreads,
        transport: Transport,
        broken: Callable[[PeerId, str], None],
        counters: Counters | None = None,
    ) -> None:
        self._counters = counters or Counters()
        self._target = target
        self._payload_bytes_max = payload_bytes_max
        self._cache = cache
        self._log = log
        self._threads = threads
        self._transport = transport
        self._broken = broken
        self._session: tuple[Vote, int] | None = None
        self._waiting: deque[ReplicateEntries] = deque()
        self._unanswered: deque[tuple[int, int]] = deque()
        self._unanswered_bytes = 0
        self._reading: ReplicateEntries | None = None

    def replicate(self, command: ReplicateEntries) -> None:
        session = (command.vote, command.session)
        if session != self._session:
            self.restart()
            self._session = session
        assert command.upto > command.prev.index, command
        self._waiting.append(command)
        if self._reading is None:
            self._send_waiting()

    def acknowledged(self, session: int, matching: int) -> None:
        """The target holds everything up to `matching`."""
        if self._session is None or session != self._session[1]:
            return
        while self._unanswered and self._unanswered[0][0] <= matching:
            self._unanswered_bytes -= self._unanswered.popleft()[1]
        if self._waiting and self._reading is None:
            self._send_waiting()

    def restart(self) -> None:
        """What was sent or waits does not matter any more."""
        self._session = None
        self._waiting.clear()
        self._unanswered.clear()
        self._unanswered_bytes = 0
        self._reading = None

    def _send_waiting(self) -> None:
        while self._waiting and (not self._unanswered or self._unanswered_bytes < WINDOW_BYTES):
            command = self._waiting[0]
            entries = self._cache.read(command.prev.index, command.upto)
            if entries is None:
                self._read_from_log(command)
                return
            self._send(command, entries)

    def _send(self, command: ReplicateEntries, entries: list[Entry]) -> None:
        """Send as many of `entries`, which begin the range of the first waiting command, as fit into one request."""
        count, size = _fitting(entries, self._payload_bytes_max)
        entries = entries[:count]
        request = AppendRequest(command.vote, command.session, command.check, command.round, command.prev, command.committed)
        last = entries[-1]
        if last.index == command.upto:
            self._waiting.popleft()
        else:
            self._waiting[0] = msgspec.structs.replace(command, prev=last.log_id, check=False)
        self._unanswered.append((last.index, size))
        self._unanswered_bytes += size
        self._transport.send_append(self._target, request, entries)
        self._counters.replicate_requests += 1
        self._counters.replicated_entries += count

    def _read_from_log(self, command: ReplicateEntries) -> None:
        self._reading = command
        generation = self._cache.generation
        bytes_max = self._payload_bytes_max

        def read() -> list[Entry] | StorageError:
            try:
                return self._log.read(command.prev.index, command.upto, bytes_max)
            except Damaged:
                raise
            except StorageError as error:
                return error

        def then(result: list[Entry] | StorageError) -> None:
            if self._reading is not command:
                return  # a new session began
            self._reading = None
            if self._cache.generation != generation:
                # Entries were taken back meanwhile, so this node leads no more: what was read may not be what was meant.
                self.restart()
            elif isinstance(result, StorageError):
                self.restart()
                self._broken(self._target, f"its next entries cannot be read: {result}")
            else:
                self._send(command, result)
                self._send_waiting()

        self._threads.run(read, then)


def _fitting(entries: list[Entry], bytes_max: int) -> tuple[int, int]:
    """Return how many entries fit, at least one, and their size."""
    total = records_bytes(entries)
    if total <= bytes_max:
        return len(entries), total
    total = 0
    for count, entry in enumerate(entries):
        size = len(entry.record)
        if count and total + size > bytes_max:
            return count, total
        total += size
    return len(entries), total
