"""Writes `command_table.py`: the tree of commands as plain data, out of the program itself.

The declarations in `commands/` are the truth; Typer reads them for help and for errors. This table is what the short door
(`door.py`) and the Tab key (`completion_door.py`) read instead, because loading Typer takes longer than most commands.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
import typer.main
from typer.core import TyperArgument

from raftctl.app import app
from raftctl.deadline import Takes
from raftctl.options import COMMON_NAMES, TIMEOUT_NAME, signature_of

PAGE: Final = Path("raftctl/command_table.py")
_HEAD: Final = '''\
"""Every command as plain data. Written by `python -m raftctl.completion_files`; do not edit.

A row of `COMMANDS`: its short help, `module:function`, its subcommands, its parameters before those of every command, with
those of them that mean something of their own to it.
A row of a parameter: names on the command line (none: an argument), name in Python, kind of value, bounds, default,
what completes it, its help.
"""
# ruff: noqa: E501, Q000
# fmt: off

from __future__ import annotations

from typing import Final

Parameter = tuple[tuple[str, ...], str, str, "tuple[int | None, int | None] | None", "str | int | bool | None", str, str]
Command = tuple[str, str, tuple[str, ...], tuple[Parameter, ...]]
'''


def source() -> str:
    """Return the module's text."""
    root = typer.main.get_command(app)
    common = [_as_usual(row) for row in _parameters(root, {}) if row[1] in COMMON_NAMES]
    helping = next(row for row in _parameters(root, {}) if row[1] == "help")
    lines = [_HEAD, f"HELP: Final[Parameter] = {helping!r}", "COMMON: Final[tuple[Parameter, ...]] = ("]
    lines += [f"    {row!r}," for row in common]
    lines += [")", "COMMANDS: Final[dict[str, Command]] = {"]
    for path, command in _walk("", root):
        lines.append(f"    {path!r}: {_command(command, common)!r},")
    return "\n".join([*lines, "}", ""])


def _as_usual(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a common option with what it means to most commands."""
    return (*row[:-1], Takes().help) if row[1] == TIMEOUT_NAME else row


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name in _names(command):
        yield from _walk(f"{path} {name}".strip(), command.commands[name])


def _names(command: Any) -> tuple[str, ...]:
    """Subcommands in the order in which help shows them."""
    return tuple(command.list_commands(None)) if hasattr(command, "commands") else ()


def _command(command: Any, common: list[Any]) -> tuple[Any, ...]:
    function = getattr(command.callback, "raftctl_function", None)
    reference = f"{function.__module__}:{function.__name__}" if function is not None else ""
    annotations = {} if function is None else signature_of(function).parameters
    own = [row for row in _parameters(command, annotations) if row not in common and row[1] != "help"]
    return command.get_short_help_str(), reference, _names(command), tuple(own)


def _parameters(command: Any, annotations: Any) -> Iterator[tuple[Any, ...]]:
    for parameter in command.get_params(typer.Context(command, **command.context_settings)):
        is_argument = isinstance(parameter, TyperArgument)
        names = () if is_argument else (*parameter.opts, *parameter.secondary_opts)
        if parameter.name == "help":
            names = tuple(sorted(names))  # Typer keeps these in a set
        declared = annotations.get(parameter.name)
        kind, bounds, completer = _value(parameter, declared)
        default = None if callable(parameter.default) else parameter.default
        if kind == "many":
            default = None
        if parameter.required:
            kind = f"{kind}!"
        yield names, parameter.name, kind, bounds, default, completer, " ".join((parameter.help or "").split())


def _value(parameter: Any, declared: inspect.Parameter | None) -> tuple[str, tuple[int | None, int | None] | None, str]:
    """Return the kind of a parameter's value, its bounds, and who or what completes it.

    Kinds: `flag` (each name means true), `switch` (the last name means false), `text`, `number`, `path`, `many`, or a
    reference to an enumeration.
    """
    info = parameter.type_descriptor.parameter_info
    completes = info.autocompletion.__name__ if info.autocompletion is not None else ""
    kind = _plain_type(declared.annotation if declared is not None else parameter.type_descriptor.annotation)
    if getattr(parameter, "is_flag", False):
        return ("switch" if parameter.secondary_opts else "flag"), None, ""
    if parameter.multiple or parameter.nargs == -1:
        return "many", None, completes
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"{kind.__module__}:{kind.__name__}", None, " ".join(str(member.value) for member in kind)
    known = {str: "text", int: "number", Path: "path"}
    bounds = (info.min, info.max) if kind is int else None
    return known[kind], bounds, completes


def _plain_type(annotation: Any) -> Any:
    """Return `int` for `Annotated[int | None, ...]`."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        (annotation,) = (item for item in typing.get_args(annotation) if item is not type(None))
    return annotation
