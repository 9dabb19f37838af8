"""rejoin-node: wipe a voter and bring it back, safe by construction and proved to be equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from raftctl.deadline import takes
from raftctl.errors import CtlError
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.options import NodeArgument
    from raftctl.survey import Survey

_TIMEOUT_S: Final = 900.0
"""For the catch-up: a few gigabytes over a slow link."""


@takes(_TIMEOUT_S, "How long the plan, and each wait of the run, may take")
def rejoin_node(
    session: Session,
    node: NodeArgument,
    driver: Annotated[
        str | None,
        typer.Option(
            "--driver",
            metavar="http|local|command|manual",
            help="How the node is stopped, wiped and started; default: the context's, else http.",
        ),
    ] = None,
    blank: Annotated[
        bool, typer.Option("--blank", help="Its directory is lost: let it in as a new life, and wipe nothing.")
    ] = False,
) -> None:
    """Wipe a node's data, keep its vote, and bring it back; proved by comparing state machines."""
    from raftctl.runbook.choose_driver import driver_name
    from raftctl.runbook.conduct import start
    from raftctl.runbook.rejoin import Rejoin, RejoinParams
    from raftctl.runbook.rejoin_blank import RejoinBlank

    _check_known(session.survey(), node)
    params = RejoinParams(
        node=node,
        driver=driver_name(session, node, driver),
        timeout_s=session.timeout_s,
        blank=blank,
    )
    start(session, RejoinBlank(params) if blank else Rejoin(params))


def _check_known(survey: Survey, node: int) -> None:
    """Refuse a number that nobody knows. Raises: CtlError: not found."""
    members = sorted({*survey.membership.voters, *survey.membership.learners})
    if members and node not in members and survey.report(node) is None:
        raise CtlError(
            "not_found_here",
            f"node {node} is neither a member of cluster {survey.cluster} nor one of its endpoints",
            hint=f"members are {', '.join(map(str, members))}",
        )
