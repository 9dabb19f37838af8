"""Dialogues between nodes as text files that are run as tests.

    # Prose says what is shown.
    campaign 1
    ----
      1 saves T1-N1
      sent 1->2 Vote T1 last=T0.1

A file is a sequence of steps, each one or more command lines, `----`, and exactly what happened up to the next empty line.
Everything else is prose. Comments begin with `#`.

    python -m raft_engine.testing.scenario FILES            compare
    python -m raft_engine.testing.scenario --rewrite FILES  record what happens; commit the difference if you can say why
    python -m raft_engine.testing.scenario --words          list the words

Source: CockroachDB datadriven, etcd `rafttest`.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raft_engine.testing.scenario_commands import ScenarioError, new_cluster, perform, usages

LINE = "----"
NOTHING = "ok"


@dataclass(frozen=True)
class Step:
    """Lines of prose, or commands (each with the number of its line, from 1) and what happened."""

    prose: tuple[str, ...] = ()
    commands: tuple[tuple[int, str], ...] = ()
    happened: tuple[str, ...] = ()


def parse(text: str) -> list[Step]:
    """Return the steps of a scenario.

    Raises: ScenarioError: a command is not followed by `----`.
    """
    steps: list[Step] = []
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        begin = position
        if _is_prose(lines[position]):
            while position < len(lines) and _is_prose(lines[position]):
                position += 1
            steps.append(Step(prose=tuple(lines[begin:position])))
            continue
        while position < len(lines) and lines[position].strip() and lines[position] != LINE:
            position += 1
        if position == len(lines) or lines[position] != LINE:
            raise ScenarioError(f"line {begin + 1}: {lines[begin]!r} is not followed by {LINE}")
        commands = tuple((at + 1, lines[at]) for at in range(begin, position) if not lines[at].startswith("#"))
        position += 1
        start = position
        while position < len(lines) and lines[position].strip():
            position += 1
        steps.append(Step(commands=commands, happened=tuple(lines[start:position])))
    return steps


def _is_prose(line: str) -> bool:
    return not line.strip() or line.startswith("#")


def replay(text: str) -> str:
    """Return the scenario with what really happens written after every command.

    Raises: ScenarioError: a line cannot be understood or done.
    """
    cluster = new_cluster()
    result: list[str] = []
    for step in parse(text):
        if step.prose:
            result += step.prose
            continue
        happened: list[str] = []
        for line, command in step.commands:
            try:
                happened += perform(cluster, command)
            except ScenarioError as error:
                raise ScenarioError(f"line {line}: {error}") from error
            except AssertionError as error:
                raise AssertionError(f"line {line}: {command!r}: {error}") from error
        result += [*(command for _, command in step.commands), LINE, *(line.rstrip() for line in happened or [NOTHING])]
    return "\n".join(result) + "\n"


def difference(path: Path) -> str:
    """Return how what happens differs from what the file says; empty when it does not."""
    expected = path.read_text(encoding="utf-8")
    lines = difflib.unified_diff(
        expected.splitlines(), replay(expected).splitlines(), f"{path} says", "what happens", lineterm="", n=6
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or rewrite files and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m raft_engine.testing.scenario", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rewrite", action="store_true", help="record what happens")
    parser.add_argument("--words", action="store_true", help="list the words of the language")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    if options.words:
        print("\n".join(f"{use}\n    {meaning}" for use, meaning in usages()))  # noqa: T201 (this is a command)
    elif not options.files:
        parser.error("name the scenario files")
    failed = False
    for path in options.files:
        try:
            if options.rewrite:
                path.write_text(replay(path.read_text(encoding="utf-8")), encoding="utf-8")
                continue
            found = difference(path)
        except OSError as error:
            found = f"{path}: {error.strerror}"
        except (ScenarioError, AssertionError, UnicodeDecodeError) as error:
            found = f"{path}: {error}"
        if found:
            failed = True
            print(found)  # noqa: T201 (this is a command)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
