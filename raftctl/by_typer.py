"""The long way from a command line to its function: Typer, which knows help, mistakes, and everything unusual."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final

import typer

from raftctl.app import app
from raftctl.errors import CtlError, ExitCode
from raftctl.run import Run

_NO_SUCH: Final = re.compile(r"No such command '([^']*)'")
_MEANT: Final = {
    "member list": "members, and what each of them is, are listed by raftctl nodes",
    "member show": "members, and what each of them is, are listed by raftctl nodes",
    "snapshot show": "snapshots are listed by raftctl snapshot list",
}
"""Commands that other programs have, and what does it here."""


def run(current: Run, arguments: Sequence[str]) -> int:
    """Return the exit code of one command line. Raises: CtlError, KeyboardInterrupt."""
    try:
        result = app(args=list(arguments), prog_name="raftctl", standalone_mode=False, obj=current)
    except typer.TyperException as error:
        return _usage_error(current, error, arguments)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if isinstance(result, int) and result:  # what `typer.Exit` carried
        return result
    return current.session.exit_code


def _usage_error(current: Run, error: typer.TyperException, arguments: Sequence[str]) -> int:
    """Tell what is wrong with the command line, in the form the rest of it asks for."""
    context = getattr(error, "ctx", None)
    message = error.format_message().replace("Value error, ", "")  # the validator's own words, in front of ours
    wants_json = any(word in {"json", "jsonl", "-ojson", "-ojsonl", "--output=json", "--output=jsonl"} for word in arguments)
    if wants_json:
        current.begin_json()
    if context is not None and message == context.get_help():
        if not wants_json:
            sys.stderr.write(message + "\n")
            return ExitCode.USAGE
        message = f"{context.command_path}: a command is missing"
    hint = f"see: {context.command_path} --help" if context is not None else "see: raftctl --help"
    if context is not None and (wanted := _NO_SUCH.search(message)) is not None:
        hint = _MEANT.get(f"{context.command_path} {wanted[1]}".removeprefix("raftctl "), hint)
    current.session.output.error(CtlError("usage", " ".join(message.split()), hint=hint))
    return ExitCode.USAGE
