"""The shipped suite against our own stores, the ones on disk with tiny segments so that every case crosses several; and
against broken ones, which it must find."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.counter import Counter
from raft_engine.errors import StorageError
from raft_engine.kv.commands import encode_put
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.storage.interface import LogStorage, SnapshotStorage
from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.storage.snapshot_files import SnapshotFiles
from raft_engine.testing.storage_suite import (
    LOG_CASES,
    OPENRAFT_CASES,
    SNAPSHOT_CASES,
    START_CASES,
    STATE_MACHINE_CASES,
    MachineMaker,
    Stores,
    check_a_snapshot_goes_from_one_store_to_another,
    run_suite,
)
from raft_engine.types.hard_state import HardState
from raft_engine.types.log_id import LogId


def in_memory(store: LogStorage | SnapshotStorage) -> Callable[[], LogStorage | SnapshotStorage]:
    return lambda: store


def log_opener(kind: str, directory: Path):
    if kind == "memory":
        return in_memory(MemoryLog())
    size = {"one segment": 512 * 1024, "small segments": 1024}[kind]
    return lambda: SegmentLog(directory / "log-store", segment_bytes=size, prepare_ahead=False)


def snapshot_opener(kind: str, directory: Path):
    if kind == "memory":
        return in_memory(MemorySnapshots())
    directory.mkdir(exist_ok=True)
    return lambda: SnapshotFiles(directory)


def put(index: int) -> bytes:
    return encode_put(b"key%d" % (index % 37), b"value%d" % index, None, b"once%d" % index if index % 5 == 0 else None)


@pytest.fixture
def machines(tmp_path):
    """Make makers of both bundled stores; whatever they made is closed at the end."""
    made: list[DiskStore] = []
    numbers = itertools.count()

    def opened(directory: Path) -> DiskStore:
        made.append(DiskStore(directory, write_after_s=0.001))
        return made[-1]

    def reopened(machine: DiskStore) -> DiskStore:
        machine.close()
        return opened(machine._directory)

    def maker(kind: str) -> MachineMaker:
        if kind == "memory":
            return MachineMaker(MemoryStore, put)
        return MachineMaker(lambda: opened(tmp_path / f"sm{next(numbers)}"), put, reopened)

    yield maker
    for machine in made:
        machine.close()


@pytest.mark.parametrize("kind", ["memory", "one segment", "small segments"])
@pytest.mark.parametrize("case", LOG_CASES, ids=lambda case: case.__name__)
def test_a_log_keeps_the_contract(case, kind, tmp_path):
    case(log_opener(kind, tmp_path))


@pytest.mark.parametrize("kind", ["memory", "files"])
@pytest.mark.parametrize("case", SNAPSHOT_CASES, ids=lambda case: case.__name__)
def test_a_snapshot_store_keeps_the_contract(case, kind, tmp_path):
    case(snapshot_opener(kind, tmp_path))


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("case", STATE_MACHINE_CASES, ids=lambda case: case.__name__)
def test_a_state_machine_keeps_the_contract(case, kind, machines):
    case(machines(kind))


@pytest.mark.parametrize(("stores", "machine"), [("memory", "memory"), ("files", "memory"), ("files", "disk")])
@pytest.mark.parametrize("case", START_CASES, ids=lambda case: case.__name__)
def test_a_node_starts_with_what_its_stores_hold(case, stores, machine, machines, tmp_path):
    log = log_opener("memory" if stores == "memory" else "one segment", tmp_path)
    case(Stores(log, snapshot_opener(stores, tmp_path / "snapshots"), machines(machine)))


@pytest.mark.parametrize("target", ["memory", "files"])
@pytest.mark.parametrize("source", ["memory", "files"])
def test_a_snapshot_goes_from_any_store_to_any_other(source, target, tmp_path):
    check_a_snapshot_goes_from_one_store_to_another(
        snapshot_opener(source, tmp_path / "source"), snapshot_opener(target, tmp_path / "target")
    )


def test_the_suite_runs_without_pytest_and_counts_its_cases(machines):
    cases = [LOG_CASES, SNAPSHOT_CASES, STATE_MACHINE_CASES, START_CASES]
    assert sum(map(len, cases)) == run_suite(
        lambda: in_memory(MemoryLog()), lambda: in_memory(MemorySnapshots()), machines("memory")
    )


def test_the_five_lines_of_the_documentation_run(tmp_path):
    text = (Path(__file__).parents[2] / "docs/embedding.md").read_text("utf-8")
    [example] = [block for block in text.split("```python\n")[1:] if "run_suite" in block]
    exec(example.partition("```")[0], {})


def test_every_case_of_openraft_is_answered_for():
    assert len(OPENRAFT_CASES) == 45
    named = {
        *LOG_CASES,
        *SNAPSHOT_CASES,
        *STATE_MACHINE_CASES,
        *START_CASES,
        check_a_snapshot_goes_from_one_store_to_another,
    }
    assert all(isinstance(answer, str) or answer in named for answer in OPENRAFT_CASES.values())
    assert sum(isinstance(answer, str) for answer in OPENRAFT_CASES.values()) == 3


# --- stores that are wrong in one way ----------------------------------------------------------------------------------


class ForgetsVotes(MemoryLog):
    def save_hard_state(self, hard_state: HardState) -> None:
        """Nothing is saved."""


class ReadsTooMuch(MemoryLog):
    def read(self, after, upto, bytes_max):
        return super().read(after, upto, 1 << 40)


class ReadsNothing(MemoryLog):
    def read(self, after, upto, bytes_max):
        entries = super().read(after, upto, bytes_max)
        return entries if sum(len(entry.record) for entry in entries) <= bytes_max else []


class ReadsWhatIsPurged(MemoryLog):
    def read(self, after, upto, bytes_max):
        try:
            return super().read(after, upto, bytes_max)
        except StorageError:
            return []


class TruncatesOneLess(MemoryLog):
    def truncate(self, after):
        super().truncate(after + 1)


class PurgesOneLess(MemoryLog):
    def purge(self, upto: LogId):
        super().purge(LogId(upto.term, upto.node_id, max(0, upto.index - 1)))


class ForgetsWhatItPurged(MemoryLog):
    def state(self):
        state = super().state()
        return state if state.last != state.purged else type(state)()


class ResetsNothing(MemoryLog):
    def reset(self, upto):
        super().purge(upto)


class LosesWhatIsNotClosed:
    """Keeps what was written in itself and hands it over when it is closed."""

    def __init__(self) -> None:
        self.kept = MemoryLog()

    def open(self):
        shared = self

        class Opened(MemoryLog):
            def __init__(self) -> None:
                super().__init__()
                self.__dict__.update({key: value for key, value in vars(shared.kept).items() if key != "_lock"})
                self._entries = list(self._entries)

            def close(self) -> None:
                shared.kept = self

        return Opened()


class NeverSavesAVote(MemoryLog):
    def save_hard_state(self, state):
        pass


class CannotSaveAVote(MemoryLog):
    def save_hard_state(self, state):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "broken",
    [
        ForgetsVotes,
        ReadsTooMuch,
        ReadsNothing,
        ReadsWhatIsPurged,
        TruncatesOneLess,
        PurgesOneLess,
        ForgetsWhatItPurged,
        ResetsNothing,
    ],
)
def test_the_suite_finds_a_broken_log(broken):
    with pytest.raises(AssertionError):
        run_suite(lambda: in_memory(broken()))


def test_the_suite_says_which_case_fails_and_what_does_not_hold():
    with pytest.raises(AssertionError) as failed:
        run_suite(lambda: in_memory(NeverSavesAVote()))
    told = str(failed.value)
    assert told.startswith("a saved vote is read back: assert log.hard_state() == saved (storage_suite.py:")
    assert "saved = HardState(" in told


def test_the_suite_says_in_which_case_a_store_raises():
    with pytest.raises(ZeroDivisionError) as failed:
        run_suite(lambda: in_memory(CannotSaveAVote()))
    assert failed.value.__notes__ == ["in the case: a saved vote is read back"]


def test_the_suite_finds_a_log_that_keeps_only_what_was_closed():
    with pytest.raises(AssertionError):
        run_suite(lambda: LosesWhatIsNotClosed().open)


class AdoptsAnything(MemorySnapshots):
    def receive(self, meta, offset, data, *, done):
        there, complete = super().receive(meta, offset, data, done=done)
        return there, complete or done


class KeepsTheOldest(MemorySnapshots):
    def _publish(self, meta, data):
        if self._newest is None:
            super()._publish(meta, data)


class SwallowsFailures(MemorySnapshots):
    def build(self, last_log_id, membership, chunks):
        whole = []
        with contextlib.suppress(Exception):
            whole.extend(iter(chunks))
        return super().build(last_log_id, membership, whole)


@pytest.mark.parametrize("broken", [AdoptsAnything, KeepsTheOldest, SwallowsFailures])
def test_the_suite_finds_a_broken_snapshot_store(broken):
    with pytest.raises(AssertionError):
        run_suite(make_snapshots=lambda: in_memory(broken()))


class LazySnapshots(MemoryStore):
    """The snapshot is taken when it is read, not when it is asked for."""

    def snapshot(self):
        yield from super().snapshot()


class RestoresInPlace(MemoryStore):
    """Empties itself before it has read the snapshot."""

    def restore(self, chunks, last_log_id):
        self._items.clear()
        self._keys = type(self._keys)()
        super().restore(chunks, last_log_id)


class NoResultForBlanks(MemoryStore):
    def apply(self, entries):
        return [result for result in super().apply(entries) if result is not None]


class SaysMoreThanItHas(MemoryStore):
    """Its applied index survives, its data does not."""

    def applied(self):
        return self.last_applied


@pytest.mark.parametrize("broken", [LazySnapshots, RestoresInPlace, NoResultForBlanks])
def test_the_suite_finds_a_broken_state_machine(broken):
    with pytest.raises(AssertionError):
        run_suite(machine=MachineMaker(broken, put))


def test_the_suite_finds_an_applied_index_that_is_ahead_of_the_data():
    def reopened(machine: SaysMoreThanItHas) -> SaysMoreThanItHas:
        after = SaysMoreThanItHas()
        after.last_applied = machine.last_applied
        return after

    with pytest.raises(AssertionError):
        run_suite(machine=MachineMaker(SaysMoreThanItHas, put, reopened))


def test_the_suite_finds_data_that_is_ahead_of_the_applied_index():
    class SaysLessThanItHas(MemoryStore):
        behind = 0

        def applied(self):
            last = self.last_applied
            return LogId(last.term, last.node_id, last.index - self.behind)

    def reopened(machine: SaysLessThanItHas) -> SaysLessThanItHas:
        machine.behind = 1
        return machine

    with pytest.raises(AssertionError):
        run_suite(machine=MachineMaker(SaysLessThanItHas, put, reopened))


def test_what_a_machine_returns_for_an_entry_without_data_is_its_own_business():
    assert run_suite(machine=MachineMaker(make=Counter, data=lambda index: b"%d" % index)) >= 18
