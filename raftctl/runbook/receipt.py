"""What a finished run leaves behind: who did what, and the proof of it.

It is drawn from the journal alone, so a crash before it was written loses nothing, and any copy of the journal yields it again.
The journal's last digest stands in it: lines changed, or cut off the end, are found out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftctl.output.text import printable
from raftctl.runbook.journal import Journal, RunFile, read_run, write_durably
from raftctl.session import Session

if TYPE_CHECKING:
    from raftctl.runbook.engine import Runbook

_KEPT: Final = ("run", "command", "cluster", "context", "node", "operator", "reason", "overrides", "version")


def receipt_of(journal: Journal) -> dict[str, Any]:
    """Return the receipt of a run that is done."""
    file = read_run(journal.path)
    began, ended = file.began, file.records[-1]
    return {
        **{name: began.get(name) for name in _KEPT},
        "began_at": began["at"],
        "finished_at": ended["at"],
        "attempts": 1 + sum(record["event"] == "run_resumed" for record in file.records),
        **ended.get("receipt", {}),
        "journal": {"path": str(journal.path), "records": len(file.records), "head_sha256": file.head},
    }


def write_receipt(journal: Journal, data: dict[str, Any]) -> Path:
    """Keep the receipt beside the journal, unless it is there already; return where."""
    path = journal.path.with_suffix(".receipt.json")
    if not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        write_durably(new, json.dumps(data, indent=2).encode() + b"\n")
        new.replace(path)
    return path


def check_receipt(run: RunFile) -> dict[str, Any] | None:
    """Return the receipt's path and digest, and whether it is of this very journal; None: there is none."""
    path = run.path.with_suffix(".receipt.json")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        head = json.loads(data)["journal"]["head_sha256"]
    except (ValueError, KeyError, TypeError):
        head = None
    return {"path": str(path), "sha256": hashlib.sha256(data).hexdigest(), "matches": head == run.head}


def show_receipt(session: Session, runbook: Runbook, data: dict[str, Any], path: Path | None) -> None:
    """`path`: where it is kept; None: nowhere, so far."""
    lines = [printable(line) for line in runbook.receipt_lines(data)]
    kept: dict[str, str | None] = {"path": None, "sha256": None}
    if path is not None:
        kept = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        lines += [f"  receipt:   {path}", f"             sha256 {kept['sha256']}"]
    session.output.show("receipt", data | {"receipt": kept}, lines, names=[data["run"]])
