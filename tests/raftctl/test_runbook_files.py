"""Runbooks that are files: what is good, what is said of what is not, and what a run of one does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from raftctl import deadline
from raftctl.runbook import lock
from raftctl.runbook.files import parse
from raftctl.runbook.journal import read_runs
from tests.raftctl.killing import Clock, Killed, Killer
from tests.raftctl.operations_cluster import mocked

EXAMPLES = sorted((Path(__file__).parents[2] / "examples/runbooks").glob("*.toml"))
POINTS = 52
"""More than the run below has; a test says so if it grows."""
HEAD = 'name = "mine"\n'


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake
        assert [] == fake.sins


@pytest.fixture(autouse=True)
def _time_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in (deadline, lock):
        monkeypatch.setattr(module, "time", clock)


@pytest.fixture
def book(tmp_path: Path):
    """Return a function that writes a file and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "book.toml"
        path.write_text(HEAD + text)
        return str(path)

    return write


def python(code: str) -> str:
    """A command line that runs a piece of Python; quoted twice, for TOML and for words."""
    return f"'''{sys.executable} -c \"{code}\"'''"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_good(raftctl, path: Path):
    assert "is good" in raftctl(f"runbook validate {path}").out


def test_there_are_three_examples():
    assert 3 == len(EXAMPLES)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[[steps]]\ndo = "snapshot"\nnodez = "all"', "line 2: step 1 has a word that is none: nodez"),
        ('[[steps]]\ndo = "fly"', "line 2: step 1: there is no action 'fly'"),
        ('[[steps]]\ndo = "heartbeat"\n[[steps]]\ndo = "snapshot"', "line 4: step 2: snapshot needs nodes"),
        ('[[steps]]\ndo = "heartbeat"\nrun = "true"', "step 1: heartbeat takes no run"),
        ('[[steps]]\ndo = "snapshot"\nnodes = "some"', "nodes = 'some'"),
        ('[[steps]]\ndo = "command"\nrun = "echo {who}"', "{who} stands for nothing"),
        ('[[steps]]\ndo = "command"\nrun = "echo \'"', "is not a command"),
        ('[[steps]]\ndo = "wait"\nuntil = "tomorrow"', "until = 'tomorrow'"),
        ('[[steps]]\ndo = "wait"\nuntil = "up"', "wait is for the cluster"),
        ('[[steps]]\ndo = "wait"\nuntil = "healthy"\ntime-limit = "soon"', "time-limit"),
        ("steps = []", "the runbook has no steps"),
        ("", "line 1: the runbook has no steps"),
        ('[[steps]]\nnodes = "all"', "line 2: step 1 has no do"),
        ("[[steps]]\ndo = 7", "line 2: step 1, do: expected `str`, got `int`"),
        (
            '[parameters]\nunit = 7\n[[steps]]\ndo = "heartbeat"',
            "the runbook, parameters[...]: expected `object`, got `int`",
        ),
        ("[[steps]\n", "is not TOML"),
        ('[parameters.node]\n[[steps]]\ndo = "heartbeat"', "parameters.node is no name for a parameter"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(raftctl, book, text: str, why: str):
    ended = raftctl(f"runbook validate {book(text)} -o json", code=3)
    assert why in ended.error["message"]


def test_a_file_that_is_not_there(raftctl):
    assert "there is no file never.toml" in raftctl("runbook validate never.toml", code=13).err


def test_a_file_without_a_name_is_told_where_to_put_it(raftctl, tmp_path):
    nameless = tmp_path / "nameless.toml"
    nameless.write_text('[[steps]]\ndo = "heartbeat"\n')
    error = raftctl("runbook validate -o json", str(nameless), code=3).error
    assert error["message"] == f"{nameless}, line 1: the runbook has no name"
    assert error["hint"] == 'put name = "…" before the first step'


def test_a_file_in_the_place_for_them_is_known_by_its_name(raftctl):
    directory = raftctl.config.parent / "runbooks"
    directory.mkdir()
    (directory / "nightly.toml").write_text(HEAD + 'about = "Each night."\n[[steps]]\ndo = "heartbeat"')
    assert "Each night." in raftctl("runbook list").out
    assert 1 == raftctl("runbook validate nightly -o json").data["steps"]


def test_each_step_is_done_on_each_of_its_nodes_the_leader_last(cluster, raftctl, book):
    path = book('[[steps]]\ndo = "snapshot"\nnodes = "all"\n[[steps]]\ndo = "purge-log"\nnodes = [2]\nupto = 60')
    data = raftctl(f"runbook run {path} --yes -o json").data
    assert ["1-snapshot-2", "1-snapshot-3", "1-snapshot-1", "2-purge-log-2"] == data["steps"]
    assert 60 == cluster.nodes[2]["purged"]["index"]


def test_parameters_fill_templates(cluster, raftctl, book, tmp_path: Path):
    code = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    path = book(
        f'[parameters.where]\n[parameters.what]\ndefault = "x"\n[[steps]]\ndo = "command"\nnodes = [3]\n'
        f"run = '''{sys.executable} -c \"{code}\" {{where}} {{node}}-{{what}}-{{cluster}}'''"
    )
    raftctl(f"runbook run {path} --yes --set where={tmp_path}/out")
    assert "3-x-demo" == (tmp_path / "out").read_text()


@pytest.mark.parametrize(("more", "why"), [("", "needs --set where="), ("--set where=a --set b=c", "no such parameter")])
def test_a_parameter_that_is_missing_or_unknown(cluster, raftctl, book, more: str, why: str):
    path = book('[parameters.where]\n[[steps]]\ndo = "heartbeat"')
    assert why in raftctl(f"runbook run {path} --yes {more}", code=2).err


def test_a_step_that_fails_has_the_steps_before_it_undone(cluster, raftctl, book, tmp_path: Path):
    path = book(
        f'[[steps]]\ndo = "command"\nrun = "touch {tmp_path}/there"\nundo = "rm {tmp_path}/there"\n'
        f'[[steps]]\ndo = "drain"\nnodes = [1]\n[[steps]]\ndo = "command"\nrun = {python("import sys; sys.exit(3)")}'
    )
    ended = raftctl(f"runbook run {path} --yes -o json", code=8)
    assert "exit status 3" in ended.error["message"]
    assert not (tmp_path / "there").exists()
    assert cluster.nodes[1]["runtime_config"]["enable_elect"] is True


def test_a_command_that_failed_with_nothing_to_undo_can_be_gone_on_with_or_given_up(cluster, raftctl, book, tmp_path: Path):
    path = book(f'[[steps]]\ndo = "command"\nrun = "ls {tmp_path}/there"')
    error = raftctl(f"runbook run {path} --yes -o json", code=9).error
    (run,) = read_runs()
    assert ("needs_attention", f"raftctl runs resume {run.run_id}" in error["hint"]) == (run.outcome, True)
    (tmp_path / "there").touch()
    raftctl(f"runs resume {run.run_id}")
    (run,) = read_runs()
    assert "done" == run.outcome


def test_a_restart_of_all_takes_the_leader_last(cluster, raftctl, book):
    path = book('[[steps]]\ndo = "restart"\nnodes = "all"\n[[steps]]\ndo = "wait"\nuntil = "healthy"')
    raftctl(f"runbook run {path} --yes")
    assert [2, 2, 2] == cluster.starts()


def test_a_dry_run_only_reads(cluster, raftctl, book):
    path = book('[[steps]]\ndo = "drain"\nnodes = "leader"\n[[steps]]\ndo = "elect"\nnodes = [2]')
    assert "drain on node 1" in raftctl(f"runbook run {path} --dry-run").out
    assert [] == cluster.mutations


def test_somebody_who_is_no_member_is_found_before_anything_is_done(cluster, raftctl, book):
    path = book('[[steps]]\ndo = "snapshot"\nnodes = [1, 9]')
    assert f"{path}, line 2: step 1: '9' is no member" in raftctl(f"runbook run {path} --yes", code=3).err
    assert [] == cluster.mutations


@pytest.mark.parametrize("point", range(POINTS))
def test_a_run_that_died_is_finished_although_its_file_is_gone(
    cluster, raftctl, book, monkeypatch: pytest.MonkeyPatch, point: int
):
    killer = Killer(monkeypatch)
    killer.again(point)
    path = book(
        '[[steps]]\ndo = "drain"\nnodes = [1]\n[[steps]]\ndo = "restart"\nnodes = [1]\n'
        '[[steps]]\ndo = "undrain"\nnodes = [1]\n[[steps]]\ndo = "wait"\nuntil = "healthy"'
    )
    try:
        raftctl(f"runbook run {path} --yes", code=None)
    except Killed:
        Path(path).unlink()
        killer.again()
        runs = list(read_runs())
        if not any(run.records for run in runs):
            return
        raftctl(f"runs resume {runs[0].run_id}")
    else:
        assert point > POINTS - 12
    (run,) = read_runs()
    assert "done" == run.outcome
    assert (2, True) == (cluster.nodes[1]["engine_starts"], cluster.nodes[1]["runtime_config"]["enable_elect"])


def test_the_words_of_the_documentation_are_those_that_are_known():
    text = (Path(__file__).parents[2] / "docs/operating.md").read_text()
    block = text.split("```toml\n# patch.toml")[1].split("```")[0]
    assert 4 == len(parse(block, "docs").steps)
