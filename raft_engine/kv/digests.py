"""Digests of the state at chosen moments, computed in a thread of their own.

A blank entry whose data is `digest` marks a moment: every node takes a view when it applies that entry, so their digests
can be compared although none of them stops. A view costs memory for what changes while it lives, so it is worked off at
once, and only the latest marks are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from raft_engine.kv.stream import digest_state
from raft_engine.kv.views import View
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import LogId

MARK_DATA: Final = b"digest"
"""Data of the blank entry that marks a moment."""
MARKS_MAX: Final = 8


class Digest:
    """The digest of the state after `log_id`; `value` is there when its turn has come."""

    def __init__(self, view: View, thread: ThreadPoolExecutor) -> None:
        self.log_id = view.last_applied
        self._view: View | None = view
        self.value: Future[str] = thread.submit(self._compute)
        """SHA-256, hexadecimal. Cancelled: too many newer marks came before its turn."""

    @property
    def is_waiting(self) -> bool:
        """Its turn has not come."""
        return self._view is not None

    def _compute(self) -> str:
        view, self._view = self._view, None
        assert view is not None, "a given-up digest is cancelled before its turn"
        return digest_state(view)

    def give_up(self) -> None:
        """Free the view, unless it is being worked on."""
        if self.value.cancel():
            self._view = None


class Digests:
    """The digests of the latest marks, and of the present on request."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kv-digest")
        self._marks: dict[LogIndex, Digest] = {}
        self._asked: Digest | None = None

    def close(self) -> None:
        """Let the thread end when the digest it works on is done; those that wait are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def mark(self, view: View) -> None:
        """Begin the digest of a marked moment; the oldest mark makes room."""
        self._marks[view.last_applied.index] = Digest(view, self._thread)
        while len(self._marks) > MARKS_MAX:
            self._marks.pop(next(iter(self._marks))).give_up()

    def at(self, index: LogIndex) -> Digest | None:
        """Return the digest of the mark at `index`."""
        return self._marks.get(index)

    def take(self, index: LogIndex) -> Digest | None:
        """Return the digest of the mark at `index` and forget it."""
        return self._marks.pop(index, None)

    def of_now(self, last_applied: LogId, take_view: Callable[[], View]) -> Digest:
        """Return the digest of the present state, or one asked for that is still waiting: many who ask cost two views."""
        asked = self._asked
        if asked is None or not (asked.log_id == last_applied or asked.is_waiting):
            asked = self._asked = Digest(take_view(), self._thread)
        return asked
