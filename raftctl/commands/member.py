"""Changing who belongs to the cluster: learners come, are promoted, demoted, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.options import NodeArgument


def add(
    session: Session,
    member: Annotated[str, typer.Argument(metavar="ID=RAFT,URL", help="The node's id, raft address and management URL.")],
) -> None:
    """Add a node as a learner, and see it catch up. Its process must run, with an empty data directory."""
    from raftctl import member_actions
    from raftctl.actions import perform
    from raftctl.commands.change import parse_member

    node, address = parse_member(member)
    perform(session, [member_actions.add(session, session.survey_with_leader(), node, address)])


def promote(session: Session, node: NodeArgument) -> None:
    """Make a learner that has caught up a voter."""
    from raftctl import member_actions
    from raftctl.actions import perform
    from raftctl.survey import EVERYBODY

    perform(session, [member_actions.promote(session, session.survey_with_leader(patient_with=EVERYBODY), node)])


def demote(session: Session, node: NodeArgument) -> None:
    """Make a voter a learner."""
    from raftctl import member_actions
    from raftctl.actions import perform
    from raftctl.survey import EVERYBODY

    perform(session, [member_actions.demote(session, session.survey_with_leader(patient_with=EVERYBODY), node)])


def remove(session: Session, node: NodeArgument) -> None:
    """Remove a voter or a learner; its process goes on and is asked nothing more."""
    from raftctl import member_actions
    from raftctl.actions import perform
    from raftctl.survey import EVERYBODY

    perform(session, [member_actions.remove(session, session.survey_with_leader(patient_with=EVERYBODY), node)])
