"""Runbooks: several steps that belong together, journalled, resumed after a crash, undone when they cannot be finished.

How to write one (`rejoin.py` is the example):

    class Drain(Runbook):                                # one class a runbook, in a module of its own
        name = "drain"                                   # the command; add it to `catalogue.py`
        params: DrainParams                              # a msgspec.Struct: all that was asked for, kept in the journal

        def plan(self, session, survey, lock_holder):    # only reads: rules with their numbers, sentences, danger tier
            return Plan(cluster=survey.cluster, what="draining node 3", findings=[…], steps=["…"], node=3)

        def steps(self, run):                            # the same list for the same parameters, in every process
            return [Step(name="hand-over", title="…", do=self._hand_over, undo=self._take_back), …]

A command makes the runbook and calls `conduct.start(session, Drain(params))`, which shows the plan, refuses, asks, takes the
cluster's lock, runs the steps, undoes them if need be, and writes the receipt. `runs resume` and `runs abort` make it again
from its journal. What a step may rely on:

1. Everything that must survive a crash is in `run.facts`, a JSON object that the journal can rebuild. `do` returns facts
   (`summary` is for people); `run.record(...)` adds some in the middle of a step, *before* something is done that cannot be
   recognised afterwards. Nothing else is carried from step to step: the next step may run in another process.
2. `precheck` and `verify` only read. A precheck that raises means that the step has not begun. `verify` raises until the effect is
   seen: a step is done when it is seen to be done.
3. `do` may be called again after a crash at any point of it: it looks, or repeats what does no harm twice.
4. `undo` may be called whatever part of `do` happened, and again after a crash in the middle of it. If it finds that there is no
   way back any more it raises `no_way_back(...)`; then `secure` is called, and only forward is left.
5. `why_no_undo` says so beforehand, where it can be seen: it is asked before anything is undone.
6. Waits use `run.poll(seconds)`: between two looks it renews the lock, and raises when the run has lost it.

A failure or Ctrl-C undoes what was begun, latest first; lost locks and journals that cannot be written stop the run where it is.
That nobody can be told any more how it goes is no failure: the journal is the record.
A process that dies undoes nothing: its journal says what was begun, and the lock ends by itself.
Source: design of rejoin; field notes A.3.4, A.3.5; sagas (Garcia-Molina and Salem 1987).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from raftctl import interrupts
from raftctl.client import ClusterClient
from raftctl.confirm import Tier
from raftctl.deadline import poll
from raftctl.errors import CtlError, ExitCode
from raftctl.guards import Finding, LockHolder
from raftctl.output.tables import Tone
from raftctl.runbook.journal import Journal, Record
from raftctl.runbook.lock import ClusterLock
from raftctl.session import Session
from raftctl.survey import Survey

T = TypeVar("T")
Facts = dict[str, Any]
_STOPS: Final = frozenset({"lock_lost"})
"""Failures after which nothing is undone: somebody else may be at work on the cluster."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is going to be done, and every rule it was held against. `facts`: what the run begins with."""

    cluster: str
    what: str
    findings: Sequence[Finding]
    steps: Sequence[str]
    tier: Tier = Tier.SEVERE
    node: int | None = None
    facts: Facts = {}


def _nothing(_run: Run) -> None:
    """Look at nothing."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step; see the rules above. `undo` None: there is nothing to take back."""

    name: str
    title: str
    do: Callable[[Run], Facts]
    precheck: Callable[[Run], None] = _nothing
    verify: Callable[[Run], None] = _nothing
    undo: Callable[[Run], None] | None = None


class Runbook(abc.ABC):
    """One kind of operation with the parameters of one run."""

    name: ClassVar[str]
    params: msgspec.Struct

    @abc.abstractmethod
    def plan(self, session: Session, survey: Survey, lock_holder: LockHolder | None) -> Plan:
        """Measure every rule. Reads only. `lock_holder`: who is in the way, for the rule `no-lock`."""

    @abc.abstractmethod
    def steps(self, run: Run) -> Sequence[Step]:
        """Return the steps, in order; the same names whenever the run is resumed."""

    def why_no_undo(self, run: Run) -> str | None:  # noqa: ARG002 (those who override it need the run)
        """Return why what was begun cannot be undone any more, None if it can as far as can be seen."""
        return None

    def secure(self, run: Run) -> None:  # noqa: B027 (most runbooks leave nothing that must be secured)
        """Do what must be done before a run that cannot go back is left alone: a stopped node is started."""

    def attention(self, run: Run, *, way_back: bool) -> str:
        """Return what an operator does when the run needs attention; to take it back only while there is a way back."""
        return f"look with raftctl status; once the cause is mended, {run.going_on(self, way_back=way_back)}"

    def receipt(self, run: Run) -> Facts:
        """Return what a finished run proves; by default its facts."""
        return dict(run.facts)

    def receipt_lines(self, data: Mapping[str, Any]) -> list[str]:
        """Return the receipt for people."""
        return [f"{data['command']} is done."]


class Past(msgspec.Struct):
    """What a journal says a run has done so far."""

    facts: Facts = {}
    begun: list[str] = []
    done: list[str] = []
    undoing: bool = False

    def take(self, record: Record) -> None:
        """Follow one record."""
        step = str(record.get("step", ""))
        self.facts |= record.get("facts", {})
        match record["event"]:
            case "step_begun" if step not in self.begun:
                self.begun.append(step)
            case "step_done":
                self.done.append(step)
            case "undo_done" if step in self.begun:
                later = self.begun[self.begun.index(step) :]  # what came after it counts no more either
                self.begun = [name for name in self.begun if name not in later]
                self.done = [name for name in self.done if name not in later]
            case "undoing":
                self.undoing = True
            case "no_way_back":
                self.undoing = False
            case _:
                pass  # what only people read


class Run:
    """One run on its way, in this process."""

    def __init__(
        self, session: Session, journal: Journal, lock: ClusterLock, past: Past, overrides: Sequence[str] = ()
    ) -> None:
        self.session = session
        self.client: ClusterClient = session.client
        self.output = session.output
        self.run_id = journal.run_id
        self.overrides = tuple(overrides)
        self.past = past
        self._journal = journal
        self._lock = lock
        self._step = ""

    @property
    def facts(self) -> Facts:
        return self.past.facts

    def fact(self, name: str, kind: type[T]) -> T | None:
        """Return a fact as a value of its type, None if it is not known yet."""
        value = self.facts.get(name)
        with interrupts.held_back():
            return None if value is None else msgspec.convert(value, kind, strict=False)

    def has_begun(self, step: str) -> bool:
        return step in self.past.begun

    # -- written down ----------------------------------------------------------------------------------------------------

    def write(self, event: str, **more: object) -> None:
        """Journal an event of the present step, and follow it."""
        plain = msgspec.to_builtins(more, str_keys=True)
        with interrupts.held_back():  # what is on disk and what this process knows must not differ
            self._journal.write(event, **plain)
            self.past.take({"event": event, **plain})

    def record(self, **facts: object) -> None:
        """Keep facts in the middle of a step: they are on disk when this returns."""
        self.write("facts", step=self._step, facts=facts)

    def note(self, message: str) -> None:
        """Journal and show something worth knowing that is no failure."""
        self.write("note", step=self._step, message=message)
        self.output.note(f"      {message}")

    # -- waiting -----------------------------------------------------------------------------------------------------------

    def poll(self, seconds: float, every_s: float = 0.1) -> Callable[[], bool]:
        """Return a function that waits a moment, keeps the lock, and says whether there is time left to look again.

        Raises (that function): CtlError: lock_lost.
        """
        again = poll(seconds, every_s)

        def again_with_lock() -> bool:
            self._lock.keep()
            return again()

        return again_with_lock

    # -- forward -----------------------------------------------------------------------------------------------------------

    def forward(self, runbook: Runbook) -> None:
        """Do the steps that are not done yet.

        Raises: CtlError: `undone`, `interrupted` (and undone), `needs_attention`, or the first failure itself when nothing
        had been begun.
        """
        steps = runbook.steps(self)
        current = steps[0]
        try:
            for number, step in enumerate(steps, start=1):
                current = step
                if step.name not in self.past.done:
                    self._do(step, f"[{number}/{len(steps)}] {step.title}")
        except (CtlError, KeyboardInterrupt) as error:
            raise self._failed(runbook, current, error) from error

    def _do(self, step: Step, title: str) -> None:
        self.output.note(self.output.tone(title, Tone.STRONG))
        self._lock.keep()
        self._step = step.name
        step.precheck(self)
        self.write("step_begun", step=step.name)
        facts = step.do(self)
        step.verify(self)
        summary = str(facts.pop("summary", ""))
        self.write("step_done", step=step.name, facts=facts, summary=summary)
        if summary:
            self.output.note(f"      {summary}")

    def _failed(self, runbook: Runbook, step: Step, cause: CtlError | KeyboardInterrupt) -> CtlError:
        error = cause if isinstance(cause, CtlError) else CtlError("interrupted", "interrupted")
        interrupts.settled()  # an undo cut in half is worse than a wait
        self.write("step_failed", step=step.name, code=error.code, message=error.message)
        if error.code in _STOPS:
            return self.needs_attention(runbook, error)
        return self.back(runbook, f"{step.title} failed", error)

    # -- back --------------------------------------------------------------------------------------------------------------

    def back(self, runbook: Runbook, what: str, error: CtlError) -> CtlError:
        """Take back, latest first, what was begun; return how the run ended. Not to be interrupted."""
        steps = [step for step in reversed(runbook.steps(self)) if step.name in self.past.begun]
        to_undo = [step for step in steps if step.undo is not None]
        try:
            reason = runbook.why_no_undo(self) if to_undo else None
        except CtlError as trouble:
            told = f"{what} ({error.message}), and whether it can be undone is not seen: {trouble.message}"
            return self.needs_attention(runbook, CtlError("needs_attention", told))
        if reason is not None:
            return self._no_way_back(runbook, error, reason)
        if not to_undo and error.exit_code is ExitCode.ATTENTION:
            return self.needs_attention(runbook, error)  # what it began stands: it can be gone on with, or given up
        if steps:
            self.write("undoing", why=error.message)
        for step in to_undo:
            assert step.undo is not None
            self._step = step.name
            self.output.note(f"undoing: {step.title}")
            self.write("undo_begun", step=step.name)
            try:
                self._lock.keep()
                step.undo(self)
            except CtlError as trouble:
                self.write("undo_failed", step=step.name, code=trouble.code, message=trouble.message)
                if trouble.code == "point_of_no_return":
                    return self._no_way_back(runbook, error, trouble.message)
                told = f"{what} ({error.message}), and undoing '{step.title}' failed too: {trouble.message}"
                return self.needs_attention(runbook, CtlError("needs_attention", told))
            self.write("undo_done", step=step.name)
        return self._undone(what, error, [step.title for step in to_undo])

    def _undone(self, what: str, error: CtlError, undone: Sequence[str]) -> CtlError:
        told = f"undone: {'; '.join(undone)}" if undone else "there was nothing to undo"
        if error.code == "interrupted":
            return self.ended(CtlError(error.code, f"{error.message}; {told}"))
        if not undone and error.code != "aborted":
            return self.ended(error)
        message = f"{what}: {error.message}; {told}"
        return self.ended(CtlError("undone", message, hint=error.hint, rule_ids=error.rule_ids, measured=error.measured))

    def _no_way_back(self, runbook: Runbook, error: CtlError, reason: str) -> CtlError:
        """Too late to take back: leave the cluster as safe as it can be, and hand over."""
        self.write("no_way_back", why=reason)
        told = f"{error.message}; nothing was undone: {reason}"
        try:
            self._lock.keep()
            runbook.secure(self)
        except CtlError as trouble:
            told += f"; {trouble.message}"
        if error.code == "digest_mismatch":
            return self.ended(CtlError(error.code, told, hint=error.hint, measured=error.measured))
        failed = CtlError("needs_attention", told, hint=error.hint, measured=error.measured)
        return self.needs_attention(runbook, failed, way_back=False)

    # -- the end -----------------------------------------------------------------------------------------------------------

    def going_on(self, runbook: Runbook, *, way_back: bool) -> str:
        """Return the commands that go on with it, and what each of them would do now."""
        resume, abort = f"raftctl runs resume {self.run_id}", f"raftctl runs abort {self.run_id}"
        if self.past.undoing:
            return f"{resume} finishes the undo, and so does {abort}"
        left = [step.title for step in runbook.steps(self) if step.name not in self.past.done]
        told = f"{resume} goes on with '{left[0]}'" if left else f"{resume} writes the receipt"
        return f"{told}, {abort} undoes the run" if way_back else told

    def needs_attention(self, runbook: Runbook, error: CtlError, *, way_back: bool = True) -> CtlError:
        hint = error.hint or runbook.attention(self, way_back=way_back)
        if self.run_id not in hint:
            hint = f"{hint}; then {self.going_on(runbook, way_back=way_back)}"
        self.ended(CtlError("needs_attention", error.message))
        return CtlError("needs_attention", error.message, hint=hint, rule_ids=error.rule_ids, measured=error.measured)

    def ended(self, error: CtlError) -> CtlError:
        self.write("run_ended", outcome=error.code, exit_code=int(error.exit_code), message=error.message)
        return error


def no_way_back(reason: str) -> CtlError:
    """Return what an `undo` raises when only the way forward is left."""
    return CtlError("point_of_no_return", reason)
