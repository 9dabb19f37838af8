"""The dialogues in scenarios/: each file says what happens, and it does.

Goal: a change of the protocol shows as a difference in a text that people can judge.
Method: run the file's commands against real cores and compare word for word.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raft_engine.testing.scenario import difference, main, parse, replay
from raft_engine.testing.scenario_commands import WORDS, ScenarioError

HERE = Path(__file__).parent
FILES = sorted((HERE / "scenarios").glob("*/*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_happens_is_what_the_file_says(path: Path):
    assert difference(path) == ""


def test_every_word_of_the_language_is_used_by_some_scenario():
    used = set()
    for path in FILES:
        for step in parse(path.read_text()):
            used |= {(line.removeprefix("quiet ")).split()[0] for line in step.commands}
    assert set() == WORDS.keys() - used


def test_every_word_is_explained_on_the_page():
    page = (HERE.parents[1] / "docs" / "scenarios.md").read_text()
    assert [] == [word for word in WORDS if f"`{word}" not in page]


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
        ("nodes 1\n----\nok\n\ndance 1\n----\n", "line 5: 'dance' is not a word"),
        ("nodes 1\n----\nok\n\ncrash 9\n----\n", "line 5: '9' is not a node; there are [1]"),
        ("nodes\n----\n", "usage: nodes N"),
        ("nodes 1\n----\nok\n\nwipe 1 blank\n----\n", "node 1 runs: crash it first"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(text: str, says: str):
    with pytest.raises(ScenarioError, match=re.escape(says)):
        replay(text)
