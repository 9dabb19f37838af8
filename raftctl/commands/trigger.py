"""The six triggers: tell the engine to do now what it would do some time, or what only an operator may decide.

Each stands under `raftctl trigger` and at the top level.
Source: contract sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.completion import complete_nodes
    from raftctl.options import AllOption, NodeOption, ToOption
    from raftctl.survey import Survey


def elect(
    session: Session,
    node: NodeOption = None,
    pre_vote: Annotated[
        bool,
        typer.Option(
            "--pre-vote/--no-pre-vote",
            help="Ask first whether the election can be won; without it a living leader is disturbed.",
        ),
    ] = True,
) -> None:
    """Make a node campaign now."""
    from raftctl import trigger_actions
    from raftctl.actions import perform

    survey = session.survey(patient_with=[node] if node else ())
    chosen = node or _leader_or_best(survey)
    perform(session, [trigger_actions.elect(session, survey, chosen, pre_vote=pre_vote)])


def heartbeat(session: Session) -> None:
    """Have the leader send a heartbeat to every member now."""
    from raftctl import trigger_actions
    from raftctl.actions import perform

    perform(session, [trigger_actions.heartbeat(session, session.survey_with_leader())])


def snapshot(session: Session, node: NodeOption = None, everywhere: AllOption = False) -> None:
    """Have a snapshot that covers everything applied so far."""
    from raftctl import trigger_actions
    from raftctl.actions import perform

    survey = _looked(session, node, everywhere=everywhere)
    chosen = _chosen(survey, node, everywhere=everywhere)
    perform(
        session,
        [trigger_actions.snapshot(session, survey, one) for one in chosen],
        trigger_actions.left_out(survey, "snapshot") if everywhere else (),
    )


def purge_log(
    session: Session,
    upto: Annotated[int, typer.Option("--upto", min=1, metavar="INDEX", help="Last entry that may go, inclusive.")],
    node: NodeOption = None,
    everywhere: AllOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse to purge less than asked.")] = False,
) -> None:
    """Drop log entries that a snapshot covers."""
    from raftctl import trigger_actions
    from raftctl.actions import perform

    survey = _looked(session, node, everywhere=everywhere)
    chosen = _chosen(survey, node, everywhere=everywhere)
    later = f"purge-log --upto {upto}{' --strict' if strict else ''} --yes"
    perform(
        session,
        [trigger_actions.purge_log(session, survey, one, upto, strict=strict) for one in chosen],
        trigger_actions.left_out(survey, later) if everywhere else (),
    )


def transfer_leader(session: Session, to: ToOption) -> None:
    """Hand leadership to another voter."""
    from raftctl import trigger_actions
    from raftctl.actions import perform

    survey = session.survey_with_leader(patient_with=[to])
    perform(session, [trigger_actions.transfer_leader(session, survey, to)])


def allow_next_revert(
    session: Session,
    to: Annotated[
        int, typer.Option("--to", min=1, metavar="N", help="Id of the node that may revert.", autocompletion=complete_nodes)
    ],
    allow: Annotated[bool, typer.Option("--allow/--no-allow", help="Give the permission, or take it back.")] = True,
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="How long it stands; 0: until used.")] = "10m",
) -> None:
    """Allow a node to come back once with less than it acknowledged."""
    from raftctl import trigger_actions
    from raftctl.actions import perform
    from raftctl.durations import parse_duration

    action = trigger_actions.allow_next_revert(
        session, session.survey_with_leader(), to, allow=allow, ttl_s=parse_duration(ttl, "--ttl", may_be_zero=True)
    )
    perform(session, [action])


def _looked(session: Session, node: int | None, *, everywhere: bool) -> Survey:
    """Look at the nodes that are meant; by default that is the leader."""
    if everywhere:
        from raftctl.survey import EVERYBODY

        return session.survey(patient_with=EVERYBODY)
    return session.survey_with_leader() if node is None else session.survey(patient_with=[node])


def _chosen(survey: Survey, node: int | None, *, everywhere: bool) -> Sequence[int]:
    """Return the nodes meant that can be asked.

    Raises: CtlError: both options; no leader to be the default; of all nodes, none runs.
    """
    from raftctl.errors import CtlError, usage

    if everywhere and node is not None:
        raise usage("--node and --all exclude each other")
    if everywhere:
        running = [status.node_id for status in survey.statuses if not status.stopped]
        if not running:
            raise CtlError("raft_stopped", "the engine of every node that answers is stopped", hint="see: raftctl status")
        return running
    return [node or _leader(survey)]


def _leader(survey: Survey) -> int:
    from raftctl.errors import CtlError

    if survey.leader is None:
        raise CtlError("no_leader", "no node leads, so there is no default for --node", hint="name one: --node N")
    return survey.leader.node_id


def _leader_or_best(survey: Survey) -> int:
    """The leader; without one the voter with the longest log, which is the likeliest to win."""
    if survey.leader is not None:
        return survey.leader.node_id
    voters = [status for status in survey.statuses if status.node_id in survey.membership.voters and not status.stopped]
    if not voters:
        return _leader(survey)

    def log_end(node_id: int) -> tuple[int, int]:
        status = survey.status(node_id)
        last = status.last_log if status is not None else None
        return (last.term, last.index) if last is not None else (0, 0)

    return max((status.node_id for status in voters), key=log_end)
