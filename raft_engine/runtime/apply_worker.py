"""Driving the state machine: applying, building snapshots, taking in a leader's snapshot, in the order asked for.

Entries that are still in memory are applied at once, on the loop: the common case costs no hop. Others are read by a
thread first. Long ranges go in slices, so that the loop stays responsive; each slice is reported by itself.
A snapshot is written by a thread from a view taken on the loop, while applying goes on. One that is taken in is restored
by a thread as well, while nothing is applied: it may be large, and the node has to answer meanwhile.
An exception of the state machine ends the engine: its state cannot be trusted, and the others would differ from it.
Source: openraft `core/sm/`; dissertation 5.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from raft_engine.core.commands import Apply, BuildSnapshot, InstallSnapshot, StoreSnapshotChunk
from raft_engine.core.events import Applied, Event, SnapshotBuilt, SnapshotChunkStored, SnapshotInstalled
from raft_engine.errors import Panicked, SnapshotDeferred
from raft_engine.runtime.blaming import blame_the_state_machine, blamed, blaming_the_state_machine
from raft_engine.runtime.entry_cache import EntryCache
from raft_engine.runtime.io_threads import IoThreads
from raft_engine.storage.interface import LogStorage, SnapshotStorage, StateMachine
from raft_engine.types.counters import Counters
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import StoredMembership, decode_membership
from raft_engine.types.metrics import RestoringMetrics
from raft_engine.types.snapshot import SnapshotMeta

SLICE_ENTRIES = 4096
"""About 10 ms of applying at the bundled state machine's speed."""
READ_BYTES = 8 * 1024 * 1024
_MEMBERSHIP: Final = int(EntryKind.MEMBERSHIP)

StateMachineCommand = Apply | BuildSnapshot | StoreSnapshotChunk | InstallSnapshot


class ApplyWorker:
    """Carries out the state machine's commands, one after the other. Used on the event loop."""

    def __init__(
        self,
        *,
        state_machine: StateMachine,
        snapshots: SnapshotStorage,
        log: LogStorage,
        cache: EntryCache,
        threads: IoThreads,
        post: Callable[[Event], None],
        applied: LogId,
        membership: StoredMembership,
        counters: Counters | None = None,
    ) -> None:
        self._counters = counters or Counters()
        self._state_machine = state_machine
        self._snapshots = snapshots
        self._log = log
        self._cache = cache
        self._threads = threads
        self._post = post
        self._applied = applied
        self._membership = membership
        """The configuration at `applied`: it goes into a snapshot."""
        self._queue: deque[StateMachineCommand] = deque()
        self._busy = False
        self._building = False
        self.restoring: RestoringMetrics | None = None
        """The snapshot that is being taken in, as a thread gets on with it."""

    def put(self, command: StateMachineCommand) -> None:
        self._queue.append(command)
        if not self._busy:
            self._work()

    def _work(self) -> None:
        """Go on with what is queued, until something has to be waited for."""
        while self._queue and not self._busy:
            command = self._queue[0]
            match command:
                case Apply():
                    self._apply_next_slice(command)
                case BuildSnapshot():
                    self._build()
                case StoreSnapshotChunk():
                    self._store_chunk(command)
                case InstallSnapshot():
                    if self._building:
                        return  # an older snapshot finished later would take its place
                    self._install(command.meta)

    def _go_on(self) -> None:
        self._busy = False
        self._work()

    # -- applying ----------------------------------------------------------------------------------------------------

    def _apply_next_slice(self, command: Apply) -> None:
        after = self._applied.index
        assert after >= command.after, f"a gap: applied up to {after}, asked to go on after {command.after}"
        if after >= command.upto.index:
            self._queue.popleft()  # asked for before a snapshot took the state machine further
            return
        upto = min(command.upto.index, after + SLICE_ENTRIES)
        entries = self._cache.read(after, upto)
        self._busy = True
        if entries is None:
            self._threads.run(
                lambda: self._log.read(LogIndex(after), LogIndex(upto), READ_BYTES),
                lambda found: self._apply_and_go_on(command, found),
            )
            return
        self._apply(entries)
        if self._applied.index >= command.upto.index:
            self._queue.popleft()
            self._busy = False
        else:
            self._threads.soon(self._go_on)

    def _apply_and_go_on(self, command: Apply, entries: list[Entry]) -> None:
        self._apply(entries)
        if self._applied.index >= command.upto.index:
            self._queue.popleft()
        self._go_on()

    def _apply(self, entries: list[Entry]) -> None:
        try:
            results = self._state_machine.apply(entries)
        except Exception as error:
            blame_the_state_machine(error, lambda: f"applying {_told(entries)}")
            raise
        if len(results) != len(entries):
            raise Panicked(f"the state machine gave {len(results)} results for {len(entries)} entries, {_told(entries)}")
        self._note_membership(entries)
        self._applied = entries[-1].log_id
        self._counters.apply_batches += 1
        self._counters.applied_entries += len(entries)
        self._post(Applied(self._applied, list(results)))

    def _note_membership(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind == _MEMBERSHIP:
                self._membership = StoredMembership(entry.log_id, decode_membership(entry.data))

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._queue.popleft()
        self._building = True
        applied, membership = self._applied, self._membership

        def what() -> str:
            return f"giving its snapshot at {applied}"

        try:
            with blaming_the_state_machine(what):
                chunks = self._state_machine.snapshot()
        except SnapshotDeferred:
            self._built(None)
            return
        self._threads.run(lambda: self._snapshots.build(applied, membership, blamed(chunks, what)), self._built)

    def _built(self, meta: SnapshotMeta | None) -> None:
        self._building = False
        self._post(SnapshotBuilt(meta))
        if not self._busy:
            self._work()

    def _store_chunk(self, command: StoreSnapshotChunk) -> None:
        self._busy = True
        chunk = command.chunk

        def then(stored: tuple[int, bool]) -> None:
            self._queue.popleft()
            self._post(SnapshotChunkStored(command.sender, chunk.session, chunk.round, chunk.meta, *stored))
            self._go_on()

        self._threads.run(lambda: self._snapshots.receive(chunk.meta, chunk.offset, chunk.data, done=chunk.done), then)

    def _install(self, meta: SnapshotMeta) -> None:
        self._busy = True
        self.restoring = RestoringMetrics(meta.last_log_id, 0, meta.size_bytes)

        def install() -> None:
            self._snapshots.adopt(meta)
            with blaming_the_state_machine(lambda: f"taking in the snapshot at {meta.last_log_id}"):
                self._state_machine.restore(self._read(meta), meta.last_log_id)

        def then(_: None) -> None:
            self.restoring = None
            self._applied = meta.last_log_id
            self._membership = meta.membership
            self._queue.popleft()
            self._post(SnapshotInstalled(meta))
            self._go_on()

        self._threads.run(install, then)

    def _read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Yield a snapshot's chunks, and note how far they were read. In a thread."""
        done = 0
        for chunk in self._snapshots.open(meta):
            yield chunk
            done += len(chunk)
            self.restoring = RestoringMetrics(meta.last_log_id, done, meta.size_bytes)


def _told(entries: Sequence[Entry]) -> str:
    first, last = entries[0].log_id, entries[-1].log_id
    return f"entry {first}" if len(entries) == 1 else f"entries {first} to {last}, one of them"
