"""What a change of members needs to be safe, and how its effect is recognised afterwards.

Every plan shows quorum and failure tolerance before and after, because that is what a change of members changes.
Source: contract sections 3 and 5; dissertation 4; field notes B 12, 17.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from raftctl.actions import Action, wait_s
from raftctl.confirm import Tier
from raftctl.guards import LAG_MAX, Finding, Verdict, config_settled, finding, has_leader
from raftctl.model import ActionReply, Address, Expect, NodeStatus
from raftctl.output.text import listed
from raftctl.session import Session
from raftctl.survey import Survey
from raftctl.trigger_actions import leader_of

if TYPE_CHECKING:
    from raftctl.model import Membership


def add(session: Session, survey: Survey, node: int, address: Address) -> Action:
    """A learner costs traffic and changes no quorum."""
    membership = survey.membership
    known = node in {*membership.voters, *membership.learners}
    same = known and membership.nodes.get(node) == address
    measured = f"it is a {survey.role(node)}" + ("" if same or not known else f" at {_at(membership, node)}")
    rule = finding("not-a-member", not known or same, measured if known else "it is none", f"node {node} is no member yet")
    return _change(
        session,
        survey,
        name="add_learner",
        what=f"adding node {node} to cluster {survey.cluster} as a learner",
        requested={"id": node, "raft": address.raft, "management": address.management},
        voters=membership.voters,
        rules=[rule],
        send=lambda expect: session.client.add_learner(node, address, expect=expect, wait_s=wait_s(session)),
        is_done=lambda after: (
            node in {*after.membership.voters, *after.membership.learners} and _caught_up(after, node) is None
        ),
        done=f"node {node} is a member and has caught up",
        more=[f"node {node} ({address.raft}) gets everything and does not vote; then: raftctl member promote {node}"],
    )


def promote(session: Session, survey: Survey, node: int) -> Action:
    """A learner becomes a voter."""
    membership = survey.membership
    lag = _caught_up(survey, node)
    rules = [
        finding(
            "target-learner",
            node in membership.learners or node in membership.voters,
            f"learners are {listed(membership.learners) or 'none'}",
            f"node {node} is a learner",
            hint=f"raftctl member add {node}=RAFT,URL",
        ),
        finding("target-caught-up", lag is None, lag or "it is", f"at most {LAG_MAX} behind, state replicate"),
    ]
    return _of_voters(
        session, survey, "promoting", "to a voter", node, {*membership.voters, node}, rules, retain=False, role="voter"
    )


def demote(session: Session, survey: Survey, node: int) -> Action:
    """A voter becomes a learner: it keeps getting everything and votes no more."""
    return _of_voters(
        session,
        survey,
        "demoting",
        "to a learner",
        node,
        {*survey.membership.voters} - {node},
        [_is_voter(survey, node)],
        retain=True,
        role="learner",
    )


def remove(session: Session, survey: Survey, node: int) -> Action:
    """A member becomes none."""
    membership = survey.membership
    members = sorted({*membership.voters, *membership.learners})
    return _change(
        session,
        survey,
        name="remove_member",
        what=f"removing node {node} from cluster {survey.cluster}",
        requested={"id": node},
        voters={*membership.voters} - {node},
        rules=[finding("target-member", node in members, f"members are {listed(members)}", f"node {node} is a member")],
        send=lambda expect: session.client.remove_member(node, expect=expect, wait_s=wait_s(session)),
        is_done=lambda after: node not in {*after.membership.voters, *after.membership.learners},
        done=f"node {node} is no member any more",
        more=[
            *_handover(survey, node),
            f"stop its process and keep its directory until you know that you do not want it: node {node}",
        ],
    )


def _of_voters(
    session: Session,
    survey: Survey,
    verb: str,
    to: str,
    node: int,
    voters: Collection[int],
    rules: list[Finding],
    *,
    retain: bool,
    role: str,
) -> Action:
    return _change(
        session,
        survey,
        name="change_voters",
        what=f"{verb} node {node} of cluster {survey.cluster} {to}",
        requested={"voters": sorted(voters), "retain": retain},
        voters=voters,
        rules=rules,
        send=lambda expect: session.client.set_voters(sorted(voters), retain=retain, expect=expect, wait_s=wait_s(session)),
        is_done=lambda after: after.role(node) == role and set(after.membership.voters) == set(voters),
        done=f"node {node} is a {role}; voters are {listed(sorted(voters))}",
        more=_handover(survey, node) if role == "learner" else [],
    )


def _change(
    session: Session,
    survey: Survey,
    *,
    name: str,
    what: str,
    requested: dict[str, object],
    voters: Collection[int],
    rules: list[Finding],
    send: Callable[[Expect | None], ActionReply],
    is_done: Callable[[Survey], bool],
    done: str,
    more: list[str],
) -> Action:
    leader = leader_of(session, survey)
    before, after = _arithmetic(survey, survey.membership.voters), _arithmetic(survey, voters)
    findings = [has_leader(survey), config_settled(survey, None), *rules]
    changes = set(voters) != set(survey.membership.voters)
    if changes:
        findings += [_quorum("quorum-before", survey, survey.membership.voters), _quorum("quorum-after", survey, voters)]
        findings += _even(voters)
    lowers = changes and after[2] < before[2]
    return Action(
        name=name,
        what=what,
        node=leader.node_id if leader is not None else None,
        requested=requested,
        tier=Tier.SEVERE if lowers else Tier.MODERATE,
        cluster=survey.cluster,
        send=lambda: send(_expectation(leader)),
        seen=lambda now: done if now.membership.committed and len(now.membership.configs) == 1 and is_done(now) else None,
        findings=findings,
        steps=[f"before: {_words(before)}", f"after:  {_words(after)}", *more],
        voters=tuple(sorted(voters)),
    )


def _expectation(leader: NodeStatus | None) -> Expect | None:
    """The plan rests on this leader, its term, and these very members."""
    if leader is None:
        return None
    return Expect(term=leader.term, leader=leader.node_id, membership_log_id=leader.membership.log_id)


def _arithmetic(survey: Survey, voters: Collection[int]) -> tuple[int, int, int]:
    """Return voters, how many of them make a quorum, and how many more may fail with what is up now."""
    up = [node_id for node_id in voters if survey.is_up(node_id)]
    needed = len(voters) // 2 + 1
    return len(voters), needed, len(up) - needed


def _words(numbers: tuple[int, int, int]) -> str:
    count, needed, tolerance = numbers
    spare = f"{tolerance} more may fail" if tolerance > 0 else "no more may fail" if tolerance == 0 else "no quorum"
    return f"{count} voter{'s' if count != 1 else ''}, {needed} needed; {spare}"


def _quorum(rule: str, survey: Survey, voters: Collection[int]) -> Finding:
    """Both sets must agree while the change is under way, and nobody can take it back without them."""
    count, needed, tolerance = _arithmetic(survey, voters)
    measured = f"{needed + tolerance} of {count} voters are up" if count else "no voter is left"
    return finding(rule, count > 0 and tolerance >= 0, measured, f"{needed} of {count} up" if count else "a voter")


def _even(voters: Collection[int]) -> list[Finding]:
    if len(voters) % 2 or not voters:
        return []
    measured = f"{len(voters)} voters tolerate as many failures as {len(voters) - 1}"
    return [Finding(rule="odd-voters", verdict=Verdict.WARN, measured=measured, threshold="an odd number of voters")]


def _is_voter(survey: Survey, node: int) -> Finding:
    voters = survey.membership.voters
    return finding("target-voter", node in voters, f"voters are {listed(voters)}", f"node {node} is a voter")


def _caught_up(survey: Survey, node: int) -> str | None:
    """Return what is missing, None if nothing is."""
    replication = survey.replication(node)
    if survey.leader is not None and survey.leader.node_id == node:
        return None
    if replication is None:
        return f"the leader does not replicate to node {node}"
    if replication.state == "replicate" and replication.lag <= LAG_MAX:
        return None
    return f"node {node} is {replication.lag} entries behind ({replication.state})"


def _handover(survey: Survey, node: int) -> list[str]:
    leads = survey.leader is not None and survey.leader.node_id == node
    return [f"node {node} leads; it hands over once the change is committed"] if leads else []


def _at(membership: Membership, node: int) -> str:
    address = membership.nodes.get(node)
    return f"{address.raft}, {address.management}" if address is not None else "no address"
