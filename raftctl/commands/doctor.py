"""doctor: what is wrong with the cluster, and the command that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftctl.deadline import poll
from raftctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftctl.doctor import Clock, Diagnosis, Facts, Report
    from raftctl.output.tables import Table
    from raftctl.survey import Survey

_LOOK_AGAIN_S = 0.5
"""Between the two looks: some election timeouts, so that a node that keeps campaigning is seen."""


def doctor(session: Session) -> None:
    """Find what is wrong and name the command that mends it: exit 0 nothing, 10 something, 11 no quorum, 4 unreachable."""
    from raftctl.doctor import examine, exit_code

    facts = _gathered(session)
    report = examine(facts)
    findings = [_item(one) for one in report.found]
    data = {
        "cluster": facts.now.cluster or None,
        "worst": report.worst.value if report.worst is not None else None,
        "findings": findings,
        "rules": list(report.rules),
    }
    session.output.show(
        "diagnosis",
        data,
        _view(session, facts.now, report),
        items=findings,
        names=list(dict.fromkeys(one.rule for one in report.found)),
    )
    session.exit_code = exit_code(facts, report)


def _gathered(session: Session) -> Facts:
    from raftctl import __version__
    from raftctl.doctor import Facts

    before = session.client.cluster()
    clocks = session.client.clocks([node.node_id for node in before.nodes if node.status is not None and node.node_id])
    path, mode = _token_file(session)
    again = _second_look(session)
    now = before if again is None else again
    return Facts(
        before=before,
        now=now,
        has_two_looks=again is not None,
        context=session.settings.context_name,
        endpoints=session.settings.endpoints,
        clocks=_clocks(clocks),
        token_path=path,
        token_mode=mode,
        version=__version__,
        unfinished_runs=_unfinished(now.cluster),
    )


def _second_look(session: Session) -> Survey | None:
    """Return it; None: there was no time for a whole one."""
    if session.deadline.left_s > 1.5 * _LOOK_AGAIN_S:
        poll(_LOOK_AGAIN_S, every_s=_LOOK_AGAIN_S)()
        survey = session.client.cluster()
        if not any(node.is_unknown for node in survey.nodes):
            return survey
    session.output.warn(
        f"there was time for one look only within {session.timeout_s:g} s: elections, changes of members and links that last are "
        "not judged; allow more: --timeout"
    )
    return None


def _clocks(measured: Mapping[int, tuple[float, float]]) -> dict[int, Clock]:
    from raftctl.doctor import Clock

    return {node: Clock(least, most) for node, (least, most) in measured.items()}


def _token_file(session: Session) -> tuple[str, int | None]:
    path = session.settings.token_file
    if path is None:
        return "", None
    try:
        return str(path), path.stat().st_mode
    except OSError:
        return str(path), None


def _unfinished(cluster: str) -> dict[str, list[str]]:
    from raftctl.runbook.journal import RESUMABLE, read_runs

    runs = [run for run in read_runs() if run.records and run.outcome in RESUMABLE]
    return {run.run_id: run.next_commands for run in runs if run.began.get("cluster") == cluster}


def _item(one: Diagnosis) -> dict[str, object]:
    return {
        "rule": one.rule,
        "severity": one.severity.value,
        "node": one.node,
        "evidence": one.evidence,
        "fix": one.fix or None,
    }


def _view(session: Session, survey: Survey, report: Report) -> list[Table | str]:
    from raftctl.doctor import Severity
    from raftctl.output import views
    from raftctl.output.tables import Tone
    from raftctl.output.text import printable

    tones = {Severity.BAD: Tone.BAD, Severity.WARN: Tone.WARN, Severity.INFO: Tone.DIM}
    prose = session.output.prose
    lines: list[Table | str] = [prose(views.headline(survey)) if survey.statuses else "No node answers.", ""]
    for one in report.found:
        where = f"node {one.node}: " if one.node is not None else ""
        label = f"{one.severity.value:<4}"
        told = prose(f"{label}  {one.rule}: {printable(where + one.evidence)}", indent=" " * 6)
        lines.append(session.output.line(label, tones[one.severity]) + told.removeprefix(label))
        if one.fix:
            lines.append(prose(f"      mend it: {printable(one.fix)}", indent=" " * 6))
    count = len(report.found)
    if session.output.wide:
        sound = [rule for rule in report.rules if rule not in {one.rule for one in report.found}]
        lines += [f"{session.output.line('ok  ', Tone.GOOD)}  {rule}" for rule in sound]
    if count or session.output.wide:
        lines.append("")
    found = f"{count} finding{'s' if count != 1 else ''}" if count else "nothing is wrong"
    lines.append(f"{len(report.rules)} rules looked at: {found}.")
    return lines
