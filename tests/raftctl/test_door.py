"""Do both doors into the program mean the same by the same command line?"""

from __future__ import annotations

import random

import pytest
import typer.main

from raftctl import door
from raftctl.app import app
from raftctl.command_table import COMMANDS, COMMON
from raftctl.run import Run

ROOT = typer.main.get_command(app)
VALUES = {"text": "word", "number": "3", "path": "a/file", "many": "one"}
JUNK = [
    "",
    "-",
    "--",
    "-x",
    "--no-such",
    "0",
    "-1",
    "99999999999999999999",
    "3",
    "json",
    "--output=json",
    "-ojson",
    "-qv",
    "x=y",
    "-h",
]


@pytest.fixture
def calls(monkeypatch):
    """Commands are remembered instead of run: function, flags, values."""
    seen = []
    monkeypatch.setattr(Run, "call", lambda run, function, values: seen.append((function, run.session.flags, dict(values))))
    return seen


def by_door(line, calls):
    calls.clear()
    call = door.read(line)
    if call is None:
        return None
    call.run(Run())
    (seen,) = calls
    return seen


def by_typer(line, calls):
    calls.clear()
    try:
        ROOT.main(args=list(line), prog_name="raftctl", standalone_mode=False, obj=Run())
    except typer.TyperException:
        return None
    return calls[0] if calls else None


def sample(parameter):
    kind = parameter[2].rstrip("!")
    return VALUES.get(kind) or parameter[5].split()[0]


def shortest(path):
    """The fewest words that the command can do with."""
    words = path.split()
    for parameter in COMMANDS[path][3]:
        if parameter[2].endswith("!"):
            words += [*parameter[0][:1], sample(parameter)]
    return words


PATHS = [path for path, row in COMMANDS.items() if row[1]]


@pytest.mark.parametrize("path", PATHS)
def test_each_command_goes_through_the_short_door_with_each_of_its_options(path, calls):
    least = shortest(path)
    lines = [least]
    for parameter in (*COMMANDS[path][3], *COMMON):
        for name in parameter[0]:
            if name in least:
                continue
            value = [] if parameter[2] in {"flag", "switch"} else [sample(parameter)]
            lines += [[*least, name, *value], [*path.split(), name, *value, *least[len(path.split()) :]]]
            if value and name.startswith("--"):
                lines.append([*least, f"{name}={value[0]}"])
            if parameter in COMMON:
                lines.append([name, *value, *least])
    for line in lines:
        seen = by_door(line, calls)
        assert seen is not None, line
        assert seen == by_typer(line, calls), line


def test_whatever_the_short_door_takes_typer_takes_alike(calls):
    dice = random.Random(20261125)
    options = [name for parameter in COMMON for name in parameter[0]]
    taken = 0
    for _ in range(3000):
        path = dice.choice(PATHS)
        own = [name for parameter in COMMANDS[path][3] for name in parameter[0]]
        line = path.split() if dice.random() < 0.3 else shortest(path)
        for _ in range(dice.randint(0, 4)):
            word = dice.choice([*own, *dice.sample(options, 3), *VALUES.values(), *dice.sample(JUNK, 4)])
            line.insert(dice.randint(0, len(line)), word)
        seen = by_door(line, calls)
        if seen is not None:
            taken += 1
            assert seen == by_typer(line, calls), line
    assert taken > 300


@pytest.mark.parametrize("line", ["", "--help", "status --help", "kv", "no-such", "purge-log", "health --no-such", "kv put"])
def test_help_and_mistakes_are_left_to_typer(line):
    assert door.read(line.split()) is None


def test_a_command_line_that_only_typer_understands_is_understood(cluster, raftctl):
    assert raftctl("-qv status -ojson").document["kind"] == "status"
