"""The long way from a command line to its function: Typer, which knows help, mistakes, and everything unusual."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from raftctl.app import app
from raftctl.errors import CtlError, ExitCode
from raftctl.run import Run


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
    current.session.output.error(CtlError("usage", " ".join(message.split()), hint=hint))
    return ExitCode.USAGE
