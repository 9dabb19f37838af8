"""What each trigger needs to be safe, and how its effect is recognised in the cluster afterwards.

Source: contract sections 3 and 5; design of the triggers' semantics.
"""

from __future__ import annotations

from raftctl.actions import Action, LeftOut, expectation, wait_s
from raftctl.confirm import Tier
from raftctl.errors import CtlError
from raftctl.guards import elect_rules, has_leader, purge_rules, revert_rules, transfer_rules
from raftctl.model import NodeStatus, index_of
from raftctl.output.text import human_seconds, listed
from raftctl.session import Session
from raftctl.survey import Survey
from raftctl.ways_back import no_leader


def elect(session: Session, survey: Survey, node: int, *, pre_vote: bool) -> Action:
    """Moderate with a pre-vote; without one, and while a leader lives, severe: it disturbs that leader. The leader: nothing."""
    status = reached(survey, node)
    leader = survey.leader
    leads = leader is not None and leader.node_id == node
    disturbs = not pre_vote and leader is not None and not leads
    tier = Tier.SEVERE if disturbs else Tier.MODERATE
    steps = [f"node {node} campaigns for a term above {survey.term}{'' if pre_vote else ', without asking first'}"]
    if leader is not None and leads:
        steps = [f"node {node} leads term {leader.term} already, and goes on"]
    elif leader is not None:
        fate = "would be deposed" if disturbs else "keeps leading unless it is silent"
        steps.append(f"node {leader.node_id} leads term {leader.term} and {fate}")

    def seen(after: Survey) -> str | None:
        now = after.status(node)
        return f"node {node} leads term {now.term}" if now is not None and now.leads else None

    return Action(
        name="elect",
        what=f"an election by node {node} of cluster {survey.cluster}{'' if pre_vote else ' without pre-vote'}",
        node=node,
        requested={"pre_vote": pre_vote},
        tier=Tier.MILD if leads else tier,
        cluster=survey.cluster,
        send=lambda: session.client.elect(
            node, pre_vote=pre_vote, expect=expectation(status) if leader is not None else None, wait_s=wait_s(session)
        ),
        seen=seen,
        findings=elect_rules(survey, node),
        steps=steps,
    )


def heartbeat(session: Session, survey: Survey) -> Action:
    leader = leader_of(session, survey)
    since_s = wait_s(session)

    def seen(after: Survey) -> str | None:
        now = after.leader
        acked = [
            node_id
            for node_id, target in ((now.replication or {}).items() if now is not None else ())
            if target.last_ack_ms_ago is not None and target.last_ack_ms_ago < since_s * 1000
        ]
        enough = now is not None and len(acked) + 1 >= after.quorum.needed
        return f"acknowledged by {listed(acked)}" if enough else None

    return Action(
        name="heartbeat",
        what=f"a heartbeat of cluster {survey.cluster}",
        node=leader.node_id if leader is not None else None,
        requested={},
        tier=Tier.MILD,
        cluster=survey.cluster,
        send=lambda: session.client.heartbeat(wait_s=wait_s(session)),
        seen=seen,
        steps=[f"node {leader.node_id} sends a heartbeat to {listed(leader.replication or ())}"]
        if leader is not None
        else [],
        findings=[has_leader(survey)],
    )


def snapshot(session: Session, survey: Survey, node: int) -> Action:
    applied = index_of(reached(survey, node).applied)

    def seen(after: Survey) -> str | None:
        status = after.status(node)
        end = index_of(status.snapshot) if status is not None else 0
        return f"snapshot up to {end}" if status is not None and end >= applied else None

    return Action(
        name="snapshot",
        what=f"a snapshot of node {node} of cluster {survey.cluster}",
        node=node,
        requested={},
        tier=Tier.MILD,
        cluster=survey.cluster,
        send=lambda: session.client.snapshot(node, wait_s=wait_s(session)),
        seen=seen,
        steps=[f"node {node} builds a snapshot that covers its applied entries, {applied} at the moment"],
    )


def purge_log(session: Session, survey: Survey, node: int, upto: int, *, strict: bool) -> Action:
    status = reached(survey, node)
    purged, end = index_of(status.purged), index_of(status.snapshot)
    goal = max(purged, min(upto, end))
    asked = f" (asked {upto}; the snapshot ends at {end})" if goal < upto else ""
    steps = [f"node {node}: purged {purged}, snapshot {end} -> would purge up to {goal}{asked}"]
    behind = [node_id for node_id, target in (status.replication or {}).items() if index_of(target.matching) < goal]
    if behind:
        steps.append(f"node {listed(behind)} has not got these entries and will be sent a snapshot instead")

    def seen(after: Survey) -> str | None:
        now = after.status(node)
        reached_index = index_of(now.purged) if now is not None else 0
        return f"purged up to {reached_index}{asked}" if now is not None and reached_index >= goal else None

    return Action(
        name="purge_log",
        what=f"purging the log of node {node} of cluster {survey.cluster} up to {goal or upto}",
        node=node,
        requested={"upto": upto, "strict": strict},
        tier=Tier.MODERATE,
        cluster=survey.cluster,
        send=lambda: session.client.purge_log(node, upto, strict=strict, expect=expectation(status), wait_s=wait_s(session)),
        seen=seen,
        findings=purge_rules(status, upto, strict=strict),
        steps=steps,
    )


def transfer_leader(session: Session, survey: Survey, to: int) -> Action:
    leader = leader_of(session, survey)

    def seen(after: Survey) -> str | None:
        return (
            f"node {to} leads term {after.leader.term}" if after.leader is not None and after.leader.node_id == to else None
        )

    return Action(
        name="transfer_leader",
        what=f"a transfer of leadership of cluster {survey.cluster} to node {to}",
        node=leader.node_id if leader is not None else None,
        requested={"to": to},
        tier=Tier.MODERATE,
        cluster=survey.cluster,
        send=lambda: session.client.transfer_leader(to, expect=expectation(leader), wait_s=wait_s(session)),
        seen=seen,
        findings=transfer_rules(survey, to),
        steps=[f"node {leader.node_id} leads term {leader.term}; writes pause for about one election"]
        if leader is not None
        else [],
    )


def allow_next_revert(session: Session, survey: Survey, to: int, *, allow: bool, ttl_s: float) -> Action:
    """Giving it is severe: it lets a node forget what it promised. Taking it back is mild."""
    leader = leader_of(session, survey)
    how_long = f"for {human_seconds(ttl_s)}" if ttl_s else "until used"

    def seen(after: Survey) -> str | None:
        target = after.replication(to)
        if target is None or target.revert_armed is not allow:
            return None
        return f"node {to} may revert once" if allow else f"node {to} may not revert"

    steps = [f"the leader counts nothing node {to} acknowledged so far, and lets it come back with less, {how_long}"]
    if allow:
        steps.append(f"alone this is not safe for a wiped voter: raftctl rejoin-node {to} adds the barrier and the proof")
    return Action(
        name="allow_next_revert",
        what=f"{'allowing' if allow else 'no longer allowing'} node {to} of cluster {survey.cluster} to revert",
        node=leader.node_id if leader is not None else None,
        requested={"to": to, "allow": allow, "ttl_ms": round(ttl_s * 1000)},
        tier=Tier.SEVERE if allow else Tier.MILD,
        cluster=survey.cluster,
        send=lambda: session.client.allow_next_revert(
            to, allow=allow, ttl_s=ttl_s if allow else 0.0, expect=expectation(leader)
        ),
        seen=seen,
        findings=revert_rules(survey, to),
        steps=steps if allow else [f"the leader fences node {to} if it comes back with less than it acknowledged"],
    )


def leader_of(session: Session, survey: Survey) -> NodeStatus | None:
    """Return the leader; only a dry run goes on without one, to show the rule.

    Raises: CtlError: nobody leads.
    """
    if survey.leader is None and not session.flags.dry_run:
        message, hint = no_leader(survey)
        raise CtlError("no_leader", message, hint=hint)
    return survey.leader


def left_out(survey: Survey, later: str) -> list[LeftOut]:
    """Return the members that `--all` means and cannot reach. `later`: the command without its program and node."""
    out = []
    for report in survey.nodes:
        if report.node_id is None or survey.role(report.node_id) == "-":
            continue
        if report.status is not None and not report.status.stopped:
            continue
        detail = report.error.detail if report.error is not None else "no answer"
        silent = f"was not asked ({detail})" if report.is_unknown else f"does not answer ({detail})"
        why = silent if report.status is None else "has its engine stopped"
        out.append(LeftOut(report.node_id, f"node {report.node_id} {why}", f"raftctl {later} --node {report.node_id}"))
    return out


def reached(survey: Survey, node: int) -> NodeStatus:
    """Return the node's status. Raises: CtlError: it has none."""
    report = survey.report(node)
    if report is None:
        known = [item.node_id for item in survey.nodes if item.node_id is not None]
        raise CtlError("node_not_found", f"there is no node {node}; known are {listed(known)}", hint="see: raftctl nodes")
    if report.status is None:
        detail = report.error.detail if report.error is not None else "no answer"
        raise CtlError("unreachable", f"node {node} does not answer: {detail}", hint="see: raftctl status")
    return report.status
