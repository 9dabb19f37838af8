"""What a finished rejoin leaves behind: who did what to which node, and the proof that it is whole."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from raftctl import __version__
from raftctl.guards import Finding
from raftctl.output.text import human_bytes, human_seconds, listed, printable
from raftctl.runbook.journal import Journal, now_text, write_durably
from raftctl.runbook.rejoin import Rejoin
from raftctl.session import Session
from raftctl.survey import Survey


def begin_facts(session: Session, survey: Survey, node: int, driver: str, findings: Sequence[Finding]) -> dict[str, object]:
    """Return what the journal's first record says."""
    status = survey.status(node)
    return {
        "command": "rejoin-node",
        "cluster": survey.cluster,
        "context": session.settings.context_name,
        "node": node,
        "incarnation": status.incarnation if status is not None else None,
        "driver": driver,
        "reason": session.flags.reason,
        "overrides": list(session.flags.override),
        "operator": _operator(),
        "version": __version__,
        "rules": [msgspec.to_builtins(item) for item in findings],
    }


def receipt(session: Session, survey: Survey, node: int, driver: str, journal: Journal, rejoin: Rejoin) -> dict[str, Any]:
    """Return the receipt. The journal's head makes it tell if lines of the journal are changed or cut off."""
    status = survey.status(node)
    assert rejoin.barrier is not None
    assert rejoin.proof is not None
    assert rejoin.catch_up is not None
    data: dict[str, Any] = msgspec.to_builtins(
        {
            "run": journal.run_id,
            "command": "rejoin-node",
            "cluster": survey.cluster,
            "context": session.settings.context_name,
            "node": node,
            "incarnation": status.incarnation if status is not None else None,
            "driver": driver,
            "operator": _operator(),
            "reason": session.flags.reason,
            "overrides": list(session.flags.override),
            "finished_at": now_text(),
            "barrier": rejoin.barrier,
            "retired_to": rejoin.retired_to,
            "catch_up": rejoin.catch_up,
            "proof": rejoin.proof,
            "journal": {"path": str(journal.path), "head_sha256": journal.head},
        }
    )
    return data


def write_receipt(journal: Journal, data: dict[str, Any]) -> Path:
    """Keep the receipt beside the journal; return where."""
    path = journal.path.with_suffix(".receipt.json")
    write_durably(path, json.dumps(data, indent=2) + "\n")
    return path


def receipt_lines(data: dict[str, Any], path: Path) -> list[str]:
    """Return the receipt for people."""
    proof, catch_up, barrier = data["proof"], data["catch_up"], data["barrier"]
    log_id = barrier["log_id"]
    shipped = f", snapshot of {human_bytes(catch_up['snapshot_bytes'])}" if catch_up["snapshot_bytes"] else ""
    return [
        f"Node {data['node']} of cluster {printable(data['cluster'])} is back, and equal to the leader.",
        f"  proof:     {proof['algorithm']} {proof['digest']}",
        f"             at entry {proof['index']} on node {data['node']} and on leader {proof['leader']}",
        f"  barrier:   T{log_id['term']}-N{log_id['node_id']}.{log_id['index']}, held by node {listed(barrier['acked_by'])}",
        f"  catch-up:  to entry {catch_up['matching']} in {human_seconds(catch_up['seconds'])}{shipped}",
        f"  old data:  {printable(str(data['retired_to']))} (kept on the node; remove it when you no longer want it)",
        f"  receipt:   {path}",
    ]


def _operator() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
