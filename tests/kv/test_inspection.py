"""Looking at a state machine's directory from outside."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.inspection import describe_state_machine
from tests.kv.entries import Log


@pytest.fixture(autouse=True)
def kind():
    """Only the disk keeps something to look at."""


@pytest.fixture
def log(tmp_path):
    store = DiskStore(tmp_path / "sm", write_after_s=0.001)
    log = Log(store)
    log.put(b"key", b"valid", None, b"once")
    log.put(b"k2", b"v2")
    store.flush()
    yield log
    store.close()


def contents_of(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


EXPECTED = {"applied": {"term": 3, "node_id": 1, "index": 2}, "keys": 2, "data_bytes": 12, "idempotency_keys": 1}


def test_a_closed_store_is_described_without_a_trace(log, tmp_path):
    log.store.close()
    before = contents_of(tmp_path / "sm")
    report, problems = describe_state_machine(tmp_path / "sm")
    assert (EXPECTED, []) == ({key: report[key] for key in EXPECTED}, problems)
    assert before == contents_of(tmp_path / "sm")


DESCRIBE = """
import json, sys
from pathlib import Path
from raft_engine.kv.inspection import describe_state_machine
print(json.dumps(describe_state_machine(Path(sys.argv[1]))))
"""


def test_the_store_of_a_running_process_is_described_without_a_trace(log, tmp_path):
    before = contents_of(tmp_path / "sm")
    command = [sys.executable, "-c", DESCRIBE, str(tmp_path / "sm")]
    report, problems = json.loads(subprocess.check_output(command, cwd=Path(__file__).parents[2]))
    assert (EXPECTED, []) == ({key: report[key] for key in EXPECTED}, problems)
    assert before == contents_of(tmp_path / "sm")


@pytest.mark.parametrize("with_index", [True, False])
def test_what_a_crash_left_is_described_without_a_trace(log, tmp_path, with_index):
    left = tmp_path / "left"
    left.mkdir()
    for path in (tmp_path / "sm").iterdir():
        if with_index or not path.name.endswith("-shm"):
            (left / path.name).write_bytes(path.read_bytes())
    before = contents_of(left)
    report, problems = describe_state_machine(left)
    assert (EXPECTED, []) == ({key: report.get(key) for key in EXPECTED}, problems)
    assert before == contents_of(left)


def test_a_write_ahead_log_with_nothing_but_its_header_hides_nothing(log, tmp_path):
    """As a process leaves it that is killed between the header and the first record."""
    wal, index = [tmp_path / "sm" / f"state-1.db-{name}" for name in ("wal", "shm")]
    left = {wal: wal.read_bytes()[:32], index: index.read_bytes()}
    log.store.close()
    for path, content in left.items():
        path.write_bytes(content)
    before = contents_of(tmp_path / "sm")
    report, problems = describe_state_machine(tmp_path / "sm")
    assert (EXPECTED, []) == ({key: report.get(key) for key in EXPECTED}, problems)
    assert before == contents_of(tmp_path / "sm")


def test_an_altered_value_is_a_problem(log, tmp_path):
    log.store.close()
    path = tmp_path / "sm" / "state-1.db"
    path.write_bytes(path.read_bytes().replace(b"valid", b"vapid"))
    _, [problem] = describe_state_machine(tmp_path / "sm")
    assert "the item under key b'key' is altered" in problem["message"]
    assert str(path) == problem["path"]


def test_a_directory_with_nothing_in_it_holds_no_state(tmp_path):
    assert describe_state_machine(tmp_path) == (None, [])
    assert describe_state_machine(tmp_path / "sm") == (None, [])


def test_progress_is_told_to_its_end(log, tmp_path):
    told = []
    describe_state_machine(tmp_path / "sm", lambda done, total: told.append((done, total)))
    assert (2, 2) == told[-1]
