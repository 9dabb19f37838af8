"""The program's two ends: the command line goes in, an exit code comes out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

_COMPLETE: Final = "_RAFTCTL_COMPLETE"
"""Set by the shell's completion script, which asks what may follow."""


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of one command line."""
    instruction = os.environ.get(_COMPLETE)
    if instruction is not None and _completed(instruction):
        return 0
    from raftctl import door
    from raftctl.errors import CtlError, ExitCode
    from raftctl.run import Run

    current = Run()
    try:
        call = door.read(arguments) if instruction is None else None
        if call is None:
            from raftctl import by_typer

            return by_typer.run(current, arguments)
        call.run(current)
    except CtlError as error:
        current.session.output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        current.session.output.error(CtlError("interrupted", "interrupted"))
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has enough
        return ExitCode.DONE
    finally:
        current.session.close()
    return current.session.exit_code


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
