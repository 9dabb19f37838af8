"""What to do about a directory that is lost, was taken away or is an older copy, and about a quorum that is lost: in words.

Each is true only in its case. A node that was merely stopped has its vote and is started as it is; one whose directory is lost
comes back as a new life, and only a quorum of the others can let that in. Without one the old directories are the only way.
Pure: a survey goes in.
Source: design of rejoin (the two ways back).
"""

from __future__ import annotations

from raftctl.model import NodeStatus
from raftctl.output.text import listed
from raftctl.survey import Absence, Survey


def is_older_copy(survey: Survey, status: NodeStatus) -> bool:
    """Whether a node has less than it acknowledged: nobody knows which votes it forgot. One that was wiped kept its vote."""
    if survey.is_new_life(status):
        return False
    target = survey.replication(status.node_id)
    is_fenced = target is not None and target.state == "reverted" and status.recovering is None
    return is_fenced or status.is_older_copy


def has_quorum_without(survey: Survey, node: int) -> bool:
    return len(survey.up_without(node)) > len(survey.membership.voters) // 2


def of_gone(survey: Survey, node: int) -> str:
    """Of a directory that was taken away under a running node."""
    back = f"put the directory of node {node} back and restart its process"
    if not has_quorum_without(survey, node):
        return f"{back}; only a quorum of the others could let it in with an empty one"
    return f"{back}; if it is lost, restart the process with an empty directory, then raftctl rejoin-node {node} --blank"


def of_older_copy(survey: Survey, node: int) -> str:
    """Of a node that has less than it acknowledged."""
    if not has_quorum_without(survey, node):
        return (
            f"stop node {node} and put back the directory it ran on last; only a quorum of the others could let it in with an "
            "empty one"
        )
    return f"stop node {node}, move its data directory away, start it with an empty one, then raftctl rejoin-node {node} --blank"


def of_new_life(survey: Survey, node: int) -> str:
    """Of a node that runs with an empty directory."""
    if has_quorum_without(survey, node):
        return f"raftctl rejoin-node {node} --blank"
    return (
        f"put the directory of node {node} back as it was when it stopped, and restart its process; only a quorum of the "
        "others could let it in with an empty one"
    )


def of_silent(survey: Survey, node: int) -> str:
    """Of a node that does not answer: perhaps it is only stopped."""
    start = "start its process with the directory it had"
    if not has_quorum_without(survey, node):
        return f"{start}; only a quorum of the others could let it in with an empty one"
    return f"{start}; only if that is lost, start it with an empty one, then raftctl rejoin-node {node} --blank"


def no_leader(survey: Survey) -> tuple[str, str]:
    """Return that nobody leads, and what helps: a campaign only where a quorum is there to vote."""
    quorum = survey.quorum
    if not quorum.voters:
        return "no node leads", "a cluster is born by raftctl init; see: raftctl status"
    if quorum.unknown:
        return "no node that was asked leads, and there was no time to ask all", "allow more: --timeout"
    if not quorum.reached:
        told = f"no node leads: {quorum.reachable} of {quorum.voters} voters up, {quorum.needed} needed"
        return told, f"bring voters back, no election can be won before: {to_a_quorum(survey)}; see: raftctl doctor"
    named = next((status.leader for status in survey.statuses if status.term == survey.term and status.leader), None)
    if named is not None and survey.status(named) is None:
        told = f"no node that answers leads; the others name node {named}, which does not answer"
        return told, "can it be reached from here? see: raftctl doctor; raftctl elect --node N makes another one campaign"
    return "no node leads", "see: raftctl status; raftctl elect --node N makes one campaign"


def to_a_quorum(survey: Survey, *, without: int | None = None) -> str:
    """Return what brings back the voters that are missing.

    Args:
        without: this one is not to be counted on.
    """
    down = [
        node for node in survey.membership.voters if node != without and survey.absence(node) not in {None, Absence.UNKNOWN}
    ]
    silent = [node for node in down if survey.status(node) is None]
    lost = [node for node in down if _is_lost(survey, node)]
    ill = [node for node in down if node not in silent and node not in lost]
    had = "the directory it had" if len(silent) == 1 else "the directories they had"
    told = [f"start node {listed(silent)} with {had}"] if silent else []
    if ill:
        told.append(f"mend node {listed(ill)} as raftctl doctor says")
    if lost:
        told.append(
            f"put the directory of node {' or '.join(map(str, lost))} back as it was when it stopped, and restart its process; "
            "a quorum can let others in with an empty one"
        )
    return "; ".join(told)


def _is_lost(survey: Survey, node: int) -> bool:
    status = survey.status(node)
    if status is None:
        return False
    return status.directory_gone or survey.is_new_life(status) or is_older_copy(survey, status)
