"""What a run did, written down before and after each step, so that a crash of this program leaves no riddle.

One file a run, one JSON record a line, each on disk before the run goes on. A record names the SHA-256 of the one before it
and ends with its own, so a line that was changed, taken out or put in is noticed. Only the last line may be torn: the program
or the machine died while it was written, and what it says had not begun. It is cut off when the run goes on.
Rules:
1. Whoever has the file open for writing holds its lock: one process goes on with a run, and the lock ends with the process.
2. The file holds everything a run needs: copied to another machine, it can be resumed there.
Source: design of rejoin (journal); write-ahead logging.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import platformdirs

from raftctl.errors import CtlError

Record = dict[str, Any]

FORMAT: Final = 1
"""Of the records; the first one names it, and a higher one is not read."""
_FIRST: Final = "0" * 64
"""What stands for "the record before" in the first one."""
_SUM: Final = re.compile(rb'^(\{.*),"sha256":"([0-9a-f]{64})"\}$', re.DOTALL)
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RESUMABLE: Final = frozenset({"unfinished", "needs_attention"})
"""Outcomes after which `runs resume` and `runs abort` have something to do."""


def state_path() -> Path:
    """Return where this program keeps what it must remember."""
    named = os.environ.get("RAFTCTL_STATE")
    return Path(named) if named else platformdirs.user_state_path("raftctl")


def runs_path() -> Path:
    return state_path() / "runs"


# -- writing -----------------------------------------------------------------------------------------------------------


class Journal:
    """One run's journal, open for writing."""

    def __init__(self, path: Path, handle: int, previous: str, sequence: int) -> None:
        self.run_id = path.stem
        self.path = path
        self._handle = handle
        self._previous = previous
        self._sequence = sequence

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
            path = folder / f"{run_id}.jsonl"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_directory(folder)
        except OSError as error:
            raise CtlError("config", f"no journal can be kept in {folder}: {error}", hint="see RAFTCTL_STATE") from error
        return cls(path, handle, _FIRST, 0)

    @classmethod
    def reopen(cls, run_id: str) -> tuple[Journal, RunFile]:
        """Go on with a run's journal; a torn last line is cut off.

        Raises: CtlError: not found; `locked`, another process of this machine is at it; `journal_damaged`.
        """
        path = _path_of(run_id)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            _lock(handle, run_id)
            run = read_run(path)
            run.check_intact()
            if run.torn_bytes:
                os.ftruncate(handle, run.whole_bytes)
                os.fsync(handle)
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle, run.head, len(run.records)), run

    def write(self, event: str, **facts: object) -> None:
        """Append one record and wait until it is on disk.

        Raises: CtlError: `needs_attention`, it cannot be written: the run must not go on unrecorded.
        """
        record = {"seq": self._sequence + 1, "at": now_text(), "event": event, "prev": self._previous}
        body = msgspec.json.encode(record | msgspec.to_builtins(facts, str_keys=True))
        own = hashlib.sha256(body).hexdigest()
        try:
            _write_all(self._handle, b'%s,"sha256":"%s"}\n' % (body[:-1], own.encode()))
            os.fsync(self._handle)
        except OSError as error:
            message = f"the journal {self.path} cannot be written: {error}; nothing more was done"
            hint = f"make room, then: raftctl runs resume {self.run_id}"
            raise CtlError("needs_attention", message, hint=hint) from error
        self._previous = own
        self._sequence += 1

    @property
    def head(self) -> str:
        """SHA-256 of the last record: whoever has it sees whether records were cut off the end."""
        return self._previous

    def close(self) -> None:
        """Give the file and its lock back; nothing is written any more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _write_all(handle: int, line: bytes) -> None:
    while line:
        line = line[os.write(handle, line) :]


def _lock(handle: int, run_id: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        hint = f"wait for it; see: raftctl runs show {run_id}"
        raise CtlError("locked", f"another process of this machine is at run {run_id}", hint=hint) from error


# -- reading -----------------------------------------------------------------------------------------------------------


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """A journal as it is read back.

    `broken_at`: first line that does not follow from the ones before, or None; `head`: digest of the last good record;
    `torn_bytes`: length of a last line without an end.
    """

    run_id: str
    path: Path
    records: tuple[Record, ...]
    broken_at: int | None
    head: str
    whole_bytes: int
    torn_bytes: int

    @property
    def began(self) -> Record:
        return self.records[0] if self.records else {}

    @property
    def outcome(self) -> str:
        """`done`, `undone`, `needs_attention`, `refused`, …; `unfinished`: the program ended in the middle, or runs still."""
        last = self.records[-1] if self.records else {}
        return str(last.get("outcome", "unfinished"))

    @property
    def next_commands(self) -> list[str]:
        """What can be done with it; nothing, if it ended or its journal cannot be trusted."""
        if self.outcome not in RESUMABLE or self.broken_at is not None or not self.records:
            return []
        resume, abort = f"raftctl runs resume {self.run_id}", f"raftctl runs abort {self.run_id}"
        no_way_back = any(record["event"] == "no_way_back" for record in self.records)
        return [resume] if no_way_back else [resume, abort]

    def check_intact(self) -> None:
        """Raises: CtlError: `journal_damaged`, naming the line."""
        if self.broken_at is not None:
            hint = f"look with: raftctl runs show {self.run_id}; bring the cluster back by hand, or copy the journal again"
            if self.path.parent != runs_path():
                hint = "copy it again from where it was written, with raftctl runs export"
            raise CtlError(
                "journal_damaged",
                f"line {self.broken_at} of {self.path} is not what was written there, or lines before it are not; "
                "a run is not continued on what cannot be trusted",
                hint=hint,
            )
        if self.began.get("journal", FORMAT) > FORMAT:
            message = f"{self.path} has format {self.began['journal']}, this version reads up to {FORMAT}"
            raise CtlError("journal_damaged", message, hint="use the version that began the run, or a later one")
        if not self.records:
            raise CtlError(
                "not_found_here", f"{self.path} has no record: the run ended before it began, and nothing was done"
            )


def read_runs() -> Iterator[RunFile]:
    """Return all runs, newest first."""
    folder = runs_path()
    runs = [read_run(path) for path in folder.glob("*.jsonl")] if folder.is_dir() else []
    yield from sorted(runs, key=lambda run: (_began_at(run), run.run_id), reverse=True)


def _began_at(run: RunFile) -> str:
    """Return the digits of when it began, to the millisecond; of a journal without a record, to the second that its id names."""
    digits = re.sub(r"\D", "", str(run.began.get("at") or run.run_id[: len("20261126T115027Z")]))
    return digits.ljust(len("20261126115027834"), "0")


def unfinished_run(cluster: str) -> str | None:
    """Return the latest run that began here on this cluster, did not end, and that nobody is at."""
    for run in read_runs():
        if run.began.get("cluster") == cluster and run.next_commands and not _is_at_work(run.path):
            return run.run_id
    return None


def _is_at_work(path: Path) -> bool:
    """Whether a process of this machine has it open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def find_run(run_id: str) -> RunFile:
    """Return one run. Raises: CtlError: not found."""
    return read_run(_path_of(run_id))


def read_run(path: Path) -> RunFile:
    """Return a journal's records up to the first that cannot be trusted."""
    data = path.read_bytes()
    whole, newline, torn = data.rpartition(b"\n")
    records: list[Record] = []
    previous = _FIRST
    broken_at: int | None = None
    for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
        record = _checked(line, previous, number)
        if record is None:
            broken_at = number
            break
        records.append(record)
        previous = str(record["sha256"])
    return RunFile(
        run_id=path.stem,
        path=path,
        records=tuple(records),
        broken_at=broken_at,
        head=previous,
        whole_bytes=len(whole) + len(newline),
        torn_bytes=len(torn),
    )


def _checked(line: bytes, previous: str, number: int) -> Record | None:
    """Return the record of a line, None if its digest, its place or the record before it is another one."""
    match = _SUM.match(line)
    if match is None or hashlib.sha256(match[1] + b"}").hexdigest().encode() != match[2]:
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_next = isinstance(record, dict) and record.get("prev") == previous and record.get("seq") == number
    return record if is_next else None


def _path_of(run_id: str) -> Path:
    path = runs_path() / f"{run_id}.jsonl"
    if _RUN_ID.fullmatch(run_id) is None or not path.is_file():
        raise CtlError("not_found_here", f"there is no run {run_id!r} in {runs_path()}", hint="see: raftctl runs list")
    return path


def read_copy(source: Path) -> RunFile:
    """Return a journal that was copied here from another machine, under the id that it names.

    Raises: CtlError: not found; `journal_damaged`.
    """
    try:
        run = read_run(source)
    except OSError as error:
        raise CtlError("not_found_here", f"{source} cannot be read: {error.strerror}") from error
    run.check_intact()
    run_id = str(run.began.get("run", ""))
    if _RUN_ID.fullmatch(run_id) is None:
        raise CtlError("journal_damaged", f"{source} names no run", hint="copy the file that runs export wrote")
    return msgspec.structs.replace(run, run_id=run_id)


def adopt(source: Path) -> str:
    """Take in a journal that was copied here from another machine; return its run id.

    Raises: CtlError: as `read_copy`; `config`, a journal of that run is here and is another one.
    """
    run = read_copy(source)
    run_id = run.run_id
    data = source.read_bytes()
    path = runs_path() / f"{run_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        here = path.read_bytes()
        if here.startswith(data[: run.whole_bytes]):
            return run_id
        if not data.startswith(here):
            message = f"run {run_id} is known here, and {source} is not a longer copy of its journal"
            raise CtlError("config", message, hint=f"compare them: raftctl runs show {run_id}")
    new = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    write_durably(new, data)
    new.replace(path)
    sync_directory(path.parent)
    return run_id


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on disk."""
    with path.open("xb") as file:
        file.write(data)
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
