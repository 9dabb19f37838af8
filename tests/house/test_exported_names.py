"""What `import raft_engine` promises is there, and only that."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import raft_engine

SOURCE = Path(raft_engine.__file__).read_text("utf-8")


@pytest.mark.parametrize("name", raft_engine.__all__)
def test_an_exported_name_can_be_had(name: str):
    assert getattr(raft_engine, name) is not None


def test_the_names_for_the_type_checker_are_the_names_at_run_time():
    blocks = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    imported = {
        alias.name for block in blocks for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(raft_engine.__all__) - {"__version__"}


def test_a_name_that_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Rafts'"):
        raft_engine.Rafts  # noqa: B018
