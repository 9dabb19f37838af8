"""Does every command that a message tells people to type exist, with its options?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from raftctl.app import app

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"raftctl ([^;:,()\n\"'`|…]+)")
"""Up to what ends a command in a sentence."""
SPOKEN_OF = {"that came with the nodes"}
"""What follows the program's name where it is not typed."""


def texts(tree: ast.Module) -> Iterator[str]:
    """Every literal text but docstrings; what a format string fills in is a number."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in docs:
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inside | docs):
            yield node.value


def hints() -> list[tuple[str, str]]:
    """Every command line in a message, with the file it is in."""
    found = set()
    for room in ("raftctl", "raft_engine"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.name != "manual.py":
                for text in texts(ast.parse(path.read_text("utf-8"))):
                    found |= {(path.relative_to(ROOT).as_posix(), line.strip()) for line in COMMAND.findall(text)}
    return sorted((file, line) for file, line in found if re.match("-|[a-z]", line) and line not in SPOKEN_OF)


HINTS = hints()
PROGRAM: Any = typer.main.get_command(app)


def test_there_are_hints():
    assert len(HINTS) > 50


@pytest.mark.parametrize(("file", "line"), HINTS, ids=[f"{file}: {line}" for file, line in HINTS])
def test_a_command_that_a_message_names_can_be_typed(file: str, line: str):
    words = line.split()
    command = PROGRAM
    everywhere = {name for option in command.params for name in option.opts} | {"--help"}
    while hasattr(command, "get_command") and words and words[0][0].islower():
        found = command.get_command(command.make_context("raftctl", ["version"]), words[0])
        assert found is not None, f"{file}: there is no {words[0]}"
        command, words = found, words[1:]
    options = {name for option in command.params for name in [*option.opts, *option.secondary_opts]} | everywhere
    assert [] == [word for word in words if re.match("--?[a-z]", word) and word.split("=")[0] not in options]
