"""The short way from a half-typed command line to what may follow, without loading Typer.

It answers alike, in each shell's own form; where a line is unusual it leaves the answer to Typer.
Source: Typer's completion (`_completion_classes.py`, `_click/shell_completion.py`), whose protocol the shell scripts speak.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from raftctl.command_table import COMMANDS, COMMON, HELP, Parameter


class Item(NamedTuple):
    value: str
    help: str = ""


class Typed:
    """What was typed before the word in question, as completers ask for it."""

    def __init__(self, root: Typed | None = None) -> None:
        self.path = ""
        self.params: dict[str, Any] = {}
        self.pending: Parameter | None = None
        self.arguments = 0
        self._root = root

    def find_root(self) -> Typed:
        return self._root or self

    @property
    def options(self) -> Sequence[Parameter]:
        """Of the command or group that is being typed."""
        _short, function, _subcommands, parameters = COMMANDS[self.path]
        if self.path and not function:
            return [HELP]
        said = {parameter[1]: parameter for parameter in parameters if parameter[0]}
        common = [said.pop(parameter[1], parameter) for parameter in COMMON]
        return [*said.values(), *common, HELP]


class _UnusualError(Exception):
    """Typer must answer."""


def answer(instruction: str, environment: Mapping[str, str]) -> str | None:
    """Return what to print for `_RAFTCTL_COMPLETE=instruction`, None if Typer must say it."""
    verb, _, shell = instruction.partition("_")
    form = _FORMS.get(shell)
    if verb != "complete" or form is None:
        return None
    try:
        words, incomplete = form.words(environment)
        return form.text(_items(words, incomplete), environment)
    except (_UnusualError, KeyError, ValueError):
        return None


def _items(words: Sequence[str], incomplete: str) -> list[Item]:
    typed = _typed(words)
    if incomplete == "=":
        raise _UnusualError
    if incomplete.startswith("-"):
        if "=" in incomplete or typed.pending is not None:
            raise _UnusualError
        return _option_names(typed, incomplete)
    if typed.pending is not None:
        return _values(typed.pending, typed, incomplete)
    arguments = [parameter for parameter in COMMANDS[typed.path][3] if not parameter[0]]
    for number, argument in enumerate(arguments):
        if number >= typed.arguments or argument[2].startswith("many"):
            return _values(argument, typed, incomplete)
    found = [Item(name, COMMANDS[f"{typed.path} {name}".strip()][0]) for name in COMMANDS[typed.path][2]]
    return [item for item in found if item.value.startswith(incomplete)]


def _typed(words: Sequence[str]) -> Typed:
    """Follow whole words from the root to the command. Raises: _UnusualError."""
    root = typed = Typed()
    for word in words:
        if typed.pending is not None:
            _give(typed, typed.pending, word)
            typed.pending = None
        elif word.startswith("-"):
            _begin_option(typed, word)
        elif word in COMMANDS[typed.path][2]:
            path = typed.path
            typed = Typed(root)
            typed.path = f"{path} {word}".strip()
        elif COMMANDS[typed.path][2]:
            raise _UnusualError
        else:
            typed.arguments += 1
    return typed


def _begin_option(typed: Typed, word: str) -> None:
    parameter = next((one for one in typed.options if word in one[0]), None)
    if parameter is None or parameter is HELP:
        raise _UnusualError
    if parameter[2] in {"flag", "switch"}:
        _give(typed, parameter, word)
    else:
        typed.pending = parameter


def _give(typed: Typed, parameter: Parameter, value: str) -> None:
    if value.startswith("-") and parameter[2] not in {"flag", "switch"}:
        raise _UnusualError
    many = parameter[2] == "many"
    typed.params[parameter[1]] = [*typed.params.get(parameter[1], []), value] if many else value


def _option_names(typed: Typed, incomplete: str) -> list[Item]:
    """Those that were not given yet, or may be given again."""
    return [
        Item(name, parameter[6])
        for parameter in typed.options
        if parameter[2] == "many" or parameter[1] not in typed.params
        for name in parameter[0]
        if name.startswith(incomplete)
    ]


def _values(parameter: Parameter, typed: Typed, incomplete: str) -> list[Item]:
    completes = parameter[5]
    if completes.startswith("complete_"):
        completer: Callable[..., Sequence[str | tuple[str, str]]] = getattr(
            importlib.import_module("raftctl.completion"), completes
        )
        found = completer(typed, incomplete) if completes == "complete_nodes" else completer(incomplete)
        items = [Item(one) if isinstance(one, str) else Item(*one) for one in found]
    else:
        items = [Item(word) for word in completes.split()]
    return [item for item in items if item.value.startswith(incomplete)]


# -- the shells ----------------------------------------------------------------------------------------------------------


def _split(line: str) -> list[str]:
    """Split as a shell does; quotes that are still open are the shell's business."""
    if any(mark in line for mark in "'\"\\"):
        raise _UnusualError
    return line.split()


def _bash_words(environment: Mapping[str, str]) -> tuple[list[str], str]:
    words, at = _split(environment["COMP_WORDS"]), int(environment["COMP_CWORD"])
    return words[1:at], words[at] if at < len(words) else ""


def _line_words(environment: Mapping[str, str]) -> tuple[list[str], str]:
    line = environment.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    if words and not line.endswith(" "):
        return words[:-1], words[-1]
    return words, ""


def _powershell_words(environment: Mapping[str, str]) -> tuple[list[str], str]:
    words = _split(environment.get("_TYPER_COMPLETE_ARGS", ""))
    incomplete = environment.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
    return words[1:-1] if incomplete else words[1:], incomplete


def _bash_text(items: Sequence[Item], _environment: Mapping[str, str]) -> str:
    return "\n".join(item.value for item in items)


def _zsh_text(items: Sequence[Item], _environment: Mapping[str, str]) -> str:
    if not items:
        return "_files"
    shown = [
        f'"{_zsh_escaped(item.value)}":"{_zsh_escaped(item.help)}"' if item.help else f'"{_zsh_escaped(item.value)}"'
        for item in items
    ]
    return "_arguments '*: :((" + "\n".join(shown) + "))'"


def _zsh_escaped(text: str) -> str:
    for mark, escaped in (('"', '""'), ("'", "''"), ("$", "\\$"), ("`", "\\`"), (":", r"\\:")):
        text = text.replace(mark, escaped)
    return text


def _fish_text(items: Sequence[Item], environment: Mapping[str, str]) -> str:
    if environment.get("_TYPER_COMPLETE_FISH_ACTION") != "get-args":
        raise _UnusualError  # its answer is an exit code
    return "\n".join(f"{item.value}\t{item.help}" if item.help else item.value for item in items)


def _powershell_text(items: Sequence[Item], _environment: Mapping[str, str]) -> str:
    return "\n".join(f"{item.value}:::{item.help or ' '}" for item in items)


class _Form(NamedTuple):
    words: Callable[[Mapping[str, str]], tuple[list[str], str]]
    text: Callable[[Sequence[Item], Mapping[str, str]], str]


_FORMS: Final[Mapping[str, _Form]] = {
    "bash": _Form(_bash_words, _bash_text),
    "zsh": _Form(_line_words, _zsh_text),
    "fish": _Form(_line_words, _fish_text),
    "powershell": _Form(_powershell_words, _powershell_text),
    "pwsh": _Form(_powershell_words, _powershell_text),
}
