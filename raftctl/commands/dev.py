"""A sandbox of real nodes on this machine: up, status, down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from raftctl.deadline import takes
from raftctl.errors import CtlError
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.options import DirOption
    from raftctl.output.tables import Cell, Table
    from raftctl.sandbox import Sandbox
    from raftctl.survey import Survey

CONTEXT: Final = "dev"


def sandbox_path(directory: Path | None) -> Path:
    """Return where the sandbox is: named, in the environment, where `dev up` last put it, or the default."""
    from raftctl.config_file import read_config
    from raftctl.runbook.journal import state_path

    named = directory or (Path(os.environ["RAFTCTL_DEV_DIR"]) if os.environ.get("RAFTCTL_DEV_DIR") else None)
    if named is not None:
        return named.absolute()
    entry = read_config().contexts.get(CONTEXT)
    return Path(entry.sandbox) if entry is not None and entry.sandbox else state_path() / "dev"


def up(
    session: Session,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=9, metavar="N", help="How many.")] = 3,
    directory: DirOption = None,
    base_port: Annotated[
        int, typer.Option("--base-port", metavar="PORT", help="Management ports begin here, peer ports 100 above.")
    ] = 9101,
) -> None:
    """Start a cluster on this machine, and write a context for it."""
    from raftctl.output.views import headline, status_table, survey_data
    from raftctl.sandbox import Sandbox

    path = sandbox_path(directory)
    if session.flags.dry_run:
        session.output.show("plan", {"directory": str(path), "nodes": nodes}, [f"would start {nodes} nodes in {path}"])
        return
    sandbox = Sandbox.load(path) if (path / "sandbox.json").exists() else Sandbox.create(path, nodes, base_port)
    if len(sandbox.state.nodes) != nodes:
        had = len(sandbox.state.nodes)
        raise CtlError(
            "config", f"the sandbox in {path} has {had} nodes, not {nodes}", hint="raftctl dev down --purge ends it"
        )
    sandbox.check_ports([number for number in sandbox.state.nodes if not sandbox.running(number)])
    started = [number for number in sandbox.state.nodes if sandbox.start(number)]
    session.output.note(f"{_started(started, nodes)} in {path}; waiting for a leader")
    survey = _until_led(session, sandbox)
    current = _write_context(sandbox)
    told = f"context {CONTEXT} {'is current' if current else f'was written; use it with: raftctl context use {CONTEXT}'}"
    data = {"directory": str(path), "context": CONTEXT, "current": current, **survey_data(survey)}
    view: list[Table | str] = [session.output.prose(headline(survey)), "", status_table(survey, wide=False), "", told]
    session.output.show("dev", data, view, names=[node.node_id for node in survey.nodes])


def _started(numbers: list[int], nodes: int) -> str:
    from raftctl.output.text import listed

    if len(numbers) == nodes:
        return f"started {nodes} node{'s' if nodes > 1 else ''}"
    return f"started node {listed(numbers)}, the others ran already," if numbers else "all nodes run already"


def _until_led(session: Session, sandbox: Sandbox) -> Survey:
    """Return what the cluster looks like once a leader has its quorum and everybody answers."""
    from raftctl.health import Condition, health_of

    client = session.client_of(sandbox.endpoints)
    try:
        while True:
            sandbox.check_alive()
            survey = client.cluster()
            if health_of(survey).condition is Condition.OK:
                return survey
            if any(status.fatal is not None for status in survey.statuses) or not session.deadline.again():
                message = f"the nodes are up, but not well: {_worst(survey)}"
                raise CtlError("not_observed", message, hint=_anew(sandbox, survey))
    finally:
        client.close()


def _anew(sandbox: Sandbox, survey: Survey) -> str:
    """Return what to do: nothing but a new process helps a node that hangs or failed."""
    ill = [node.node_id or 0 for node in survey.nodes if node.status is None or node.status.fatal is not None]
    logs = ", ".join(str(sandbox.log_path(node)) for node in ill if node in sandbox.state.nodes)
    if not logs:
        return f"raftctl -e {sandbox.endpoints[0]} doctor says what mends it; their logs are in {sandbox.directory}"
    return f"the log says why: {logs}; raftctl dev down, then raftctl dev up starts all of them anew"


def _worst(survey: Survey) -> str:
    from raftctl.health import Condition, health_of

    return "; ".join(check.measured for check in health_of(survey).checks if check.condition is not Condition.OK)


def _write_context(sandbox: Sandbox) -> bool:
    from raftctl.config_file import ContextEntry, add_context

    entry = ContextEntry(endpoints=tuple(sandbox.endpoints), sandbox=str(sandbox.directory))
    return add_context(CONTEXT, entry, replace=True)


@takes(None)
def status(session: Session, directory: DirOption = None) -> None:
    """Show the sandbox's processes."""
    from raftctl.output.tables import Cell, Column, Table, Tone
    from raftctl.sandbox import Sandbox

    sandbox = Sandbox.load(sandbox_path(directory))
    items = [
        {
            "node": number,
            "pid": node.pid if sandbox.running(number) else None,
            "running": sandbox.running(number),
            "management": f"http://{node.management}",
            "log": str(sandbox.log_path(number)),
        }
        for number, node in sandbox.state.nodes.items()
    ]
    rows: list[list[Cell | str]] = [
        [
            str(item["node"]),
            Cell("running", Tone.GOOD) if item["running"] else Cell("stopped", Tone.BAD),
            str(item["pid"] or "-"),
            str(item["management"]),
            str(item["log"]),
        ]
        for item in items
    ]
    table = Table(
        [Column("NODE", right=True), Column("PROCESS"), Column("PID", right=True), Column("MANAGEMENT"), Column("LOG")], rows
    )
    data = {"directory": str(sandbox.directory), "items": items}
    session.output.show("dev-status", data, [table], items=items, names=[item["node"] for item in items])


@takes(None)
def down(
    session: Session,
    directory: DirOption = None,
    purge: Annotated[bool, typer.Option("--purge", help="Remove its data and its context too.")] = False,
) -> None:
    """End the sandbox's processes, and only those."""
    from raftctl.config_file import read_config, remove_context
    from raftctl.sandbox import Sandbox

    sandbox = Sandbox.load(sandbox_path(directory))
    running = [number for number in sandbox.state.nodes if sandbox.running(number)]
    if session.flags.dry_run:
        _show_plan_of_down(session, sandbox, running, purge=purge)
        return
    for number in running:
        sandbox.stop(number)
    told = f"stopped {len(running)} node{'s' if len(running) > 1 else ''}" if running else "no node was running"
    if purge:
        sandbox.purge()
        entry = read_config().contexts.get(CONTEXT)
        if entry is not None and entry.sandbox == str(sandbox.directory):
            remove_context(CONTEXT)
        told += f"; removed {sandbox.directory}"
    session.output.show("dev", {"stopped": running, "purged": purge}, [told], names=running)


def _show_plan_of_down(session: Session, sandbox: Sandbox, running: list[int], *, purge: bool) -> None:
    from raftctl.output.text import listed

    removes = str(sandbox.directory) if purge else None
    lines = [f"would stop node {listed(running)}" if running else "no node is running"]
    if purge:
        lines.append(f"would remove {removes} with all data of its nodes, and the context that leads there")
    session.output.show("plan", {"stop": running, "purge": purge, "remove": removes}, lines, names=running)
