"""The dialogues in scenarios/: each file says what happens, and it does.

Goal: a change of the protocol shows as a difference in a text that people can judge.
Method: run the file's commands against real cores and compare word for word.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from raft_engine.testing.scenario import difference, main, parse, replay
from raft_engine.testing.scenario_commands import WORDS, ScenarioError, usages
from raft_engine.testing.scenario_safety import Safety
from tests.core.builder import Node, append, at, elected, entry, leader, leads, vote

HERE = Path(__file__).parent
FILES = sorted((HERE / "scenarios").glob("*/*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_happens_is_what_the_file_says(path: Path):
    assert difference(path) == ""


def test_every_word_of_the_language_is_used_by_some_scenario():
    used = set()
    for path in FILES:
        for step in parse(path.read_text()):
            used |= {line.removeprefix("quiet ").split()[0] for _, line in step.commands}
    assert set() == WORDS.keys() - used


def test_every_scenario_begins_with_what_it_shows():
    assert [] == [path for path in FILES if not path.read_text().startswith("# ")]


PAGE = (HERE.parents[1] / "docs" / "scenarios.md").read_text()


def test_the_page_has_every_word_with_its_usage_and_its_meaning():
    rows = [f"| `{use.replace('|', chr(92) + '|')}` | {meaning} |" for use, meaning in usages()]
    table = PAGE.partition("## Words\n\n| word | what it does |\n|---|---|\n")[2].partition("\n\n")[0]
    assert rows == table.splitlines()


def test_the_page_ports_only_to_words_that_there_are():
    table = PAGE.partition("| etcd | here |\n|---|---|\n")[2]
    here = [word for row in table.splitlines() for word in re.findall(r"`(\w+)[^`]*`", row.split("|")[2])]
    assert [] == [word for word in here if word not in WORDS]


def test_a_scenario_that_says_something_else_fails_with_the_difference(tmp_path: Path):
    path = tmp_path / "wrong.txt"
    path.write_text("nodes 1\n----\nok\n\nadvance 1\n----\n  1 saves T7-N1\n")
    assert "-  1 saves T7-N1" in difference(path)
    assert main([str(path)]) == 1


def test_rewriting_records_what_happens(tmp_path: Path):
    path = tmp_path / "fresh.txt"
    path.write_text("# one node\nnodes 1\n----\n\nstatus\n----\n")
    assert main(["--rewrite", str(path)]) == 0
    assert (
        "# one node\nnodes 1\n----\nok\n\nstatus\n----\n1 follower T0 leader=- last=T0.1 committed=0 applied=0\n"
        == path.read_text()
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes 1\n", "line 1: 'nodes 1' is not followed by ----"),
        (
            "nodes 1\n----\nok\n\nquiet status\ncampain 1\n----\n",
            "line 6: 'campain' is not a word of the scenario language; did",
        ),
        ("nodes 1\n----\nok\n\ncampain 1\n----\n", "did you mean 'campaign'?"),
        ("nodes 1\n----\nok\n\ncrash 9\n----\n", "line 5: 'crash 9': '9' is not a node; there are [1]; usage: crash"),
        ("nodes 1\n----\nok\n\ncampaign 1 prevote\n----\n", "'prevote' is not expected here; did you mean 'pre-vote'?"),
        ("nodes 1\n----\nok\n\narm 1 1 tll=3\n----\n", "'tll' is not an option here; did you mean 'ttl'?"),
        ("nodes 1 heartbeat_interval=20\n----\n", "did you mean 'heartbeat_interval_ms'?"),
        ("nodes 1 heartbeat_interval_ms=500\n----\n", "must be below raft.election_timeout_min_ms"),
        ("nodes 2\n----\nok\n\ndeliver Vot\n----\n", "'Vot' is no kind of message; did you mean 'Vote'?"),
        ("nodes 1 stopped\n----\nok\n\npropose 1 a\n----\n", "node 1 does not run"),
        ("nodes 1\n----\nok\n\ndisk slw 1\n----\n", "did you mean 'slow'?"),
        ("nodes 1\n----\nok\n\njump -5 1\n----\n", "never set back"),
        ("nodes 1\n----\nok\n\nforget 1\n----\n", "node 1 follows nobody"),
        ("nodes\n----\n", "usage: nodes N"),
        ("nodes 1\n----\nok\n\nwipe 1 blank\n----\n", "node 1 runs: crash it first"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(text: str, says: str):
    with pytest.raises(ScenarioError, match=re.escape(says)):
        replay(text)


def test_the_command_says_in_which_file_a_mistake_is(tmp_path: Path):
    path = tmp_path / "typo.txt"
    path.write_text("nodes 1\n----\nok\n\nstatsu\n----\n")
    ran = _command(tmp_path, "typo.txt", "missing.txt")
    assert 1 == ran.returncode
    assert "typo.txt: line 5: 'statsu' is not a word of the scenario language; did you mean 'status'?" in ran.stdout
    assert "missing.txt: " in ran.stdout


def test_the_command_compares_and_records_anywhere(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("# mine\nnodes 1\n----\n\nstatus\n----\n")
    assert [1, 0, 0] == [
        _command(tmp_path, *arguments).returncode for arguments in (["mine.txt"], ["--rewrite", "mine.txt"], ["mine.txt"])
    ]


def test_the_command_lists_the_words(tmp_path: Path):
    listed = _command(tmp_path, "--words").stdout
    assert [] == [use for use, _ in usages() if use not in listed]


def _command(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raft_engine.testing.scenario", *arguments]
    return subprocess.run(command, check=False, cwd=where, capture_output=True, text=True)


# -- the safety check, by showing it what it must see ----------------------------------------------------------------------


@pytest.fixture
def safety() -> Safety:
    """It has seen node 1 lead term 1 and commit entry 2."""
    safety = Safety()
    safety.check(leader().state)
    return safety


def test_two_leaders_in_one_term_are_seen(safety: Safety):
    with pytest.raises(AssertionError, match="two leaders in term 1: nodes 1 and 2"):
        safety.check(leader(me=2).state)


def test_a_leader_without_a_committed_entry_is_seen(safety: Safety):
    with pytest.raises(AssertionError, match=r"node 2 is elected in term 6 without committed entry T1-N1\.2"):
        safety.check(elected(me=2, hard=vote(5, 0)).state)


def test_another_entry_where_one_was_committed_is_seen(safety: Safety):
    node = Node(me=3)
    node.hear(2, append(leads(2), at(0, 1), entry(2, 2), committed=2))
    with pytest.raises(AssertionError, match=r"node 3 has committed T2-N2\.2, another node T1-N1\.2"):
        safety.check(node.state)


def test_state_machines_that_differ_are_seen(safety: Safety):
    safety.applied(at(1, 2), b"one")
    with pytest.raises(AssertionError, match=r"two state machines differ after T1-N2\.2"):
        safety.applied(at(1, 2), b"other")


def test_a_file_that_is_not_there_is_named_once(tmp_path, capsys):
    path = tmp_path / "none.txt"
    assert main([str(path)]) == 1
    assert capsys.readouterr().out == f"{path}: No such file or directory\n"
