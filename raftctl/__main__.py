"""The program's two ends: the command line goes in, an exit code comes out."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` would be loaded before anybody is there to catch Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftctl.run import Run

_COMPLETE = "_RAFTCTL_COMPLETE"
"""Set by the shell's completion script, which asks what may follow."""


def main() -> None:
    """Entry point of the console script."""
    try:
        from raftctl import interrupts

        interrupts.wait()
        from raftctl.output import streams

        streams.reopen_closed()
        code = _ended(sys.argv[1:])
    except KeyboardInterrupt:  # before anything could make it wait
        code = _interrupted_at_once()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of one command line, in a process that goes on afterwards."""
    from raftctl import interrupts

    with interrupts.as_before():
        return _ended(arguments)


def _ended(arguments: Sequence[str]) -> int:
    """Do what the command line says; from where it is known how that ended, nothing that asks for the end is heard."""
    instruction = os.environ.get(_COMPLETE)
    if instruction is not None and _completed(instruction):
        return 0
    from raftctl import interrupts

    interrupts.wait()
    from raftctl.output import streams

    with streams.guarded():
        from raftctl.run import Run

        current = Run()
        try:
            code = _ended_how(current, arguments, by_typer=instruction is not None)
        finally:
            current.session.close()
    return code


def _ended_how(current: Run, arguments: Sequence[str], *, by_typer: bool) -> int:
    from raftctl import interrupts
    from raftctl.errors import CtlError, ExitCode
    from raftctl.output.streams import OutputLostError

    try:
        code = _done(current, arguments, by_typer=by_typer)
        interrupts.settled()
        sys.stdout.flush()
    except CtlError as error:
        interrupts.settled()
        current.session.output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        interrupts.settled()
        current.session.output.error(current.session.changes.interrupted())
        return ExitCode.INTERRUPTED
    except OutputLostError as lost:
        interrupts.settled()
        if lost.reader_has_left:  # whoever read us has enough
            return current.session.exit_code
        told = CtlError("output_lost", str(lost))
        current.session.output.error(told)
        return told.exit_code
    return code


def _done(current: Run, arguments: Sequence[str], *, by_typer: bool) -> int:
    """Return the exit code. Raises: CtlError, KeyboardInterrupt, OutputLostError."""
    from raftctl import door

    call = None if by_typer else door.read(arguments)
    if call is None:
        from raftctl import by_typer as typer_door

        return typer_door.run(current, arguments)
    call.run(current)
    return current.session.exit_code


def _interrupted_at_once() -> int:
    from raftctl import interrupts

    interrupts.settled()
    from raftctl.errors import ExitCode
    from raftctl.output import streams

    with streams.guarded():
        sys.stderr.write("error: interrupted\n")
    return ExitCode.INTERRUPTED


def _completed(instruction: str) -> bool:
    """Answer the Tab key; False: only Typer can."""
    from raftctl import completion_door

    text = completion_door.answer(instruction, os.environ)
    if text is None:
        return False
    sys.stdout.write(text + "\n")
    return True


if __name__ == "__main__":
    main()
