"""What an action would mean, before anybody does it: effect, quorum now and if it goes wrong, the next election, bytes to ship.

Pure: a survey and a plan go in, an `Explanation` comes out. A runbook is explained by the node that it takes away for a while.
Source: contract section 5 (explain); field notes A.3.2, B 12 and 14 (the tool does the arithmetic and counts the next failure).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from raftctl import what_if
from raftctl.actions import Action
from raftctl.guards import Finding, Verdict
from raftctl.model import NodeStatus, index_of
from raftctl.output.tables import Cell, Table
from raftctl.output.text import human_bytes, listed
from raftctl.session import Session
from raftctl.survey import Survey
from raftctl.what_if import Chance, Count

if TYPE_CHECKING:
    from raftctl.runbook.engine import Plan


class Case(msgspec.Struct, frozen=True):
    """One state of the world, and what could still fail in it."""

    when: str
    count: Count


class Shipment(msgspec.Struct, frozen=True):
    """What has to go over the network, at least. None: nobody tells."""

    to: int
    entries: int | None
    bytes_min: int | None
    why: str


class Elections(msgspec.Struct, frozen=True):
    """Who could win the next election in one state of the world."""

    when: str
    chances: Sequence[Chance]


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of action adds to the plan it is explained from."""

    effect: Sequence[str] = ()
    cases: Sequence[Case] = ()
    without: Sequence[int] = ()
    voters: Sequence[int] | None = None
    shipments: Sequence[Shipment] = ()
    undo: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is said about one action."""

    action: str
    what: str
    cluster: str
    node: int | None
    requested: Mapping[str, object]
    tier: str
    effect: Sequence[str]
    quorum: Sequence[Case]
    elections: Sequence[Elections]
    shipments: Sequence[Shipment]
    undo: str
    rules: Sequence[Finding]
    refused: bool


def explain_action(survey: Survey, action: Action) -> Explanation:
    """Explain one request."""
    meaning = _MEANINGS[action.name](survey, action)
    return _explanation(
        survey, meaning, action.name, action.what, action.node, action.requested, action.tier, action.steps, action.findings
    )


def explain_actions(session: Session, actions: Sequence[Action]) -> None:
    """Show what they mean. Exits with 0 whether a rule forbids them or not: the question was answered."""
    assert session.seen is not None, "a plan rests on a survey"
    show_explanations(session, [explain_action(session.seen, action) for action in actions])


def show_explanations(session: Session, explanations: Sequence[Explanation]) -> None:
    """One document, or several in one."""
    from raftctl.output.explained import explained

    data = [msgspec.to_builtins(explanation, str_keys=True) for explanation in explanations]
    view: list[Table | str] = []
    for explanation in explanations:
        lines = explained(explanation)
        view += [session.output.line(part.text, part.tone) if isinstance(part, Cell) else part for part in lines]
    session.output.show(
        "explanation" if len(data) == 1 else "explanations",
        data[0] if len(data) == 1 else {"items": data},
        [*view, "Nothing was done: explain only reads."],
        items=data,
        names=[explanation.action for explanation in explanations],
    )


def explain_runbook(
    session: Session, survey: Survey, name: str, params: object, plan: Plan, findings: Sequence[Finding]
) -> None:
    """Show what a runbook means. One that this module has no words for is one that takes `plan.node` away for a while."""
    meaning = _RUNBOOKS.get(name, _one_away)(survey, plan.node)
    requested: dict[str, object] = msgspec.to_builtins(params, str_keys=True)
    explanation = _explanation(survey, meaning, name, plan.what, plan.node, requested, plan.tier, plan.steps, findings)
    show_explanations(session, [explanation])


def _explanation(
    survey: Survey,
    meaning: Meaning,
    name: str,
    what: str,
    node: int | None,
    requested: Mapping[str, object],
    tier: str,
    steps: Sequence[str],
    findings: Sequence[Finding],
) -> Explanation:
    elections = [Elections("now", what_if.chances(survey))]
    if meaning.voters is not None:
        elections.append(Elections("afterwards", what_if.chances(survey, voters=meaning.voters)))
    elif meaning.without:
        gone = f"node {listed(meaning.without)}"
        elections.append(Elections(f"without {gone}", what_if.chances(survey, without=meaning.without)))
    return Explanation(
        action=name,
        what=what,
        cluster=survey.cluster,
        node=node,
        requested=requested,
        tier=tier,
        effect=[*steps, *meaning.effect],
        quorum=[Case("now", what_if.count(survey)), *meaning.cases],
        elections=elections,
        shipments=list(meaning.shipments),
        undo=meaning.undo,
        rules=list(findings),
        refused=any(item.verdict is Verdict.FAIL for item in findings),
    )


# -- the triggers --------------------------------------------------------------------------------------------------------


def _elect(survey: Survey, action: Action) -> Meaning:
    node = action.node or 0
    leader = survey.leader
    pre_vote = bool(action.requested.get("pre_vote"))
    disturbs = leader is not None and leader.node_id != node
    won = "nothing changes unless a quorum would vote for it" if pre_vote else "the term rises whether it wins or not"
    pause = "writes pause until it is decided, at most about one election" if disturbs else ""
    back = f"raftctl transfer-leader --to {leader.node_id}" if leader is not None and disturbs else ""
    return Meaning(
        effect=[won, *([pause] if pause else [])],
        cases=_loss(survey, node, f"if node {node} fails as soon as it leads"),
        without=[node],
        undo=back,
    )


def _heartbeat(_survey: Survey, _action: Action) -> Meaning:
    return Meaning(effect=["no entry is written, no term changes; a deposed leader would learn of it now"])


def _snapshot(survey: Survey, action: Action) -> Meaning:
    node = action.node or 0
    status = survey.status(node)
    size = _state_bytes(status)
    free = status.free_bytes if status is not None else None
    room = f"; {human_bytes(free)} are free there" if free is not None else ""
    told = f"at least {human_bytes(size)}" if size is not None else "the whole state machine"
    return Meaning(
        effect=[f"{told} is written to the disk of node {node}{room}; nothing is shipped, no log entry is dropped yet"],
        cases=_loss(survey, node, f"if node {node}'s disk fills up and it fails"),
        without=[node],
    )


def _purge_log(survey: Survey, action: Action) -> Meaning:
    node = action.node or 0
    status = survey.status(node)
    asked = action.requested.get("upto")
    upto = min(asked if isinstance(asked, int) else 0, index_of(status.snapshot if status is not None else None))
    behind = _behind(status, upto)
    ships = [_everything(survey, one, f"entries up to {upto} are gone, so a snapshot is sent") for one in behind]
    effect = ["no node loses what it has applied; only the way from old entries to a node that lacks them is gone"]
    if behind:
        effect.append(f"until it has the snapshot, node {listed(behind)} is no use as a copy")
    return Meaning(
        effect=effect,
        cases=[Case(f"if node {listed(behind)} cannot be sent a snapshot", what_if.count(survey, without=behind))]
        if behind
        else [],
        without=behind,
        shipments=ships,
        undo="not possible: a purged entry does not come back",
    )


def _transfer_leader(survey: Survey, action: Action) -> Meaning:
    to = _to(action)
    leader = survey.leader
    serves = f"if it has not taken over within one election timeout, node {leader.node_id} serves again" if leader else ""
    return Meaning(
        effect=[serves] if serves else [],
        cases=_loss(survey, to, f"if node {to} fails as soon as it leads"),
        without=[to],
        shipments=_lagging(survey, [to]),
        undo=f"raftctl transfer-leader --to {leader.node_id}" if leader is not None and leader.node_id != to else "",
    )


def _allow_next_revert(survey: Survey, action: Action) -> Meaning:
    to = _to(action)
    if not action.requested.get("allow"):
        return Meaning(effect=["nothing else changes"], undo=f"raftctl allow-next-revert --to {to}")
    committed, others = what_if.holders(survey, without=[to])
    needed = what_if.holders_needed(survey)
    enough = len(others) >= needed
    held = f"entry {committed}, the last that is committed, is on the disks of node {listed(others)} besides node {to}"
    verdict = (
        f"that is enough: every quorum has one of {needed}"
        if enough
        else f"that is {len(others)} of the {needed} it takes for every quorum to have one: a second failure could lose it"
    )
    return Meaning(
        effect=[held, verdict],
        cases=_absence(survey, to, f"if node {to} comes back empty, until it has caught up"),
        without=[to],
        shipments=[_everything(survey, to, "if it comes back empty")],
        undo=f"raftctl allow-next-revert --to {to} --no-allow",
    )


# -- members -------------------------------------------------------------------------------------------------------------


def _add_learner(survey: Survey, action: Action) -> Meaning:
    node = action.requested.get("id")
    number = node if isinstance(node, int) else 0
    return Meaning(
        effect=["a learner is in no quorum: if it fails, nothing else changes"],
        shipments=[_everything(survey, number, "it begins empty")],
        undo=f"raftctl member remove {number}",
    )


def _change_members(survey: Survey, action: Action) -> Meaning:
    voters = sorted(action.voters or ())
    before = set(survey.membership.voters)
    if before == set(voters):
        return Meaning(effect=["no quorum changes"])
    fails = what_if.next_to_fail(survey, voters=voters)
    both = f"old and new voters {{{','.join(map(str, voters))}}} must both agree"
    cases = [
        Case(f"while it is under way: {both}", what_if.joint_count(survey, voters)),
        Case("afterwards", what_if.count(survey, voters=voters)),
    ]
    if fails is not None:
        cases.insert(
            1, Case(f"if node {fails} fails while it is under way", what_if.joint_count(survey, voters, without=[fails]))
        )
        cases.append(Case(f"if node {fails} fails afterwards", what_if.count(survey, voters=voters, without=[fails])))
    joined, left = sorted(set(voters) - before), sorted(before - set(voters))
    back = f"raftctl member demote {joined[0]}" if joined else ""
    if left:
        back = f"raftctl member promote {left[0]}"
        back += ", after adding it again as a learner" if action.name == "remove_member" else ""
    return Meaning(cases=cases, voters=voters, undo=back)


_MEANINGS: Final[Mapping[str, Callable[[Survey, Action], Meaning]]] = {
    "elect": _elect,
    "heartbeat": _heartbeat,
    "snapshot": _snapshot,
    "purge_log": _purge_log,
    "transfer_leader": _transfer_leader,
    "allow_next_revert": _allow_next_revert,
    "add_learner": _add_learner,
    "change_voters": _change_members,
    "remove_member": _change_members,
}


# -- the runbooks --------------------------------------------------------------------------------------------------------


def _one_away(survey: Survey, node: int | None) -> Meaning:
    """`node` None: one after the other."""
    if node is not None:
        return Meaning(cases=_absence(survey, node, f"while node {node} is away"), without=[node])
    first = next((voter for voter in survey.membership.voters if survey.is_up(voter)), None)
    if first is None:
        return Meaning()
    return Meaning(
        effect=["one node at a time is away; the next one goes only when the last one is back and has caught up"],
        cases=_absence(survey, first, "while one node is away"),
        without=[first],
    )


def _rejoin(survey: Survey, node: int | None) -> Meaning:
    away = _one_away(survey, node)
    return msgspec.structs.replace(
        away,
        shipments=[] if node is None else [_everything(survey, node, "it comes back empty")],
        undo="a failure or Ctrl-C undoes it as far as the plan says; afterwards: raftctl runs resume RUN",
    )


_RUNBOOKS: Final[Mapping[str, Callable[[Survey, int | None], Meaning]]] = {"rejoin-node": _rejoin}
"""Those that mean more than one node away for a while."""


# -- what several of them say --------------------------------------------------------------------------------------------


def _loss(survey: Survey, node: int, when: str) -> list[Case]:
    return [Case(when, what_if.count(survey, without=[node]))]


def _absence(survey: Survey, node: int, when: str) -> list[Case]:
    """One node gone, and the worst that may come on top of it."""
    cases = [Case(when, what_if.count(survey, without=[node]))]
    second = what_if.next_to_fail(survey, without=[node])
    if second is not None:
        cases.append(Case(f"if node {second} fails meanwhile", what_if.count(survey, without=[node, second])))
    return cases


def _to(action: Action) -> int:
    to = action.requested.get("to")
    return to if isinstance(to, int) else 0


def _state_bytes(status: NodeStatus | None) -> int | None:
    return status.data_bytes if status is not None else None


def _everything(survey: Survey, node: int, why: str) -> Shipment:
    """All of the state machine, and the entries after its snapshot."""
    leader = survey.leader
    entries = index_of(leader.last_log) - index_of(leader.snapshot) if leader is not None else None
    return Shipment(node, entries, _state_bytes(leader), why)


def _lagging(survey: Survey, nodes: Sequence[int]) -> list[Shipment]:
    return [Shipment(node, lag, None, "it is behind") for node in nodes if (lag := survey.lag(node) or 0) > 0]


def _behind(status: NodeStatus | None, upto: int) -> list[int]:
    """Return the nodes that the leader would have to send a snapshot once entries up to `upto` are gone.

    One of which it knows nothing counts, too.
    """
    if status is None or not status.leads:
        return []
    return [node for node, target in (status.replication or {}).items() if index_of(target.matching) < upto]
