"""rejoin-node: wipe a voter and bring it back, safe by construction and proved to be equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from raftctl.errors import CtlError, usage
from raftctl.session import Session

if TYPE_CHECKING:
    import typer

    from raftctl.guards import Finding
    from raftctl.options import NodeArgument
    from raftctl.output.tables import Table
    from raftctl.runbook.drivers import Driver
    from raftctl.runbook.journal import Journal
    from raftctl.runbook.rejoin import Rejoin
    from raftctl.survey import Survey

_TIMEOUT_S: Final = 900.0
"""For the catch-up: a few gigabytes over a slow link."""


def rejoin_node(
    session: Session,
    node: NodeArgument,
    driver: Annotated[
        str | None,
        typer.Option("--driver", metavar="http|local", help="How the node is stopped and started; default: the context's."),
    ] = None,
) -> None:
    """Wipe a node's data, keep its vote, and bring it back; proved by comparing state machines."""
    from raftctl.confirm import Tier
    from raftctl.guards import Verdict, refusal, rejoin_rules, with_overrides
    from raftctl.runbook.lock import ClusterLock

    survey = session.survey()
    _check_known(survey, node)
    name = driver or session.settings.node(node).driver
    if name not in {"http", "local"}:
        raise usage(f"driver {name!r} cannot be used by this version", "use --driver http or --driver local")
    view = survey.view
    lock = ClusterLock((view.cluster_id if view is not None else "") or survey.cluster)
    findings = with_overrides(rejoin_rules(survey, node, lock.holder()), session.flags.override)
    transfers = any(item.verdict is Verdict.STEP for item in findings)
    error = refusal(findings, f"rejoin-node {node}")
    steps = _plan(survey, node, name, transfers=transfers)
    if session.flags.dry_run:
        _show_plan(session, survey, node, findings, steps)
        if error is not None:
            raise error
        return
    _say_plan(session, survey, node, findings, steps)
    if error is not None:
        raise error
    session.confirm(Tier.SEVERE, f"wiping node {node} of cluster {survey.cluster}", survey.cluster)
    _run(session, survey, node, _driver(session, name, node, survey), findings, lock, transfers=transfers)


def _check_known(survey: Survey, node: int) -> None:
    """Refuse a number that nobody knows. Raises: CtlError: not found."""
    members = sorted({*survey.membership.voters, *survey.membership.learners})
    if members and node not in members and survey.report(node) is None:
        raise CtlError(
            "not_found_here",
            f"node {node} is neither a member of cluster {survey.cluster} nor one of its endpoints",
            hint=f"members are {', '.join(map(str, members))}",
        )


def _driver(session: Session, name: str, node: int, survey: Survey) -> Driver:
    from raftctl.runbook.drivers import HttpDriver, LocalDriver

    if name == "http":
        return HttpDriver(session.client, node, survey.cluster)
    from raftctl.commands.dev import sandbox_path

    return LocalDriver(sandbox_path(None), node)


def _plan(survey: Survey, node: int, driver: str, *, transfers: bool) -> list[str]:
    from raftctl.guards import tolerance_left

    left = tolerance_left(survey, node)
    tolerance = {True: "writes stop until it is back"}.get(
        left < 0, f"{left} more may fail" if left else "no other voter may fail"
    )
    first = [f"hand leadership from node {node} to another voter"] if transfers else []
    return [
        *first,
        f"stop the engine of node {node} ({driver}); meanwhile {tolerance}",
        f"have the leader append a barrier that enough voters other than node {node} hold, and allow the node to revert once",
        f"retire log, snapshots and state machine of node {node}; keep its vote and incarnation",
        "from here on the only way is forward; before it, a failure or Ctrl-C undoes everything",
        "start it, watch it catch up, and prove it: equal digests of both state machines at one entry",
    ]


def _say_plan(session: Session, survey: Survey, node: int, findings: list[Finding], steps: list[str]) -> None:
    """On stderr: the data of this command is its receipt."""
    from raftctl.actions import rules_table
    from raftctl.output.tables import Tone

    output = session.output
    if session.flags.quiet:
        return
    output.note(output.tone(f"Plan: rejoin node {node} of cluster {survey.cluster}", Tone.STRONG))
    for number, step in enumerate(steps, start=1):
        output.note(f"  {number}. {step}")
    output.note("")
    output.note(rules_table(findings))
    output.note("")


def _show_plan(session: Session, survey: Survey, node: int, findings: list[Finding], steps: list[str]) -> None:
    import msgspec

    from raftctl.actions import rules_table
    from raftctl.output.tables import Tone

    rules = [msgspec.to_builtins(item) for item in findings]
    data = {
        "action": "rejoin_node",
        "cluster": survey.cluster,
        "node": node,
        "tier": "severe",
        "steps": steps,
        "rules": rules,
    }
    title = session.output.line(f"Plan: rejoin node {node} of cluster {survey.cluster}", Tone.STRONG)
    numbered = [f"  {number}. {step}" for number, step in enumerate(steps, start=1)]
    view: list[Table | str] = [title, *numbered, "", rules_table(findings), "", "Nothing was done: --dry-run."]
    session.output.show("plan", data, view, names=[node])


def _run(
    session: Session, survey: Survey, node: int, driver: Driver, findings: list[Finding], lock: Any, *, transfers: bool
) -> None:
    from raftctl.actions import warn_of
    from raftctl.runbook.engine import Runbook
    from raftctl.runbook.journal import Journal
    from raftctl.runbook.receipt import begin_facts
    from raftctl.runbook.rejoin import Rejoin

    warn_of(session, findings)
    journal = Journal.begin(f"rejoin-node-{node}")
    try:
        lock.take(journal.run_id)
        journal.write("run_begun", **begin_facts(session, survey, node, driver.name, findings))
        rejoin = Rejoin(session, survey, node, driver, journal, session.settings.timeout_s(_TIMEOUT_S))
        try:
            Runbook(journal, session.output, rejoin.attention).run(rejoin.steps(transfers=transfers))
        except CtlError as error:
            session.output.note(f"journal: {journal.path}")
            raise error from error.__cause__
        _finish(session, survey, node, driver, journal, rejoin)
    finally:
        lock.release()
        journal.close()


def _finish(session: Session, survey: Survey, node: int, driver: Driver, journal: Journal, rejoin: Rejoin) -> None:
    from raftctl.runbook.receipt import receipt, receipt_lines, write_receipt

    journal.write("run_ended", outcome="done", exit_code=0)
    data = receipt(session, survey, node, driver.name, journal, rejoin)
    path = write_receipt(journal, data)
    session.output.show("receipt", data, receipt_lines(data, path), names=[journal.run_id])
