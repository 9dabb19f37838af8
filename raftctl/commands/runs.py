"""What runbooks did on this machine: their journals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.completion import complete_runs


def list_runs(session: Session) -> None:
    """List the runs, newest first."""
    from raftctl.output.tables import Cell, Column, Table, Tone
    from raftctl.runbook.journal import read_runs

    items = [
        {
            "run": run.run_id,
            "command": run.began.get("command"),
            "cluster": run.began.get("cluster"),
            "node": run.began.get("node"),
            "began": run.began.get("at"),
            "outcome": run.outcome,
            "intact": run.broken_at is None,
        }
        for run in read_runs()
    ]
    rows = [
        [
            *(str(item[name]) for name in ("run", "command", "cluster", "node", "began")),
            Cell(str(item["outcome"]), Tone.GOOD if item["outcome"] == "done" else Tone.WARN),
            "intact" if item["intact"] else Cell("CHANGED", Tone.BAD),
        ]
        for item in items
    ]
    titles = ("RUN", "COMMAND", "CLUSTER", "NODE", "BEGAN", "OUTCOME", "JOURNAL")
    if not items:
        session.output.note("no runs yet")
    view = [Table([Column(title) for title in titles], rows)] if items else []
    session.output.show("runs", {"items": items}, view, items=items, names=[item["run"] for item in items])


def show(session: Session, run: Annotated[str, typer.Argument(metavar="RUN", autocompletion=complete_runs)]) -> None:
    """Show one run step by step, and whether its journal is intact."""
    from raftctl.output.tables import Column, Table
    from raftctl.runbook.journal import find_run

    found = find_run(run)
    if found.broken_at is not None:
        session.output.warn(
            f"line {found.broken_at} of {found.path} does not follow from the one before: it was changed or cut"
        )
    rows = [
        [
            str(record["at"]),
            str(record["event"]),
            str(record.get("step", "")),
            str(record.get("summary") or record.get("message") or ""),
        ]
        for record in found.records
    ]
    data = {"run": found.run_id, "outcome": found.outcome, "intact": found.broken_at is None, "records": list(found.records)}
    began = found.began
    head = f"{found.run_id}: {began.get('command')} of node {began.get('node')}, cluster {began.get('cluster')}: {found.outcome}"
    from raftctl.output.text import printable

    table = Table([Column(title) for title in ("AT", "EVENT", "STEP", "WHAT")], rows)
    end = "The journal is intact." if found.broken_at is None else "The journal was CHANGED: see the warning."
    session.output.show("run", data, [printable(head), "", table, "", end], items=list(found.records), names=[found.run_id])
