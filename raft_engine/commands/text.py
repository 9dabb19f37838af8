"""A report on a data directory as lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

Report = dict[str, Any]
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_KINDS: Final = {
    "lost_vote": "LOST PROMISE",
    "lost_entries": "LOST PROMISE",
    "rebuildable": "damaged",
    "newer_format": "newer format",
    "not_ours": "wrong owner or mode",
    "unreadable": "unreadable",
}


def human_bytes(count: int) -> str:
    """Return `1.2 GiB`."""
    size, unit = float(count), 0
    while size >= 1024 and unit + 1 < len(_UNITS):
        size, unit = size / 1024, unit + 1
    return f"{count} bytes" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def log_id_text(value: Report | None) -> str:
    return "-" if value is None else f"T{value['term']}-N{value['node_id']}.{value['index']}"


def report_lines(report: Report) -> list[str]:
    """Return the whole report."""
    lines = [
        *_head(report),
        *_vote(report["hard_state"]),
        *_log(report["log"]),
        *_snapshots(report["snapshots"]),
        *_state_machine(report["state_machine"]),
        *_retired(report["retired"]),
        *(_row("note", note) for note in report["notes"]),
    ]
    return [*lines, *_verdict(report)]


def entry_line(entry: Report) -> str:
    """Return one entry: `1180  T5-N1  normal  put color (4 bytes) "blue"`."""
    what = entry["kind"]
    if "command" in entry:
        what += "  " + "; ".join(map(_operation, entry["command"]["operations"]))
    elif entry["kind"] == "membership":
        what += f"  {entry['membership']}"
    elif entry["data_bytes"]:
        shown = entry["data_hex"][:64]
        what += f"  {entry['data_bytes']} bytes {shown}" + ("…" if len(shown) < len(entry["data_hex"]) else "")
    return f"{entry['index']:>10}  T{entry['term']}-N{entry['node_id']}  {what}"


def _operation(operation: Report) -> str:
    text = f"{operation['op']} {operation['key']!r}"
    if operation["op"] == "put":
        text += f" ({operation['value_bytes']} bytes)"
    if operation["condition"] is not None:
        text += f" if {operation['condition']}"
    return text


def _row(name: str, text: str) -> str:
    return f"{name:<14} {text}"


def _head(report: Report) -> list[str]:
    holder = report["running_process"]
    lines = [_row("directory", report["path"] + (f" (process {holder} has it open)" if holder is not None else ""))]
    identity = report["identity"]
    if identity is None:
        return [*lines, _row("identity", "-")]
    who = f"node {identity['node_id']} of cluster {identity['cluster']!r}, incarnation {identity['incarnation']}"
    return [*lines, _row("identity", who), _row("", f"boot {identity['boot_count']}, {identity['birth']}")]


def _vote(hard_state: Report | None) -> list[str]:
    if hard_state is None:
        return [_row("vote", "-")]
    vote, recovery = hard_state["vote"], hard_state["recovery"]
    given = f"term {vote['term']}" + (f", for node {vote['node_id']}" if vote["node_id"] else "")
    lines = [_row("vote", given + (", who leads it" if vote["committed"] else ""))]
    if recovery is not None:
        lines.append(_row("recovering", f"until its log holds {log_id_text(recovery['until'])}: {recovery['reason']}"))
    return lines


def _log(log: Report | None) -> list[str]:
    if log is None:
        return [_row("log", "-")]
    last = log["last"]
    there = f"entries {log['first_index']} to {last['index']}" if log["first_index"] is not None else "no entries"
    if not log["is_complete"]:
        there += " can be read, what follows cannot"
    lines = [_row("log", f"{there}; purged up to {log_id_text(log['purged'])}")]
    ends = [run["first_index"] - 1 for run in log["runs"][1:]] + [last["index"] if last is not None else 0]
    lines += [
        _row("", f"T{run['term']}-N{run['node_id']}  {run['first_index']} to {end}")
        for run, end in zip(log["runs"], ends, strict=False)
    ]
    return [*lines, *(_row("", _segment(segment)) for segment in log["segments"])]


def _segment(segment: Report) -> str:
    used, size = human_bytes(segment["used_bytes"]), human_bytes(segment["size_bytes"])
    text = f"{segment['file']}  {segment['records']} entries, {used} of {size} used"
    return text if segment["is_whole"] else text + ", damaged behind them"


def _snapshots(snapshots: list[Report] | None) -> list[str]:
    if not snapshots:
        return [_row("snapshot", "-")]
    return [_row("snapshot", _snapshot(snapshot)) for snapshot in snapshots]


def _snapshot(snapshot: Report) -> str:
    text = f"up to {log_id_text(snapshot['last_log_id'])}, {human_bytes(snapshot['size_bytes'])}"
    return text if snapshot["is_whole"] else text + ", damaged"


def _state_machine(state_machine: Report | None) -> list[str]:
    if state_machine is None:
        return [_row("state machine", "nothing on disk")]
    size = human_bytes(state_machine["size_bytes"])
    if "applied" not in state_machine:
        return [_row("state machine", f"{state_machine['file']}, {size}, cannot be read")]
    applied = log_id_text(state_machine["applied"])
    return [_row("state machine", f"applied {applied}, {state_machine['keys']} keys, {size}")]


def _retired(retired: list[Report]) -> list[str]:
    return [
        _row(
            "retired",
            f"{each['name']}, {human_bytes(each['size_bytes'])}" + (f": {each['reason']}" if each["reason"] else ""),
        )
        for each in retired
    ]


def _verdict(report: Report) -> list[str]:
    problems = report["problems"]
    if not problems:
        return ["sound: every checksum was verified"]
    lines = [f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}:"]
    for problem in problems:
        lines += [
            f"- {_KINDS[problem['kind']]}: {problem['message']}",
            f"  where: {_place(problem)}",
            f"  means: {problem['means']}",
        ]
    if report["running_process"] is not None:
        lines.append("the node is running: look again with it stopped before you act on this")
    return [*lines, "what to do:", *(f"  {step}" for step in report["next"])]


def _place(problem: Report) -> str:
    place = str(Path(problem["path"]))
    if problem["record"] is not None:
        place += f", entry {problem['record']}"
    return place if problem["offset"] is None else f"{place}, byte {problem['offset']}"
