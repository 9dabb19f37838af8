"""runbook list, show, validate, run: runbooks that are files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from raftctl.deadline import takes
from raftctl.errors import CtlError
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.runbook.files import RunbookFile

_TIMEOUT_S: Final = 120.0
"""For each step that says no time limit of its own."""
_BUILT_IN: Final = ("rejoin-node", "replace-node", "rolling-restart", "drain")


@takes(None)
def list_runbooks(session: Session) -> None:
    """List the built-in runbooks, and the files that can be named without their path."""
    from raftctl.output.tables import Column, Table
    from raftctl.runbook.files import parse, read_text

    rows: list[dict[str, str]] = [{"name": name, "kind": "command", "about": f"raftctl {name} --help"} for name in _BUILT_IN]
    for path in sorted(_directory().glob("*.toml")):
        try:
            about = parse(read_text(path), str(path)).about
        except CtlError as error:
            about = f"unusable: {error.message}"
        rows.append({"name": path.stem, "kind": "file", "about": about})
    titles = [Column(title) for title in ("NAME", "KIND", "ABOUT")]
    table = Table(titles, [[row["name"], row["kind"], row["about"]] for row in rows])
    view: list[Table | str] = [table, "", f"files are looked for in {_directory()}"]
    session.output.show("runbook-list", {"runbooks": rows}, view, names=[row["name"] for row in rows])


@takes(None)
def show(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A TOML file, or the name of one that `runbook list` shows.")],
) -> None:
    """Show what a file says: its parameters, and its steps in order."""
    path, text, book = _load(file)
    from raftctl.runbook.files import digest_of

    view = [f"{book.name}: {book.about or 'no word on it'}", ""]
    view += [f"  --set {name}={entry.default or '…'}   {entry.about}" for name, entry in book.parameters.items()]
    view += ["", *text.rstrip().splitlines()] if book.parameters else text.rstrip().splitlines()
    data = {"name": book.name, "about": book.about, "path": str(path), "sha256": digest_of(text), "text": text}
    session.output.show("runbook", data, view, names=[book.name])


@takes(None)
def validate(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A TOML file, or the name of one that `runbook list` shows.")],
) -> None:
    """Check a file without a cluster: every word, template, parameter and time limit."""
    path, _, book = _load(file)
    data = {"name": book.name, "path": str(path), "steps": len(book.steps), "parameters": list(book.parameters)}
    count = len(book.steps)
    session.output.show(
        "runbook-valid", data, [f"{path}: {book.name} is good, {count} step{'s' if count != 1 else ''}"], names=[book.name]
    )


@takes(_TIMEOUT_S, "How long the plan may take, and each step that has no time limit")
def run(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A TOML file, or the name of one that `runbook list` shows.")],
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter's value; repeatable.")
    ] = None,
) -> None:
    """Run a file's steps, journalled, undone when one fails, and resumed after a crash."""
    from raftctl.runbook.conduct import start
    from raftctl.runbook.file_runbook import FileParams, FileRunbook
    from raftctl.runbook.files import values_of

    path, text, book = _load(file)
    membership = session.survey().membership
    drivers = {node: session.settings.node(node).driver for node in (*membership.voters, *membership.learners)}
    params = FileParams(
        text=text,
        where=str(path),
        values=values_of(book, values or [], str(path)),
        drivers=drivers,
        timeout_s=session.timeout_s,
    )
    start(session, FileRunbook(params))


def _load(file: str) -> tuple[Path, str, RunbookFile]:
    from raftctl.runbook.files import parse, read_text

    path = Path(file)
    if not path.exists() and not path.suffix and (known := _directory() / f"{file}.toml").exists():
        path = known
    text = read_text(path)
    return path, text, parse(text, str(path))


def _directory() -> Path:
    from raftctl.config_place import config_path

    return config_path().parent / "runbooks"
