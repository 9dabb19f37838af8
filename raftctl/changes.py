"""Which change was sent and is not known to be done or not: what whoever presses Ctrl-C must be told.

A runbook is undone by Ctrl-C and tells of itself; a single request cannot be taken back once it is on its way.
Source: contract section 5 (exit code 130); field notes B 19, 20 (an unknown outcome is an outcome of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from raftctl.errors import CtlError
from raftctl.output.text import listed

_ACCEPTED: Final = 202
_FAILED: Final = 500
_FAILED_BEHIND: Final = 502
_TIMED_OUT: Final = 504
_OPEN: Final = frozenset({_ACCEPTED, _FAILED, _FAILED_BEHIND, _TIMED_OUT})
"""Statuses after which the effect is still to come, or not."""


class Changes:
    """What one command has sent that may change a cluster. `look_with`: the command that shows whether it came about."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.look_with = "raftctl status"
        self._on_change = on_change
        self._open: dict[str, None] = {}
        """The requests whose outcome is not known, in order."""

    @contextmanager
    def under_way(self, method: str, url: str) -> Iterator[Callable[[int], None]]:
        """Follow one request; what this gives takes the status of the reply. One that never arrived was none."""
        if method == "GET":
            yield _take_no_notice
            return
        self._on_change()
        what = f"{method} {url}"
        was_open = what in self._open  # and stays so: what becomes of its repetition says nothing of the first

        def decided() -> None:
            if not was_open:
                self._open.pop(what, None)

        def answered(status: int) -> None:
            if status not in _OPEN:
                decided()

        self._open[what] = None
        try:
            yield answered
        except CtlError as error:
            if not error.outcome_unknown:
                decided()
            raise

    def seen(self) -> None:
        """All that was sent is known to have come about."""
        self._open.clear()

    def interrupted(self) -> CtlError:
        """Return what to say after Ctrl-C."""
        if not self._open:
            return CtlError("interrupted", "interrupted")
        were = "was" if len(self._open) == 1 else "were"
        message = f"interrupted; {listed(self._open)} {were} sent and may have been carried out"
        return CtlError("interrupted", message, hint=f"look with: {self.look_with}")


def _take_no_notice(_status: int) -> None:
    """A question changes nothing."""
