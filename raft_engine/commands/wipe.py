"""`raft-engine wipe` and `restore`: moving a stopped node's data aside with its vote kept, and bringing it back.

This is the wipe of way A, done on the node's own machine. The barrier that makes it safe is the leader's to give, after the node
was stopped; whoever has no barrier is told how to get one. Where the data is now goes to stdout, alone, for scripts.
Source: rejoin_safety (way A, step 5); public contract, section 5 (drivers, exit codes, danger tiers).
"""

# ruff: noqa: T201 (a program prints)

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from raft_engine.commands.exit_codes import DONE, SAID_NO, USAGE
from raft_engine.commands.serve import load
from raft_engine.errors import DirectoryLocked, ExpectationFailed, NoSuchDirectory, WouldLose
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.files import Files
from raft_engine.storage.identity import load_identity
from raft_engine.storage.looking import holder_of
from raft_engine.storage.retiring import PARTS, check_barrier
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId

SUMMARY: Final = "Retire log and snapshots of a stopped node; its vote is kept, and it recovers from the others."
RESTORE_SUMMARY: Final = "Undo a wipe of a stopped node: bring back what it retired."
_LOG_ID: Final = re.compile(r"T(\d+)-N(\d+)\.(\d+)")


def add_options(command: argparse.ArgumentParser) -> None:
    _add_directory(command)
    command.add_argument(
        "--recover-until", type=_log_id, metavar="LOG_ID", help="what POST /v1/barrier returned: T5-N1.1180"
    )
    command.add_argument(
        "--reason", default="wiped with raft-engine", help="kept beside the vote, shown in the node's status"
    )
    command.add_argument(
        "--expect-boot",
        type=int,
        metavar="N",
        help="refuse unless the node's boot counter is still N: it ran since otherwise",
    )
    command.add_argument(
        "--confirm", metavar="CLUSTER", help="the cluster's name, when DIR is given and nobody can be asked"
    )
    command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def add_restore_options(command: argparse.ArgumentParser) -> None:
    _add_directory(command)
    command.add_argument("--retired", required=True, metavar="NAME", help="what wipe printed: retired-20260102T030405Z")
    command.add_argument(
        "--confirm", metavar="CLUSTER", help="the cluster's name, when DIR is given and nobody can be asked"
    )


def _add_directory(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="the data directory, or:")
    command.add_argument("--config", type=Path, metavar="FILE", help="the node's node.toml, which names the directory")


def _log_id(text: str) -> LogId:
    match = _LOG_ID.fullmatch(text)
    if match is None or int(match[3]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a log id such as T5-N1.1180 (term, node id, index)")
    return LogId(Term(int(match[1])), NodeId(int(match[2])), LogIndex(int(match[3])))


def run(options: argparse.Namespace) -> int:
    """Raises: StorageError, StorageFailed, ConfigError."""
    path, cluster, node_id = _whose(options)
    until: LogId | None = options.recover_until
    if until is None:
        raise WouldLose(
            "nothing was wiped: without a barrier the cluster may need what this node holds",
            path=str(path),
            hint=f'with the node stopped, ask the leader: POST /v1/barrier {{"exclude": [{node_id}]}}, then give its log_id '
            "with --recover-until; raftctl rejoin-node does all of it",
        )
    if options.dry_run:
        return _rehearse(path, cluster, node_id, until, options)
    if not _confirmed(options, cluster, f"retires log, snapshots and state machine of node {node_id}"):
        return _not_confirmed(options)
    data_dir = DataDir(path, cluster, node_id, open_stores=False, starts=False)
    try:
        _check_boot(data_dir.identity.boot_count, options.expect_boot, path)
        data_dir.check_barrier(until)
        retired = data_dir.wipe(until, options.reason)
        recovery = data_dir.stored_hard_state().recovery
        assert recovery is not None, "a wipe leaves a recovery behind"
    finally:
        data_dir.close()
    print(path / retired)
    _say(
        f"node {node_id} keeps its vote and recovers until its log holds {recovery.until}; "
        f"allow it to come back (raftctl allow-next-revert --to {node_id}), then start it"
    )
    return DONE


def run_restore(options: argparse.Namespace) -> int:
    """Raises: StorageError, StorageFailed, ConfigError."""
    path, cluster, node_id = _whose(options)
    if not _confirmed(options, cluster, f"brings back the retired data of node {node_id}"):
        return _not_confirmed(options)
    data_dir = DataDir(path, cluster, node_id, open_stores=False, starts=False)
    try:
        aside = data_dir.restore_retired(Path(options.retired).name)
    finally:
        data_dir.close()
    print(path / aside)
    return DONE


def _whose(options: argparse.Namespace) -> tuple[Path, str, NodeId]:
    """Return the directory, and to whom it must belong: node.toml says so, or else the directory itself.

    Raises: ConfigError, Damaged, NewerFormat; NoSuchDirectory: no node was ever there.
    """
    if options.config is not None:
        config = load(options.config)
        path, cluster, node_id = config.data_dir, config.cluster, config.node_id
    else:
        path, cluster, node_id = options.directory, "", NodeId(0)
    if not path.is_dir():
        raise NoSuchDirectory("there is no such directory", path=str(path))
    if options.config is None:
        identity = load_identity(path, Files())
        if identity is None:
            raise NoSuchDirectory("this is no data directory, or its identity is lost: raft-engine inspect", path=str(path))
        cluster, node_id = identity.cluster, identity.node_id
    return path, cluster, node_id


def check_usage(options: argparse.Namespace) -> str | None:
    """Return what is wrong with how the command was called."""
    if (options.directory is None) == (options.config is None):
        return "give either DIR or --config FILE"
    return None


def _check_boot(boot: int, expected: int | None, path: Path) -> None:
    if expected is not None and boot != expected:
        raise ExpectationFailed(
            f"the boot counter is {boot}, not {expected}: the node ran since it was stopped; nothing was wiped",
            path=str(path),
            hint="a barrier of before does not cover what it acknowledged since: begin again with another one",
        )


# -- asking --------------------------------------------------------------------------------------------------------------


def _confirmed(options: argparse.Namespace, cluster: str, what: str) -> bool:
    """Whether somebody named the cluster: node.toml does, `--confirm` does, or who sits at the terminal."""
    if options.config is not None or options.confirm == cluster:
        return True
    if options.confirm is not None or not sys.stdin.isatty():
        return False
    print(f"this {what}\ntype the cluster's name ({cluster}) to go on: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == cluster


def _not_confirmed(options: argparse.Namespace) -> int:
    if options.confirm is None and sys.stdin.isatty():
        _say("not confirmed; nothing was changed")
        return SAID_NO
    _say("error: nothing was changed: --confirm must be the name of the directory's cluster (raft-engine inspect shows it)")
    return USAGE


# -- a rehearsal ---------------------------------------------------------------------------------------------------------


def _rehearse(path: Path, cluster: str, node_id: NodeId, until: LogId, options: argparse.Namespace) -> int:
    """Say what would be done; touch nothing, not even the lock."""
    holder = holder_of(path)
    if holder is not None:
        raise DirectoryLocked(f"process {holder} has this data directory open", path=str(path), hint="stop the node first")
    identity = load_identity(path, Files())
    if identity is not None:
        _check_boot(identity.boot_count, options.expect_boot, path)
    known = check_barrier(path, until, Files())
    print(
        f"node {node_id} of cluster {cluster!r}: would move {', '.join(PARTS)} to {path}/retired-…, and keep vote and identity"
    )
    print(
        f"it would recover until its log holds {until}; its log ends with {known}"
        if known
        else f"it would recover until {until}"
    )
    return DONE


def _say(sentence: str) -> None:
    print(f"raft-engine: {sentence}", file=sys.stderr)
