"""snapshot list: which snapshot each node has, and how far it is behind the node's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftctl.session import Session, nobody_answers

if TYPE_CHECKING:
    from raftctl.survey import NodeReport


def list_snapshots(session: Session) -> None:
    """List each node's latest snapshot, and the entries that came after it."""
    from raftctl.output.tables import Cell, Column, Table, Tone

    survey = session.client.cluster()
    items = [_item(node) for node in survey.nodes]
    rows: list[list[Cell | str]] = []
    for item in items:
        shown = [_shown(item[name]) for name in ("last_log_id", "entries_since", "log_begins", "state_bytes")]
        note = Cell(str(item["error"]), Tone.BAD) if item["error"] else "being built" if item["building"] else ""
        rows.append([_shown(item["node"]), *shown, note])
    columns = [Column("NODE", right=True), Column("SNAPSHOT"), Column("ENTRIES SINCE", right=True)]
    columns += [Column("LOG BEGINS", right=True), Column("STATE BYTES", right=True), Column("NOTE")]
    names = [item["last_log_id"] for item in items if item["last_log_id"] is not None]
    session.output.show("snapshots", {"items": items}, [Table(columns, rows)], items=items, names=names)
    if not survey.statuses:
        raise nobody_answers(survey)


def _item(node: NodeReport) -> dict[str, object]:
    """`log_begins`: index of the first entry that was not purged."""
    from raftctl.model import index_of

    status = node.status
    if status is None:
        error = node.error.detail if node.error is not None else "no answer"
        known: dict[str, object] = dict.fromkeys(("last_log_id", "entries_since", "log_begins", "state_bytes", "building"))
        return {"node": node.node_id, **known, "error": error}
    return {
        "node": node.node_id,
        "last_log_id": str(status.snapshot) if status.snapshot is not None else None,
        "entries_since": index_of(status.last_log) - index_of(status.snapshot),
        "log_begins": index_of(status.purged) + 1,
        "state_bytes": status.data_bytes,
        "building": status.building_snapshot,
        "error": None,
    }


def _shown(value: object) -> str:
    return "-" if value is None else str(value)
