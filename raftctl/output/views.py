"""What people and programs are shown of a survey: pure functions from a survey to tables, lines and plain data.

Unreachable nodes are rows like any other.
Source: contract section 5; field notes B 10, 11, 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from raftctl.health import Condition, Health
from raftctl.model import LogId, Replication
from raftctl.output.tables import Cell, Column, Table, Tone
from raftctl.output.text import human_ms, printable
from raftctl.survey import NodeReport, Quorum, Survey

_STATE_TONES = {
    "leader": Tone.GOOD,
    "candidate": Tone.WARN,
    "recovering": Tone.WARN,
    "shutdown": Tone.BAD,
    "unreachable": Tone.BAD,
    "unknown": Tone.WARN,
}


def status_table(survey: Survey, *, wide: bool) -> Table:
    """One row a node: where its log stands, and what is wrong with it."""
    columns = [Column("NODE", right=True), Column("ROLE", spare=2), Column("STATE"), Column("TERM", right=True, spare=4)]
    spare = {"LAST": 3, "COMMIT": 5, "APPLIED": 1, "SNAP": 6, "PURGED": 7, "LAG": 0}
    columns += [Column(title, right=True, spare=rank) for title, rank in spare.items()]
    if wide:
        columns += [Column("HEARD", right=True, spare=8), Column("MANAGEMENT", spare=9), Column("VERSION", spare=10)]
    columns.append(Column("NOTE", below=True))
    return Table(columns, [_status_row(survey, node, wide=wide) for node in survey.nodes])


def _status_row(survey: Survey, node: NodeReport, *, wide: bool) -> list[Cell | str]:
    status = node.status
    node_id = "?" if node.node_id is None else str(node.node_id)
    head: list[Cell | str] = [node_id, survey.role(node.node_id), _state(survey, node)]
    positions = (
        [str(status.term), *map(_index, (status.last_log, status.committed, status.applied, status.snapshot, status.purged))]
        if status is not None
        else ["-"] * 6
    )
    lag = survey.lag(node.node_id) if node.node_id is not None else None
    row = [*head, *positions, "-" if lag is None else str(lag)]
    if wide:
        target = survey.replication(node.node_id) if node.node_id is not None else None
        heard = human_ms(target.last_ack_ms_ago) if target is not None else "-"
        row += [heard, node.management, status.version if status is not None else "-"]
    note, tone = note_of(survey, node)
    return [*row, Cell(note, tone)]


def _state(survey: Survey, node: NodeReport) -> Cell:
    state = survey.state(node)
    return Cell(state, _STATE_TONES.get(state, Tone.PLAIN))


def note_of(survey: Survey, node: NodeReport) -> tuple[str, Tone]:
    """What is wrong with a node, or is going on with it."""
    status = node.status
    target = survey.replication(node.node_id) if node.node_id is not None else None
    permission = _permission(survey, target)
    if status is None:
        why = node.error.detail if node.error is not None else "no answer"
        return ", ".join(filter(None, [permission, why])), Tone.BAD
    if status.fatal is not None:
        return f"failed: {status.fatal}", Tone.BAD
    notes: list[str] = []
    if status.birth != "started":
        notes.append(f"{status.birth}: belongs to no cluster yet")
    if status.recovering is not None:
        notes.append(f"recovering until {status.recovering.until}")
    if status.stopped:
        notes.append("its engine is stopped")
    elif target is not None and target.state != "replicate":
        notes.append(_sending(target.state, target.snapshot_sent_bytes, target.snapshot_size_bytes))
    if permission:
        notes.append(permission)
    config = status.runtime_config
    off = [name for name in ("tick", "heartbeat", "elect", "pre_vote") if not getattr(config, f"enable_{name}")]
    if off:
        notes.append(f"switched off: {', '.join(off)}")
    return ", ".join(notes), Tone.WARN


def _permission(survey: Survey, target: Replication | None) -> str:
    """A permission is one leader's, in one term, and ends: all three are said."""
    leader = survey.leader
    if target is None or leader is None or not target.revert_armed:
        return ""
    left = f" for {human_ms(target.revert_armed_ms_left)}" if target.revert_armed_ms_left is not None else ""
    return f"may revert once{left}, by leader {leader.node_id} of term {leader.term}"


def _sending(state: str, sent: int, size: int) -> str:
    return f"snapshot {sent * 100 // size} %" if state == "snapshot" and size else state


def _index(log_id: LogId | None) -> str:
    return "-" if log_id is None else str(log_id.index)


def nodes_table(survey: Survey, *, wide: bool) -> Table:
    """One row a node: who and where it is."""
    titles = ["NODE", "ROLE", "STATE", "MANAGEMENT", "RAFT", "VERSION"] + (["INCARNATION", "CLUSTER ID"] if wide else [])
    return Table(
        [Column(title, right=title == "NODE") for title in titles],
        [_node_row(survey, node, wide=wide) for node in survey.nodes],
    )


def _node_row(survey: Survey, node: NodeReport, *, wide: bool) -> list[Cell | str]:
    status = node.status
    node_id = "?" if node.node_id is None else str(node.node_id)
    row: list[Cell | str] = [node_id, survey.role(node.node_id), _state(survey, node), node.management, node.raft or "-"]
    row.append(status.version if status is not None else "-")
    if wide:
        row += [status.incarnation, status.cluster_id] if status is not None else ["-", "-"]
    return row


def headline(survey: Survey) -> str:
    """One line: who leads, and how much the cluster can lose."""
    quorum = survey.quorum
    leader = survey.leader
    who = (
        f"node {leader.node_id} leads term {leader.term}" if leader is not None else f"no leader (latest term {survey.term})"
    )
    if not quorum.voters:
        return f"Cluster {printable(survey.cluster)}: {who}, not initialised"
    up = f"{quorum.reachable} of {quorum.voters} voters up, {quorum.needed} needed"
    return f"Cluster {printable(survey.cluster)}: {who}; {up}; {_tolerance(quorum)}"


def _tolerance(quorum: Quorum) -> str:
    not_asked = f"{quorum.unknown} not asked for lack of time"
    if quorum.is_lost:
        return "NO QUORUM: writes are impossible"
    if not quorum.reached:
        return f"{not_asked}, too few to know whether writes are possible"
    spare = f"{quorum.tolerance} more may fail" if quorum.tolerance else "none more may fail"
    return f"{spare} ({not_asked})" if quorum.unknown else spare


def alarm_lines(survey: Survey) -> list[str]:
    """One line an alarm, with the command that mends it."""
    return [
        printable(
            f"alarm: node {status.node_id}: {alarm.code}: {alarm.detail}"
            + (f" (mend it with: {alarm.hint})" if alarm.hint else "")
        )
        for status in survey.statuses
        for alarm in status.alarms
    ]


def survey_data(survey: Survey) -> dict[str, Any]:
    """Return everything, as programs get it: each node's status in full as the node worded it."""
    quorum = survey.quorum
    leader = survey.leader
    view = survey.view
    return {
        "cluster": survey.cluster or None,
        "cluster_id": view.cluster_id if view is not None else None,
        "leader": leader.node_id if leader is not None else None,
        "term": survey.term,
        "voters": quorum.voters,
        "quorum": quorum.needed,
        "reachable": quorum.reachable,
        "failure_tolerance": quorum.tolerance,
        "has_quorum": quorum.reached if quorum.reached or quorum.is_lost or not quorum.voters else None,
        "nodes": [node_data(survey, node) for node in survey.nodes],
    }


def node_data(survey: Survey, node: NodeReport) -> dict[str, Any]:
    return {
        "node_id": node.node_id,
        "role": survey.role(node.node_id),
        "state": survey.state(node),
        "management": node.management,
        "raft": node.raft or None,
        "lag": survey.lag(node.node_id) if node.node_id is not None else None,
        "status": node.raw,
        "error": None if node.error is None else msgspec.to_builtins(node.error),
    }


def node_names(survey: Survey) -> list[int]:
    return [node.node_id for node in survey.nodes if node.node_id is not None]


def health_table(health: Health) -> Table:
    return Table(
        [Column("CHECK"), Column("RESULT"), Column("MEASURED")],
        [
            [check.name, Cell(check.condition.value, _condition_tone(check.condition)), check.measured]
            for check in health.checks
        ],
    )


def _condition_tone(condition: Condition) -> Tone:
    return {Condition.OK: Tone.GOOD, Condition.DEGRADED: Tone.WARN}.get(condition, Tone.BAD)


def survey_warnings(survey: Survey) -> Sequence[str]:
    """What does not fit together."""
    clusters = sorted({status.cluster for status in survey.statuses})
    leaders = sorted({status.node_id for status in survey.statuses if status.leads})
    warnings = [f"the endpoints belong to several clusters: {', '.join(clusters)}"] if len(clusters) > 1 else []
    if len(leaders) > 1:
        warnings.append(f"nodes {', '.join(map(str, leaders))} all say that they lead; only the latest term counts")
    return warnings
