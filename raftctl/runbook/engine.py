"""Running steps in order: each is written down before and after, and undone in reverse when a later one fails.

Undo works up to the step that cannot be taken back; from there the only way is forward, and the error says what to do. A
step that failed is undone too: it may have done half. Ctrl-C is a failure like any other.
Source: design of rejoin; field notes A.3.4, A.3.5.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from raftctl.errors import CtlError
from raftctl.output.render import Output
from raftctl.output.tables import Tone
from raftctl.runbook.journal import Journal

Facts = dict[str, object]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `do` returns what is worth writing down, with `summary` for people.

    `undo` must be fit for being called whatever part of `do` happened. `final`: once begun, nothing is undone any more.
    `forward`: what must still happen after this step if a later one fails.
    """

    name: str
    title: str
    do: Callable[[], Facts]
    undo: Callable[[], None] | None = None
    final: bool = False
    forward: Callable[[], None] | None = None


class Runbook:
    """Steps on their way. `attention`: what to tell an operator who must go on alone."""

    def __init__(self, journal: Journal, output: Output, attention: Callable[[], str]) -> None:
        self._journal = journal
        self._output = output
        self._attention = attention
        self._begun: list[Step] = []

    def run(self, steps: Sequence[Step]) -> None:
        """Do all steps.

        Raises: CtlError: `undone`, `interrupted` (and undone), `needs_attention`, or the first step's own error when
        nothing had been changed.
        """
        for number, step in enumerate(steps, start=1):
            self._journal.write("step_begun", step=step.name)
            self._output.note(self._output.tone(f"[{number}/{len(steps)}] {step.title}", Tone.STRONG))
            self._begun.append(step)
            try:
                facts = step.do()
            except (CtlError, KeyboardInterrupt) as error:
                raise self._failed(step, error) from error
            self._journal.write("step_done", step=step.name, **facts)
            if "summary" in facts:
                self._output.note(f"      {facts['summary']}")

    def _failed(self, step: Step, cause: CtlError | KeyboardInterrupt) -> CtlError:
        error = cause if isinstance(cause, CtlError) else CtlError("interrupted", "interrupted")
        self._journal.write("step_failed", step=step.name, code=error.code, message=error.message)
        refused = step.final and not error.outcome_unknown and isinstance(cause, CtlError)
        if any(begun.final for begun in self._begun) and not (refused and step.final):
            return self._forward(error)
        return self._undo(step, error)

    def _undo(self, failed: Step, error: CtlError) -> CtlError:
        """Take back, latest first, what was begun."""
        undone: list[str] = []
        with uninterrupted():
            for step in reversed(self._begun):
                if step.undo is None:
                    continue
                self._output.note(f"undoing: {step.title}")
                self._journal.write("undo_begun", step=step.name)
                try:
                    step.undo()
                except CtlError as trouble:
                    self._journal.write("undo_failed", step=step.name, code=trouble.code, message=trouble.message)
                    message = (
                        f"{failed.title} failed ({error.message}), and undoing {step.name} failed too: {trouble.message}"
                    )
                    return self._ended(CtlError("needs_attention", message, hint=self._attention()))
                self._journal.write("undo_done", step=step.name)
                undone.append(step.name)
        if error.code == "interrupted":
            return self._ended(CtlError("interrupted", f"interrupted; undone: {', '.join(undone) or 'nothing was begun'}"))
        if not undone:
            return self._ended(error)
        message = f"{failed.title} failed: {error.message}; undone: {', '.join(undone)}"
        return self._ended(CtlError("undone", message, hint=error.hint, rule_ids=error.rule_ids, measured=error.measured))

    def _forward(self, error: CtlError) -> CtlError:
        """Too late to take back: do what must be done in any case, then hand over."""
        told = error.message
        with uninterrupted():
            for step in self._begun:
                if step.forward is not None:
                    try:
                        step.forward()
                    except CtlError as trouble:
                        told += f"; {step.name}: {trouble.message}"
        if error.code in {"digest_mismatch", "needs_attention"}:
            return self._ended(error)
        return self._ended(CtlError("needs_attention", told, hint=self._attention(), measured=error.measured))

    def _ended(self, error: CtlError) -> CtlError:
        self._journal.write("run_ended", outcome=error.code, exit_code=int(error.exit_code), message=error.message)
        return error


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C meanwhile: an undo cut in half is worse than a wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
