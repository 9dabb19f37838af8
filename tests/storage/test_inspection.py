"""Looking into a data directory without touching it."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import pytest

from raft_engine.errors import Damaged
from raft_engine.storage.damage_note import NOTE_NAME, note_damage
from raft_engine.storage.files import Files
from raft_engine.storage.inspection import bytes_to_verify, describe, is_data_directory
from raft_engine.storage.looking import LOOKS_MAX, fingerprint, holder_of
from raft_engine.testing.storage_suite import blanks, log_id, membership_entry, stored, write
from tests.storage.test_data_dir import BARRIER, open_dir, remove, used


def contents(path: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """Every byte, and every time and number that would tell of a write."""
    return {
        str(file.relative_to(path)): (
            file.read_bytes() if file.is_file() else b"",
            file.stat().st_mtime_ns,
            file.stat().st_ctime_ns,
            file.stat().st_ino,
        )
        for file in sorted([path, *path.rglob("*")])
    }


def overwrite(path: Path, offset: int, data: bytes = b"\xff\xff") -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.fixture
def directory(tmp_path):
    """A node's directory as it is when the node has stopped."""
    used(tmp_path / "n1").close()
    return tmp_path / "n1"


@pytest.fixture
def segment(directory):
    return directory / "log" / "00000000000000000001.seg"


def kinds(report) -> list[tuple[str, str]]:
    return [(problem["part"], problem["kind"]) for problem in report["problems"]]


def test_a_file_that_is_gone_is_named(directory):
    (directory / "log" / "marks").unlink()
    assert [str(directory / "log" / "marks")] == [problem["path"] for problem in describe(directory)["problems"]]


def test_a_sound_directory_is_described_and_has_no_problem(tmp_path):
    directory = used(tmp_path / "n1")
    write(directory.log, [membership_entry(4, 51, 1, 2)])
    directory.close()
    report = describe(tmp_path / "n1")
    assert report["problems"] == []
    assert report["next"] == []
    assert report["identity"]["node_id"] == 1
    assert report["hard_state"] == {"vote": {"term": 4, "node_id": 2, "committed": True}, "recovery": None}
    log = report["log"]
    assert log["purged"] == {"term": 1, "node_id": 1, "index": 10}
    assert log["last"] == {"term": 4, "node_id": 1, "index": 51}
    assert log["first_index"] == 11
    assert log["is_complete"]
    assert log["runs"] == [
        {"first_index": 11, "term": 1, "node_id": 1},
        {"first_index": 51, "term": 4, "node_id": 1},
    ]
    assert [item["log_id"]["index"] for item in log["memberships"]] == [51]
    assert sum(segment["records"] for segment in log["segments"]) == 51
    assert [(snapshot["last_log_id"]["index"], snapshot["is_whole"]) for snapshot in report["snapshots"]] == [(30, True)]
    json.dumps(report)


def test_looking_changes_not_a_byte_nor_a_time(directory):
    before = contents(directory)
    assert describe(directory)["problems"] == []
    assert contents(directory) == before


def test_whatever_is_opened_is_opened_for_reading_only(directory, monkeypatch):
    opened = []
    really = os.open

    def noting(path, flags, *more, **named):
        opened.append((str(path), flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)))
        return really(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", noting)
    describe(directory)
    assert len(opened) >= 5
    assert [name for name, flags in opened if flags] == []


def test_the_process_that_has_it_open_is_named_and_keeps_its_lock(tmp_path):
    directory = used(tmp_path / "n1")
    assert describe(tmp_path / "n1")["running_process"] == os.getpid()
    directory.close()
    assert describe(tmp_path / "n1")["running_process"] is None


def test_locks_of_other_files_and_kinds_name_nobody(tmp_path, directory):
    inode = (directory / "lock").stat().st_ino
    locks = tmp_path / "locks"
    locks.write_text(
        f"1: POSIX  ADVISORY  WRITE 11 fe:00:{inode} 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 12 fe:00:{inode + 1} 0 EOF\n"
        f"2: -> FLOCK  ADVISORY  WRITE 14 fe:00:{inode} 0 EOF\nnonsense\n"
    )
    assert holder_of(directory, locks) is None
    locks.write_text(f"3: FLOCK  ADVISORY  WRITE 13 fe:00:{inode} 0 EOF\n")
    assert holder_of(directory, locks) == 13
    assert holder_of(directory, tmp_path / "absent") is None


def test_progress_reaches_the_number_of_bytes_there_are(directory):
    told = []
    describe(directory, progress=lambda count, name: told.append((count, name)))
    assert sum(count for count, _ in told) >= bytes_to_verify(directory) - 16 * 1024
    assert {name for _, name in told} == {file.name for file in directory.rglob("*") if file.suffix in {".seg", ".snap"}}


def test_a_wiped_directory_says_until_when_it_recovers_and_where_its_data_is(tmp_path):
    directory = used(tmp_path / "n1")
    retired = directory.wipe(BARRIER, "rejoin of node 1")
    directory.close()
    report = describe(tmp_path / "n1")
    assert report["hard_state"]["recovery"] == {
        "until": {"term": 5, "node_id": 1, "index": 60},
        "reason": "rejoin of node 1",
    }
    assert [(item["name"], item["reason"]) for item in report["retired"]] == [(retired, "rejoin of node 1")]
    assert report["retired"][0]["size_bytes"] > 8192
    assert report["log"]["last"] is None
    assert report["problems"] == []


def test_what_a_wipe_retired_can_be_looked_into_as_well(tmp_path):
    directory = used(tmp_path / "n1")
    retired = tmp_path / "n1" / directory.wipe(BARRIER, "rejoin")
    directory.close()
    assert is_data_directory(retired)
    report = describe(retired)
    assert report["problems"] == []
    assert report["log"]["last"]["index"] == 50


def test_every_damage_is_listed_with_its_place_and_the_rest_is_still_described(directory, segment):
    snapshot = next((directory / "snapshots").glob("*.snap"))
    overwrite(segment, 700)
    overwrite(snapshot, snapshot.stat().st_size - 25)
    (directory / "identity.json").write_text("{")
    report = describe(directory)
    assert report["identity"] is None
    assert report["hard_state"]["vote"]["term"] == 4
    assert [Path(problem["path"]).name for problem in report["problems"]] == ["identity.json", segment.name, snapshot.name]
    assert all(problem["message"] and problem["means"] for problem in report["problems"])


# --- what damage means ------------------------------------------------------------------------------------------------


def test_a_damaged_entry_is_named_by_record_file_and_byte_and_offers_way_a(directory, segment):
    overwrite(segment, 700)
    report = describe(directory)
    (problem,) = report["problems"]
    assert ("log", "lost_entries") == (problem["part"], problem["kind"])
    assert problem["path"] == str(segment)
    assert problem["offset"] <= 700 < problem["offset"] + 64
    assert problem["record"] == report["log"]["last"]["index"] + 1
    assert not report["log"]["is_complete"]
    assert any("raft-engine serve --stopped" in step for step in report["next"])
    assert "raftctl rejoin-node 1" in report["next"]


@pytest.mark.parametrize("name", ["hard_state", "identity.json"])
def test_a_lost_vote_offers_way_b_only(name, directory):
    remove(directory, name)
    report = describe(directory)
    assert [kind for _, kind in kinds(report)] == ["lost_vote"]
    steps = "\n".join(report["next"])
    assert f"mv {directory} {directory}.lost" in steps
    assert f"raftctl rejoin-node {'NODE' if name == 'identity.json' else 1} --blank" in report["next"]
    assert "--stopped" not in steps


def test_with_vote_and_entries_lost_the_way_is_b(directory, segment):
    overwrite(segment, 700)
    overwrite(directory / "hard_state", 0, bytes(8192))
    report = describe(directory)
    assert {kind for _, kind in kinds(report)} == {"lost_vote", "lost_entries"}
    assert "raftctl rejoin-node 1 --blank" in report["next"]


def test_a_snapshot_with_a_damaged_body_can_be_made_again(directory):
    snapshot = next((directory / "snapshots").glob("*.snap"))
    overwrite(snapshot, snapshot.stat().st_size - 25)
    report = describe(directory)
    assert kinds(report) == [("snapshot", "rebuildable")]
    assert [each["is_whole"] for each in report["snapshots"]] == [False]
    assert report["next"] == ["with the node running: raftctl rejoin-node 1"]


def test_a_damaged_state_machine_alone_is_moved_away(directory):
    problem = {"path": "x/sm/state-1.db", "offset": None, "message": "altered"}
    report = describe(directory, state_machine=(None, [problem]))
    assert kinds(report) == [("state_machine", "rebuildable")]
    assert f"stop the node, then: mv {directory}/sm {directory}/sm.bad" in report["next"]


def test_a_later_format_is_not_called_damage(directory):
    page = bytearray((directory / "hard_state").read_bytes())
    for at in (0, 4096):
        page[at + 8] = 9
        length = int.from_bytes(page[at + 12 : at + 16], "little")
        crc = zlib.crc32(page[at + 28 : at + 28 + length], zlib.crc32(page[at : at + 24]))
        page[at + 24 : at + 28] = crc.to_bytes(4, "little")
    (directory / "hard_state").write_bytes(page)
    report = describe(directory)
    assert kinds(report) == [("hard_state", "newer_format")]
    assert report["next"] == ["install the version of the program that wrote it, or a later one"]


def test_a_directory_that_others_may_read_is_a_problem(directory):
    directory.chmod(0o755)
    report = describe(directory)
    assert kinds(report) == [("directory", "not_ours")]
    assert f"chmod 700 {directory}" in report["next"][0]


def test_a_file_that_the_disk_does_not_give_out_is_unreadable_not_lost(directory, segment, monkeypatch):
    really = os.pread

    def failing(descriptor, count, offset):
        if Path(f"/proc/self/fd/{descriptor}").readlink() == segment:
            raise OSError(5, "Input/output error", str(segment))
        return really(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", failing)
    report = describe(directory)
    assert kinds(report) == [("log", "unreadable")]
    assert "dmesg" in report["next"][0]


def test_a_state_machine_ahead_of_the_log_is_found(directory):
    ahead = {"applied": {"term": 1, "node_id": 1, "index": 51}}
    report = describe(directory, state_machine=(ahead, []))
    assert kinds(report) == [("log", "lost_entries")]
    assert "before T1-N1.51, which the state machine has applied" in report["problems"][0]["message"]
    assert describe(directory, state_machine=({"applied": {"term": 1, "node_id": 1, "index": 50}}, []))["problems"] == []


def test_a_snapshot_that_is_gone_is_found(directory):
    for snapshot in (directory / "snapshots").glob("*.snap"):
        snapshot.unlink()
    report = describe(directory)
    assert kinds(report)[0] == ("snapshot", "lost_entries")
    assert "are purged, but the newest snapshot ends with entry 0" in report["problems"][0]["message"]


def test_missing_parts_are_problems_not_tracebacks(directory):
    for part in ("hard_state", "log", "identity.json"):
        remove(directory, part)
    report = describe(directory)
    assert [part for part, _ in kinds(report)] == ["identity", "hard_state", "log"]
    assert (report["identity"], report["hard_state"], report["log"]) == (None, None, None)


def test_a_blank_node_has_no_problem(tmp_path):
    open_dir(tmp_path / "n1").close()
    report = describe(tmp_path / "n1")
    assert report["problems"] == []
    assert report["notes"] == []


def test_a_directory_that_is_not_one_is_known_as_such(tmp_path):
    assert not is_data_directory(tmp_path)


# --- what is merely worth knowing -------------------------------------------------------------------------------------


def test_a_write_cut_short_is_a_note_and_a_bad_copy_too(tmp_path):
    directory = open_dir(tmp_path / "n1")
    write(directory.log, blanks(1, 3))
    directory.log.append(blanks(4, 4))
    directory.close()
    segment = tmp_path / "n1" / "log" / "00000000000000000001.seg"
    content = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(content[:-5].ljust(8192, b"\0"))
    overwrite(tmp_path / "n1" / "hard_state", 0, b"\0" * 10)
    report = describe(tmp_path / "n1")
    assert report["problems"] == []
    assert len(report["notes"]) == 2
    assert "promised to nobody" in report["notes"][1]
    assert report["log"]["last"]["index"] == log_id(1, 3).index


def test_an_interrupted_wipe_and_foreign_files_are_notes(directory):
    (directory / "wipe.json").write_text("{}")
    (directory / "photos").mkdir()
    (directory / "identity.json.tmp").write_text("")
    notes = describe(directory)["notes"]
    assert [note for note in notes if "interrupted" in note]
    assert "not part of a data directory: photos" in notes


def test_a_log_behind_the_snapshot_is_a_note(tmp_path):
    directory = open_dir(tmp_path / "n1")
    write(directory.log, blanks(1, 3))
    directory.snapshots.build(log_id(2, 9), stored(1, 1, 1), [b"state"])
    directory.close()
    report = describe(tmp_path / "n1")
    assert report["problems"] == []
    assert "the log does not reach the end of the newest snapshot" in report["notes"][0]


# --- beside a node that writes ----------------------------------------------------------------------------------------


def test_what_is_gone_at_the_second_look_was_a_write_under_way(directory, segment, monkeypatch):
    sound = segment.read_bytes()
    overwrite(segment, 700)
    looks = []

    def mended(path):
        if path == directory / "log":
            looks.append(path)
            if len(looks) == 2:  # after the first look
                segment.write_bytes(sound)
        return fingerprint(path)

    monkeypatch.setattr("raft_engine.storage.inspection.fingerprint", mended)
    report = describe(directory)
    assert report["problems"] == []
    assert report["log"]["last"]["index"] == 50
    assert len(looks) == 3, "the second look found nothing, so nobody asked whether something was written meanwhile"


def test_damage_stays_damage_while_somebody_writes(directory, segment, monkeypatch):
    overwrite(segment, 700)
    looks = []

    def busy(path):
        looks.append(path)
        return (str(len(looks)), 0, 0)

    monkeypatch.setattr("raft_engine.storage.inspection.fingerprint", busy)
    report = describe(directory)
    assert kinds(report) == [("log", "lost_entries")]
    assert looks.count(directory / "log") == 2 * LOOKS_MAX


# --- the indexes of sealed segments -----------------------------------------------------------------------------------


@pytest.fixture
def long_log(tmp_path):
    """A log of three segments, the first two of them sealed."""
    directory = open_dir(tmp_path / "n1")
    index = 1
    while len(list((tmp_path / "n1" / "log").glob("*.seg"))) < 3:
        write(directory.log, blanks(index, index + 9))
        index += 10
    directory.close()
    return tmp_path / "n1"


def test_an_index_is_compared_with_the_records(long_log):
    report = describe(long_log)
    assert [segment["index"] for segment in report["log"]["segments"]] == ["valid", "valid", None]
    assert report["notes"] == []


def test_an_index_of_something_else_is_a_note(long_log):
    first, second = sorted((long_log / "log").glob("*.idx"))
    second.write_bytes(first.read_bytes())
    report = describe(long_log)
    assert [segment["index"] for segment in report["log"]["segments"]] == ["valid", "wrong", None]
    assert second.name in report["notes"][0]
    assert report["problems"] == []


def test_an_index_with_another_table_is_a_note(long_log):
    first = min((long_log / "log").glob("*.idx"))
    overwrite(first, first.stat().st_size - 2)
    report = describe(long_log)
    assert [segment["index"] for segment in report["log"]["segments"]] == ["wrong", "valid", None]


def test_a_missing_index_is_no_problem_at_all(long_log):
    min((long_log / "log").glob("*.idx")).unlink()
    report = describe(long_log)
    assert [segment["index"] for segment in report["log"]["segments"]] == ["absent", "valid", None]
    assert (report["problems"], report["notes"]) == ([], [])


def test_damage_in_a_sealed_segment_hides_nothing_before_it(long_log):
    first, second, third = sorted((long_log / "log").glob("*.seg"))
    overwrite(second, 900)
    report = describe(long_log)
    assert [segment["file"] for segment in report["log"]["segments"]] == [first.name, second.name]
    assert [segment["is_whole"] for segment in report["log"]["segments"]] == [True, False]
    assert report["log"]["last"]["index"] == report["problems"][0]["record"] - 1
    assert third.exists()


# --- damage that the running node found ----------------------------------------------------------------------------------


@pytest.fixture
def noted(long_log):
    """A directory whose node met a damaged entry that looks whole again: the disk gave out other bytes that once."""
    second = sorted((long_log / "log").glob("*.seg"))[1]
    error = Damaged("entry 77: checksum does not match", path=str(second), offset=900, record=77)
    note_damage(long_log / "log", error, Files())
    return long_log


def test_damage_that_was_noted_is_a_problem_also_when_the_disk_gives_out_the_right_bytes(noted):
    report = describe(noted)
    assert kinds(report) == [("log", "lost_entries")]
    assert (report["problems"][0]["record"], report["problems"][0]["offset"]) == (77, 900)
    assert "raftctl rejoin-node 1" in report["next"]
    assert any(note.startswith(NOTE_NAME) for note in report["notes"])


def test_damage_that_is_still_there_is_listed_once(noted):
    overwrite(sorted((noted / "log").glob("*.seg"))[1], 900)
    assert len(describe(noted)["problems"]) == 1


def test_a_wipe_takes_the_note_along_and_its_undo_brings_it_back(noted):
    directory = open_dir(noted, open_stores=False)
    retired = directory.wipe(log_id(9, 1000), "damaged")
    directory.close()
    assert kinds(describe(noted)) == []
    assert kinds(describe(noted / retired)) == [("log", "lost_entries")]
    open_dir(noted).close()
    directory = open_dir(noted, open_stores=False)
    directory.restore_retired(retired)
    directory.close()
    with pytest.raises(Damaged, match="entry 77"):
        open_dir(noted)
