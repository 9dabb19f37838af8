"""Runs of runbooks: what they did, going on with one, taking one back, carrying one to another machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from raftctl.deadline import takes
from raftctl.errors import CtlError
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.options import RunArgument, RunOrFileArgument
    from raftctl.runbook.journal import Record, RunFile

_SETTLE_S: Final = 60.0
"""As long as the steps themselves look at most."""
_COLUMNS: Final = ("run", "command", "cluster", "node", "began")


@takes(None)
def list_runs(session: Session) -> None:
    """List the runs, newest first."""
    from raftctl.output.tables import Cell, Column, Table, Tone
    from raftctl.runbook.journal import RESUMABLE, read_runs

    items = [
        {
            "run": run.run_id,
            "command": run.began.get("command"),
            "cluster": run.began.get("cluster"),
            "node": run.began.get("node"),
            "began": run.began.get("at"),
            "outcome": run.outcome,
            "resumable": run.outcome in RESUMABLE and bool(run.records) and run.broken_at is None,
            "intact": run.broken_at is None,
        }
        for run in read_runs()
    ]
    rows = [
        [
            *("-" if item[name] is None else str(item[name]) for name in _COLUMNS),
            Cell(str(item["outcome"]), Tone.GOOD if item["outcome"] == "done" else Tone.WARN),
            "intact" if item["intact"] else Cell("CHANGED", Tone.BAD),
        ]
        for item in items
    ]
    if not items:
        session.output.note("no runs yet")
    titles = (*(name.upper() for name in _COLUMNS), "OUTCOME", "JOURNAL")
    view = [Table([Column(title) for title in titles], rows)] if items else []
    session.output.show("runs", {"items": items}, view, items=items, names=[item["run"] for item in items])


@takes(None)
def show(session: Session, run: RunArgument) -> None:
    """Show one run step by step, and whether its journal is intact."""
    from raftctl.output.tables import Column, Table
    from raftctl.output.text import printable
    from raftctl.runbook.journal import find_run
    from raftctl.runbook.receipt import check_receipt

    found = find_run(run)
    receipt = check_receipt(found)
    if receipt is not None and not receipt["matches"]:
        session.output.warn(f"{receipt['path']} is not the receipt of this journal: one of them was changed")
    if found.broken_at is not None:
        session.output.warn(
            f"line {found.broken_at} of {found.path} is not what was written there, or lines before it are not"
        )
    if found.torn_bytes:
        session.output.warn(f"the last line of {found.path} is torn: the program ended while it was written")
    rows = [
        [
            str(record["at"]),
            str(record["event"]),
            str(record.get("step", "")),
            _what(record),
        ]
        for record in found.records
    ]
    data = {
        "run": found.run_id,
        "outcome": found.outcome,
        "intact": found.broken_at is None,
        "torn": found.torn_bytes > 0,
        "head_sha256": found.head,
        "receipt": receipt,
        "next": found.next_commands,
        "records": list(found.records),
    }
    began = found.began
    of_node = "" if began.get("node") is None else f" of node {began['node']}"
    head = f"{found.run_id}: {began.get('command')}{of_node}, cluster {began.get('cluster')}: {found.outcome}"
    table = Table([Column(title) for title in ("AT", "EVENT", "STEP", "WHAT")], rows)
    end = f"The journal is intact, its head is {found.head}." if found.broken_at is None else "The journal was CHANGED."
    if receipt is not None and receipt["matches"]:
        end += f" The receipt {receipt['path']} is of this journal."
    lines = [end, *(f"next: {command}" for command in found.next_commands)]
    session.output.show(
        "run", data, [printable(head), "", table, "", *lines], items=list(found.records), names=[found.run_id]
    )


def _what(record: Record) -> str:
    """Return what a record says, for people."""
    told = record.get("summary") or record.get("message") or record.get("why")
    return str(told or ", ".join(record.get("facts", {})))


@takes(_SETTLE_S, "How long a step looks for a leader, or asks a node again")
def resume(session: Session, run: RunOrFileArgument) -> None:
    """Go on with a run that did not end: the program died, it needed attention, or its journal came from elsewhere."""
    from raftctl.runbook.conduct import resume

    _go_on(session, run, resume)


@takes(_SETTLE_S, "How long a step looks for a leader, or asks a node again")
def abort(session: Session, run: RunOrFileArgument) -> None:
    """Undo a run that did not end, as far as there is a way back."""
    from raftctl.runbook.conduct import abort

    _go_on(session, run, abort)


@takes(None)
def export(
    session: Session,
    run: RunArgument,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write it there; default: standard output.")
    ] = None,
) -> None:
    """Write a run's journal as it is, to be resumed on another machine or kept as evidence."""
    import hashlib

    from raftctl.runbook.journal import find_run, write_durably
    from raftctl.settings import OutputFormat

    found = find_run(run)
    found.check_intact()
    data = found.path.read_bytes()[: found.whole_bytes]
    if session.flags.dry_run:
        _show_export_plan(session, found, len(data), to)
        return
    if to is not None:
        try:
            write_durably(to, data)
        except OSError as error:
            raise CtlError("config", f"{to} cannot be written: {error.strerror}") from error
    elif session.settings.output is OutputFormat.TABLE:
        session.output.raw(data)
        return
    digest = hashlib.sha256(data).hexdigest()
    told = {
        "run": found.run_id,
        "file": str(to) if to is not None else None,
        "bytes": len(data),
        "sha256": digest,
        "head_sha256": found.head,
        "records": list(found.records),
    }
    lines = [f"{found.run_id}: {len(found.records)} records in {to}, sha256 {digest}"]
    session.output.show("run-export", told, lines, names=[found.run_id])


def _show_export_plan(session: Session, found: RunFile, size: int, to: Path | None) -> None:
    """Raises: CtlError: the file is there already; an export replaces nothing."""
    if to is not None and os.path.lexists(to):
        raise CtlError("config", f"{to} cannot be written: {os.strerror(errno.EEXIST)}")
    told = {"run": found.run_id, "file": str(to) if to is not None else None, "bytes": size, "records": len(found.records)}
    where = "standard output" if to is None else str(to)
    view = [f"would write {len(found.records)} records, {size} bytes, to {where}", "Nothing was done: --dry-run."]
    session.output.show("plan", told, view, names=[found.run_id])


def _is_file(run: str) -> bool:
    """Whether a file with a run's journal is named, and not a run that is known here."""
    return "/" in run or run.endswith(".jsonl")


def _go_on(session: Session, run: str, how: Callable[[Session, str], None]) -> None:
    from raftctl.runbook.journal import adopt, find_run, read_copy

    if session.flags.dry_run:
        _show_next(session, read_copy(Path(run)) if _is_file(run) else find_run(run))
        return
    run_id = adopt(Path(run)) if _is_file(run) else run
    its = _its_session(session, run_id)
    try:
        how(its, run_id)
    except KeyboardInterrupt as interrupt:
        raise its.changes.interrupted() from interrupt
    finally:
        if its is not session:
            its.close()


def _show_next(session: Session, found: RunFile) -> None:
    """What would be done, from the journal alone."""
    begun = [str(record["step"]) for record in found.records if record["event"] == "step_begun"]
    done = [str(record["step"]) for record in found.records if record["event"] == "step_done"]
    data = {
        "run": found.run_id,
        "outcome": found.outcome,
        "steps_begun": begun,
        "steps_done": done,
        "next": found.next_commands,
    }
    view = [f"{found.run_id}: {found.outcome}; steps done: {', '.join(done) or 'none'}", "Nothing was done: --dry-run."]
    session.output.show("plan", data, view, names=[found.run_id])


def _its_session(session: Session, run_id: str) -> Session:
    """Return a session for the run's own cluster: unless another context or endpoint is named, the one it began with."""

    from raftctl.config_file import read_config
    from raftctl.runbook.journal import find_run

    context = find_run(run_id).began.get("context")
    flags = session.flags
    if flags.context or flags.endpoint or context not in read_config().contexts:
        return session
    return Session(flags.but(context=str(context)))
