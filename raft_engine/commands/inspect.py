"""`raft-engine inspect DIR`: what is in a data directory, every checksum verified, without touching it.

The report goes to stdout, as text or as one JSON document; the bar and what went wrong go to stderr.
Source: public contract, section 1.
"""

# ruff: noqa: T201 (a program prints)

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from raft_engine.commands.entries import entry_range, entry_report
from raft_engine.commands.exit_codes import DAMAGED, DONE, NOT_FOUND
from raft_engine.commands.export import Exported, export
from raft_engine.commands.progress import ProgressBar
from raft_engine.commands.text import entry_line, report_lines
from raft_engine.errors import Damaged, NoSuchDirectory, WouldLose
from raft_engine.kv.inspection import describe_state_machine
from raft_engine.storage.data_dir import STATE_MACHINE_DIRECTORY
from raft_engine.storage.files import FILE_MODE, storage_failed
from raft_engine.storage.inspection import bytes_to_verify, data_directories_near, describe, is_data_directory
from raft_engine.storage.log_reading import entries_in
from raft_engine.storage.looking import Progress, fingerprint
from raft_engine.types.entry import Entry
from raft_engine.types.ids import LogIndex

Report = dict[str, Any]
SUMMARY: Final = "Show what is in a data directory and verify every checksum; changes nothing."
_STDOUT: Final = "-"


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", type=Path, metavar="DIR")
    command.add_argument("-o", "--output", default="text", choices=["text", "json"], help="default: text")
    command.add_argument(
        "--entries",
        type=entry_range,
        metavar="A..B",
        help="also list these entries, both ends included: 1100..1180, 1100.., 1180",
    )
    command.add_argument(
        "--export",
        metavar="FILE",
        help="also write snapshot and entries to a new file as lines of JSON; -: to stdout, alone",
    )


def run(options: argparse.Namespace) -> int:
    """Raises: StorageError, StorageFailed; BrokenPipeError: whoever reads the report has seen enough."""
    directory: Path = options.directory
    try:
        return _run(directory, options)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise storage_failed(error, "inspecting", directory) from error


def _run(directory: Path, options: argparse.Namespace) -> int:
    if not directory.is_dir():
        raise NoSuchDirectory("there is no such directory", path=str(directory))
    if not is_data_directory(directory):
        near = data_directories_near(directory)
        hint = " or ".join(f"raft-engine inspect {shlex.quote(str(path))}" for path in near)
        raise NoSuchDirectory("this is no data directory: nothing of a node is in it", path=str(directory), hint=hint)
    _check_export(directory, options.export)
    report = _describe(directory)
    if options.export != _STDOUT:
        _print(directory, report, options)
    code = DAMAGED if report["problems"] else DONE
    if options.export is not None:
        code = _export(directory, report, options.export) or code
    if options.entries is not None and report["log"] is not None and not _has_any(report["log"], *options.entries):
        _warn(f"none of these entries is in the log: {_extent(report['log'])}")
        code = code or NOT_FOUND
    return code


def _describe(directory: Path) -> Report:
    state_machine = directory / STATE_MACHINE_DIRECTORY
    state_machine_bytes = sum(size for _, size, _ in fingerprint(state_machine))
    with closing(ProgressBar(bytes_to_verify(directory) + state_machine_bytes)) as bar:
        found = describe_state_machine(state_machine, _by_bytes(bar, state_machine_bytes))
        if found[1]:  # a restore may have replaced the file meanwhile
            found = describe_state_machine(state_machine)
        return describe(directory, state_machine=found, progress=bar)


def _by_bytes(bar: Progress, size_bytes: int) -> Callable[[int, int], None]:
    """Return what turns "so many of so many keys" into bytes for the bar."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        now = size_bytes * done // max(total, 1)
        bar(now - told, STATE_MACHINE_DIRECTORY)
        told = now

    return progress


# -- the report ----------------------------------------------------------------------------------------------------------


def _print(directory: Path, report: Report, options: argparse.Namespace) -> None:
    if options.output == "json":
        if options.entries is not None:
            report = report | {"entries": [entry_report(entry) for entry in _readable_entries(directory, *options.entries)]}
        print(json.dumps(report, indent=2), flush=True)
        return
    print("\n".join(report_lines(report)), flush=True)
    if options.entries is not None:
        print("entries:")
        for entry in _readable_entries(directory, *options.entries):
            print(entry_line(entry_report(entry)))
        sys.stdout.flush()


def _readable_entries(directory: Path, first: LogIndex, upto: LogIndex) -> Iterator[Entry]:
    """Yield the wanted entries up to the first damaged one, which the report names."""
    with suppress(Damaged, FileNotFoundError):
        yield from entries_in(directory, first, upto)


def _has_any(log: Report, first: LogIndex, upto: LogIndex) -> bool:
    return log["first_index"] is not None and first <= log["last"]["index"] and upto >= log["first_index"]


def _extent(log: Report) -> str:
    return "it has none" if log["first_index"] is None else f"it has {log['first_index']} to {log['last']['index']}"


# -- the export ----------------------------------------------------------------------------------------------------------


def _check_export(directory: Path, target: str | None) -> None:
    if target is None or target == _STDOUT:
        return
    path = Path(target).resolve()
    if path.is_relative_to(directory.resolve()):
        raise WouldLose("an export does not go into the directory that is inspected", path=target)
    if path.exists():
        raise WouldLose("there is a file of this name", path=target, hint="move it away, or name another one")


def _export(directory: Path, report: Report, target: str) -> int:
    if target == _STDOUT:
        exported = export(directory, report, sys.stdout.buffer)
    else:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as stream:
            exported = export(directory, report, stream)
            os.fsync(stream.fileno())
        print(f"raft-engine: {_exported(exported, target)}", file=sys.stderr)
    for sentence in exported.missing:
        _warn(f"not exported from here on: {sentence}")
    return DAMAGED if exported.missing else DONE


def _exported(exported: Exported, target: str) -> str:
    counts = exported.counts
    snapshot = (
        f"{counts['item'] + counts['chunk']} items of the snapshot" if counts["item"] or counts["chunk"] else "no snapshot"
    )
    return f"exported {snapshot} and {counts['entry']} entries to {target}; SHA-256 of the lines before the last: {exported.sha256}"


def _warn(sentence: str) -> None:
    print(f"raft-engine: warning: {sentence}", file=sys.stderr)
