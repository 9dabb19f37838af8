"""`raft-engine inspect --export`: everything in the directory, as lines that somebody else can check."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raft_engine.__main__ import main
from raft_engine.kv.disk_store import DiskStore
from raft_engine.testing.storage_suite import log_id, stored
from tests.commands.directories import ENTRIES, damage, first_segment
from tests.storage.test_data_dir import open_dir, remove

FULL = Path("/dev/full")


def exported(directory, target, code: int = 0) -> list[dict]:
    assert main(["inspect", str(directory), "--export", str(target)]) == code
    return [json.loads(line) for line in target.read_bytes().splitlines()]


def of(lines: list[dict], kind: str) -> list[dict]:
    return [line for line in lines if line["line"] == kind]


def test_snapshot_and_entries_are_all_there(directory, tmp_path):
    lines = exported(directory, tmp_path / "out")
    [head], [snapshot], [end] = of(lines, "head"), of(lines, "snapshot"), of(lines, "end")
    assert (head["identity"]["node_id"], head["hard_state"]["vote"]["term"]) == (1, 4)
    assert (head["purged"]["index"], head["last"]["index"]) == (3, 9)
    assert snapshot["last_log_id"] == {"term": 1, "node_id": 1, "index": 5}
    assert [(base64.b64decode(item["key_base64"]), item["revision"]) for item in of(lines, "item")] == [
        (b"key3", 3),
        (b"key4", 4),
        (b"key5", 5),
    ]
    assert [entry["index"] for entry in of(lines, "entry")] == [4, 5, 6, 7, 8, 9]
    assert [base64.b64decode(entry["data_base64"]) for entry in of(lines, "entry")] == [entry.data for entry in ENTRIES[2:]]
    assert (end["complete"], end["missing"]) == (True, [])
    assert end["counts"] == {"item": 3, "idempotency_key": 0, "chunk": 0, "entry": 6}


def test_the_last_line_has_the_hash_of_all_before_it(directory, tmp_path):
    target = tmp_path / "out"
    end = exported(directory, target)[-1]
    before = target.read_bytes().rsplit(b"\n", 2)[0] + b"\n"
    assert end["sha256"] == hashlib.sha256(before).hexdigest()
    if shutil.which("sha256sum"):
        by_hand = subprocess.check_output(f"head -n -1 {target} | sha256sum", shell=True, text=True)
        assert by_hand.split()[0] == end["sha256"]


def test_it_says_what_was_written_and_where(directory, tmp_path, capsys):
    target = tmp_path / "out"
    end = exported(directory, target)[-1]
    told = capsys.readouterr().err
    assert f"exported 3 items of the snapshot and 6 entries to {target}" in told
    assert end["sha256"] in told


def test_what_a_command_must_not_repeat_is_exported_too(directory, tmp_path):
    open_it = open_dir(directory)
    store = DiskStore(open_it.state_machine_path)
    open_it.snapshots.build(log_id(1, 9), stored(1, 1, 1, 2, 3), store.snapshot())
    store.close()
    open_it.close()
    [known] = of(exported(directory, tmp_path / "out"), "idempotency_key")
    assert base64.b64decode(known["key_base64"]) == b"once"


def test_the_snapshot_of_another_state_machine_is_exported_as_it_is(directory, tmp_path):
    open_it = open_dir(directory)
    open_it.snapshots.build(log_id(1, 9), stored(1, 1, 1, 2, 3), [b"first", b"second"])
    open_it.close()
    lines = exported(directory, tmp_path / "out")
    assert [base64.b64decode(chunk["data_base64"]) for chunk in of(lines, "chunk")] == [b"first", b"second"]
    assert lines[-1]["complete"]


def test_without_a_snapshot_there_are_entries_alone(directory, tmp_path):
    remove(directory, "snapshots")
    lines = exported(directory, tmp_path / "out", code=14)
    assert (len(of(lines, "snapshot")), len(of(lines, "entry"))) == (0, 6)


def test_what_is_damaged_is_missing_and_said_to_be(directory, tmp_path, capsys):
    damage(first_segment(directory), 600)
    lines = exported(directory, tmp_path / "out", code=14)
    assert len(of(lines, "item")) == 3
    assert lines[-1]["complete"] is False
    assert "entry 6" in lines[-1]["missing"][0]
    assert "not exported from here on: entry 6" in capsys.readouterr().err


def test_a_damaged_snapshot_does_not_keep_the_entries_from_being_exported(directory, tmp_path):
    damage(next((directory / "snapshots").glob("*.snap")), 300)
    lines = exported(directory, tmp_path / "out", code=14)
    assert len(of(lines, "entry")) == 6
    assert "checksum" in lines[-1]["missing"][0]


def test_to_stdout_it_goes_alone(directory, capfdbinary):
    assert main(["inspect", str(directory), "--export", "-"]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [lines[0]["line"], lines[-1]["line"]] == ["head", "end"]


def test_the_file_is_new_private_and_elsewhere(directory, tmp_path, capsys):
    target = tmp_path / "out"
    exported(directory, target)
    assert target.stat().st_mode & 0o077 == 0
    assert main(["inspect", str(directory), "--export", str(target)]) == 5
    assert "there is a file of this name" in capsys.readouterr().err
    assert main(["inspect", str(directory), "--export", str(directory / "out")]) == 5
    assert not (directory / "out").exists()


def test_where_nothing_can_be_written_the_error_names_the_place(directory, tmp_path, capsys):
    assert main(["inspect", str(directory), "--export", str(tmp_path / "absent" / "out")]) == 4
    err = capsys.readouterr().err
    assert str(tmp_path / "absent" / "out") in err
    assert "ENOENT" in err


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
def test_a_full_disk_is_an_error_not_a_short_file(directory):
    command = [sys.executable, "-m", "raft_engine", "inspect", str(directory), "--export", "-"]
    with FULL.open("wb") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 4
    assert b"ENOSPC" in ran.stderr
