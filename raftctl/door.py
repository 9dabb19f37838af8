"""The short way from a command line to the function that it means, without loading Typer.

Only what is well formed goes this way: every word is looked up in the table that Typer's declarations were written to, and
whatever is asked for help, is wrong, or is merely unusual is left to Typer, which then says what there is to say. So both
ways mean the same wherever both can be gone.
Source: design of the performance goals (start-up).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from raftctl.command_table import COMMANDS, COMMON, Parameter
from raftctl.run import Run
from raftctl.settings import Flags

_DIGITS_MAX: Final = 18
_COMMON_NAMES: Final = frozenset(parameter[1] for parameter in COMMON)
_FIELD_OF: Final = {"tls_key": "key"}


class NotThisWayError(Exception):
    """Typer must look at this command line."""


class Call:
    """One command line, read: the flags before the command, those behind it, and the command's own values."""

    def __init__(self, path: str, before: dict[str, Any], common: dict[str, Any], own: dict[str, Any]) -> None:
        self.path = path
        self._before = before
        self._common = common
        self.own = own

    def run(self, current: Run) -> None:
        """Do what the command does."""
        current.begin(_flags(self._before))
        current.begin(_flags(self._common))
        current.call(self.function, self.own)

    @property
    def function(self) -> Callable[..., None]:
        found: Callable[..., None] = _named(COMMANDS[self.path][1])
        return found


def read(arguments: Sequence[str]) -> Call | None:
    """Return what the command line means, None if only Typer can say."""
    try:
        return _read(list(arguments))
    except NotThisWayError:
        return None


def _read(words: list[str]) -> Call:
    before: dict[str, Any] = {}
    path = ""
    while words and words[0].startswith("-"):
        _take_option(words, COMMON, before)
    while words and words[0] in COMMANDS[path][2]:
        path = f"{path} {words.pop(0)}".strip()
    _short, function, _subcommands, parameters = COMMANDS[path]
    if not function:
        raise NotThisWayError
    given: dict[str, Any] = {}
    loose: list[str] = []
    while words:
        if words[0].startswith("-"):
            _take_option(words, (*parameters, *COMMON), given)
        else:
            loose.append(words.pop(0))
    arguments = [parameter for parameter in parameters if not parameter[0]]
    _take_arguments(loose, arguments, given)
    return Call(path, before, *_sorted_out(given, parameters))


def _take_option(words: list[str], known: Iterable[Parameter], given: dict[str, Any]) -> None:
    """Move one option and its value from the words to `given`."""
    word = words.pop(0)
    name, equals, value = word.partition("=")
    parameter = next((one for one in known if name in one[0]), None)
    if parameter is None or (equals and not name.startswith("--")):
        raise NotThisWayError
    kind, destination = parameter[2].rstrip("!"), parameter[1]
    if kind in {"flag", "switch"}:
        if equals or destination in given:
            raise NotThisWayError
        given[destination] = kind == "flag" or name != parameter[0][-1]
        return
    if not equals:
        if not words or words[0].startswith("-"):
            raise NotThisWayError
        value = words.pop(0)
    if kind == "many":
        given.setdefault(destination, []).append(value)
    elif destination in given:
        raise NotThisWayError
    else:
        given[destination] = _value(value, parameter)


def _take_arguments(loose: list[str], arguments: Sequence[Parameter], given: dict[str, Any]) -> None:
    for argument in arguments:
        if argument[2].startswith("many"):
            given[argument[1]] = loose[:]
            loose.clear()
        elif loose:
            given[argument[1]] = _value(loose.pop(0), argument)
    if loose:
        raise NotThisWayError


def _value(text: str, parameter: Parameter) -> object:
    kind = parameter[2].rstrip("!")
    if kind == "text":
        return text
    if kind == "path":
        from pathlib import Path

        return Path(text)
    if kind == "number":
        return _number(text, parameter[3])
    if text not in parameter[5].split(" "):
        raise NotThisWayError
    return _named(kind)(text)


def _number(text: str, bounds: tuple[int | None, int | None] | None) -> int:
    least, most = bounds or (None, None)
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS_MAX:
        raise NotThisWayError
    number = int(text)
    if (least is not None and number < least) or (most is not None and number > most):
        raise NotThisWayError
    return number


def _sorted_out(given: dict[str, Any], parameters: Sequence[Parameter]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the common options that were given, and all of the command's own with their defaults."""
    own: dict[str, Any] = {}
    for parameter in parameters:
        name, kind, default = parameter[1], parameter[2], parameter[4]
        if name in _COMMON_NAMES:
            continue
        if kind.endswith("!") and not given.get(name):
            raise NotThisWayError
        own[name] = given.pop(name, default)
    return given, own


def _flags(common: dict[str, Any]) -> Flags:
    return Flags(**{_FIELD_OF.get(name, name): value for name, value in common.items()})


def _named(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
