"""One simulated machine and the process on it: the real core, stores, workers and state machine, in virtual time.

The disk outlives the process, the process ends with a crash. What threads do in a real node happens here at moments of its
own: a batch is written, later synced, later reported, so that a crash comes between any two of these, or inside, at any
single call to the disk. The log is written by the same code as in production (`LogWorker._perform`), commands are handed out
by the real `Dispatcher`, entries are applied by the real `ApplyWorker`.
Source: FoundationDB simulation; TigerBeetle VOPR.
"""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from raft_engine.core import invariants
from raft_engine.core.commands import Command
from raft_engine.core.engine import Engine
from raft_engine.core.events import Event, LogIoFlushed, SnapshotBuilt, SnapshotInstalled, Ticked
from raft_engine.core.state import Restored
from raft_engine.errors import Panicked, RaftError
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.runtime.apply_worker import ApplyWorker
from raft_engine.runtime.dispatcher import Dispatcher
from raft_engine.runtime.entry_cache import EntryCache
from raft_engine.runtime.io_threads import IoThreads
from raft_engine.runtime.log_worker import LogCommand, LogWorker
from raft_engine.runtime.restoring import membership_at, restore_node
from raft_engine.runtime.tickets import Tickets
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.interface import StateMachine
from raft_engine.storage.segment_log import LOG_DIRECTORY
from raft_engine.testing.scenario_disk import DiskImage
from raft_engine.testing.sim_disk import ROOT, SECTOR_BYTES, Change, SimDisk, SimFiles, Write
from raft_engine.transport.interface import Transport, TransportEvents
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.entry import Entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import Incarnation, IoId, LogIndex, NodeId, PeerId
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import Membership, NodeAddress
from raft_engine.types.messages import AppendRequest, Message

if TYPE_CHECKING:
    from raft_engine.testing.simulator import Simulation

T = TypeVar("T")

CLUSTER: Final = "simulated"
DATA: Final = Path("/data")
SEGMENT_BYTES: Final = 4096
"""A segment holds some dozens of entries, so that every run has segments that come and go."""
CACHE_BYTES: Final = 8192
"""Older entries are read from the log."""
READ_MS_MAX: Final = 2.0
_NO_INCARNATION: Final = Incarnation("")
_TICKED: Final = Ticked()


class ProcessEnds(BaseException):
    """The process is gone in the middle of a call; nothing may catch it."""


class Booted(msgspec.Struct, frozen=True):
    """For watchers: the node has started with this on its disk."""

    restored: Restored
    life: int


class Died(msgspec.Struct, frozen=True):
    """For watchers: the engine is gone. `how`: killed, power, failed (by itself), stopped (by an operator)."""

    how: str


class MadeDurable(msgspec.Struct, frozen=True):
    """For watchers: everything up to this write is on the disk; the engine hears of it later."""

    io_id: IoId


class Wiped(msgspec.Struct, frozen=True):
    """For watchers: the disk was changed from outside. `how`: kept_vote, blank, rolled_back."""

    how: str
    until: LogId | None = None


Notice = Event | Booted | Died | MadeDurable | Wiped
Watch = Callable[["SimNode", Notice, list[Command], float], None]


class SimNode:
    """A machine with a disk, and on it, while `engine` is there, a running node."""

    def __init__(self, simulation: Simulation, node_id: NodeId) -> None:
        self.simulation = simulation
        self.node_id = node_id
        self.me = PeerId(node_id, _NO_INCARNATION)
        self.disk = SimDisk()
        self.engine: Engine | None = None
        self.machine = CheckedMachine(self)
        self.data_dir: DataDir | None = None
        self.life = 0
        """Number of starts so far."""
        self.view = DiskImage()
        """What the log holds, durable or not, by what the core asked for."""
        self.durable = DiskImage()
        """What the log said was durable."""
        self.unreported: deque[LogCommand] = deque()
        """What the core asked for and has not been told to be durable."""
        self.broken = ""
        """Why the node does not start: an operator must do something."""
        self.is_rotten = False
        """Some of what it holds was altered on the disk."""
        self.needs_reboot = False
        """A sync failed: what the kernel remembers cannot be trusted."""
        self.in_hand = False
        """An operator is at work: nobody else starts it."""
        self.paused_until = 0.0
        self.slow_until = 0.0
        self.slowness = 1.0
        """Share of `Faults.fsync_ms_max` that a sync takes at most: disks differ."""
        self.dice = simulation.chaos.stream(f"node {node_id}")
        self.rate = 1.0
        self._clock_since = 0.0
        self._clock_base = 1000.0
        self.wall_jump_ms = 0.0
        """How far its time of day is off. It may go back, the monotonic clock never does."""
        self.tickets = Tickets()
        self.transport = _Transport(self)
        self.threads = _Threads(self)
        self._hands: Dispatcher | None = None
        self._last_post = 0.0
        self._die_at_call: int | None = None
        self._die_of_power = False
        self._disk_error: tuple[int, str] | None = None
        self.open_process()

    # -- time --------------------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """Return the node's own monotonic clock."""
        return self._clock_base + (self.simulation.now - self._clock_since) * self.rate

    def set_clock(self, rate: float, jump_ms: float = 0.0) -> None:
        self._clock_base = self.clock() + jump_ms
        self._clock_since = self.simulation.now
        self.rate = rate

    def wall_ms(self) -> float:
        """Return the machine's time of day, since the new year in which every run begins."""
        return self.simulation.now + self.wall_jump_ms

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Do `action` in this process after `delay_ms`, later if it is paused then, never if it is gone then."""
        life = self.life

        def act() -> None:
            if self.life != life:
                return
            if self.simulation.now < self.paused_until:
                self.simulation.at(self.paused_until - self.simulation.now, act)
                return
            self.guarded(action)

        self.simulation.at(delay_ms, act)

    def guarded(self, action: Callable[[], T]) -> T | None:
        """Do something that uses the disk; what ends a real process or engine ends this one."""
        try:
            return action()
        except ProcessEnds:
            self.simulation.crash(self, power=self._die_of_power, how="crash_at_disk_call")
        except (RaftError, OSError) as error:
            if isinstance(error, Panicked) and error.__cause__ is not None:
                raise error.__cause__ from error  # what a state machine raises, its checks too, is a bug and no fault
            self.fail(str(error))
        return None

    # -- the disk ----------------------------------------------------------------------------------------------------

    def open_process(self) -> None:
        """A new process opens the disk."""
        self.files = SimFiles(self.disk, self._before_call, self.dice, self.wall_ms)

    def die_at_call(self, calls: int, *, power: bool) -> None:
        """End the process at the `calls`-th call to the disk from now on."""
        self._die_at_call, self._die_of_power = calls, power

    def break_disk(self, number: int) -> None:
        """Have disk calls fail with this error until the node is started again; EBADF stands for a failed sync."""
        names = {
            errno.EIO: "pread pwrite fdatasync fsync",
            errno.ENOSPC: "pwrite",
            errno.EBADF: "fdatasync fsync",
        }
        self._disk_error = number, names[number]
        self.needs_reboot = number == errno.EIO and self.dice.random() < 0.5

    def mend(self) -> None:
        """Nothing is wrong with this machine any more; what is on its disk stays as it is."""
        self._die_at_call = self._disk_error = None
        self.paused_until = self.slow_until = 0.0
        self.in_hand = False

    def _before_call(self, call: str, path: Path) -> None:
        if self._die_at_call is not None:
            self._die_at_call -= 1
            if self._die_at_call <= 0:
                raise ProcessEnds
        if self._disk_error is not None and call in self._disk_error[1]:
            number = errno.EIO if self._disk_error[0] == errno.EBADF else self._disk_error[0]
            raise OSError(number, os.strerror(number), str(path))

    def lose_power(self, dice: random.Random) -> bool:
        """Of what was not synced, any part survives; return whether a write was torn."""
        pending = self.disk.pending
        mode = dice.random()
        kept: list[Change] = []
        torn = False
        if mode < 0.3:
            kept = pending[: dice.randint(0, len(pending))]
        elif mode < 0.9:
            for change in pending:
                if isinstance(change, Write) and len(change.data) + change.offset % SECTOR_BYTES > SECTOR_BYTES:
                    sectors = list(_sectors(change))
                    pieces = [piece for piece in sectors if dice.random() < 0.5]
                    torn = torn or 0 < len(pieces) < len(sectors)
                    kept.extend(pieces)
                elif dice.random() < 0.5:
                    kept.append(change)
        self.disk.power_fails(kept)
        return torn

    def holds_on_disk(self, entry: Entry) -> bool:
        """Return whether the entry's very bytes are on the disk, whatever else is in memory."""
        tree = self.disk.durable
        data = tree.names[ROOT].get(DATA.name)
        log = tree.names[data].get(LOG_DIRECTORY) if data is not None else None
        if log is None:
            return False
        names = tree.names[log]
        return any(
            tree.contents[names[name]].find(entry.record) >= 0
            for name in sorted(names, reverse=True)
            if name.endswith(".seg") and int(name[:-4]) <= entry.index
        )

    # -- starting ----------------------------------------------------------------------------------------------------

    def open(self, *, stores: bool) -> DataDir:
        """Return the opened data directory. Raises: RaftError, ProcessEnds."""
        return DataDir(
            DATA,
            CLUSTER,
            self.node_id,
            files=self.files,
            segment_bytes=SEGMENT_BYTES,
            prepare_ahead=False,
            open_stores=stores,
        )

    def be_created(self) -> None:
        """Make the data directory of a new life: blank, with an incarnation of its own. Nothing goes wrong meanwhile."""
        self._die_at_call = self._disk_error = None
        data_dir = self.open(stores=False)
        self.me = PeerId(self.node_id, data_dir.identity.incarnation)
        data_dir.close()

    def be_born(self, membership: Membership) -> None:
        """Leave the directory as the birth of a cluster does (`runtime/bootstrap`)."""
        data_dir = self.open(stores=False)
        identity = data_dir.identity
        data_dir.save_identity(
            msgspec.structs.replace(identity, cluster_id="c", birth=BirthState.STARTED, membership=membership)
        )
        data_dir.close()

    def start(self) -> Restored | None:
        """Start a process on this disk; None: it cannot be started (`broken` says why), or died on the way."""
        self.life += 1
        if self.needs_reboot:
            self.lose_power(self.dice)
            self.needs_reboot = False
        self._disk_error = None
        self.open_process()
        try:
            return self._start()
        except ProcessEnds:
            self.simulation.crash(self, power=self._die_of_power, how="crash_at_disk_call")
        except (RaftError, OSError) as error:
            self.broken = f"{type(error).__name__}: {error}"
            self.disk.kill()
        return None

    def _start(self) -> Restored:
        self.data_dir = data_dir = self.open(stores=False)
        self.me = PeerId(self.node_id, data_dir.identity.incarnation)
        data_dir.open_stores()
        data_dir.ensure_first_entry()
        self.machine = CheckedMachine(self)
        restored = restore_node(data_dir.log, data_dir.snapshots, self.machine)
        self._look_at_log(data_dir, restored)
        simulation = self.simulation
        self.broken = ""
        self.tickets = Tickets()
        self.threads = _Threads(self)
        self._last_post = simulation.now
        cache = EntryCache(restored.last.index, CACHE_BYTES)
        config = simulation.config
        self._log_worker = _LogWorker(self)
        self._hands = Dispatcher(
            config=config,
            log=data_dir.log,
            snapshots=data_dir.snapshots,
            transport=self.transport,
            tickets=self.tickets,
            cache=cache,
            log_worker=self._log_worker,
            apply_worker=ApplyWorker(
                state_machine=self.machine,
                snapshots=data_dir.snapshots,
                log=data_dir.log,
                cache=cache,
                threads=self.threads,
                post=self.post,
                applied=restored.applied,
                membership=membership_at(restored),
            ),
            threads=self.threads,
            post=self.post,
        )
        self.engine = Engine(config, self.me, restored, self.dice.random, self.clock())
        return restored

    def begin(self, restored: Restored) -> None:
        """Have the engine that was started do its first commands."""
        assert self.engine is not None
        commands = self.engine.start(self.clock())
        self.simulation.told(self, Booted(restored, self.life), commands)
        self._carry_out(commands)
        self._tick()

    def _look_at_log(self, data_dir: DataDir, restored: Restored) -> None:
        """Compare what was found with what was promised to be there."""
        entries: list[Entry] = []
        while len(entries) < restored.last.index - restored.purged.index:
            after = LogIndex(restored.purged.index + len(entries))
            entries += data_dir.log.read(after, restored.last.index, 1 << 20)
        data_dir.log.verify()
        found = DiskImage(restored.hard_state, restored.purged, entries)
        self.simulation.checks.recovered(self, found)
        self.view, self.durable = found, found.copy()
        self.unreported.clear()
        self.is_rotten = False  # every byte of the log was verified

    def forget_promises(self, hard_state: HardState) -> None:
        """Its data is gone, by an operator's will or not: nothing but `hard_state` must be found at the next start."""
        self.durable = DiskImage(hard_state)
        self.view = self.durable.copy()
        self.unreported.clear()
        self.is_rotten = False
        self.broken = ""

    # -- ending ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """The process is gone; its disk stays."""
        self.life += 1
        self.engine = None
        self._hands = None
        self.data_dir = None
        self._die_at_call = None
        self.disk.kill()
        tickets, self.tickets = self.tickets, Tickets()
        tickets.answer_all("the process is gone")

    def fail(self, reason: str) -> None:
        """The engine ends by itself, as `EngineLoop.fail` has it end."""
        self.simulation.failed(self, reason)

    # -- events ------------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Give `event` to a running engine, later if it is paused."""
        if self.engine is None:
            return
        if self.simulation.now < self.paused_until:
            self.later(self.paused_until - self.simulation.now, lambda: self.feed(event))
            return
        engine, hands = self.engine, self._hands
        assert hands is not None
        hands.notice(event)
        commands = engine.handle(event, self.clock())
        if not commands and isinstance(event, Ticked):
            self.simulation.told(self, event, commands)
            return  # most of what happens is that nothing does
        invariants.check(engine.state)
        self.simulation.told(self, event, commands)
        if commands:
            self._carry_out(commands)
        if self.engine is engine:
            self.simulation.checks.node(self, engine)

    def post(self, event: Event) -> None:
        """Report what the hands did: in order, at once or a little later."""
        now = self.simulation.now
        self._last_post = max(self._last_post, now + self.dice.random() ** 3)
        if isinstance(event, SnapshotBuilt | SnapshotInstalled):
            self.simulation.checks.state_at(self, self.machine)
        self.later(self._last_post - now, lambda: self.feed(event))

    def _carry_out(self, commands: list[Command]) -> None:
        hands = self._hands
        if hands is None:
            return
        for command in commands:
            if isinstance(command, LogCommand):
                self.simulation.checks.log_changes(self, command)
                self.view.do(command)
                self.unreported.append(command)

        def carry_out() -> None:
            hands.dispatch(commands)
            hands.flush()

        self.guarded(carry_out)

    def _tick(self) -> None:
        """Tell the engine that time goes on, again and again while this process lives."""
        simulation, life, dice = self.simulation, self.life, self.dice
        interval_ms = simulation.config.tick_interval_ms

        def tick() -> None:
            if self.life != life:
                return
            if simulation.now < self.paused_until:
                simulation.at(self.paused_until - simulation.now, tick)
                return
            self.guarded(feed)

        def feed() -> None:
            self.feed(_TICKED)
            if self.life == life:
                simulation.at(interval_ms / self.rate * (0.9 + 0.2 * dice.random()), tick)

        feed()

    def disk_delay(self) -> float:
        """Return how long the disk takes this time."""
        limit = self.simulation.faults.fsync_ms_max * self.slowness
        if self.simulation.now < self.slow_until:
            limit = 10 * limit + 50.0
        return self.dice.random() * limit


class _LogWorker(LogWorker):
    """The log's writer without its thread: begins a batch when there is something to do, syncs it later, reports later."""

    def __init__(self, node: SimNode) -> None:
        assert node.data_dir is not None
        self._log = node.data_dir.log
        self._node = node
        self._waiting: list[LogCommand] = []
        self._busy = False

    def put(self, commands: Sequence[LogCommand]) -> None:
        self._waiting.extend(commands)
        if not self._busy:
            self._busy = True
            self._node.later(self._node.dice.random() * 0.2, self._begin)

    def _begin(self) -> None:
        batch, self._waiting = self._waiting, []
        self._perform(batch)
        self._node.later(self._node.disk_delay(), lambda: self._finish(batch[-1].io_id))

    def _finish(self, io_id: IoId) -> None:
        node = self._node
        self._log.sync()
        while node.unreported and node.unreported[0].io_id <= io_id:
            node.durable.do(node.unreported.popleft())
        node.simulation.told(node, MadeDurable(io_id), [])
        node.later(node.dice.random() * 0.2, lambda: node.feed(LogIoFlushed(io_id)))
        self._busy = bool(self._waiting)
        if self._busy:
            node.later(0.0, self._begin)


class _Threads(IoThreads):
    """`IoThreads` in virtual time: work is done at one moment, its result taken up at a later one."""

    def __init__(self, node: SimNode) -> None:
        self._node = node

    def run(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        node = self._node
        life = node.life

        def begin() -> None:
            result = work()
            if node.life == life:
                node.later(node.dice.random() * READ_MS_MAX, lambda: then(result))

        node.later(node.dice.random() * READ_MS_MAX + node.disk_delay() / 2, begin)

    def soon(self, then: Callable[[], None]) -> None:
        self._node.later(0.0, then)


class _Transport(Transport):
    """`Transport` over the simulated network."""

    def __init__(self, node: SimNode) -> None:
        self._node = node

    def set_peers(self, peers: Mapping[PeerId, NodeAddress]) -> None:
        del peers
        self._node.simulation.at(1.0, self._node.simulation.reconnect_all)

    def send(self, target: PeerId, message: Message) -> None:
        self._node.simulation.send(self._node, target, message)

    async def start(self, events: TransportEvents) -> None:
        """Nobody listens: the network knows where everybody is."""

    async def close(self) -> None:
        """See `start`."""

    def flush(self) -> None:
        """Nothing waits here."""

    def send_append(self, target: PeerId, request: AppendRequest, entries: Sequence[Entry]) -> None:
        self.send(target, msgspec.structs.replace(request, entries=tuple(entries)))


class CheckedMachine:
    """A state machine; everything applied is compared with what others applied at the same index."""

    def __init__(self, node: SimNode) -> None:
        workload = node.simulation.workload
        self.inner: StateMachine = MemoryStore() if workload is None else workload.new_machine()
        self.last_applied = self.inner.applied()
        self._node = node

    def applied(self) -> LogId:
        return self.inner.applied()

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        self._node.simulation.checks.before_apply(self._node, self.last_applied, entries)
        results = self.inner.apply(entries)
        self.last_applied = entries[-1].log_id
        self._node.simulation.checks.applied(self._node, entries, results)
        return results

    def snapshot(self) -> Iterator[bytes]:
        return self.inner.snapshot()

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        self.inner.restore(chunks, last_log_id)
        self.last_applied = last_log_id

    def content(self) -> object:
        """Return the whole state: of the bundled store every key with value and revision."""
        workload, inner = self._node.simulation.workload, self.inner
        if workload is not None:
            return workload.content(inner)
        assert isinstance(inner, MemoryStore)
        return tuple((key, *item) for key, item in sorted(inner._items.items()) if item is not None)  # noqa: SLF001 (all of them)


def _sectors(write: Write) -> Iterator[Write]:
    """Yield the pieces of a write that a disk writes whole or not at all."""
    offset, data = write.offset, write.data
    while data:
        size = SECTOR_BYTES - offset % SECTOR_BYTES
        yield Write(write.node, offset, data[:size])
        offset, data = offset + size, data[size:]
