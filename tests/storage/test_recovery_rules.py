"""One test for each rule of what a start does with what it finds: mend, refuse with the way back, or refuse and leave alone.

What the programs say in each case is tested in tests/acceptance/test_storage_errors.py and test_storage_damage.py.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import zlib
from pathlib import Path

import pytest

from raft_engine.errors import Damaged, NewerFormat, StorageError, StorageFailed, WrongDirectory
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.files import Files
from raft_engine.storage.hints import WAY_A_HINT, WAY_B_HINT
from raft_engine.storage.segment_format import VERSION
from raft_engine.storage.two_slots import SLOT_BYTES
from raft_engine.testing.sim_disk import SimDisk, SimFiles
from raft_engine.testing.storage_suite import blanks, entry, log_id, read, write
from raft_engine.types.ids import NodeId
from tests.storage.disks import FailingFiles
from tests.storage.test_data_dir import VOTED, open_dir, used

SEGMENT = "log/00000000000000000001.seg"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node with a vote, entries, a snapshot and a state machine, stopped in order."""
    used(tmp_path / "n1").close()
    return tmp_path / "n1"


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"
    }


def alter(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def refusal(path: Path, kind: type[Exception] = Damaged) -> Exception:
    with pytest.raises(kind) as caught:
        open_dir(path)
    return caught.value


# --- a torn tail is cut, and how much is said ----------------------------------------------------------------------------


def test_what_was_never_promised_is_cut_and_the_log_line_says_how_much(node: Path, caplog):
    path = max((node / "log").glob("*.seg"))
    alter(path, len(path.read_bytes().rstrip(b"\0")), b"\x01" * 77)
    end = len(path.read_bytes().rstrip(b"\0"))
    with caplog.at_level(logging.WARNING, "raft_engine.storage"):
        directory = open_dir(node)
    assert directory.log.state().last == log_id(1, 50)
    (line,) = [record.getMessage() for record in caplog.records]
    found = re.search(r"dropped (\d+) bytes behind entry 50, promised to nobody \((.*), byte (\d+): ", line)
    assert found is not None
    assert found[2] == str(path)
    assert int(found[3]) + int(found[1]) == end
    directory.close()


# --- a lost promise: no start as a voter ---------------------------------------------------------------------------------


def test_a_damaged_entry_names_record_file_offset_and_the_way_back_that_keeps_the_vote(node: Path):
    offset = (node / SEGMENT).read_bytes().index(entry(1, 7).record[:4], 400)
    alter(node / SEGMENT, offset + 20, b"\xff")
    error = refusal(node)
    assert error.record is not None
    assert error.path.endswith(SEGMENT)
    assert error.offset is not None
    assert error.hint.endswith(WAY_A_HINT)
    assert f"entry {error.record}: " in str(error)
    assert f"{node / SEGMENT}, byte {error.offset}" in str(error)


@pytest.mark.parametrize("filling", [b"\0", b"\xa5"])
def test_a_last_sector_that_is_lost_whole_is_known_to_have_been_durable(filling: bytes, node: Path):
    """The last seal is in it as well; the marks say what the log held when the node stopped."""
    path = max((node / "log").glob("*.seg"))
    sector = len(path.read_bytes().rstrip(b"\0")) // 512 * 512
    alter(path, sector, filling * 512)
    error = refusal(node)
    assert error.path == str(path)
    assert error.record is not None
    assert error.record <= 50


@pytest.mark.parametrize("name", ["hard_state", "identity.json"])
def test_without_the_vote_the_way_back_is_a_new_life(name: str, node: Path):
    alter(node / name, 30, b"\xff" * 40)
    alter(node / name, min(SLOT_BYTES + 30, (node / name).stat().st_size - 40), b"\xff" * 40)
    error = refusal(node)
    assert error.path.endswith(name)
    assert error.hint == WAY_B_HINT


def test_a_refused_start_changes_nothing_but_its_own_count(node: Path):
    alter(node / SEGMENT, 300, b"\xff" * 20)
    before = contents(node)
    for _ in range(2):
        refusal(node)
    after = contents(node)
    assert [name for name in before if before[name] != after[name] and not name.startswith("identity")] == []
    assert set(before) == set(after) - {"identity.json.tmp"}


def test_a_damaged_log_leaves_the_vote_to_be_kept(node: Path):
    """Way A: the stores stay closed, the node is wiped, and its vote is there."""
    alter(node / SEGMENT, 300, b"\xff" * 20)
    directory = open_dir(node, open_stores=False)
    directory.wipe(log_id(5, 60), "its log was damaged")
    directory.open_stores()
    assert directory.log.hard_state().vote == VOTED.vote
    assert directory.log.hard_state().recovery is not None
    directory.close()


# --- a later version's files are left alone ------------------------------------------------------------------------------


def newer_segment(path: Path) -> None:
    data = bytearray((path / SEGMENT).read_bytes()[:60])
    data[8] = VERSION + 1
    alter(path / SEGMENT, 0, bytes(data[:56]) + zlib.crc32(data[:56]).to_bytes(4, "little"))


def newer_slots(name: str):
    def alter_both(path: Path) -> None:
        for at in (0, SLOT_BYTES):
            page = (path / name).read_bytes()[at : at + SLOT_BYTES]
            value = page[28 : 28 + int.from_bytes(page[12:16], "little")]
            head = page[:8] + b"\x02\x00" + page[10:24]
            alter(path / name, at, head + zlib.crc32(value, zlib.crc32(head)).to_bytes(4, "little"))

    return alter_both


def newer_identity(path: Path) -> None:
    data = (path / "identity.json").read_bytes()
    (path / "identity.json").write_bytes(data.replace(b'"format":1', b'"format":2'))


def newer_snapshot(path: Path) -> None:
    alter(next((path / "snapshots").glob("*.snap")), 8, b"\x02")


@pytest.mark.parametrize(
    ("name", "make_newer"),
    [
        (SEGMENT, newer_segment),
        ("hard_state", newer_slots("hard_state")),
        ("log/marks", newer_slots("log/marks")),
        ("identity.json", newer_identity),
        (".snap", newer_snapshot),
    ],
    ids=["segment", "hard state", "marks", "identity", "snapshot"],
)
def test_a_later_format_is_refused_by_name_and_left_alone(name: str, make_newer, node: Path):
    make_newer(node)
    before = contents(node)
    error = refusal(node, NewerFormat)
    assert error.path.endswith(name)
    assert f"newer than this program knows ({VERSION if name == SEGMENT else 1})" in str(error)
    assert "run the version that wrote it" in str(error)
    after = contents(node)
    assert [key for key in before if before[key] != after[key] and key != "identity.json"] == []


def test_a_later_index_is_no_reason_to_refuse_as_it_can_be_made_anew(node: Path):
    directory = open_dir(node)
    write(directory.log, blanks(51, 400))
    directory.close()
    index = min((node / "log").glob("*.idx"))
    whole = index.read_bytes()
    alter(index, 8, b"\x02")
    directory = open_dir(node)
    assert read(directory.log, 11, 400)[-1].index == 400
    directory.close()
    assert index.read_bytes() == whole


# --- a disk that refuses -------------------------------------------------------------------------------------------------

ADVICE = {
    errno.ENOSPC: "free space on this disk",
    errno.EDQUOT: "raise the quota",
    errno.EIO: "replace the disk, then rejoin the node",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "check owner and mode",
}


@pytest.mark.parametrize("number", ADVICE, ids=lambda number: errno.errorcode[number])
def test_a_start_on_a_disk_that_refuses_says_which_error_and_what_to_do(number: int, node: Path):
    probe = FailingFiles()
    open_dir(node, probe).close()
    before = contents(node)
    for fatal in range(1, probe.calls + 1):
        with pytest.raises(StorageFailed) as caught:
            open_dir(node, FailingFiles(fatal, number))
        assert f"failed with {errno.errorcode[number]}: {os.strerror(number)}" in str(caught.value)
        assert ADVICE[number] in str(caught.value)
        assert str(node) in str(caught.value)
    assert [key for key in before if before[key] != contents(node)[key] and not key.startswith("identity")] == []
    open_dir(node).close()


def test_a_failed_sync_ends_all_writing_for_good(node: Path):
    files = FailingFiles()
    directory = open_dir(node, files)
    directory.log.append(blanks(51, 51))
    files.fatal = files.calls + 1
    for _ in range(2):
        with pytest.raises(StorageFailed, match="EIO"):
            directory.log.sync()
        files.fatal = None
    with pytest.raises(StorageFailed, match="EIO"):
        write(directory.log, blanks(51, 51))
    directory.close()


# --- directories that are not this node's --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.EROFS, errno.EIO])
def test_a_first_start_below_a_directory_that_cannot_be_synced(number: int):
    """Somebody else's directory, or a read-only root, is no reason not to start; a disk that fails is."""
    disk = SimDisk()
    SimFiles(disk).make_parents(Path("/mnt/nodes/n1"))
    disk.settle()

    def before(call: str, path: Path) -> None:
        if call == "fsync_dir" and path == Path("/"):
            raise OSError(number, os.strerror(number), str(path))

    if number == errno.EIO:
        with pytest.raises(StorageFailed, match="EIO"):
            open_dir(Path("/mnt/nodes/n1"), SimFiles(disk, before))
    else:
        open_dir(Path("/mnt/nodes/n1"), SimFiles(disk, before)).close()


def test_swapped_directories_are_told_apart_by_name_before_anything_is_changed(node: Path, tmp_path: Path):
    other = tmp_path / "n2"
    DataDir(other, "demo", NodeId(2), segment_bytes=8192, prepare_ahead=False).close()
    before = contents(other)
    error = refusal(other, WrongDirectory)
    assert "belongs to node 2 of cluster 'demo', not to node 1 of cluster 'demo'" in str(error)
    assert contents(other) == before


def test_an_older_copy_counts_on_from_where_it_was_under_other_names(node: Path, tmp_path: Path):
    """A peer that heard of the later starts can tell: `transport/boots`."""
    copy = tmp_path / "copy"
    shutil.copytree(node, copy)
    starts = []
    for path in (node, node, copy):
        directory = open_dir(path)
        starts.append(directory.identity.boot_count)
        directory.close()
    assert starts == [2, 3, 2]


def test_a_lock_says_who_holds_it(node: Path):
    directory = open_dir(node)
    error = refusal(node, StorageError)
    assert f"process {os.getpid()} has this data directory open" in str(error)
    assert "one process per data directory" in str(error)
    directory.close()


def test_a_file_of_the_directory_that_is_a_link_is_not_followed(node: Path, tmp_path: Path):
    (node / "hard_state").rename(tmp_path / "elsewhere")
    (node / "hard_state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match="ELOOP"):
        open_dir(node, Files())
