"""`runs`: listing, showing, exporting, and what a person is told to do next."""

from __future__ import annotations

import errno
import hashlib
import json
import socket

import msgspec
import pytest

from raftctl.runbook import journal
from raftctl.runbook.journal import Journal, read_runs
from raftctl.runbook.lock import Holder
from tests.raftctl.fake_cluster import problem
from tests.raftctl.rejoin_cluster import WELL, mocked

LINE = "rejoin-node 3 --yes --confirm demo"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake


@pytest.fixture
def stuck(cluster, raftctl) -> str:
    """A run that needs attention: neither forward nor back could be gone."""
    broken = problem(500, "start_failed", "no such directory")
    cluster.answers("/v1/node/start-raft", broken, broken)
    raftctl(LINE, code=9)
    (run,) = read_runs()
    return run.run_id


def test_runs_are_listed_with_what_became_of_them(raftctl, stuck):
    assert stuck in raftctl("runs list").out
    (item,) = raftctl("runs list -o json").data["items"]
    assert (stuck, "rejoin-node", 3, "needs_attention", True, True) == tuple(
        item[name] for name in ("run", "command", "node", "outcome", "resumable", "intact")
    )
    assert [stuck] == raftctl("runs list -o name").out.split()


def test_without_runs_nothing_is_printed_but_a_word_on_it(raftctl):
    told = raftctl("runs list")
    assert ("", "no runs yet\n") == (told.out, told.err)


def test_of_two_runs_of_one_second_the_later_one_is_listed_first_and_old_names_are_read(raftctl, monkeypatch):
    def ran(run_id, at, *, has_begun=True):
        monkeypatch.setattr(journal, "now_text", lambda: at)
        file = Journal.begin("drain-1")
        if has_begun:
            file.write("run_begun", command="drain", cluster="demo", node=1)
        file.close()
        file.path.rename(file.path.with_stem(run_id))

    ran("20261126T115027Z-rejoin-node-3-ffff", "2026-11-26T11:50:27.100Z")
    ran("20261126T115027Z-drain-3-0000", "2026-11-26T11:50:27.900Z")
    ran("20261126T115028Z-empty-1-0000", "", has_begun=False)
    ran("20261126T115026Z-snapshot-1-0000", "2026-11-26T11:50:26.000Z")
    words = [name.split("-")[1] for name in raftctl("runs list -o name").out.split()]
    assert ["empty", "drain", "rejoin", "snapshot"] == words


@pytest.mark.parametrize("line", [LINE, "drain 2 --yes", "rolling-restart --yes"])
def test_a_refusal_names_the_run_that_did_not_end(cluster, raftctl, stuck, line):
    hint = raftctl(f"{line} -o json", code=5).error["hint"]
    assert hint.startswith(f"run {stuck} did not end: raftctl runs resume {stuck}, or raftctl runs abort {stuck}")


def test_a_refusal_does_not_name_a_run_of_another_cluster(cluster, raftctl):
    file = Journal.begin("drain-3")
    file.write("run_begun", command="drain", cluster="another", node=3)
    file.close()
    cluster.nodes[2]["leader"] = None
    assert file.run_id not in str(raftctl(f"{LINE} -o json", code=5).error["hint"])


def test_a_run_that_a_process_is_at_is_not_said_to_have_ended(cluster, raftctl, stuck):
    file, _run = Journal.reopen(stuck)
    assert stuck not in str(raftctl(f"{LINE} -o json", code=5).error["hint"])
    file.close()


@pytest.mark.parametrize(("host", "where"), [(socket.gethostname(), "dead: "), ("another", "dead: there, ")])
def test_who_holds_the_lock_is_named_with_the_run_to_go_on_with(cluster, raftctl, host, where):
    holder = Holder(
        run="one", command="drain", operator="o", host=host, pid=1, since="s", expires_at="2999-01-01T00:00:00Z", token="t"
    )
    cluster.keys[b"raftctl/lock"] = (msgspec.json.encode(holder), 7)
    error = raftctl(f"{LINE} -o json", code=5).error
    assert ["no-lock"] == error["rule_ids"]
    assert f"{where}raftctl runs resume one, or raftctl runs abort one" in error["hint"]


def test_a_run_is_shown_with_what_can_be_done_next(raftctl, stuck):
    shown = raftctl("runs show", stuck)
    assert f"raftctl runs resume {stuck}" in shown.out
    assert f"raftctl runs abort {stuck}" in shown.out
    assert "intact" in shown.out
    assert "undo_failed" in [record["event"] for record in raftctl(f"runs show {stuck} -o json").data["records"]]


def test_a_finished_run_has_nothing_left_to_do(cluster, raftctl):
    raftctl(LINE)
    (run,) = read_runs()
    assert [] == raftctl(f"runs show {run.run_id} -o json").data["next"]


def test_a_receipt_is_held_against_its_journal(cluster, raftctl):
    raftctl(LINE)
    (run,) = read_runs()
    assert raftctl(f"runs show {run.run_id} -o json").data["receipt"]["matches"]
    lines = run.path.read_text().splitlines(keepends=True)
    run.path.write_text("".join(lines[:-1]))  # a whole line less is a chain without a fault
    shown = raftctl(f"runs show {run.run_id}")
    assert "is not the receipt of this journal" in shown.err
    asked = len(cluster.mutations)
    assert "journal_damaged" == raftctl(f"runs resume {run.run_id} -o json", code=9).error["code"]
    assert asked == len(cluster.mutations)
    run.path.write_text("".join(lines))
    path = run.path.with_suffix(".receipt.json")
    path.write_text("nothing")
    assert not raftctl(f"runs show {run.run_id} -o json").data["receipt"]["matches"]


def test_a_receipt_that_cannot_be_kept_makes_a_run_no_less_done(cluster, raftctl, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("raftctl.runbook.receipt.write_durably", full)
        ended = raftctl(LINE)
    (run,) = read_runs()
    assert "the run is done, but its receipt cannot be kept beside" in ended.err
    assert f"No space left on device; once there is room: raftctl runs resume {run.run_id}" in ended.err
    raftctl(f"runs resume {run.run_id}")
    assert raftctl(f"runs show {run.run_id} -o json").data["receipt"]["matches"]


@pytest.mark.parametrize("verb", ["resume", "abort"])
def test_a_dry_run_of_going_on_changes_nothing(cluster, raftctl, stuck, verb):
    asked = len(cluster.mutations)
    plan = raftctl(f"runs {verb} {stuck} --dry-run -o json").data
    assert "wipe" in plan["steps_done"]
    assert asked == len(cluster.mutations)


@pytest.mark.parametrize("verb", ["resume", "abort"])
def test_a_dry_run_of_going_on_with_a_copy_does_not_take_it_in(cluster, raftctl, stuck, tmp_path, monkeypatch, verb):
    target = tmp_path / "copy.jsonl"
    raftctl(f"runs export {stuck}", "--to", str(target))
    monkeypatch.setenv("RAFTCTL_STATE", str(tmp_path / "elsewhere"))
    plan = raftctl(f"runs {verb} --dry-run -o json", str(target)).data
    assert (stuck, f"raftctl runs {verb} {stuck}" in plan["next"]) == (plan["run"], True)
    assert [] == list(read_runs())


def test_a_dry_run_of_an_export_writes_nothing_and_says_what_it_would_write(raftctl, stuck, tmp_path):
    (run,) = read_runs()
    size, target = run.path.stat().st_size, tmp_path / "copy.jsonl"
    assert (
        f"would write {len(run.records)} records, {size} bytes, to {target}"
        in raftctl(f"runs export {stuck} --dry-run", "--to", str(target)).out
    )
    plan = raftctl(f"runs export {stuck} --dry-run -o json", "--to", str(target)).data
    assert (str(target), size) == (plan["file"], plan["bytes"])
    assert f"{size} bytes, to standard output" in raftctl(f"runs export {stuck} --dry-run").out
    assert not target.exists()
    target.write_text("mine")
    raftctl(f"runs export {stuck} --dry-run", "--to", str(target), code=3)


def test_a_journal_is_exported_as_it_is(raftctl, stuck, tmp_path):
    (run,) = read_runs()
    target = tmp_path / "copy.jsonl"
    told = raftctl(f"runs export {stuck} -o json", "--to", str(target)).data
    assert run.path.read_bytes() == target.read_bytes()
    assert hashlib.sha256(target.read_bytes()).hexdigest() == told["sha256"]
    assert run.head == told["head_sha256"]
    assert raftctl(f"runs export {stuck}").out == target.read_text()
    raftctl(f"runs export {stuck}", "--to", str(target), code=3)


def test_an_exported_journal_is_gone_on_with_on_another_machine(cluster, raftctl, stuck, tmp_path, monkeypatch):
    target = tmp_path / "copy.jsonl"
    raftctl(f"runs export {stuck}", "--to", str(target))
    monkeypatch.setenv("RAFTCTL_STATE", str(tmp_path / "elsewhere"))
    raftctl("runs resume", str(target), code=8)
    (run,) = read_runs()
    assert (stuck, "undone") == (run.run_id, run.outcome)
    assert WELL == cluster.picture(3)


@pytest.mark.parametrize("line", [LINE, f"{LINE} --dry-run", "drain 3 --yes --confirm demo"])
def test_a_run_in_another_cluster_than_the_one_named_is_refused_before_anything_is_measured(cluster, raftctl, line):
    refused = raftctl(line.replace("demo", "demmo"), code=5)
    assert "--confirm says 'demmo', this is cluster 'demo'" in refused.err
    assert "Plan:" not in refused.out + refused.err
    assert {("GET", "/v1/status")} == {(method, path) for method, _, path, _ in cluster.requests}
    assert [] == list(read_runs())


def test_a_run_is_not_gone_on_with_in_another_cluster_than_the_one_named(cluster, raftctl, stuck):
    asked = len(cluster.mutations)
    assert "'demmo'" in raftctl(f"runs resume {stuck} --confirm demmo", code=5).err
    assert asked == len(cluster.mutations)


def test_a_line_of_a_journal_that_was_changed_is_noticed_and_named(cluster, raftctl, stuck):
    (run,) = read_runs()
    lines = run.path.read_text().splitlines()
    record = json.loads(lines[2])
    record["step"] = "nothing"
    lines[2] = json.dumps(record)
    run.path.write_text("\n".join(lines) + "\n")
    (again,) = read_runs()
    assert 3 == again.broken_at
    assert "CHANGED" in raftctl("runs list").out
    assert "CHANGED" in raftctl(f"runs show {stuck}").out
    asked = len(cluster.mutations)
    for verb in ("resume", "abort", "export"):
        error = raftctl(f"runs {verb} {stuck} -o json", code=9).error
        assert ("journal_damaged", True) == (error["code"], "line 3 of" in error["message"])
    assert asked == len(cluster.mutations)


def test_a_torn_last_line_is_told_and_does_no_harm(raftctl, stuck):
    (run,) = read_runs()
    with run.path.open("ab") as file:
        file.write(b'{"seq":99,"at":"20')
    assert "is torn" in raftctl(f"runs show {stuck}").err
    raftctl(f"runs resume {stuck}", code=8)
    (again,) = read_runs()
    assert (None, 0, "undone") == (again.broken_at, again.torn_bytes, again.outcome)


@pytest.mark.parametrize("verb", ["show", "resume", "abort", "export"])
def test_an_unknown_run_is_13(cluster, raftctl, verb):
    raftctl(f"runs {verb} never-was", code=13)
    raftctl(f"runs {verb} ./never-was.jsonl", code=13)


def test_a_damaged_copy_is_to_be_copied_again_and_no_run_is_named_that_is_not_here(raftctl, stuck, tmp_path, monkeypatch):
    target = tmp_path / "copy.jsonl"
    raftctl(f"runs export {stuck}", "--to", str(target))
    target.write_text(target.read_text().replace('"rejoin-node"', '"drain"', 1))
    monkeypatch.setenv("RAFTCTL_STATE", str(tmp_path / "elsewhere"))
    error = raftctl("runs resume -o json", str(target), code=9).error
    assert "journal_damaged" == error["code"]
    assert "copy it again from where it was written, with raftctl runs export" == error["hint"]
