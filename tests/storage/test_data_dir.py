"""A node's directory as a whole: what must be there together, being born, being wiped, and taking a wipe back."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import msgspec
import pytest

from raft_engine.errors import Damaged, DirectoryLocked, StorageError, StorageFailed, WrongDirectory
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.files import Files
from raft_engine.testing.storage_suite import blanks, log_id, membership, read, stored, write
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.entry import EntryKind
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.vote import Vote
from tests.storage.disks import CountingFiles, FailingFiles, PowerCut, VolatileFiles

VOTED = HardState(Vote(Term(4), NodeId(2), committed=True))
BARRIER = log_id(5, 60)


def open_dir(path: Path, files: Files | None = None, *, open_stores: bool = True) -> DataDir:
    return DataDir(path, "demo", NodeId(1), files=files, segment_bytes=8192, prepare_ahead=False, open_stores=open_stores)


def started(path: Path, files: Files | None = None) -> DataDir:
    directory = open_dir(path, files)
    directory.save_identity(
        msgspec.structs.replace(
            directory.identity, birth=BirthState.STARTED, cluster_id="c1", membership=membership(1, 2, 3)
        )
    )
    return directory


def used(path: Path) -> DataDir:
    """A node with a vote, entries 1 … 50 of which 10 are purged, a snapshot, and a state machine of its own."""
    directory = started(path)
    directory.ensure_first_entry()
    directory.log.save_hard_state(VOTED)
    write(directory.log, blanks(2, 50))
    directory.snapshots.build(log_id(1, 30), stored(1, 1, 1, 2, 3), [b"state"])
    directory.log.purge(log_id(1, 10))
    directory.log.sync()
    directory.state_machine_path.mkdir()
    (directory.state_machine_path / "data").write_text("mine")
    return directory


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_new_directory_is_blank_and_private(tmp_path):
    directory = open_dir(tmp_path / "n1")
    assert directory.identity.birth is BirthState.BLANK
    assert directory.log.state().last == BEFORE_LOG
    assert directory.log.hard_state() == HardState()
    assert directory.snapshots.newest() is None
    assert (tmp_path / "n1").stat().st_mode & 0o777 == 0o700
    directory.close()
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "n1").rglob("*")} == {0}


def test_everything_is_there_after_reopening(tmp_path):
    directory = used(tmp_path / "n1")
    identity, state = directory.identity, directory.log.state()
    directory.close()
    directory = open_dir(tmp_path / "n1")
    assert directory.identity == msgspec.structs.replace(identity, boot_count=2)
    assert (directory.log.state(), directory.log.hard_state()) == (state, VOTED)
    assert directory.snapshots.newest().last_log_id == log_id(1, 30)
    directory.close()


def test_a_directory_is_open_once(tmp_path):
    directory = open_dir(tmp_path / "n1")
    with pytest.raises(DirectoryLocked, match=f"process {os.getpid()} "):
        open_dir(tmp_path / "n1")
    directory.close()
    open_dir(tmp_path / "n1").close()


def test_a_directory_that_is_refused_is_not_left_locked(tmp_path):
    open_dir(tmp_path / "n1").close()
    with pytest.raises(WrongDirectory):
        DataDir(tmp_path / "n1", "demo", NodeId(9))
    open_dir(tmp_path / "n1").close()


def test_the_stores_can_be_closed_and_opened_again_under_the_same_lock(tmp_path):
    directory = used(tmp_path / "n1")
    directory.close_stores()
    with pytest.raises(DirectoryLocked):
        open_dir(tmp_path / "n1")
    directory.open_stores()
    assert directory.log.state().last == log_id(1, 50)
    assert directory.identity.boot_count == 1
    directory.close()


def test_a_broken_disk_is_one_clear_error(tmp_path):
    probe = FailingFiles()
    open_dir(tmp_path / "probe", probe).close()
    for fatal in range(1, probe.calls + 1):
        with pytest.raises(StorageFailed, match="EIO"):
            open_dir(tmp_path / f"n{fatal}", FailingFiles(fatal))


def test_killed_at_any_call_of_the_first_start_the_next_start_works(tmp_path):
    probe = CountingFiles()
    open_dir(tmp_path / "probe", probe).close()
    for fatal in range(1, probe.calls + 1):
        path = tmp_path / f"n{fatal}"
        files = VolatileFiles(fatal)
        with pytest.raises(PowerCut):
            open_dir(path, files)
        files.lose(random.Random(fatal))
        directory = open_dir(path)
        assert directory.log.state().last == BEFORE_LOG
        directory.close()


# --- what must be there together --------------------------------------------------------------------------------------


def remove(path: Path, part: str) -> None:
    if (path / part).is_dir():
        shutil.rmtree(path / part)
    else:
        (path / part).unlink()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("log", "the log is gone"),
        ("log/marks", "the log is gone"),
        ("hard_state", "hard state is gone"),
        ("identity.json", "identity.json is gone"),
        ("snapshots", "no snapshot|newest snapshot ends with entry 0"),
        ("log/00000000000000000001.seg", "missing"),
    ],
)
def test_a_node_does_not_go_on_without_what_it_promised_on(part, message, tmp_path):
    used(tmp_path / "n1").close()
    remove(tmp_path / "n1", part)
    with pytest.raises(Damaged, match=message) as caught:
        open_dir(tmp_path / "n1")
    assert ("raftctl rejoin-node with --blank" in caught.value.hint) is (part in {"hard_state", "identity.json"})
    assert "raftctl rejoin-node" in caught.value.hint
    # Nothing was put in the place of what is gone: a second start must not succeed either.
    with pytest.raises(Damaged, match=message):
        open_dir(tmp_path / "n1")


def test_a_directory_emptied_by_hand_is_a_new_node(tmp_path):
    directory = used(tmp_path / "n1")
    incarnation = directory.identity.incarnation
    directory.close()
    for part in list((tmp_path / "n1").iterdir()):
        remove(tmp_path / "n1", part.name)
    directory = open_dir(tmp_path / "n1")
    assert directory.identity.incarnation != incarnation
    assert directory.identity.birth is BirthState.BLANK
    directory.close()


def test_a_blank_node_without_a_log_is_no_loss(tmp_path):
    open_dir(tmp_path / "n1").close()
    remove(tmp_path / "n1", "log")
    open_dir(tmp_path / "n1").close()


def test_a_log_reset_to_a_snapshot_and_still_empty_is_no_loss(tmp_path):
    directory = used(tmp_path / "n1")
    directory.snapshots.build(log_id(7, 100), stored(1, 1, 1), [b"installed"])
    directory.log.reset(log_id(7, 100))
    directory.close()
    directory = open_dir(tmp_path / "n1")
    assert directory.log.state().last == log_id(7, 100)
    directory.close()


# --- being born -------------------------------------------------------------------------------------------------------


def test_the_first_entry_is_the_first_configuration_and_the_same_on_every_node(tmp_path):
    records = []
    for name in ("n1", "n2"):
        directory = started(tmp_path / name)
        assert directory.ensure_first_entry()
        (first,) = read(directory.log, 1, 1)
        assert (first.term, first.node_id, first.index, first.kind) == (0, 0, 1, EntryKind.MEMBERSHIP)
        assert directory.log.state().memberships[0].membership == membership(1, 2, 3)
        assert directory.identity.log_created
        records.append(first.record)
        directory.close()
    assert records[0] == records[1]


@pytest.mark.parametrize("birth", [BirthState.BLANK, BirthState.PREPARED])
def test_a_node_that_was_not_started_gets_no_first_entry(birth, tmp_path):
    directory = started(tmp_path / "n1")
    directory.save_identity(msgspec.structs.replace(directory.identity, birth=birth))
    assert not directory.ensure_first_entry()
    assert directory.log.state().last == BEFORE_LOG
    directory.close()


def test_the_first_entry_is_written_once(tmp_path):
    directory = started(tmp_path / "n1")
    assert [directory.ensure_first_entry() for _ in range(2)] == [True, False]
    directory.close()
    directory = open_dir(tmp_path / "n1")
    assert not directory.ensure_first_entry()
    assert directory.log.state().last.index == 1
    directory.close()


def test_killed_at_any_call_of_its_birth_a_node_is_born_at_the_next_start(tmp_path):
    (tmp_path / "probe").mkdir()
    probe = CountingFiles()
    directory = started(tmp_path / "probe" / "n", probe)
    before = probe.calls
    directory.ensure_first_entry()
    after = probe.calls
    directory.close()
    for fatal in range(before + 1, after + 1):
        path = tmp_path / f"{fatal}" / "n"
        path.parent.mkdir()
        files = VolatileFiles(fatal)
        directory = started(path, files)
        with pytest.raises(PowerCut):
            directory.ensure_first_entry()
        files.fatal = None
        directory.close()
        files.lose(random.Random(fatal))
        directory = open_dir(path)
        directory.ensure_first_entry()
        assert directory.log.state().last.index == 1, fatal
        assert directory.identity.log_created
        directory.close()


def test_a_log_that_comes_by_replication_is_noted_before_its_first_segment_is_made(tmp_path):
    directory = open_dir(tmp_path / "n1")
    assert not directory.identity.log_created
    write(directory.log, blanks(1, 2))
    assert directory.identity.log_created
    directory.close()
    remove(tmp_path / "n1", "log")
    with pytest.raises(Damaged):
        open_dir(tmp_path / "n1")


def test_what_was_promised_for_good_is_not_taken_back_by_an_older_identity(tmp_path):
    directory = open_dir(tmp_path / "n1")
    older = directory.identity
    directory.mark_log_created()
    directory.save_identity(msgspec.structs.replace(older, birth=BirthState.PREPARED))
    assert directory.identity.log_created
    assert directory.identity.birth is BirthState.PREPARED
    directory.close()


# --- wiping -----------------------------------------------------------------------------------------------------------


def assert_wiped(directory: DataDir, retired: str) -> None:
    assert directory.log.state().last == BEFORE_LOG
    assert directory.log.hard_state().vote == VOTED.vote
    assert directory.log.hard_state().recovery == Recovery(BARRIER, "rejoin")
    assert directory.snapshots.newest() is None
    assert not directory.state_machine_path.exists()
    assert (directory.path / retired / "sm" / "data").read_text() == "mine"
    assert list((directory.path / retired / "log").glob("*.seg"))
    assert list((directory.path / retired / "snapshots").glob("*.snap"))


def test_a_wipe_keeps_vote_and_incarnation_and_retires_the_rest(tmp_path):
    directory = used(tmp_path / "n1")
    identity = directory.identity
    retired = directory.wipe(BARRIER, "rejoin")
    directory.open_stores()
    assert_wiped(directory, retired)
    assert directory.identity == identity
    directory.close()
    directory = open_dir(tmp_path / "n1")
    assert_wiped(directory, retired)
    directory.close()


def test_a_wiped_node_fills_its_new_log(tmp_path):
    directory = used(tmp_path / "n1")
    directory.wipe(BARRIER, "rejoin")
    directory.open_stores()
    write(directory.log, blanks(1, 5, term=5))
    directory.close()
    directory = open_dir(tmp_path / "n1")
    assert directory.log.state().last == log_id(5, 5)
    directory.close()
    remove(tmp_path / "n1", "log")
    with pytest.raises(Damaged, match="the log is gone"):
        open_dir(tmp_path / "n1")


def test_a_repeated_wipe_changes_nothing(tmp_path):
    directory = used(tmp_path / "n1")
    retired = directory.wipe(BARRIER, "rejoin")
    assert directory.wipe(BARRIER, "rejoin") == retired
    directory.open_stores()
    assert_wiped(directory, retired)
    assert [path.name for path in directory.path.glob("retired-*")] == [retired]
    directory.close()


def test_a_second_wipe_after_data_came_in_retires_it_too(tmp_path):
    directory = used(tmp_path / "n1")
    first = directory.wipe(BARRIER, "rejoin")
    directory.open_stores()
    write(directory.log, blanks(1, 5))
    second = directory.wipe(log_id(6, 80), "again")
    assert first != second
    directory.open_stores()
    assert directory.log.state().last == BEFORE_LOG
    assert directory.log.hard_state().recovery.until == log_id(6, 80)
    directory.close()


def test_a_second_wipe_never_shortens_the_recovery(tmp_path):
    directory = used(tmp_path / "n1")
    directory.wipe(log_id(6, 80), "first")
    directory.open_stores()
    write(directory.log, blanks(1, 5))
    directory.wipe(BARRIER, "with an older barrier")
    directory.open_stores()
    assert directory.log.hard_state().recovery.until == log_id(6, 80)
    directory.close()


def test_a_node_with_a_damaged_log_can_be_wiped(tmp_path):
    used(tmp_path / "n1").close()
    remove(tmp_path / "n1", "log/00000000000000000001.seg")
    with pytest.raises(Damaged):
        open_dir(tmp_path / "n1")
    directory = open_dir(tmp_path / "n1", open_stores=False)
    directory.wipe(BARRIER, "rejoin")
    directory.open_stores()
    assert directory.log.hard_state() == HardState(VOTED.vote, Recovery(BARRIER, "rejoin"))
    directory.close()


@pytest.mark.parametrize("repeat", [True, False], ids=["and repeated", "and the node started"])
def test_killed_at_any_call_of_a_wipe_it_is_finished_once(repeat, tmp_path):
    used(tmp_path / "original").close()
    shutil.copytree(tmp_path / "original", tmp_path / "probe")
    probe = CountingFiles()
    directory = open_dir(tmp_path / "probe", probe)
    before = probe.calls
    directory.wipe(BARRIER, "rejoin")
    after = probe.calls
    directory.close()
    begun = 0
    for fatal in range(before + 1, after + 1):
        path = tmp_path / f"n{fatal}"
        shutil.copytree(tmp_path / "original", path)
        files = VolatileFiles(fatal)
        directory = open_dir(path, files)
        with pytest.raises(PowerCut):
            directory.wipe(BARRIER, "rejoin")
        files.fatal = None
        directory.close()
        files.lose(random.Random(fatal))
        is_begun = (path / "wipe.json").exists() or any(path.glob("retired-*"))
        directory = open_dir(path)
        if repeat:
            directory.wipe(BARRIER, "rejoin")
            directory.open_stores()
        if repeat or is_begun:
            begun += 1
            (retired,) = [found.name for found in path.glob("retired-*")]
            assert_wiped(directory, retired)
        else:
            assert directory.log.state().last == log_id(1, 50)
        assert not (path / "wipe.json").exists()
        directory.close()
    assert begun > 10


# --- taking a wipe back -----------------------------------------------------------------------------------------------


def assert_as_before(directory: DataDir) -> None:
    assert directory.log.state().last == log_id(1, 50)
    assert directory.log.state().purged == log_id(1, 10)
    assert directory.log.hard_state() == VOTED
    assert directory.snapshots.newest().last_log_id == log_id(1, 30)
    assert (directory.state_machine_path / "data").read_text() == "mine"


def test_a_wipe_is_taken_back(tmp_path):
    directory = used(tmp_path / "n1")
    retired = directory.wipe(BARRIER, "rejoin")
    directory.open_stores()
    write(directory.log, blanks(1, 5))
    aside = directory.restore_retired(retired)
    directory.open_stores()
    assert_as_before(directory)
    assert not (directory.path / retired).exists()
    assert list((directory.path / aside / "log").glob("*.seg"))
    directory.close()


def test_a_wipe_during_a_recovery_is_taken_back_to_that_recovery(tmp_path):
    directory = used(tmp_path / "n1")
    directory.wipe(BARRIER, "first")
    directory.open_stores()
    write(directory.log, blanks(1, 5))
    second = directory.wipe(log_id(6, 80), "second")
    directory.restore_retired(second)
    directory.open_stores()
    assert directory.log.hard_state().recovery == Recovery(BARRIER, "first")
    assert directory.log.state().last == log_id(1, 5)
    directory.close()


def test_a_node_that_has_gone_on_past_its_recovery_cannot_go_back(tmp_path):
    directory = used(tmp_path / "n1")
    retired = directory.wipe(BARRIER, "rejoin")
    directory.open_stores()
    write(directory.log, blanks(1, 60, term=5))
    write(directory.log, blanks(61, 61, term=5))
    with pytest.raises(StorageError, match="gone on"):
        directory.restore_retired(retired)
    directory.open_stores()
    directory.log.save_hard_state(VOTED)  # recovered
    with pytest.raises(StorageError, match="gone on"):
        directory.restore_retired(retired)
    directory.open_stores()
    assert directory.log.state().last == log_id(5, 61)
    directory.close()


@pytest.mark.parametrize(
    "name",
    ["retired-../n2", "../retired-1", "retired-1/../../x", "log", "", "retired-", "retired-20200101T000000Z", "retired-1\n"],
)
def test_only_a_retired_directory_is_brought_back(name, tmp_path):
    directory = used(tmp_path / "n1")
    directory.wipe(BARRIER, "rejoin")
    with pytest.raises(StorageError, match="retired data"):
        directory.restore_retired(name)
    directory.close()


def test_a_symbolic_link_is_not_brought_back(tmp_path):
    directory = used(tmp_path / "n1")
    retired = directory.wipe(BARRIER, "rejoin")
    (directory.path / "retired-1").symlink_to(directory.path / retired)
    with pytest.raises(StorageError, match="retired data"):
        directory.restore_retired("retired-1")
    directory.close()


def test_killed_at_any_call_of_an_undo_it_is_finished_or_had_not_begun(tmp_path):
    directory = used(tmp_path / "original")
    retired = directory.wipe(BARRIER, "rejoin")
    directory.open_stores()
    write(directory.log, blanks(1, 5))
    directory.close()
    shutil.copytree(tmp_path / "original", tmp_path / "probe")
    probe = CountingFiles()
    directory = open_dir(tmp_path / "probe", probe)
    before = probe.calls
    directory.restore_retired(retired)
    after = probe.calls
    directory.close()
    outcomes = set()
    for fatal in range(before + 1, after + 1):
        path = tmp_path / f"n{fatal}"
        shutil.copytree(tmp_path / "original", path)
        files = VolatileFiles(fatal)
        directory = open_dir(path, files)
        with pytest.raises(PowerCut):
            directory.restore_retired(retired)
        files.fatal = None
        directory.close()
        files.lose(random.Random(fatal))
        directory = open_dir(path)
        is_undone = directory.log.state().last == log_id(1, 50)
        if is_undone:
            assert_as_before(directory)
        else:
            assert directory.log.state().last == log_id(1, 5), fatal
            assert directory.log.hard_state().recovery == Recovery(BARRIER, "rejoin")
        outcomes.add(is_undone)
        assert not (path / "restore.json").exists()
        directory.close()
    assert outcomes == {True, False}


def test_free_space_is_a_number_of_bytes(tmp_path):
    directory = open_dir(tmp_path / "n1")
    assert 0 < directory.free_bytes() <= shutil.disk_usage(tmp_path).total
    directory.close()


def test_a_directory_that_is_gone_is_not_measured_as_a_full_disk(tmp_path):
    directory = open_dir(tmp_path / "gone" / "n1")
    shutil.rmtree(tmp_path / "gone")
    assert 0 < directory.free_bytes() <= shutil.disk_usage(tmp_path).total
    directory.close()
