"""`raft-engine wipe` and `restore`: what they ask for, what they refuse, and what they leave."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from raft_engine.__main__ import main
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.files import Files
from raft_engine.storage.hard_state import read_hard_state
from raft_engine.testing.storage_suite import log_id
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId
from tests.commands.directories import contents, damage, first_segment, make_directory
from tests.storage.test_data_dir import VOTED, open_dir, remove

BARRIER = "T5-N2.60"
UNTIL = ["--recover-until", BARRIER]
NAMED = ["--confirm", "demo"]


def answer(monkeypatch, text: str) -> None:
    """Whoever sits at the terminal types this."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return text + "\n"

    monkeypatch.setattr(sys, "stdin", Terminal())


def untouched(directory: Path, capsys, *arguments: str, code: int) -> str:
    """Run a command that must refuse with `code` and change nothing; return what it said."""
    before = contents(directory)
    assert main([*arguments]) == code
    after = contents(directory)
    after.pop("lock", None)
    before.pop("lock", None)
    assert after == before
    out, err = capsys.readouterr()
    assert out == ""
    return err


# -- done ----------------------------------------------------------------------------------------------------------------


def test_the_vote_is_kept_and_the_rest_retired(directory, capsys):
    assert main(["wipe", str(directory), *UNTIL, *NAMED, "--reason", "a bad disk"]) == 0
    out, err = capsys.readouterr()
    retired = Path(out.strip())
    assert sorted(path.name for path in retired.iterdir()) == ["log", "sm", "snapshots", "wipe.json"]
    assert read_hard_state(directory, Files())[0] == HardState(
        VOTED.vote, Recovery(LogId(Term(5), NodeId(2), LogIndex(60)), "a bad disk")
    )
    assert "node 1 keeps its vote and recovers until its log holds T5-N2.60" in err
    assert "raftctl allow-next-revert --to 1" in err


def test_a_second_wipe_names_the_later_of_both_barriers_as_that_is_what_it_waits_for(directory, capsys):
    assert main(["wipe", str(directory), *UNTIL, *NAMED]) == 0
    capsys.readouterr()
    assert main(["wipe", str(directory), "--recover-until", "T5-N2.12", *NAMED]) == 0
    assert f"recovers until its log holds {BARRIER}" in capsys.readouterr().err


def test_the_boot_counter_stays_as_it_is(directory):
    assert main(["wipe", str(directory), *UNTIL, *NAMED]) == 0
    assert json.loads((directory / "identity.json").read_text())["identity"]["boot_count"] == 1


def test_node_toml_names_directory_and_cluster(tmp_path, capsys):
    make_directory(tmp_path / "data")
    config = tmp_path / "node.toml"
    config.write_text(
        'cluster = "demo"\nnode_id = 1\ndata_dir = "data"\n[listen]\nmanagement = "127.0.0.1:9101"\nraft = "127.0.0.1:9201"\n'
    )
    assert main(["wipe", "--config", str(config), *UNTIL]) == 0
    assert Path(capsys.readouterr().out.strip()).parent == tmp_path / "data"


def test_a_repeated_wipe_says_the_same_and_does_nothing(directory, capsys):
    assert main(["wipe", str(directory), *UNTIL, *NAMED]) == 0
    first = capsys.readouterr().out
    assert main(["wipe", str(directory), *UNTIL, *NAMED]) == 0
    assert capsys.readouterr().out == first
    assert len(list(directory.glob("retired-*"))) == 1


def test_a_damaged_log_is_what_a_wipe_is_for(directory):
    damage(first_segment(directory), 600)
    assert main(["wipe", str(directory), *UNTIL, *NAMED]) == 0
    assert main(["inspect", str(directory)]) == 0


def test_an_interrupted_wipe_is_finished_by_repeating_it(directory, capsys):
    wiping = open_dir(directory)
    retired = wiping.wipe(log_id(5, 60), "first")
    wiping.close()
    # as it is when the power went after the log was moved, before the rest was
    (directory / retired / "wipe.json").rename(directory / "wipe.json")
    (directory / retired / "sm").rename(directory / "sm")
    remove(directory, "log")
    assert main(["inspect", str(directory)]) == 14
    assert "a wipe or its undo was interrupted" in capsys.readouterr().out
    assert main(["wipe", str(directory), "--recover-until", "T5-N1.60", *NAMED]) == 0
    assert capsys.readouterr().out == f"{directory / retired}\n"
    assert sorted(path.name for path in (directory / retired).iterdir()) == ["log", "sm", "snapshots", "wipe.json"]
    assert not (directory / "wipe.json").exists()


# -- refused -------------------------------------------------------------------------------------------------------------


def test_without_a_barrier_it_says_what_one_is_and_how_to_get_it(directory, capsys):
    said = untouched(directory, capsys, "wipe", str(directory), *NAMED, code=5)
    assert 'POST /v1/barrier {"exclude": [1]}' in said
    assert "raftctl rejoin-node" in said


@pytest.mark.parametrize("barrier", ["T1-N1.9", "T1-N1.8", "T0-N1.100"])
def test_a_barrier_from_before_the_stop_is_refused(barrier, directory, capsys):
    said = untouched(directory, capsys, "wipe", str(directory), "--recover-until", barrier, *NAMED, code=5)
    assert "this node's log holds T1-N1.9" in said


def test_a_snapshot_alone_tells_an_old_barrier_too(directory, capsys):
    damage(directory / "log" / "marks", 8)
    damage(directory / "log" / "marks", 4104)
    said = untouched(directory, capsys, "wipe", str(directory), "--recover-until", "T1-N1.5", *NAMED, code=5)
    assert "holds T1-N1.5" in said


def test_the_entry_just_after_the_log_will_do(directory):
    assert main(["wipe", str(directory), "--recover-until", "T1-N1.10", *NAMED]) == 0


@pytest.mark.parametrize("rehearsal", [[], ["--dry-run"]])
def test_a_directory_that_is_open_is_left_alone(rehearsal, directory, capsys):
    holder = DataDir(directory, "demo", NodeId(1), open_stores=False)
    try:
        said = untouched(directory, capsys, "wipe", str(directory), *UNTIL, *NAMED, *rehearsal, code=6)
    finally:
        holder.close()
    assert f"process {os.getpid()} has this data directory open" in said


def test_a_node_that_ran_since_is_left_alone(directory, capsys):
    said = untouched(directory, capsys, "wipe", str(directory), *UNTIL, *NAMED, "--expect-boot", "7", code=6)
    assert "the boot counter is 1, not 7" in said


def test_a_node_whose_vote_is_lost_cannot_be_wiped(directory, capsys):
    remove(directory, "hard_state")
    said = untouched(directory, capsys, "wipe", str(directory), *UNTIL, *NAMED, code=14)
    assert "this node's vote is lost" in said
    assert "raftctl rejoin-node with --blank" in said


def test_a_node_whose_vote_is_damaged_cannot_be_wiped(directory, capsys):
    damage(directory / "hard_state", 20)
    damage(directory / "hard_state", 4116)
    said = untouched(directory, capsys, "wipe", str(directory), *UNTIL, *NAMED, code=14)
    assert "both copies are damaged: what this node promised is lost" in said
    assert "raftctl rejoin-node with --blank" in said


def test_nothing_and_something_else_are_13(tmp_path, capsys):
    assert main(["wipe", str(tmp_path / "absent"), *UNTIL, *NAMED]) == 13
    assert main(["wipe", str(tmp_path), *UNTIL, *NAMED]) == 13
    assert "this is no data directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("named", [[], ["--confirm", "prod"]])
def test_in_a_script_the_cluster_has_to_be_named(named, directory, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    said = untouched(directory, capsys, "wipe", str(directory), *UNTIL, *named, code=2)
    assert "--confirm must be the name of the directory's cluster" in said


def test_at_a_terminal_the_cluster_is_asked_for(directory, capsys, monkeypatch):
    answer(monkeypatch, "demon")
    said = untouched(directory, capsys, "wipe", str(directory), *UNTIL, code=20)
    assert "type the cluster's name (demo) to go on" in said
    answer(monkeypatch, "demo")
    assert main(["wipe", str(directory), *UNTIL]) == 0


@pytest.mark.parametrize(
    "arguments", [["wipe", *UNTIL], ["wipe", "n1", "--config", "node.toml", *UNTIL], ["restore", "--retired", "x"]]
)
def test_directory_or_node_toml_exactly_one(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "give either DIR or --config FILE" in capsys.readouterr().err


def test_a_log_id_that_is_none_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as end:
        main(["wipe", "--config", "x", "--recover-until", "1180"])
    assert end.value.code == 2
    assert "T5-N1.1180" in capsys.readouterr().err


# -- rehearsed -----------------------------------------------------------------------------------------------------------


def test_a_rehearsal_says_what_would_be_done_and_touches_nothing(directory, capsys):
    before = contents(directory)
    assert main(["wipe", str(directory), *UNTIL, "--dry-run"]) == 0
    assert contents(directory) == before
    out = capsys.readouterr().out
    assert f"would move log, snapshots, sm to {directory}/retired-" in out
    assert "its log ends with T1-N1.9" in out


def test_a_rehearsal_refuses_what_the_wipe_would(directory, capsys):
    said = untouched(directory, capsys, "wipe", str(directory), "--recover-until", "T1-N1.9", "--dry-run", code=5)
    assert "before the node stopped" in said
    untouched(directory, capsys, "wipe", str(directory), "--dry-run", code=5)
    untouched(directory, capsys, "wipe", str(directory), *UNTIL, "--dry-run", "--expect-boot", "2", code=6)


# -- taken back ----------------------------------------------------------------------------------------------------------


def test_a_wipe_is_taken_back(directory, capsys):
    assert main(["wipe", str(directory), *UNTIL, *NAMED]) == 0
    retired = Path(capsys.readouterr().out.strip())
    assert main(["restore", str(directory), "--retired", retired.name, *NAMED]) == 0
    aside = Path(capsys.readouterr().out.strip())
    assert aside.parent == directory
    again = open_dir(directory)
    assert again.log.state().last == log_id(1, 9)
    assert again.log.hard_state() == VOTED
    again.close()


def test_a_wipe_is_not_taken_back_unasked(directory, capsys, monkeypatch):
    assert main(["wipe", str(directory), *UNTIL, *NAMED]) == 0
    retired = Path(capsys.readouterr().out.strip())
    answer(monkeypatch, "no")
    untouched(directory, capsys, "restore", str(directory), "--retired", retired.name, code=20)


def test_what_is_no_retired_data_is_refused(directory, capsys):
    said = untouched(directory, capsys, "restore", str(directory), "--retired", "retired-20200101T000000Z", *NAMED, code=4)
    assert "is not a directory with retired data" in said
