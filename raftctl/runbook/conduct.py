"""Conducting a run from the command line: plan, refusal, question, lock, steps, receipt; and going on with one.

A run is written down before the lock is taken, so that whoever finds the lock finds the run. Going on means the same process
as beginning: the journal tells which steps are done, and the runbook's steps do the rest, or undo it.
Source: contract section 5; design of rejoin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from raftctl import __version__, interrupts
from raftctl.actions import rules_table, warn_of
from raftctl.deadline import poll
from raftctl.errors import CtlError
from raftctl.guards import PASSING, Finding, Verdict, refusal, with_overrides
from raftctl.output.tables import Table, Tone
from raftctl.output.text import listed
from raftctl.runbook.catalogue import runbook_of
from raftctl.runbook.engine import Past, Plan, Run, Runbook
from raftctl.runbook.journal import FORMAT, RESUMABLE, Journal, RunFile, unfinished_run
from raftctl.runbook.lock import ClusterLock, holder_in_the_way, operator_and_host
from raftctl.runbook.receipt import check_receipt, receipt_of, show_receipt, write_receipt
from raftctl.session import Session
from raftctl.survey import EVERYBODY, Survey

PASSES_S: Final = 3.0
"""As long as what has just come about takes to be known to all."""

# -- beginning -----------------------------------------------------------------------------------------------------------


def start(session: Session, runbook: Runbook) -> None:
    """Plan, ask and run; with `--dry-run` only plan.

    Raises: CtlError: `refused` before anything was changed, or how the run ended.
    """
    survey, plan, findings = _planned(session, runbook)
    if session.explains:
        from raftctl.explaining import explain_runbook

        explain_runbook(session, survey, runbook.name, runbook.params, plan, findings)
        return
    error = _naming_unfinished(refusal(findings, plan.what), plan)
    if session.flags.dry_run:
        _show_plan(session, runbook, plan, findings)
    else:
        _say_plan(session, plan, findings)
    if error is not None:
        raise _in_short(session, error, plan)
    if session.flags.dry_run:
        return
    session.confirm(plan.tier, plan.what, plan.cluster)
    session.deadline.lift()
    warn_of(session, findings)
    journal = Journal.begin(f"{runbook.name}-{plan.node}" if plan.node is not None else runbook.name)
    try:
        lock = ClusterLock(session.client, journal.run_id, runbook.name)
        run = Run(session, journal, lock, Past(), session.flags.override)
        began = _began(session, runbook, plan, findings) | {"cluster_id": _cluster_id(survey), "run": journal.run_id}
        run.past.facts |= plan.facts
        run.write("run_begun", **began, facts=plan.facts, steps=[step.name for step in runbook.steps(run)])
        try:
            lock.take(force="no-lock" in session.flags.override)
        except (CtlError, KeyboardInterrupt) as trouble:
            lock.release_leftover()
            ended = trouble if isinstance(trouble, CtlError) else CtlError("interrupted", "interrupted; nothing was begun")
            raise run.ended(ended) from trouble
        _conduct(session, runbook, run, journal, lock)
    finally:
        journal.close()


def _planned(session: Session, runbook: Runbook) -> tuple[Survey, Plan, Sequence[Finding]]:
    """Return the plan, and what it rests on; made again while nothing stands in its way but what may pass in a moment.

    Nothing is refused after a short look: a node that is slow must not be taken for one that is gone.
    """
    again = poll(PASSES_S, every_s=0.2)
    is_patient = False
    seen = session.seen  # by the command, a moment ago
    while True:
        survey = seen or session.survey(patient_with=EVERYBODY if is_patient else ())
        seen = None
        session.check_name(survey.cluster)
        plan = runbook.plan(session, survey, holder_in_the_way(session.client) if survey.quorum.reached else None)
        findings = with_overrides(plan.findings, session.flags.override)
        failed = {item.rule for item in findings if item.verdict is Verdict.FAIL}
        if failed and not is_patient and any(node.status is None for node in survey.nodes) and not session.deadline.is_over:
            is_patient = True
            continue
        if not failed or not failed <= PASSING or session.flags.dry_run or session.deadline.is_over or not again():
            return survey, plan, findings


def _naming_unfinished(error: CtlError | None, plan: Plan) -> CtlError | None:
    """Return the refusal with the run that an earlier process left unfinished: what stands in the way may be what that has done."""
    run_id = unfinished_run(plan.cluster) if error is not None else None
    if error is None or run_id is None or run_id in error.hint:
        return error
    hint = f"run {run_id} did not end: raftctl runs resume {run_id}, or raftctl runs abort {run_id}"
    whole = f"{hint}; or else: {error.hint}" if error.hint else hint
    return CtlError(error.code, error.message, hint=whole, rule_ids=error.rule_ids, measured=error.measured)


def _in_short(session: Session, error: CtlError, plan: Plan) -> CtlError:
    """Return the refusal without the numbers that a person was just shown in the plan's table."""
    if not session.output.for_people or session.flags.quiet:
        return error
    rules = listed(error.rule_ids)
    message = f"{plan.what} is refused, nothing was changed: {rules} {'does' if len(error.rule_ids) == 1 else 'do'} not hold"
    return CtlError(error.code, message, hint=error.hint, rule_ids=error.rule_ids, measured=error.measured)


def _began(session: Session, runbook: Runbook, plan: Plan, findings: Sequence[Finding]) -> dict[str, object]:
    """Return what the journal's first record says."""
    return {
        "journal": FORMAT,
        "command": runbook.name,
        "params": runbook.params,
        "cluster": plan.cluster,
        "context": session.settings.context_name,
        "endpoints": list(session.settings.endpoints),
        "node": plan.node,
        "reason": session.flags.reason,
        "overrides": list(session.flags.override),
        "operator": operator_and_host(),
        "version": __version__,
        "rules": [msgspec.to_builtins(item) for item in findings],
    }


def _cluster_id(survey: Survey) -> str:
    return survey.view.cluster_id if survey.view is not None else ""


def _conduct(session: Session, runbook: Runbook, run: Run, journal: Journal, lock: ClusterLock) -> None:
    """Do what is left of the steps, then write the receipt."""
    with _told_where(session, journal, lock):
        interrupts.undo_when_asked_to_end()
        run.forward(runbook)
        interrupts.settled()
        run.write("run_ended", outcome="done", exit_code=0, receipt=runbook.receipt(run))
    _finish(session, runbook, journal)


def _finish(session: Session, runbook: Runbook, journal: Journal) -> None:
    data = receipt_of(journal)
    try:
        path = write_receipt(journal, data)
    except OSError as error:
        again = f"once there is room: raftctl runs resume {journal.run_id}"
        session.output.warn(
            f"the run is done, but its receipt cannot be kept beside {journal.path}: {error.strerror}; {again}"
        )
        path = None
    show_receipt(session, runbook, data, path)


@contextmanager
def _told_where(session: Session, journal: Journal, lock: ClusterLock) -> Iterator[None]:
    """Give the lock back when a run ends in whatever way a living process ends it; say where its journal is if it failed."""
    try:
        yield
    except CtlError:
        session.output.note(f"journal: {journal.path}")
        lock.release()
        raise
    lock.release()


# -- going on ------------------------------------------------------------------------------------------------------------


def resume(session: Session, run_id: str) -> None:
    """Go on with a run where its journal ends: forward, or with the undo that had begun.

    Raises: CtlError: it is over, another process is at it, its journal was changed; or how it ended: `undone` too, for a run
    that was only undone to its end is not done.
    """
    _go_on(session, run_id, undo=False)


def abort(session: Session, run_id: str) -> None:
    """Undo a run, if there is still a way back. Raises: as `resume`; CtlError: needs_attention, there is none."""
    _go_on(session, run_id, undo=True)


def _go_on(session: Session, run_id: str, *, undo: bool) -> None:
    session.deadline.lift()
    session.changes.look_with = f"raftctl runs show {run_id}"
    journal, file = Journal.reopen(run_id)
    try:
        runbook = runbook_of(file.began)
        _check_receipt(file)
        if file.outcome not in RESUMABLE:
            ClusterLock(session.client, journal.run_id, runbook.name).release_leftover()
            _is_over(session, runbook, journal, file, undo=undo)
            return
        _check_cluster(session, file)
        past = Past()
        for record in file.records:
            past.take(record)
        overrides = [*file.began.get("overrides", []), *session.flags.override]
        lock = ClusterLock(session.client, journal.run_id, runbook.name)
        run = Run(session, journal, lock, past, overrides)
        _check_steps(runbook, run, file)
        lock.take(force="no-lock" in session.flags.override, resuming=True)
        run.write("run_resumed", operator=operator_and_host(), version=__version__, undo=undo or past.undoing)
        if undo or past.undoing:
            _undo(session, runbook, run, lock, journal, why=None if undo else _why_undone(file))
        else:
            _conduct(session, runbook, run, journal, lock)
    finally:
        journal.close()


def _is_over(session: Session, runbook: Runbook, journal: Journal, file: RunFile, *, undo: bool) -> None:
    """Say that there is nothing to go on with; a receipt that a crash kept from being written is written now."""
    if file.outcome == "done" and not undo:
        _finish(session, runbook, journal)
        return
    if undo and file.outcome != "done":
        _show_undone(session, journal, f"run {file.run_id} ended with {file.outcome}: there is nothing to undo")
        return
    hint = f"see: raftctl runs show {file.run_id}"
    raise CtlError("refused", f"run {file.run_id} is over: {file.outcome}", hint=hint, rule_ids=["run-open"])


def _check_receipt(file: RunFile) -> None:
    """A receipt is written last: a journal that has one is whole. Raises: CtlError: `journal_damaged`."""
    receipt = check_receipt(file)
    if receipt is not None and not receipt["matches"]:
        message = (
            f"{receipt['path']} is not the receipt of {file.path}: lines were cut off its end, or one of them was changed"
        )
        raise CtlError("journal_damaged", message, hint=f"look with: raftctl runs show {file.run_id}")


def _check_cluster(session: Session, file: RunFile) -> None:
    """Raises: CtlError: the context leads to another cluster than the run's, or than `--confirm` says."""
    survey = session.survey()
    session.check_name(survey.cluster)
    wanted = str(file.began.get("cluster"))
    is_same_id = _cluster_id(survey) == file.began.get("cluster_id", "")
    if survey.cluster != wanted or not is_same_id:
        raise CtlError(
            "refused",
            f"run {file.run_id} is of cluster {wanted!r}, this context leads to "
            f"{'another one of that name' if survey.cluster == wanted else repr(survey.cluster)}; nothing was done",
            hint=f"name the right one: -c NAME, or -e {' -e '.join(file.began.get('endpoints', []))}",
            rule_ids=["same-cluster"],
        )


def _check_steps(runbook: Runbook, run: Run, file: RunFile) -> None:
    """Raises: CtlError: another version of this program wrote the journal, and its runbook had other steps."""
    begun, known = file.began.get("steps"), [step.name for step in runbook.steps(run)]
    if begun != known:
        message = f"run {file.run_id} has the steps {begun}, this version's {runbook.name} has {known}; nothing was done"
        hint = f"use the version that began it: {file.began.get('version')}"
        raise CtlError("journal_damaged", message, hint=hint)


def _why_undone(file: RunFile) -> str:
    """Return why the undo began that the journal ends in."""
    return next(str(record["why"]) for record in reversed(file.records) if record["event"] == "undoing")


def _undo(session: Session, runbook: Runbook, run: Run, lock: ClusterLock, journal: Journal, *, why: str | None) -> None:
    """Undo because it is asked for (`why` None), or finish an undo that had begun: then the run has failed."""
    what, cause = (
        ("the run was given up", "as asked") if why is None else ("its undo had begun and is finished, not the run", why)
    )
    with _told_where(session, journal, lock):
        interrupts.settled()
        ended = run.back(runbook, what, CtlError("aborted", cause))
        if ended.code != "undone" or why is not None:
            raise ended
    _show_undone(session, journal, ended.message)


def _show_undone(session: Session, journal: Journal, message: str) -> None:
    data = {"run": journal.run_id, "outcome": "undone", "message": message}
    session.output.show("run-undone", data, [message], names=[journal.run_id])


# -- the plan ------------------------------------------------------------------------------------------------------------


def _say_plan(session: Session, plan: Plan, findings: Sequence[Finding]) -> None:
    """On stderr: the data of a runbook is its receipt."""
    output = session.output
    output.note(output.tone(f"Plan: {plan.what}", Tone.STRONG))
    for number, step in enumerate(plan.steps, start=1):
        output.note(f"  {number}. {step}")
    output.note("")
    output.note(rules_table(findings))
    output.note("")


def _show_plan(session: Session, runbook: Runbook, plan: Plan, findings: Sequence[Finding]) -> None:
    data = {
        "action": runbook.name.replace("-", "_"),
        "cluster": plan.cluster,
        "node": plan.node,
        "tier": plan.tier.value,
        "steps": list(plan.steps),
        "rules": [msgspec.to_builtins(item) for item in findings],
    }
    title = session.output.line(f"Plan: {plan.what}", Tone.STRONG)
    numbered = [f"  {number}. {step}" for number, step in enumerate(plan.steps, start=1)]
    view: list[Table | str] = [title, *numbered, "", rules_table(findings), "", "Nothing was done: --dry-run."]
    session.output.show("plan", data, view, names=[] if plan.node is None else [plan.node])
