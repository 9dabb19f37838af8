"""Does every name exist that docs/coming-from-openraft.md promises to those who know openraft?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import raft_engine
from raft_engine import errors
from raft_engine.runtime.pending_write import PendingWrite
from raft_engine.runtime.raft import Raft
from raft_engine.runtime.trigger import Trigger
from raft_engine.runtime.wait import Wait

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "coming-from-openraft.md").read_text("utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`([A-Za-z_.]+)`", row[1])} - {"here"})
HOMES = {"Raft": Raft, "Trigger": Trigger, "Wait": Wait, "PendingWrite": PendingWrite}
MADE_AT_START = {"Raft.progress", "Raft.state_machine"}


def test_the_page_has_its_tables():
    assert 25 <= len(ROWS)
    assert 50 <= len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_page_exists(name: str):
    home, _, member = name.partition(".")
    if not member:
        assert hasattr(raft_engine, name) or hasattr(errors, name)
    elif name in MADE_AT_START:
        assert f"self.{member} = " in Path(Raft.__init__.__code__.co_filename).read_text("utf-8")
    else:
        assert hasattr(HOMES[home], member)
