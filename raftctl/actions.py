"""Doing one thing to the cluster, and seeing that it was done: plan, rules, question, request, look.

"Accepted" is not "done": when the node answered before it saw the effect, or its reply was lost, the cluster is looked at
until the effect is seen or the time is up (exit 7).
Source: contract section 5; field notes A.3.7, A.3.8, B 19, 20, 24.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from raftctl.confirm import Tier
from raftctl.errors import CtlError, ExitCode
from raftctl.guards import Finding, Verdict, refusal, with_overrides
from raftctl.model import ActionReply, Expect, NodeStatus
from raftctl.output.tables import Cell, Column, Table, Tone
from raftctl.output.text import listed, printable
from raftctl.session import Session
from raftctl.survey import Survey

WAIT_S: Final = 5.0
"""How long a node may look for the effect before this program looks itself."""


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One request to be made.

    `what` completes "… is refused" and, as a question, "…? [y/N]". `seen` returns a sentence when a survey shows the effect.
    `voters`: who votes afterwards, when it changes members.
    """

    name: str
    what: str
    node: int | None
    requested: dict[str, object]
    tier: Tier
    cluster: str
    send: Callable[[], ActionReply]
    seen: Callable[[Survey], str | None]
    findings: Sequence[Finding] = ()
    steps: Sequence[str] = ()
    voters: Collection[int] | None = None


class LeftOut(msgspec.Struct, frozen=True):
    """A node that was meant and cannot be asked. `why` is a sentence; `later` is the command that makes up for it."""

    node: int
    why: str
    later: str


def wait_s(session: Session) -> float:
    """Return how long a node is to wait for the effect: not longer than the caller."""
    return session.deadline.for_a_node_s(WAIT_S)


def expectation(status: NodeStatus | None) -> Expect | None:
    """Return what the plan rests on: the term and leader as this node told them."""
    return None if status is None else Expect(term=status.term, leader=status.leader)


def perform(session: Session, actions: Sequence[Action], left_out: Sequence[LeftOut] = ()) -> None:
    """Do all of them and show what happened; whoever takes long to do his part does not keep the next from being told.

    Nodes that are left out are warned of before anything is asked or done, are rows of the result, and make it exit with 10.
    Raises: CtlError: the first that was refused or is not seen to be done; `--confirm` names another cluster.
    """
    session.check_name(actions[0].cluster)
    for one in left_out:
        session.output.warn(f"{one.why}, so it is left out; once it runs: {one.later}")
    judged = [
        msgspec.structs.replace(action, findings=with_overrides(action.findings, session.flags.override))
        for action in actions
    ]
    if session.explains:
        from raftctl.explaining import explain_actions

        explain_actions(session, judged)
        return
    if session.flags.dry_run:
        _show_plans(session, judged)
        return
    for action in judged:
        error = refusal(action.findings, action.what)
        if error is not None:
            raise error
        warn_of(session, action.findings)
    _ask(session, judged)
    results: list[ActionReply] = []
    try:
        _do(session, judged, results)
    finally:
        if results:
            _show_results(session, results, [_not_done(actions[0], one) for one in left_out])
    if left_out:
        session.exit_code = ExitCode.DEGRADED


def _not_done(action: Action, one: LeftOut) -> ActionReply:
    """Return the row of a node that was left out, in the form of a reply."""
    return ActionReply(action=action.name, node=one.node, requested=action.requested, detail=f"not done: {one.why}")


def _ask(session: Session, actions: Sequence[Action]) -> None:
    """One question for all; they are of one kind."""
    first = actions[0]
    if first.tier is not Tier.MILD and not session.flags.yes:
        for action in actions:
            for step in action.steps:
                session.output.say(f"  {step}")
    question = first.what if len(actions) == 1 else f"{first.what}, and {len(actions) - 1} more like it"
    session.confirm(first.tier, question, first.cluster)


def warn_of(session: Session, findings: Sequence[Finding]) -> None:
    for item in findings:
        if item.verdict in {Verdict.WARN, Verdict.OVERRIDDEN}:
            session.output.warn(f"{item.rule}: {item.measured} ({item.verdict}; needs: {item.threshold})")


class _Sent(msgspec.Struct, frozen=True):
    """A request that was made and whose effect was not seen by the node. `how`: in a word, what came of it."""

    action: Action
    reply: ActionReply
    how: str


def _do(session: Session, actions: Sequence[Action], results: list[ActionReply]) -> None:
    """Add to `results` what is seen to be done. Raises: CtlError: the first that was refused or is not seen to be done."""
    waiting: list[_Sent] = []
    refused: CtlError | None = None
    for action in actions:
        try:
            sent = _sent(session, action)
        except CtlError as error:
            refused = error
            break
        if sent.reply.observed:
            results.append(sent.reply)
        else:
            waiting.append(sent)
    if waiting:
        _see(session, waiting, results)
    if refused is not None:
        raise refused


def _sent(session: Session, action: Action) -> _Sent:
    try:
        return _Sent(action, action.send(), "accepted")
    except CtlError as error:
        if not error.outcome_unknown:
            raise
        session.output.note(f"{error.message}; looking whether it came about")
        reply = ActionReply(
            action=action.name, node=action.node or 0, requested=action.requested, changed=True, detail=error.message
        )
        return _Sent(action, reply, "sent")


def _see(session: Session, waiting: Sequence[_Sent], results: list[ActionReply]) -> None:
    """Look until all is done. Raises: CtlError: `not_observed`, the first that is not within the time."""
    from raftctl.output.views import headline

    last = ""
    left = list(waiting)
    while left and not session.deadline.is_over:
        survey = session.client.cluster(patient_with=[one.action.node for one in left if one.action.node is not None])
        for one in tuple(left):
            if (detail := one.action.seen(survey)) is not None:
                results.append(msgspec.structs.replace(one.reply, observed=True, detail=detail))
                left.remove(one)
        if survey.statuses and not (last and session.deadline.is_over):  # who was cut short says nothing of the cluster
            last = headline(survey).partition(": ")[2]
        if left and not session.deadline.again():
            break
    if left:
        raise CtlError(
            "not_observed",
            f"{left[0].action.what}: {left[0].how}, but not seen to be done within {session.timeout_s:g} s: "
            f"{left[0].reply.detail or 'no further word'}{f'; last seen: {last}' if last else ''}",
            hint="it may still come about; see: raftctl status",
        )
    session.changes.seen()


# -- showing -------------------------------------------------------------------------------------------------------------


def _show_results(session: Session, results: Sequence[ActionReply], not_done: Sequence[ActionReply]) -> None:
    """`-o name` prints the nodes at which it was done."""
    rows = sorted((*results, *not_done), key=lambda row: row.node)
    data = [msgspec.to_builtins(row, str_keys=True) for row in rows]
    lines = [f"node {row.node}: {printable(row.detail) if row in not_done else sentence(row)}" for row in rows]
    session.output.show(
        "action" if len(data) == 1 else "actions",
        data[0] if len(data) == 1 else {"items": data},
        lines,
        items=data,
        names=[row.node for row in rows if row not in not_done],
    )


def sentence(reply: ActionReply) -> str:
    """Return what happened, in words; `changed` false is said."""
    text = _in_our_words(reply) or printable(reply.detail) or reply.action.replace("_", " ") + " done"
    return text if reply.changed or "already" in text else f"{text} (nothing to change)"


def _in_our_words(reply: ActionReply) -> str | None:
    """Return a sentence where the node's effect says more than its detail."""
    effective = reply.effective
    acked = effective.get("acked_by")
    if reply.action == "heartbeat" and isinstance(acked, list):
        told = f"acknowledged by node {listed(acked)}" if acked else "acknowledged by no other node"
        silent = effective.get("not_acked_by")
        return f"{told}, not by {listed(silent)}" if isinstance(silent, list) and silent else told
    voters, learners = effective.get("voters"), effective.get("learners")
    if isinstance(voters, list) and isinstance(learners, list):
        return f"voters are {listed(voters)}" + (f"; learners are {listed(learners)}" if learners else "")
    if reply.action == "runtime_config" and effective:
        return ", ".join(f"{name} {'on' if value else 'off'}" for name, value in effective.items())
    return None


def _show_plans(session: Session, actions: Sequence[Action]) -> None:
    """Print the plans; Raises: CtlError: a rule forbids one."""
    data = [
        {
            "action": action.name,
            "node": action.node,
            "requested": action.requested,
            "tier": action.tier.value,
            "steps": list(action.steps),
            "rules": [msgspec.to_builtins(item) for item in action.findings],
        }
        for action in actions
    ]
    view: list[Table | str] = []
    for action in actions:
        view += [session.output.line(f"Plan: {action.what}", Tone.STRONG), *(f"  {step}" for step in action.steps)]
        if action.findings:
            view += ["", rules_table(action.findings)]
    view.append("Nothing was done: --dry-run.")
    nodes = [action.node for action in actions if action.node is not None]
    session.output.show("plan", data[0] if len(data) == 1 else {"items": data}, view, items=data, names=nodes)
    errors = [error for action in actions if (error := refusal(action.findings, action.what)) is not None]
    if errors:
        raise errors[0]


def rules_table(findings: Sequence[Finding]) -> Table:
    tones = {Verdict.OK: Tone.GOOD, Verdict.FAIL: Tone.BAD}
    return Table(
        [Column("RULE"), Column("VERDICT"), Column("MEASURED"), Column("NEEDS")],
        [
            [item.rule, Cell(item.verdict.value, tones.get(item.verdict, Tone.WARN)), item.measured, item.threshold]
            for item in findings
        ],
    )
