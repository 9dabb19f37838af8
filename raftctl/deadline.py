"""How long a command may take: one deadline for all that it asks, and what each command takes unless `--timeout` says otherwise.

The client holds every request against the deadline, so no command counts for itself. It begins with the first request and stands
still while a person is asked. A runbook is planned within it and then runs without: its steps have bounds of their own, and
whoever is out of time must still be able to undo.
Source: contract section 5 (`--timeout`, exit code 7).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., None])

TIMEOUT_S: Final = 30.0
"""For looking and for seeing an effect: a hundred election timeouts of the default engine."""
_TOO_LITTLE_S: Final = 0.01
"""For a node on the same machine to be asked and to answer."""
_TO_ANSWER_S: Final = 5.0
"""As long as one request may take by default."""
_IN_ALL: Final = "How long it may take in all"
_NAME: Final = "raftctl_takes"


class Deadline:
    """Until when may be asked.

    Args:
        seconds: from now on; 0: there is no deadline, and everything is done once.
    """

    def __init__(self, seconds: float) -> None:
        self._ends_at = math.inf
        self.begin(seconds)

    def restart(self) -> None:
        """Count from now: what comes next has its own time."""
        self._ends_at = time.monotonic() + self.seconds if self._repeats else math.inf

    def begin(self, seconds: float, option: str = "--timeout") -> None:
        """From now on there is one, in so many seconds, because this option says so."""
        self.seconds = seconds
        self.option = option
        self._repeats = seconds > 0
        self.restart()

    def lift(self) -> None:
        """From here on there is none."""
        self._repeats = False
        self._ends_at = math.inf

    @property
    def left_s(self) -> float:
        """Not below zero; infinite without a deadline."""
        return max(0.0, self._ends_at - time.monotonic())

    @property
    def is_over(self) -> bool:
        return self.left_s <= 0.0

    def again(self, every_s: float = 0.1) -> bool:
        """Wait a moment, and say whether there is time to try once more."""
        left_s = self.left_s
        if not self._repeats or left_s <= _TOO_LITTLE_S:
            return False
        time.sleep(min(every_s, left_s / 2))
        return True

    def for_a_node_s(self, most_s: float) -> float:
        """How long a node may wait on purpose before it answers, so that there is time left to hear it; 0: for nothing."""
        if self.seconds <= 0.0:
            return 0.0
        return min(most_s, max(self.left_s / 2, self.left_s - _TO_ANSWER_S))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For as long as a person thinks."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._ends_at += time.monotonic() - begun


def poll(seconds: float, every_s: float = 0.1) -> Callable[[], bool]:
    """Return a function that waits a moment and says whether there is time left to look again."""
    return functools.partial(Deadline(seconds).again, every_s)


class Takes(NamedTuple):
    """What `--timeout` means to a command. `seconds` None: nothing."""

    seconds: float | None = TIMEOUT_S
    what: str = _IN_ALL

    @property
    def help(self) -> str:
        """For `--help` of the command."""
        return "Has no effect here." if self.seconds is None else f"{self.what}; default {_shown(self.seconds)}, 0: once."


def takes(seconds: float | None, what: str = _IN_ALL) -> Callable[[F], F]:
    """Return what tells of a command's function how long it may take, where that is not `TIMEOUT_S` in all.

    Args:
        seconds: None: the command asks no cluster, or has no end of its own.
        what: of what that is the time.
    """

    def told(function: F) -> F:
        function.__dict__[_NAME] = Takes(seconds, what)
        return function

    return told


def taken_by(function: Callable[..., None]) -> Takes:
    """Return what `takes` told."""
    found: Takes = function.__dict__.get(_NAME, Takes())
    return found


def _shown(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds >= 60 else f"{seconds:g}s"
