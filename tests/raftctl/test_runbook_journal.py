"""The journal: durable, chained, torn at most at its end, one writer, and good on any machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from raftctl.errors import CtlError
from raftctl.runbook.journal import Journal, adopt, find_run, read_run, read_runs


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAFTCTL_STATE", str(tmp_path / "state"))
    return tmp_path


def written(*events: str) -> Path:
    journal = Journal.begin("test")
    journal.write("run_begun", run=journal.run_id, command="test")
    for event in events:
        journal.write(event)
    journal.close()
    return journal.path


def test_what_was_written_is_read_back_in_order():
    run = read_run(written("a", "b"))
    assert ["run_begun", "a", "b"] == [record["event"] for record in run.records]
    assert [1, 2, 3] == [record["seq"] for record in run.records]
    assert run.broken_at is None


def test_each_record_is_on_disk_before_the_next_thing_happens(monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    journal = Journal.begin("test")
    synced.clear()
    journal.write("a")
    assert [journal.path.stat().st_size] == synced
    journal.close()


@pytest.mark.parametrize("line", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"event":"', '"event":"x'),
        lambda text: text.replace('"at":"2', '"at":"3'),
        lambda text: text[:-2] + "}}",
        lambda text: "",
        lambda text: "not json",
        lambda text: text.replace('"sha256":"', '"sha256":"0'),
    ],
)
def test_a_line_that_was_changed_is_named_and_the_run_not_continued(line: int, change):
    path = written("a", "b")
    lines = path.read_text().splitlines()
    lines[line] = change(lines[line])
    path.write_text("\n".join(lines) + "\n")
    run = read_run(path)
    assert line + 1 == run.broken_at
    with pytest.raises(CtlError, match=f"line {line + 1} of") as caught:
        Journal.reopen(run.run_id)
    assert "journal_damaged" == caught.value.code


@pytest.mark.parametrize("line", [0, 1])
def test_a_line_that_was_taken_out_is_noticed(line: int):
    path = written("a", "b")
    lines = path.read_text().splitlines(keepends=True)
    del lines[line]
    path.write_text("".join(lines))
    assert line + 1 == read_run(path).broken_at


def test_lines_that_changed_places_are_noticed():
    path = written("a", "b")
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first + third + second)
    assert 2 == read_run(path).broken_at


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn():
    whole = written("a", "b").read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for end in range(last, len(whole)):
        path = written()
        path.write_bytes(whole[:end])
        journal, run = Journal.reopen(path.stem)
        assert ["run_begun", "a"] == [record["event"] for record in run.records]
        journal.write("c")
        journal.close()
        again = read_run(path)
        assert (None, 0) == (again.broken_at, again.torn_bytes)
        assert ["run_begun", "a", "c"] == [record["event"] for record in again.records]
        path.unlink()


def test_a_journal_that_goes_on_is_one_chain():
    path = written("a")
    journal, _ = Journal.reopen(path.stem)
    journal.write("b")
    journal.close()
    run = read_run(path)
    assert [run.records[1]["sha256"], None] == [run.records[2]["prev"], run.broken_at]


def test_only_one_process_goes_on_with_a_run():
    journal = Journal.begin("test")
    journal.write("run_begun", run=journal.run_id)
    with pytest.raises(CtlError, match="another process") as caught:
        Journal.reopen(journal.run_id)
    assert "locked" == caught.value.code
    journal.close()
    Journal.reopen(journal.run_id)[0].close()


def test_a_disk_that_is_full_stops_the_run(monkeypatch: pytest.MonkeyPatch):
    journal = Journal.begin("test")

    def full(_handle: int, _line: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CtlError, match="No space left") as caught:
        journal.write("a")
    assert 9 == caught.value.exit_code
    journal.close()


def test_a_run_that_ended_before_its_first_record_did_nothing():
    journal = Journal.begin("test")
    journal.close()
    with pytest.raises(CtlError, match="nothing was done"):
        Journal.reopen(journal.run_id)


def test_a_journal_of_a_later_format_is_not_guessed_at():
    journal = Journal.begin("test")
    journal.write("run_begun", run=journal.run_id, journal=2)
    journal.close()
    with pytest.raises(CtlError, match="format 2, this version reads up to 1"):
        Journal.reopen(journal.run_id)


@pytest.mark.parametrize("name", ["../../etc/passwd", "never-was", "", ".", "a/b"])
def test_a_run_that_is_not_there_is_not_found(name: str):
    with pytest.raises(CtlError) as caught:
        find_run(name)
    assert 13 == caught.value.exit_code


# -- from another machine ------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(state: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that goes to another machine, with a file from this one."""

    def go(path: Path) -> Path:
        copy = state / "copy.jsonl"
        copy.write_bytes(path.read_bytes())
        monkeypatch.setenv("RAFTCTL_STATE", str(state / "elsewhere"))
        return copy

    return go


def test_a_copied_journal_is_taken_in_under_its_own_name(elsewhere):
    path = written("a")
    assert path.stem == adopt(elsewhere(path))
    assert ["run_begun", "a"] == [record["event"] for record in find_run(path.stem).records]


def test_a_longer_copy_replaces_what_was_here_and_a_shorter_one_does_not(elsewhere):
    path = written("a")
    copy = elsewhere(path)
    adopt(copy)
    short = copy.read_bytes()
    journal, _ = Journal.reopen(path.stem)
    journal.write("b")
    journal.close()
    adopt(copy)
    assert 3 == len(find_run(path.stem).records)
    copy.write_bytes(find_run(path.stem).path.read_bytes())
    find_run(path.stem).path.write_bytes(short)
    adopt(copy)
    assert 3 == len(find_run(path.stem).records)


def test_a_copy_of_another_history_is_refused(elsewhere):
    path = written("a")
    copy = elsewhere(path)
    adopt(copy)
    here, _ = Journal.reopen(path.stem)
    here.write("b")
    here.close()
    other = find_run(path.stem).path.read_bytes()
    find_run(path.stem).path.write_bytes(copy.read_bytes())
    journal, _ = Journal.reopen(path.stem)
    journal.write("c")
    journal.close()
    copy.write_bytes(other)
    with pytest.raises(CtlError, match="not a longer copy"):
        adopt(copy)


def test_a_changed_copy_is_refused(elsewhere):
    copy = elsewhere(written("a"))
    copy.write_text(copy.read_text().replace('"event":"a"', '"event":"z"'))
    with pytest.raises(CtlError, match="line 2 of"):
        adopt(copy)
    assert [] == list(read_runs())


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path):
    other = tmp_path / "x.jsonl"
    other.write_text(json.dumps({"a": 1}) + "\n")
    with pytest.raises(CtlError, match="line 1 of"):
        adopt(other)
