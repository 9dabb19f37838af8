"""The shipped suite against our own stores, the ones on disk with tiny segments so that every case crosses several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raft_engine.storage.interface import LogStorage, SnapshotStorage
from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.storage.snapshot_files import SnapshotFiles
from raft_engine.testing.storage_suite import (
    LOG_CASES,
    SNAPSHOT_CASES,
    check_a_snapshot_goes_from_one_store_to_another,
    run_suite,
)


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


@pytest.mark.parametrize("kind", ["memory", "one segment", "small segments"])
@pytest.mark.parametrize("case", LOG_CASES, ids=lambda case: case.__name__)
def test_a_log_keeps_the_contract(case, kind, tmp_path):
    case(log_opener(kind, tmp_path))


@pytest.mark.parametrize("kind", ["memory", "files"])
@pytest.mark.parametrize("case", SNAPSHOT_CASES, ids=lambda case: case.__name__)
def test_a_snapshot_store_keeps_the_contract(case, kind, tmp_path):
    case(snapshot_opener(kind, tmp_path))


@pytest.mark.parametrize("target", ["memory", "files"])
@pytest.mark.parametrize("source", ["memory", "files"])
def test_a_snapshot_goes_from_any_store_to_any_other(source, target, tmp_path):
    check_a_snapshot_goes_from_one_store_to_another(
        snapshot_opener(source, tmp_path / "source"), snapshot_opener(target, tmp_path / "target")
    )


def test_the_suite_runs_without_pytest_and_counts_its_cases():
    assert len(LOG_CASES) + len(SNAPSHOT_CASES) == run_suite(
        lambda: in_memory(MemoryLog()), lambda: in_memory(MemorySnapshots())
    )


def test_the_suite_finds_a_log_that_forgets_its_votes():
    class Forgetful(MemoryLog):
        def save_hard_state(self, hard_state):
            pass

    with pytest.raises(AssertionError):
        run_suite(lambda: in_memory(Forgetful()))
