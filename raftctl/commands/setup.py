"""Setting this program up: completion scripts and its version."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

from raftctl import __version__
from raftctl.deadline import takes
from raftctl.session import Session

if TYPE_CHECKING:
    import typer


class Shell(enum.StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


@takes(None)
def completion(
    session: Session, shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")]
) -> None:
    """Print the completion script of a shell."""
    from raftctl.completion_files import script

    text = script(shell.value)
    session.output.show("completion", {"shell": shell.value, "script": text}, [text.rstrip("\n")], names=[shell.value])


@takes(None)
def version(session: Session) -> None:
    """Print the version of this program."""
    session.output.show("version", {"version": __version__}, [f"raftctl {__version__}"], names=[__version__])
