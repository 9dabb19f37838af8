"""Every crash that a script of calls on a store can meet, and what must be found after it.

A store that reaches the disk through `Files` is run once on a simulated disk that records each change and each sync. Every
moment between two of them is a crash point, and at each:

    power lost               of what was not synced any part may have reached the disk, writes torn at every sector
    killed                   the process ends, the kernel keeps what was written, and the power fails at any later moment
    call failed              one call fails, with EIO or ENOSPC, not done, half done or done; then the process or the power ends
    recovery cut             the start after a crash is itself cut short by a crash at any of its moments
    recovery failed          one call of the start after a crash fails
    file altered             a byte, or a sector, of a file that was closed in order is another one

What is found must be what the script's calls leave, from the last promise on: after a crash the state after some call since
then, or one in the middle of the call that was cut; never less than what had been promised; and a store that has shown
something shows the same after the next crash. What was altered may change nothing, or be refused: it is never read as truth.

Against a store of your own, for a `LogStorage` (see `log_scripts`; `snapshot_scripts` for a `SnapshotStorage`):

    from raft_engine.testing.crash_points import explore
    from raft_engine.testing.log_scripts import LOG_SCRIPTS, log_subject

    subject = log_subject(lambda directory, files: MyLog(directory, files))
    print(sum(explore(subject, script).total for script in LOG_SCRIPTS))

Source: ALICE and BOB (Pillai et al., OSDI 2014); CrashMonkey and ACE (Mohan et al., OSDI 2018).
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Generic, TypeVar

from raft_engine.errors import RaftError, StorageError
from raft_engine.storage.files import Files
from raft_engine.testing.failing_files import Extent, FailingFiles
from raft_engine.testing.sim_disk import SECTOR_BYTES, SimDisk, SimFiles, Step, Tree, Write, power_losses

DATA: Final = Path("/data")
"""Where a subject keeps its files; `/data` is there and empty when it is opened for the first time."""
_VIEWS_SHOWN: Final = 5
_ERRORS: Final = (errno.EIO, errno.ENOSPC)
S = TypeVar("S")
V = TypeVar("V")


@dataclass(frozen=True)
class Call(Generic[S, V]):
    """One step of a script.

    `do` makes the call and returns the store to go on with. `stages` tells from what a store held before what it may hold if
    the call is cut, in order; the last is what it holds when the call has returned. `is_promise`: when it has returned,
    nothing of what was done so far may be lost.
    """

    name: str
    do: Callable[[S], S]
    stages: Callable[[V], Sequence[V]]
    is_promise: bool = False


@dataclass(frozen=True)
class Script(Generic[S, V]):
    """Calls in a row, on a store opened on an empty directory or on what `prepare` leaves there."""

    name: str
    calls: Sequence[Call[S, V]]
    prepare: Callable[[Files], None] | None = None
    before: V | None = None
    """What a store holds on what `prepare` left; None: what it holds on an empty directory."""


@dataclass(frozen=True)
class Subject(Generic[S, V]):
    """A kind of store, and how to look at one.

    `open` starts it, as after a crash; what it shows from then on is promised. `look` returns all it holds, `agrees` says
    whether something found is the same as something expected, and `after_start` what another start makes of what it held.
    `is_checked`: the store must notice a byte that was altered in the file with this path.
    `go_on` uses it a little more, with a promise at the end, and returns what it then holds. `refuses_after_failure`: after a
    failed call it must take no more, so `go_on` must raise.
    """

    open: Callable[[Files], S]
    look: Callable[[S], V]
    close: Callable[[S], None]
    blank: V
    go_on: Callable[[S, V], V]
    agrees: Callable[[V, V], bool] = lambda found, expected: found == expected
    after_start: Callable[[V], V] = lambda held: held
    is_checked: Callable[[str], bool] = lambda _path: True
    refuses_after_failure: bool = True


@dataclass(frozen=True)
class Effort:
    """How much is looked at: one in so many; 1: all.

    `recoveries_every`: of the starts after a lost power, how many are cut; `cuts_every`: of the ways to cut one.
    """

    recoveries_every: int = 1
    cuts_every: int = 1
    failed_recoveries_every: int = 1
    go_on_every: int = 1
    bytes_every: int = 1


THOROUGH: Final = Effort()
QUICK: Final = Effort(recoveries_every=150, cuts_every=10, failed_recoveries_every=60, go_on_every=12, bytes_every=41)
"""What a test looks at: every crash point itself, and a part of what may go wrong in the recovery from it."""


class CrashPointFailure(AssertionError):
    """A crash point after which the store is not what it must be: the script, the point, what was expected and what was found."""


@dataclass
class Report:
    """How many crash points of each kind were looked at: starts of the store that were judged."""

    script: str
    points: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.points.total()


def explore(subject: Subject[S, V], script: Script[S, V], effort: Effort = THOROUGH) -> Report:
    """Look at every crash point of `script` and return how many there were.

    Raises: CrashPointFailure: the first one after which the store is wrong.
    """
    exploration = _Exploration(subject, script, effort)
    exploration.power_losses()
    exploration.kills()
    exploration.failed_calls()
    exploration.altered_files()
    return exploration.report


@dataclass
class _Recording(Generic[V]):
    """What a script did without a crash. `ends[i]`: how long the journal was when call `i` had returned; 0 is the opening."""

    start: SimDisk
    journal: list[Step] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    stages: list[Sequence[V]] = field(default_factory=list)
    promises: list[bool] = field(default_factory=list)
    closed: SimDisk = field(default_factory=SimDisk)

    def completed(self, done: int) -> int:
        """Return how many calls have returned when `done` steps of the journal are done."""
        return sum(end <= done for end in self.ends)

    def legal(self, completed: int, before: V) -> list[V]:
        """Return what may be found when so many calls have returned and the next one may have begun."""
        promised = max((number + 1 for number in range(completed) if self.promises[number]), default=0)
        views = [self.stages[promised - 1][-1] if promised else before]
        for stages in self.stages[promised : completed + 1]:
            views += [stage for stage in stages if stage not in views]
        return views


class _Exploration(Generic[S, V]):
    def __init__(self, subject: Subject[S, V], script: Script[S, V], effort: Effort) -> None:
        self._subject = subject
        self._script = script
        self._effort = effort
        self._before = subject.blank if script.before is None else script.before
        self._seen: set[tuple[object, int, int]] = set()
        self._counts: Counter[str] = Counter()
        self.report = Report(script.name)
        self._recording = self._record()

    # --- the kinds of crash points -----------------------------------------------------------------------------------------

    def power_losses(self) -> None:
        """The power fails at every moment."""
        disk = self._recording.start.copy()
        for done in range(len(self._recording.journal) + 1):
            if done:
                disk.repeat(self._recording.journal[done - 1])
            completed, legal = self._legal(done)
            for what, state in power_losses(disk):
                if self._is_new(state, completed):
                    where = f"{self._where(done)}: power lost, {what}"
                    self._judge(state, legal, "power lost", where)

    def kills(self) -> None:
        """The process ends at every moment at which the kernel has something that the disk has not."""
        disk = self._recording.start.copy()
        for done, step in enumerate(self._recording.journal, 1):
            disk.repeat(step)
            if not disk.pending:
                continue
            _completed, legal = self._legal(done)
            state = disk.copy()
            where = f"{self._where(done)}: killed"
            self._count("killed")
            self._cut_recoveries(state, legal, where, "killed")

    def failed_calls(self) -> None:
        """Each call fails once, in every extent; then the process ends, or the power fails."""
        for extent in Extent:
            for fatal in count(1):
                error = _ERRORS[fatal % 2]
                files = FailingFiles(self._recording.start.copy(), fatal, error, extent, _dice("first"))
                completed = self._run_to_failure(files)
                if files.failed is None:
                    break
                name, path = files.failed
                where = (
                    f"call {fatal} of the disk, {name} of {path}, failed with {errno.errorcode[error]} ({extent.value}) "
                    f"in {self._call_name(completed)}"
                )
                self._judge_failure(files.disk, completed, where)

    def altered_files(self) -> None:
        """Each byte and each sector of a store that was closed in order becomes another one."""
        closed = self._recording.closed
        expected = self._recording.stages[-1][-1]
        for path, content in closed.image():
            if content is None or not self._subject.is_checked(path):
                continue
            for offset in range(0, len(content), self._effort.bytes_every):
                altered = content[offset] ^ (0xFF if offset % 2 else 1 << offset // 2 % 8)
                self._alter(path, offset, bytes([altered]), expected)
            for offset in range(0, len(content), SECTOR_BYTES):
                for filling in (b"\0", b"\xa5"):
                    self._alter(path, offset, filling * len(content[offset : offset + SECTOR_BYTES]), expected)

    def _alter(self, path: str, offset: int, data: bytes, expected: V) -> None:
        state = self._recording.closed.copy()
        node = state.find(Path(path))
        assert node is not None
        for tree in (state.visible, state.durable):
            tree.apply(Write(node, offset, data))
        self._judge_altered(state, expected, f"{len(data)} bytes from {offset} of {path} altered")

    # --- running the script ------------------------------------------------------------------------------------------------

    def _record(self) -> _Recording[V]:
        """Run the script without a crash; the model must agree with the store after every call."""
        start = SimDisk()
        files = SimFiles(start, dice=_dice("before"))
        files.mkdir(DATA)
        if self._script.prepare is not None:
            self._script.prepare(files)
        start.kill()
        start.settle()
        recording: _Recording[V] = _Recording(start)
        disk = start.copy()
        disk.journal = recording.journal
        store = self._subject.open(SimFiles(disk, dice=_dice("first")))
        self._note(recording, store, [self._subject.after_start(self._before)], "the opening", is_promise=True)
        for call in self._script.calls:
            store = call.do(store)
            self._note(recording, store, call.stages(recording.stages[-1][-1]), call.name, is_promise=call.is_promise)
        self._subject.close(store)
        disk.kill()
        disk.settle()
        recording.closed = disk
        return recording

    def _note(self, recording: _Recording[V], store: S, stages: Sequence[V], name: str, *, is_promise: bool) -> None:
        recording.stages.append(stages)
        recording.promises.append(is_promise)
        recording.ends.append(len(recording.journal))
        found = self._subject.look(store)
        if not self._subject.agrees(found, stages[-1]):
            raise self._failure(f"without any crash, after {name}", [stages[-1]], found)

    def _run_to_failure(self, files: FailingFiles) -> int:
        """Run the script until a call of the store raises; return how many had returned."""
        subject = self._subject
        completed = 0
        store: S | None = None
        try:
            store = subject.open(files)
            completed += 1
            for call in self._script.calls:
                store = call.do(store)
                completed += 1
        except RaftError:
            if store is not None and subject.refuses_after_failure:
                self._check_it_refuses(store, completed, files)
        except Exception as error:
            raise self._failure(f"{files.failed} failed in {self._call_name(completed)}", None, error) from error
        return completed

    def _check_it_refuses(self, store: S, completed: int, files: FailingFiles) -> None:
        try:
            self._subject.go_on(store, self._recording.stages[completed - 1][-1])
        except RaftError:
            return
        raise self._failure(
            f"after {files.failed} failed in {self._call_name(completed)}", None, "the store takes and acknowledges more"
        )

    # --- judging -----------------------------------------------------------------------------------------------------------

    def _judge(self, state: SimDisk, legal: list[V], kind: str, where: str) -> None:
        """Start the store on what a crash left; now and then cut or fail that start, or go on with it."""
        before = state.copy()
        store = self._start(state, legal, where)
        self._count(kind)
        if self._is_due("go on", self._effort.go_on_every):
            self._judge_going_on(store, state, where)
        else:
            self._subject.close(store)
        if self._is_due("recovery cut", self._effort.recoveries_every):
            self._cut_recoveries(before.copy(), legal, where, "recovery cut")
        if self._is_due("recovery failed", self._effort.failed_recoveries_every):
            self._fail_recoveries(before, legal, where)

    def _judge_going_on(self, store: S, state: SimDisk, where: str) -> None:
        found = self._subject.look(store)
        try:
            expected = self._subject.go_on(store, found)
        except RaftError as error:
            raise self._failure(f"{where}; the recovered store cannot go on", None, error) from error
        state.power_fails()
        self._subject.close(self._start(state, [expected], f"{where}; then it went on, and all that was unsynced was lost"))
        self._count("went on")

    def _judge_failure(self, disk: SimDisk, completed: int, where: str) -> None:
        legal = self._recording.legal(completed, self._before)
        for what, state in power_losses(disk):
            if self._is_new(state, completed):
                self._judge(state, legal, "call failed", f"{where}, then power lost, {what}")
        disk.kill()
        key = _key(disk.visible), _key(disk.durable)
        if (key, completed, len(disk.pending)) in self._seen:
            return
        self._seen.add((key, completed, len(disk.pending)))
        found = self._shown(disk, legal, f"{where}, then killed")
        self._count("call failed")
        disk.power_fails()
        self._subject.close(self._start(disk, [found], f"{where}, then killed, started, and all that was unsynced was lost"))

    def _cut_recoveries(self, state: SimDisk, legal: list[V], where: str, kind: str) -> None:
        """Cut the start at each of its moments; once it has shown something, a later start must show the same."""
        replica = state.copy()
        state.kill()
        journal: list[Step] = []
        state.journal = journal
        store = self._start(state, legal, where)
        found, shown_at = self._subject.look(store), len(journal)
        self._subject.close(store)
        for done in range(shown_at + 1):
            if done:
                replica.repeat(journal[done - 1])
            elif shown_at:
                continue  # nothing was done yet: this moment was looked at already
            expected = [found] if done == shown_at else legal
            for number, (what, again) in enumerate(power_losses(replica)):
                is_telling = done == shown_at and number < 2  # nothing lost, all lost
                if is_telling or self._is_due(kind, self._effort.cuts_every):
                    self._subject.close(self._start(again, expected, f"{where}; recovery cut after step {done}, {what}"))
                    self._count(kind)

    def _fail_recoveries(self, state: SimDisk, legal: list[V], where: str) -> None:
        for fatal in count(1):
            files = FailingFiles(state.copy(), fatal, _ERRORS[fatal % 2], Extent.NOT_DONE, _dice("again"))
            try:
                self._subject.close(self._subject.open(files))
            except RaftError:
                pass
            except Exception as error:
                raise self._failure(f"{where}; {files.failed} failed in the recovery", None, error) from error
            if files.failed is None:
                return
            files.disk.kill()
            again = f"{where}; {files.failed} failed in the recovery"
            found = self._shown(files.disk, legal, again)
            files.disk.power_fails()
            self._subject.close(self._start(files.disk, [found], f"{again}; started again, then power lost"))
            self._count("recovery failed")

    def _judge_altered(self, state: SimDisk, expected: V, where: str) -> None:
        self._count("file altered")
        try:
            store = self._subject.open(SimFiles(state, dice=_dice("again")))
        except StorageError:
            return
        except Exception as error:
            raise self._failure(where, None, error) from error
        try:
            found = self._subject.look(store)
        except StorageError:
            return
        except Exception as error:
            raise self._failure(where, None, error) from error
        finally:
            self._subject.close(store)
        if not self._subject.agrees(found, self._subject.after_start(expected)):
            raise self._failure(where, [expected], found)

    def _shown(self, state: SimDisk, legal: list[V], where: str) -> V:
        store = self._start(state, legal, where)
        found = self._subject.look(store)
        self._subject.close(store)
        return found

    def _start(self, state: SimDisk, legal: list[V], where: str) -> S:
        """Start the store; what it shows must be one of `legal`."""
        try:
            store = self._subject.open(SimFiles(state, dice=_dice("again")))
            found = self._subject.look(store)
        except Exception as error:
            raise self._failure(where, legal, error) from error
        expected = [self._subject.after_start(view) for view in legal]
        if not any(self._subject.agrees(found, view) for view in expected):
            raise self._failure(where, expected, found)
        return store

    # --- in parts ----------------------------------------------------------------------------------------------------------

    def _legal(self, done: int) -> tuple[int, list[V]]:
        completed = self._recording.completed(done)
        return completed, self._recording.legal(completed, self._before)

    def _is_new(self, state: SimDisk, completed: int) -> bool:
        key = _key(state.visible), completed, -1
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _is_due(self, kind: str, every: int) -> bool:
        """Tell every so many times; where it begins differs from script to script, so that all kinds of moments are met."""
        self._counts[kind] += 1
        return (self._counts[kind] + len(self._script.name)) % every == 0

    def _count(self, kind: str) -> None:
        self.report.points[kind] += 1

    def _where(self, done: int) -> str:
        return f"step {done} of {len(self._recording.journal)}, in {self._call_name(self._recording.completed(done))}"

    def _call_name(self, completed: int) -> str:
        if completed == 0:
            return "the opening"
        if completed > len(self._script.calls):
            return "nothing more"
        return f"call {completed} ({self._script.calls[completed - 1].name})"

    def _failure(self, where: str, legal: list[V] | None, found: object) -> CrashPointFailure:
        lines = [f"{self._script.name}: {where}", f"  found    {found!r}"]
        if isinstance(found, BaseException):
            lines[1] = f"  found    {type(found).__name__}: {found}"
        views = [f"  legal is {view!r}" for view in legal or ()]
        if len(views) > _VIEWS_SHOWN:
            views[2:-2] = [f"           … {len(views) - 4} more …"]
        lines += views
        return CrashPointFailure("\n".join(lines))


def _dice(life: str) -> random.Random:
    return random.Random(life)  # noqa: S311 (an exploration must be repeatable)


def _key(tree: Tree) -> int:
    return hash(tuple(tree.files()))
