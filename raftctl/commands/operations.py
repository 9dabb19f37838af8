"""drain, rolling-restart, replace-node: runbooks around one node's absence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from raftctl.deadline import TIMEOUT_S, takes
from raftctl.errors import usage
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.options import NodeArgument

_CATCH_UP_S: Final = 900.0
_BACK_S: Final = 120.0
"""For one node to be started, to replay what it has to, and to follow."""


@takes(TIMEOUT_S, "How long the plan may take")
def drain(
    session: Session,
    node: NodeArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Have it campaign again.")] = False,
) -> None:
    """Prepare a node for maintenance: leadership moves away, and it does not campaign."""
    from raftctl.runbook.conduct import start
    from raftctl.runbook.drain import Drain, DrainParams

    start(session, Drain(DrainParams(node=node, undo=undo)))


@takes(_BACK_S, "How long the plan may take, and each node to be back")
def rolling_restart(
    session: Session,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NODE", help="Only this node; repeatable.")] = None,
    driver: Annotated[
        str | None,
        typer.Option(
            "--driver",
            metavar="http|local|command|manual",
            help="How a node is stopped and started; default: the context's, else http.",
        ),
    ] = None,
) -> None:
    """Restart every node, followers first, one at a time, waiting for each to follow again."""
    from raftctl.runbook.choose_driver import driver_name
    from raftctl.runbook.conduct import start
    from raftctl.runbook.rolling_restart import RestartParams, RollingRestart, restart_order

    nodes = [_node_id(text) for text in only or []]
    drivers = {node: driver_name(session, node, driver) for node in restart_order(session.survey(), nodes)}
    timeout_s = session.timeout_s
    start(session, RollingRestart(RestartParams(only=nodes, drivers=drivers, timeout_s=timeout_s)))


def _node_id(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise usage(f"--only {text}: not a node's id", "name one node, and repeat --only for more")
    return int(text)


@takes(_CATCH_UP_S, "How long the plan, and the catch-up, may take")
def replace_node(
    session: Session,
    old: NodeArgument,
    new: Annotated[
        str, typer.Option("--with", metavar="ID=RAFT,URL", help="The new node's id, raft address and management URL.")
    ],
) -> None:
    """Put a new node in the place of a voter, dead or alive, in one joint change."""
    from raftctl.commands.change import parse_member
    from raftctl.runbook.conduct import start
    from raftctl.runbook.replace_node import ReplaceNode, ReplaceParams

    node, address = parse_member(new)
    timeout_s = session.timeout_s
    start(session, ReplaceNode(ReplaceParams(old=old, new=node, address=address, timeout_s=timeout_s)))
