"""Looking into a data directory without touching it."""

from __future__ import annotations

import json
from pathlib import Path

from raft_engine.storage.inspection import describe
from raft_engine.testing.storage_suite import blanks, log_id, membership_entry, write
from raft_engine.types.ids import LogIndex
from tests.storage.test_data_dir import BARRIER, open_dir, remove, used


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_a_sound_directory_is_described_and_has_no_problem(tmp_path):
    directory = used(tmp_path / "n1")
    write(directory.log, [membership_entry(4, 51, 1, 2)])
    directory.close()
    report = describe(tmp_path / "n1")
    assert report["problems"] == []
    assert report["notes"] == []
    assert report["identity"]["node_id"] == 1
    assert report["hard_state"] == {"vote": {"term": 4, "node_id": 2, "committed": True}, "recovery": None}
    log = report["log"]
    assert log["purged"] == {"term": 1, "node_id": 1, "index": 10}
    assert log["last"] == {"term": 4, "node_id": 1, "index": 51}
    assert log["first_index"] == 11
    assert log["runs"] == [
        {"first_index": 11, "term": 1, "node_id": 1},
        {"first_index": 51, "term": 4, "node_id": 1},
    ]
    assert [item["log_id"]["index"] for item in log["memberships"]] == [51]
    assert sum(segment["records"] for segment in log["segments"]) == 51
    assert [snapshot["last_log_id"]["index"] for snapshot in report["snapshots"]] == [30]
    json.dumps(report)


def test_looking_changes_nothing_and_needs_no_lock(tmp_path):
    directory = used(tmp_path / "n1")
    before = contents(tmp_path / "n1")
    assert describe(tmp_path / "n1")["problems"] == []
    assert contents(tmp_path / "n1") == before
    directory.close()


def test_entries_are_listed_when_asked_for(tmp_path):
    used(tmp_path / "n1").close()
    report = describe(tmp_path / "n1", (LogIndex(48), LogIndex(50)))
    assert [item["index"] for item in report["log"]["entries"]] == [48, 49, 50]
    assert report["log"]["entries"][0] == {"index": 48, "term": 1, "node_id": 1, "kind": "blank", "data_bytes": 0}
    assert "entries" not in describe(tmp_path / "n1")["log"]


def test_a_wiped_directory_says_until_when_it_recovers_and_where_its_data_is(tmp_path):
    directory = used(tmp_path / "n1")
    retired = directory.wipe(BARRIER, "rejoin of node 1")
    directory.close()
    report = describe(tmp_path / "n1")
    assert report["hard_state"]["recovery"] == {
        "until": {"term": 5, "node_id": 1, "index": 60},
        "reason": "rejoin of node 1",
    }
    assert report["retired"] == [retired]
    assert report["log"]["last"] is None
    assert report["problems"] == []


def test_every_damage_is_listed_with_its_place_and_the_rest_is_still_described(tmp_path):
    used(tmp_path / "n1").close()
    segment = tmp_path / "n1" / "log" / "00000000000000000001.seg"
    snapshot = next((tmp_path / "n1" / "snapshots").glob("*.snap"))
    for path, offset in ((segment, 700), (snapshot, snapshot.stat().st_size - 25)):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff\xff")
    (tmp_path / "n1" / "identity.json").write_text("{")
    report = describe(tmp_path / "n1")
    assert report["identity"] is None
    assert report["hard_state"]["vote"]["term"] == 4
    assert [Path(problem["path"]).name for problem in report["problems"]] == ["identity.json", segment.name, snapshot.name]
    assert all(problem["message"] for problem in report["problems"])
    assert next(item for item in report["problems"] if item["path"] == str(segment))["offset"] > 0


def test_missing_parts_are_problems_not_tracebacks(tmp_path):
    used(tmp_path / "n1").close()
    for part in ("hard_state", "log", "identity.json"):
        remove(tmp_path / "n1", part)
    report = describe(tmp_path / "n1")
    assert len(report["problems"]) == 3
    assert (report["identity"], report["hard_state"], report["log"]) == (None, None, None)


def test_a_directory_that_is_not_one_is_described_as_such(tmp_path):
    report = describe(tmp_path / "nothing")
    assert len(report["problems"]) >= 3
    json.dumps(report)


def test_a_write_cut_short_is_a_note_and_a_bad_copy_too(tmp_path):
    directory = open_dir(tmp_path / "n1")
    write(directory.log, blanks(1, 3))
    directory.log.append(blanks(4, 4))
    directory.close()
    segment = tmp_path / "n1" / "log" / "00000000000000000001.seg"
    content = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(content[:-5].ljust(8192, b"\0"))
    with (tmp_path / "n1" / "hard_state").open("r+b") as file:
        file.write(b"\0" * 10)
    report = describe(tmp_path / "n1")
    assert report["problems"] == []
    assert len(report["notes"]) == 2
    assert report["log"]["last"]["index"] == log_id(1, 3).index
