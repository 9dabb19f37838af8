"""`raft-engine inspect`: what it prints, how it ends, and that it leaves no trace."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from raft_engine.__main__ import main
from raft_engine.commands.progress import FIRST_AFTER_S, ProgressBar
from raft_engine.kv.disk_store import DiskStore
from raft_engine.storage.data_dir import DataDir
from raft_engine.testing.storage_suite import stored, write
from raft_engine.types.ids import NodeId
from tests.commands.directories import ENTRIES, LAST, contents, damage, entry, first_segment
from tests.storage.test_data_dir import BARRIER as LATER
from tests.storage.test_data_dir import open_dir, remove


def inspected(capsys, directory, *options: str, code: int = 0) -> dict:
    assert main(["inspect", str(directory), "-o", "json", *options]) == code
    return json.loads(capsys.readouterr().out)


# -- what is in it -------------------------------------------------------------------------------------------------------


def test_people_see_everything_on_one_screen(directory, capsys):
    assert main(["inspect", str(directory)]) == 0
    out, err = capsys.readouterr()
    incarnation = json.loads((directory / "identity.json").read_text())["identity"]["incarnation"]
    assert [line.rstrip() for line in out.splitlines()] == [
        f"directory      {directory}",
        f"identity       node 1 of cluster 'demo', incarnation {incarnation}",
        "               boot 1, started",
        "vote           term 4, for node 2, who leads it",
        "log            entries 4 to 9; purged up to T1-N1.3",
        "               T1-N1  4 to 9",
        f"               {first_segment(directory).name}  9 entries, 823 bytes of 8.0 KiB used",
        "snapshot       up to T1-N1.5, 514 bytes",
        f"state machine  applied T1-N1.9, 4 keys, {(directory / 'sm' / 'state-1.db').stat().st_size / 1024:.1f} KiB",
        "sound: every checksum was verified",
    ]
    assert err == ""


def test_scripts_get_one_document(directory, capsys):
    report = inspected(capsys, directory)
    assert report["identity"]["cluster"] == "demo"
    assert report["state_machine"]["applied"] == {"term": 1, "node_id": 1, "index": 9}
    assert (report["problems"], report["notes"], report["running_process"]) == ([], [], None)


def test_a_blank_node_and_a_wiped_one_are_sound(tmp_path, directory, capsys):
    open_dir(tmp_path / "blank").close()
    assert main(["inspect", str(tmp_path / "blank")]) == 0
    assert "no entries" in capsys.readouterr().out
    wiped = open_dir(directory)
    retired = wiped.wipe(LATER, "a rehearsal")
    wiped.close()
    assert main(["inspect", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "recovering     until its log holds T5-N1.60: a rehearsal" in out
    assert f"retired        {retired}, " in out


def test_files_that_no_node_put_there_are_noted(directory, capsys):
    for stray in ("notes.txt", "log/old.seg.bak", "log/1.idx", "log/spare", "snapshots/copy"):
        (directory / stray).write_bytes(b"")
    notes = inspected(capsys, directory)["notes"]
    told = [note.removeprefix("not part of a data directory: ") for note in notes]
    assert told == ["notes.txt", "log/old.seg.bak", "snapshots/copy"]


@pytest.mark.parametrize(("named", "meant"), [("n1", "n1/data"), (".", "n1/data"), ("n1/log", "n1")])
def test_whoever_names_a_directory_beside_it_is_told_the_right_one(named, meant, directory, tmp_path, capsys):
    right = tmp_path / "all" / meant
    right.parent.mkdir(parents=True)
    directory.rename(right)
    assert main(["inspect", str(tmp_path / "all" / named)]) == 13
    assert f"hint: raft-engine inspect {right}\n" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["", "-o json", "--entries 1..", "--export -"])
def test_a_reader_that_has_seen_enough_is_no_error(options, directory):
    command = f"set -o pipefail; {sys.executable} -m raft_engine inspect {directory} {options} | true"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode in {0, 141}  # 0: all of it fitted into the pipe before the reader had gone
    assert ran.stderr == ""


# -- damage --------------------------------------------------------------------------------------------------------------


def test_damage_is_told_with_place_meaning_and_way_back(directory, capsys):
    damage(first_segment(directory), 600)
    assert main(["inspect", str(directory)]) == 14
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("1 problem:")
    assert lines[start + 1].startswith("- LOST PROMISE: entry 6: ")
    assert lines[start + 2] == f"  where: {first_segment(directory)}, entry 6, byte 576"
    assert lines[start + 3].startswith("  means: entries that the node acknowledged are lost or altered")
    assert lines[start + 4] == "what to do:"
    assert lines[-1] == "  raftctl rejoin-node 1"
    assert "log            entries 4 to 5 can be read, what follows cannot; purged up to T1-N1.3" in lines


def test_a_damaged_state_machine_costs_no_promise(directory, capsys):
    path = directory / "sm" / "state-1.db"
    path.write_bytes(path.read_bytes().replace(b"value 6", b"value 7"))
    report = inspected(capsys, directory, code=14)
    assert [(problem["part"], problem["kind"]) for problem in report["problems"]] == [("state_machine", "rebuildable")]


def test_what_is_not_there_is_13(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "absent")]) == 13
    assert "there is no such directory" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path)]) == 13
    assert "this is no data directory" in capsys.readouterr().err


# -- without a trace -----------------------------------------------------------------------------------------------------


def test_not_a_byte_and_not_a_time_changes(directory, tmp_path):
    before = contents(directory)
    assert main(["inspect", str(directory), "--entries", "1..", "--export", str(tmp_path / "out")]) == 0
    assert contents(directory) == before


def test_it_runs_beside_a_node_and_names_its_process(directory, capsys):
    holder = DataDir(directory, "demo", NodeId(1), prepare_ahead=False)
    try:
        before = contents(directory)
        report = inspected(capsys, directory)
        assert (report["running_process"], report["problems"]) == (os.getpid(), [])
        assert contents(directory) == before
    finally:
        holder.close()


WRITING = "write,pwrite64,writev,pwritev,ftruncate,fallocate,fchmod,fchown,fsync,fdatasync"
HARMLESS = "open|openat|access|faccessat|faccessat2|stat|lstat|newfstatat|statx|readlink|statfs|chdir|getcwd|execve"
CHANGING = re.compile(rf"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|^(?!({HARMLESS})\()")
"""A call that may change a file, among those that name or write one."""


@pytest.mark.parametrize("state", ["at rest", "in use", "after a crash"])
def test_the_whole_program_asks_the_system_for_nothing_that_changes_a_file(state, directory, tmp_path):
    strace = shutil.which("strace")
    if (
        strace is None
        or subprocess.run([strace, "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this process may not trace others, or there is no strace")
    holder = DataDir(directory, "demo", NodeId(1), prepare_ahead=False) if state == "in use" else None
    store = DiskStore(directory / "sm") if state == "in use" else None
    if state == "after a crash":
        leave_as_a_crash_does(directory)
    command = [strace, "-f", "-qq", "-y", "-e", f"trace=%file,{WRITING}", "-o", str(tmp_path / "calls")]
    command += [sys.executable, "-m", "raft_engine", "inspect", str(directory), "--entries", "1.."]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if store is not None and holder is not None:
        store.close()
        holder.close()
    assert (ran.returncode, ran.stderr) == (0, "")
    calls = [line.split(maxsplit=1)[1] for line in (tmp_path / "calls").read_text().splitlines() if str(directory) in line]
    assert len(calls) > 10
    changing = [call for call in calls if CHANGING.search(call)]
    if state == "in use":  # SQLite opens the log of a database that is in use for writing, and writes nothing
        changing = [
            call for call in changing if not re.search(r'^(openat\([^"]*"[^"]*-wal", |fchown\(\d+<[^>]*-(wal|shm)>, )', call)
        ]
    assert changing == []


MOUNT_AND_INSPECT = """
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
! touch "$1/x" 2>/dev/null
exec "$2" -m raft_engine inspect "$1" -o json --entries 4..
"""


@pytest.mark.parametrize("crashed", [False, True])
def test_it_works_on_a_read_only_mount(crashed, directory):
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount")
    if crashed:
        leave_as_a_crash_does(directory)
    command = [unshare, "--mount", "sh", "-c", MOUNT_AND_INSPECT, "sh", str(directory), sys.executable]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    report = json.loads(ran.stdout)
    assert (report["state_machine"]["keys"], len(report["entries"])) == (4, 6)


def leave_as_a_crash_does(directory):
    """The state machine's write-ahead log holds what is not in its file, and there is no index of it."""
    remove(directory, "sm")
    store = DiskStore(directory / "sm", write_after_s=0.001)
    store.apply([*ENTRIES])
    store.flush()
    shutil.copytree(directory / "sm", directory / "left")
    store.close()
    remove(directory, "sm")
    (directory / "left").rename(directory / "sm")
    (directory / "sm" / "state-1.db-shm").unlink()
    assert (directory / "sm" / "state-1.db-wal").stat().st_size > 0


# -- entries -------------------------------------------------------------------------------------------------------------


def test_entries_are_listed_for_people_with_what_they_do(directory, capsys):
    assert main(["inspect", str(directory), "--entries", "5..8"]) == 0
    out = capsys.readouterr().out
    assert out[out.index("entries:\n") :].splitlines() == [
        "entries:",
        "         5  T1-N1  normal  put 'key5' (7 bytes)",
        "         6  T1-N1  normal  put 'key6' (7 bytes)",
        "         7  T1-N1  normal  check 'key3' if at revision 3; put 'key3' (3 bytes); delete 'key4'",
        "         8  T1-N1  normal  24 bytes 6f6620616e6f74686572207374617465206d616368696e65",
    ]


def test_entries_are_listed_for_scripts_without_loss(directory, capsys):
    entries = inspected(capsys, directory, "--entries", "7..")["entries"]
    assert [entry["index"] for entry in entries] == [7, 8, 9]
    command = entries[0]["command"]
    assert command["idempotency_key"] == "b25jZQ=="
    assert command["operations"][1] == {
        "op": "put",
        "key": "key3",
        "key_base64": "a2V5Mw==",
        "value_bytes": 3,
        "value_base64": "bmV3",
        "condition": None,
    }
    assert bytes.fromhex(entries[1]["data_hex"]) == b"of another state machine"
    assert entries[2]["command"]["operations"][0]["key_base64"] == "/w=="
    assert entries[2]["command"]["operations"][0]["key"] == "\\xff"


def test_only_what_is_in_the_log_can_be_listed(directory, capsys):
    assert [entry["index"] for entry in inspected(capsys, directory, "--entries", "..4")["entries"]] == [4]
    assert main(["inspect", str(directory), "--entries", "1..3"]) == 13
    assert "none of these entries is in the log: it has 4 to 9" in capsys.readouterr().err
    assert main(["inspect", str(directory), "--entries", "10"]) == 13


@pytest.fixture
def rejoined(directory):
    """It got a snapshot up to 9 instead of entries, and 10 and 11 as entries: no file of its log has an earlier one."""
    data_dir = open_dir(directory)
    data_dir.snapshots.build(LAST, stored(1, 1, 1, 2, 3), [b"state"])
    data_dir.log.reset(LAST)
    write(data_dir.log, [entry(10, b""), entry(11, b"")])
    data_dir.close()
    return directory


def test_a_range_before_the_whole_log_has_no_entry(rejoined, capsys):
    assert inspected(capsys, rejoined, "--entries", "1..3", code=13)["entries"] == []
    assert main(["inspect", str(rejoined), "--entries", "1..3"]) == 13
    assert "none of these entries is in the log: it has 10 to 11" in capsys.readouterr().err
    assert [found["index"] for found in inspected(capsys, rejoined, "--entries", "..10")["entries"]] == [10]


def test_a_log_without_entries_has_none_of_a_range(tmp_path, capsys):
    open_dir(tmp_path / "blank").close()
    assert main(["inspect", str(tmp_path / "blank"), "--entries", "1.."]) == 13
    assert "none of these entries is in the log: it has none" in capsys.readouterr().err


def test_entries_before_a_damaged_one_are_listed(directory, capsys):
    damage(first_segment(directory), 600)
    assert [entry["index"] for entry in inspected(capsys, directory, "--entries", "4..", code=14)["entries"]] == [4, 5]


@pytest.mark.parametrize("text", ["", "..", "a..b", "5..4", "1...2", "-1", f"1..{2**64}"])
def test_what_is_no_range_is_a_usage_error(text, directory, capsys):
    with pytest.raises(SystemExit) as end:
        main(["inspect", str(directory), f"--entries={text}"])
    assert end.value.code == 2
    assert "--entries" in capsys.readouterr().err


# -- the bar -------------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def bar_on(stream, total: int) -> tuple[ProgressBar, list[float]]:
    clock = [0.0]
    return ProgressBar(total, stream, lambda: clock[0]), clock


def test_on_a_terminal_a_bar_shows_how_far_it_is_and_goes_away():
    terminal = Terminal()
    bar, clock = bar_on(terminal, 4 * 1024**3)
    clock[0] = FIRST_AFTER_S
    bar(1024**3, "00000000000000000001.seg")
    bar.close()
    erase = "\r\x1b[K"
    shown = "verifying  [#####               ]  25 %  1.0 GiB of 4.0 GiB  00000000000000000001.seg"
    assert terminal.getvalue() == erase + shown + erase


def test_what_is_done_in_a_moment_shows_no_bar():
    terminal = Terminal()
    bar, clock = bar_on(terminal, 100)
    clock[0] = FIRST_AFTER_S / 2
    bar(100, "x")
    bar.close()
    assert terminal.getvalue() == ""


def test_where_nobody_looks_there_is_no_bar():
    pipe = io.StringIO()
    bar, clock = bar_on(pipe, 100)
    clock[0] = FIRST_AFTER_S
    bar(50, "x")
    bar.close()
    assert pipe.getvalue() == ""


def test_more_than_all_is_all():
    terminal = Terminal()
    bar, clock = bar_on(terminal, 0)
    clock[0] = FIRST_AFTER_S
    bar(50, "x")
    assert "100 %" in terminal.getvalue()
