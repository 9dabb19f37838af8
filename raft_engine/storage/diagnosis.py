"""What a problem in a data directory means for the node's promises, and what an operator does next.

A write cut short behind everything that was durable was promised to nobody: the next start drops it, and it is no problem.
Whatever else is missing or altered belongs to one of the kinds below.
Source: rejoin_safety (H1 the log is lost, H2 the vote is lost; the two ways back); protocol-aware recovery (FAST 2018).
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, Final

from raft_engine.errors import NewerFormat, StorageError, WrongDirectory
from raft_engine.types.ids import NodeId

Report = dict[str, Any]


class Part(enum.Enum):
    """Which part of a data directory is looked at."""

    DIRECTORY = "directory"
    IDENTITY = "identity"
    HARD_STATE = "hard_state"
    LOG = "log"
    SNAPSHOT = "snapshot"
    STATE_MACHINE = "state_machine"


class Kind(enum.Enum):
    """What a problem means."""

    LOST_VOTE = "lost_vote"
    LOST_ENTRIES = "lost_entries"
    REBUILDABLE = "rebuildable"
    NEWER_FORMAT = "newer_format"
    NOT_OURS = "not_ours"
    UNREADABLE = "unreadable"


MEANS: Final = {
    Kind.LOST_VOTE: "the node does not know any more what it voted for: as a voter it could help elect two leaders in one term",
    Kind.LOST_ENTRIES: "entries that the node acknowledged are lost or altered: as a voter it could help elect a leader without them",
    Kind.REBUILDABLE: "no promise is lost, vote and log are elsewhere: this part can be made again",
    Kind.NEWER_FORMAT: "a later version of the program wrote this; nothing is wrong with it",
    Kind.NOT_OURS: "this process may not use the directory, or others may: the node refuses to start",
    Kind.UNREADABLE: "the operating system does not give it out: nothing is known about it",
}

_BY_PART: Final = {
    Part.DIRECTORY: Kind.NOT_OURS,
    Part.IDENTITY: Kind.LOST_VOTE,
    Part.HARD_STATE: Kind.LOST_VOTE,
    Part.LOG: Kind.LOST_ENTRIES,
    Part.SNAPSHOT: Kind.LOST_ENTRIES,
    Part.STATE_MACHINE: Kind.REBUILDABLE,
}


def problem_of(error: StorageError, part: Part, kind: Kind | None = None) -> Report:
    """Return the problem that `error` tells of."""
    if isinstance(error, NewerFormat):
        kind = Kind.NEWER_FORMAT
    elif isinstance(error, WrongDirectory):
        kind = Kind.NOT_OURS
    return _problem(error.message, part, kind or _BY_PART[part], error.path, error.offset, error.record)


def unreadable(error: OSError, part: Part, path: Path) -> Report:
    """Return the problem of a file that the operating system does not give out; one that is gone is lost."""
    kind = _BY_PART[part] if isinstance(error, FileNotFoundError) else Kind.UNREADABLE
    return _problem(f"cannot be read: {error.strerror or error}", part, kind, str(error.filename or path), None, None)


def _problem(message: str, part: Part, kind: Kind, path: str, offset: int | None, record: int | None) -> Report:
    return {
        "part": part.value,
        "kind": kind.value,
        "path": path,
        "offset": offset,
        "record": record,
        "message": message,
        "means": MEANS[kind],
    }


def next_steps(problems: list[Report], directory: Path, node_id: NodeId | None) -> list[str]:
    """Return what an operator does about all of these problems, in order: commands where there are any."""
    kinds = {Kind(problem["kind"]) for problem in problems}
    node = str(node_id) if node_id is not None else "NODE"
    if Kind.UNREADABLE in kinds:
        return [
            "look for the cause first: mounts, owner and mode of the files, the kernel's log (dmesg) for errors of the disk",
            f"then look again: raft-engine inspect {directory}",
        ]
    if Kind.NEWER_FORMAT in kinds:
        return ["install the version of the program that wrote it, or a later one"]
    if Kind.NOT_OURS in kinds:
        return [f"chmod 700 {directory}, and run the node as the directory's owner"]
    if Kind.LOST_VOTE in kinds:
        return [
            "way B, the node comes back as a new one (nothing of the old directory is used):",
            f"mv {directory} {directory}.lost, keep it until the cluster is healthy again",
            "start the node with an empty directory: raft-engine serve --config node.toml",
            f"raftctl rejoin-node {node} --blank",
        ]
    if Kind.LOST_ENTRIES in kinds:
        return [
            "way A, the vote is kept and the rest is fetched from the other nodes:",
            "start the process with its engine stopped: raft-engine serve --stopped --config node.toml",
            f"raftctl rejoin-node {node}",
        ]
    parts = {problem["part"] for problem in problems}
    if parts == {Part.STATE_MACHINE.value}:
        return [
            f"stop the node, then: mv {directory}/sm {directory}/sm.bad",
            "start it: the state machine is made again from snapshot and log",
        ]
    return [f"with the node running: raftctl rejoin-node {node}"]
