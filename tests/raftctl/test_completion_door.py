"""Does the short answer to the Tab key say what Typer would say, in the form of each shell?"""

from __future__ import annotations

import random
import shlex

import pytest
import typer.main
from typer.completion import completion_init, shell_complete

from raftctl import completion_door
from raftctl.app import app
from raftctl.command_table import COMMANDS, COMMON

ROOT = typer.main.get_command(app)
completion_init()
SHELLS = ("bash", "zsh", "fish", "powershell")


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    """Typer folds helps to the terminal's width, in the middle of what a shell reads."""
    monkeypatch.setenv("COLUMNS", "10000")


def environment(shell, words, incomplete):
    if shell == "bash":
        return {"COMP_WORDS": shlex.join(["raftctl", *words]) + f" {incomplete}", "COMP_CWORD": str(len(words) + 1)}
    line = " ".join(["raftctl", *words, incomplete])
    return {
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": incomplete,
    }


def by_typer(shell, told, monkeypatch, capsys):
    capsys.readouterr()
    with monkeypatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        shell_complete(ROOT, {}, "raftctl", "_RAFTCTL_COMPLETE", f"complete_{shell}")
    return capsys.readouterr().out.removesuffix("\n")


def alike(text):
    """Typer keeps the names of the help option in a set."""
    return sorted(text.replace("'*: :((", "\n").replace("))'", "").splitlines())


def check(shell, words, incomplete, monkeypatch, capsys):
    """Return whether the short way answered; if so, it must be Typer's answer."""
    told = environment(shell, words, incomplete)
    short = completion_door.answer(f"complete_{shell}", told)
    if short is not None:
        assert alike(by_typer(shell, told, monkeypatch, capsys)) == alike(short), (shell, words, incomplete)
    return short is not None


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_completed_as_typer_does_it(cluster, raftctl, monkeypatch, capsys, shell):
    for path in COMMANDS:
        for incomplete in ("", "-", "--", "--no", "--t", "s", "zz"):
            assert check(shell, path.split(), incomplete, monkeypatch, capsys), (path, incomplete)


@pytest.mark.parametrize("path", COMMANDS)
def test_the_values_of_every_option_are_completed_as_typer_does_it(cluster, raftctl, monkeypatch, capsys, path):
    for parameter in (*COMMANDS[path][3], *COMMON):
        for name in parameter[0][:1]:
            words = [*path.split(), name]
            is_flag = parameter[2] in {"flag", "switch"}
            assert check("zsh", words, "--" if is_flag else "", monkeypatch, capsys) or not COMMANDS[path][1]
            if not is_flag:
                check("zsh", [*words, "1"], "--", monkeypatch, capsys)


def test_whatever_the_short_way_answers_typer_answers_alike(cluster, raftctl, monkeypatch, capsys):
    dice = random.Random(20261125)
    names = [name for parameter in COMMON for name in parameter[0]]
    answered = 0
    for _ in range(1000):
        path = dice.choice(list(COMMANDS))
        own = [name for parameter in COMMANDS[path][3] for name in parameter[0]]
        words = path.split()
        for _ in range(dice.randint(0, 3)):
            words.insert(dice.randint(0, len(words)), dice.choice([*own, *dice.sample(names, 3), "1", "demo", "--", "-zz"]))
        incomplete = dice.choice(["", "-", "--", "1", "de", "--o", "--output=j", "="])
        answered += check(dice.choice(["bash", "zsh"]), words, incomplete, monkeypatch, capsys)
    assert answered > 200


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("stat", ["status"]),
        ("elect --node ", ["1", "2", "3"]),
        ("rejoin-node ", ["1", "2", "3"]),
        ("-c ", ["demo"]),
        ("status -o j", ["json", "jsonl"]),
        ("completion ", ["bash", "zsh", "fish", "powershell"]),
        ("explain member re", ["remove"]),
        ("kv get ", []),
        ("status --watch --w", []),
        ("-e http://127.0.0.1:9102 elect --node 3", ["3"]),
    ],
)
def test_the_tab_key_offers(cluster, raftctl, monkeypatch, line, told):
    words = line.split(" ")
    monkeypatch.setenv("_RAFTCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"raftctl {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert told == raftctl("").out.split()


@pytest.mark.parametrize("instruction", ["source_bash", "complete_tcsh", "nonsense", ""])
def test_other_requests_are_left_to_typer(instruction):
    assert completion_door.answer(instruction, {"COMP_WORDS": "raftctl ", "COMP_CWORD": "1"}) is None
