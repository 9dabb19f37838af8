"""Which driver a runbook uses for a node: what was asked for, what the context says, or the node's own endpoint."""

from __future__ import annotations

from pathlib import Path

from raftctl.config_file import DRIVERS
from raftctl.errors import usage
from raftctl.runbook.command_driver import CommandDriver
from raftctl.runbook.drivers import LEVER_S, Driver, HttpDriver, LocalDriver
from raftctl.runbook.engine import Run
from raftctl.runbook.manual_driver import ManualDriver
from raftctl.session import Session


def driver_name(session: Session, node: int, asked: str | None) -> str:
    """Return the driver's name. Raises: CtlError: usage, there is none of that name."""
    name = asked or session.settings.node(node).driver
    if name not in DRIVERS:
        raise usage(f"there is no driver {name!r}", f"known are: {', '.join(DRIVERS)}")
    return name


def undoes_wipes(session: Session, node: int, name: str) -> bool:
    """Whether a wipe by this driver can be undone, for the plan."""
    return name != "command" or session.settings.node(node).restore is not None


def driver_of(run: Run, node: int, name: str, cluster: str, limit_s: float) -> Driver:
    """Return the driver `name` for a node.

    Args:
        limit_s: how long a person is waited for.
    Raises: CtlError: the context does not say what the driver needs.
    """

    def tell(line: str) -> None:
        run.output.note(f"      | {line}")

    match name:
        case "local":
            return LocalDriver(_sandbox(run.session), run.client, node, run.poll)
        case "command":
            return CommandDriver(run.client, node, cluster, run.session.settings.node(node), run.poll, tell)
        case "manual":
            return ManualDriver(run.client, node, run.poll, run.output.say, limit_s)
        case _:
            patience_s = min(LEVER_S, run.session.settings.timeout_s(LEVER_S))
            return HttpDriver(run.client, node, cluster, run.poll, tell, patience_s)


def _sandbox(session: Session) -> Path:
    """Return where the processes are that the context's sandbox started."""
    from raftctl.commands.dev import sandbox_path

    entry = session.settings.context_or_none
    return Path(entry.sandbox) if entry is not None and entry.sandbox else sandbox_path(None)
