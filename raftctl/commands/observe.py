"""Looking at the cluster: status, nodes, health. Reads work without a leader."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

from raftctl.errors import CtlError, ExitCode, usage
from raftctl.session import Session, nobody_answers
from raftctl.settings import OutputFormat

if TYPE_CHECKING:
    import typer

    from raftctl.output.tables import Table
    from raftctl.survey import Survey

_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def status(
    session: Session,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again.")] = False,
    interval: Annotated[str, typer.Option("--interval", metavar="TIME", help="How often, with --watch.")] = "1s",
) -> None:
    """Show every node, its log and what is wrong with it."""
    if not watch:
        survey = session.client.cluster()
        _show_status(session, survey)
        if not survey.statuses:
            raise nobody_answers(survey)
        return
    from raftctl.durations import parse_duration

    if session.settings.output is OutputFormat.JSON:
        raise usage("-o json is one document, --watch never ends", "use -o jsonl: a document a line")
    every_s = parse_duration(interval, "--interval")
    session.deadline.lift()
    try:
        while True:
            survey = session.client.cluster()
            if sys.stdout.isatty() and session.output.for_people:
                sys.stdout.write(_CLEAR)
            _show_status(session, survey)
            if session.output.is_unread:
                return
            time.sleep(every_s)
    except KeyboardInterrupt:
        session.exit_code = ExitCode.INTERRUPTED


def _show_status(session: Session, survey: Survey) -> None:
    from raftctl.output import views

    output = session.output
    output.warnings.clear()
    for warning in views.survey_warnings(survey):
        output.warn(warning)
    data = views.survey_data(survey)
    alarms = views.alarm_lines(survey)
    view: list[Table | str] = [views.status_table(survey, wide=output.wide), *map(output.prose, alarms)]
    if survey.statuses:
        view = [output.prose(views.headline(survey)), "", *view]
    output.show("status", data, view, items=data["nodes"] if not survey.statuses else [data], names=views.node_names(survey))


def nodes(session: Session) -> None:
    """List the nodes and their addresses."""
    from raftctl.output import views

    survey = session.client.cluster()
    items = [views.node_data(survey, node) for node in survey.nodes]
    table = views.nodes_table(survey, wide=session.output.wide)
    session.output.show("nodes", {"nodes": items}, [table], items=items, names=views.node_names(survey))
    if not survey.statuses:
        raise nobody_answers(survey)


def health(
    session: Session,
    wait: Annotated[bool, typer.Option("--wait", help="Look until the cluster is well, or --timeout has passed.")] = False,
) -> None:
    """Say whether the cluster is well: exit 0, 10 degraded, 11 no quorum, 4 unreachable."""
    from raftctl.health import EXIT_OF, Condition, health_of
    from raftctl.output import views

    survey = session.client.cluster()
    verdict = health_of(survey)
    while wait and verdict.condition is not Condition.OK and session.deadline.again(every_s=0.2):
        survey = session.client.cluster()
        verdict = health_of(survey)
    quorum = survey.quorum
    checks = [
        {"name": check.name, "condition": check.condition.value, "measured": check.measured} for check in verdict.checks
    ]
    data = {
        "cluster": survey.cluster or None,
        "condition": verdict.condition.value,
        "failure_tolerance": quorum.tolerance,
        "checks": checks,
    }
    line = session.output.prose(views.headline(survey)) if survey.statuses else "No node answers."
    view: list[Table | str] = [line, "", views.health_table(verdict)]
    session.output.show("health", data, view, items=checks, names=[verdict.condition.value])
    session.exit_code = EXIT_OF[verdict.condition]
    if wait and verdict.condition is not Condition.OK:
        waited_s = session.timeout_s
        session.output.note(f"not well within {waited_s:g} s" if waited_s else "not well; looked at once only: --timeout 0")
    errors = [node.error for node in survey.nodes if node.error is not None]
    if not survey.statuses and any(error.code in {"unauthorized", "forbidden"} for error in errors):
        raise CtlError(errors[0].code, errors[0].detail, hint="see --token-file")
