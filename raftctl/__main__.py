"""The program's two ends: the command line goes in, an exit code comes out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from raftctl.app import app
from raftctl.errors import CtlError, ExitCode
from raftctl.options import Run


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of one command line."""
    current = Run()
    try:
        return _exit_code(current, app(args=list(arguments), prog_name="raftctl", standalone_mode=False, obj=current))
    except CtlError as error:
        current.session.output.error(error)
        return error.exit_code
    except typer.TyperException as error:
        return _usage_error(current, error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        current.session.output.error(CtlError("interrupted", "interrupted"))
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has enough
        return ExitCode.DONE
    finally:
        current.session.close()


def _exit_code(current: Run, result: object) -> int:
    """A number is what `typer.Exit` carried: 0 after help, 130 after Ctrl-C."""
    if isinstance(result, int) and result:
        return result
    return current.session.exit_code


def _usage_error(current: Run, error: typer.TyperException, arguments: Sequence[str]) -> int:
    """Tell what is wrong with the command line, in the form the rest of it asks for."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():
        sys.stderr.write(message + "\n")
        return ExitCode.USAGE
    wants_json = any(word in {"json", "jsonl", "-ojson", "-ojsonl", "--output=json", "--output=jsonl"} for word in arguments)
    if wants_json:
        current.begin_json()
    hint = f"see: {context.command_path} --help" if context is not None else "see: raftctl --help"
    current.session.output.error(CtlError("usage", " ".join(message.split()), hint=hint))
    return ExitCode.USAGE


if __name__ == "__main__":
    main()
