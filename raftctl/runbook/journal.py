"""What a run did, written down before and after each step, so that a crash of this program leaves no riddle.

One file a run, one JSON record a line, each made durable before the run goes on. Each record carries the SHA-256 of the line
before it: what was written cannot be changed unnoticed.
Source: design of rejoin (journal); write-ahead logging.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import platformdirs

from raftctl.errors import CtlError

Record = dict[str, Any]

_FIRST: Final = "0" * 64
"""What stands for "the line before" in the first record."""


def state_path() -> Path:
    """Return where this program keeps what it must remember: journals and locks."""
    named = os.environ.get("RAFTCTL_STATE")
    return Path(named) if named else platformdirs.user_state_path("raftctl")


def runs_path() -> Path:
    return state_path() / "runs"


class Journal:
    """One run's journal, open for writing."""

    def __init__(self, run_id: str, path: Path) -> None:
        self.run_id = run_id
        self.path = path
        self._previous = _FIRST
        self._sequence = 0
        self._file = path.open("xb")

    @classmethod
    def begin(cls, what: str) -> Journal:
        """Return a new journal for a run of `what`.

        Raises: CtlError: config, the state directory cannot be written.
        """
        now = dt.datetime.now(dt.UTC)
        run_id = f"{now:%Y%m%dT%H%M%SZ}-{what}-{secrets.token_hex(2)}"
        folder = runs_path()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            journal = cls(run_id, folder / f"{run_id}.jsonl")
            sync_directory(folder)
        except OSError as error:
            raise CtlError("config", f"no journal can be kept in {folder}: {error}", hint="see RAFTCTL_STATE") from error
        return journal

    def write(self, event: str, **facts: object) -> None:
        """Append one record and wait until it is on disk."""
        self._sequence += 1
        record = {"seq": self._sequence, "at": now_text(), "event": event, "prev": self._previous}
        line = msgspec.json.encode(record | msgspec.to_builtins(facts, str_keys=True))
        self._file.write(line + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._previous = hashlib.sha256(line).hexdigest()

    @property
    def head(self) -> str:
        """SHA-256 of the last line: with it nobody can cut lines off the end."""
        return self._previous

    def close(self) -> None:
        self._file.close()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A journal as it is read back. `broken_at`: line whose predecessor is not what it was, None: all intact."""

    run_id: str
    path: Path
    records: tuple[Record, ...]
    broken_at: int | None

    @property
    def began(self) -> Record:
        return self.records[0] if self.records else {}

    @property
    def outcome(self) -> str:
        """`done`, `undone`, `needs_attention`, `refused`, …; `unfinished`: the program ended in the middle, or runs still."""
        last = self.records[-1] if self.records else {}
        return str(last.get("outcome", "unfinished"))


def read_runs() -> Iterator[Run]:
    """Return all runs, newest first."""
    folder = runs_path()
    for path in sorted(folder.glob("*.jsonl"), reverse=True) if folder.is_dir() else ():
        yield read_run(path)


def find_run(run_id: str) -> Run:
    """Return one run. Raises: CtlError: not found."""
    path = runs_path() / f"{run_id}.jsonl"
    if Path(run_id).name != run_id or not path.is_file():
        raise CtlError("not_found_here", f"there is no run {run_id!r} in {runs_path()}", hint="see: raftctl runs list")
    return read_run(path)


def read_run(path: Path) -> Run:
    """Return a journal's records up to the first that does not follow from the one before."""
    records: list[Record] = []
    previous = _FIRST
    broken_at: int | None = None
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("prev") != previous:
            broken_at = number
            break
        records.append(record)
        previous = hashlib.sha256(line).hexdigest()
    return Run(run_id=path.stem, path=path, records=tuple(records), broken_at=broken_at)


def write_durably(path: Path, text: str) -> None:
    """Write a new file and wait until it is on disk."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def now_text() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
