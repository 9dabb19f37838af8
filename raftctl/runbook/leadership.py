"""What runbooks ask of the leader, whoever that is by now: handing over, barrier, the permission to revert.

A leader that goes away in between is no failure: the next one is asked.
Source: design of rejoin (steps 3 and 4); field notes F 6 (a permission that is gone is planned again, not repeated blindly).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from raftctl.errors import CtlError
from raftctl.model import BarrierReply, Expect, NodeStatus, index_of
from raftctl.output.text import listed
from raftctl.runbook.engine import Facts, Run
from raftctl.survey import Survey

T = TypeVar("T")
ARM_TTL_S: Final = 600.0
"""The permission dies by itself if this program does: as long as the contract's example."""
BARRIER_WAIT_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.05
"""Writes under way end within milliseconds."""
SETTLE_S: Final = 60.0
"""For a cluster whose leader goes away in the middle of a step: a hundred elections, or a process that is started again."""
UNSETTLED: Final = frozenset(
    {"not_leader", "no_leader", "no_quorum", "leadership_lost", "precondition_failed", "transfer_in_progress"}
)
"""The leader moved meanwhile: look again, then repeat the step."""


def settle_s(run: Run) -> float:
    """How long a step looks for a leader: --timeout, if that is shorter."""
    return min(SETTLE_S, run.session.settings.timeout_s(SETTLE_S))


def until_settled(run: Run, attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns, once it is not cut short by a leader that goes away.

    Raises: CtlError: the attempt's own, or the last one when the time for a step is over.
    """
    again = run.poll(settle_s(run), every_s=0.2)
    said = ""
    while True:
        try:
            return attempt()
        except CtlError as error:
            if error.code not in UNSETTLED and not (error.outcome_unknown and error.may_pass):
                raise
            if error.message != said:
                said = error.message
                run.note(f"{error.message}; looking again")
            if not again():
                raise


def leader_without(survey: Survey, target: int) -> NodeStatus:
    """Return the leader. Raises: CtlError: there is none, or it is the target."""
    leader = survey.leader
    if leader is None:
        raise CtlError("no_leader", "no node leads at the moment")
    if leader.node_id == target:
        raise CtlError("is_leader", f"node {target} leads; this cannot be done to a leader", rule_ids=["not-leader"])
    return leader


def hand_over(run: Run, target: int, timeout_s: float = BARRIER_WAIT_S) -> Facts:
    """Make another voter lead, one that is drained itself only if there is no other; nothing if the target does not lead.

    When this returns the target has answered those whose writes it took, so that it may be stopped or taken out.

    Args:
        timeout_s: for the target to apply what it held.
    """
    survey = run.session.survey()
    leader = survey.leader
    if leader is None or leader.node_id != target:
        return {"summary": f"node {target} does not lead"}
    heirs = [
        (node_id, progress)
        for node_id, progress in (leader.replication or {}).items()
        if node_id in survey.membership.voters and progress.state == "replicate"
    ]
    if not heirs:
        raise CtlError("target_unreachable", "no other voter can take over leadership")
    drained = {status.node_id for status in survey.statuses if not status.runtime_config.enable_elect}
    heir = min(heirs, key=lambda item: (item[0] in drained, item[1].lag))[0]
    try:
        run.client.transfer_leader(heir, expect=Expect(term=leader.term, leader=leader.node_id), wait_s=BARRIER_WAIT_S)
    except CtlError as error:
        if not error.outcome_unknown:
            raise
    again = run.poll(BARRIER_WAIT_S)
    while True:
        now = run.client.cluster().leader
        if now is not None and now.node_id != target:
            break
        if not again():
            raise CtlError("not_observed", f"node {target} still leads")
    let_writes_end(run, target, timeout_s)
    return {"handed_to": now.node_id, "summary": f"node {now.node_id} leads term {now.term}"}


def let_writes_end(run: Run, node: int, timeout_s: float) -> None:
    """Return when the node has applied what it holds, and so answered those whose writes it took while it led.

    What a new leader makes it drop counts no more. Raises: CtlError: `not_observed`, it has not when the time is up.
    """
    again = run.poll(timeout_s, every_s=_LOOK_EVERY_S)
    status = run.client.status(node)
    taken = index_of(status.last_log)
    while (applied := index_of(status.applied)) < min(taken, index_of(status.last_log)):
        if not again():
            raise CtlError(
                "not_observed", f"node {node} has applied its log up to {applied} only, and holds {taken} entries"
            )
        status = run.client.status(node)


def barrier_without(run: Run, survey: Survey, leader: NodeStatus, target: int) -> BarrierReply:
    """Have this leader, in this term, append an entry that enough voters hold without the target.

    Raises: CtlError: the leader's own; `quorum_impossible`: too few hold it.
    """
    expect = Expect(term=leader.term, leader=leader.node_id)
    barrier = run.client.barrier([target], digest=False, expect=expect, wait_s=BARRIER_WAIT_S)
    voters = survey.membership.voters
    holders = {node_id for node_id in barrier.acked_by if node_id in voters and node_id != target}
    needed = len(voters) - (len(voters) // 2 + 1) + 1  # n - q + 1: every later quorum meets one of them
    if len(holders) < needed or barrier.log_id.term != leader.term:
        message = (
            f"barrier {barrier.log_id} is held by node {listed(sorted(holders))}; "
            f"{needed} voters are needed in term {leader.term}"
        )
        raise CtlError("quorum_impossible", message, rule_ids=["holders-without-target"])
    return barrier


def allow_revert(run: Run, target: int) -> None:
    """Give the permission, by whoever leads now."""

    def attempt() -> None:
        leader = leader_without(run.client.cluster(), target)
        expect = Expect(term=leader.term, leader=leader.node_id)
        run.client.allow_next_revert(target, allow=True, ttl_s=ARM_TTL_S, expect=expect)

    until_settled(run, attempt)


def disarm(run: Run, target: int) -> bool:
    """Take the permission back where it is there; return whether it was.

    It lives in one leader's memory: if that one leads no more, it is gone by itself.
    """

    def attempt() -> bool:
        survey = run.client.cluster()
        replication = survey.replication(target)
        if survey.leader is None or replication is None or not replication.revert_armed:
            return False
        run.client.allow_next_revert(target, allow=False, ttl_s=0.0, expect=None)
        return True

    return until_settled(run, attempt)
