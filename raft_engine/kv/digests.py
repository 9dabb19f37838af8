"""Digests of the state at chosen moments, computed in a thread of their own.

A blank entry whose data is `digest` marks a moment: every node takes a view when it applies that entry, so their digests
can be compared although none of them stops. A view costs memory for what changes while it lives, so it is worked off soon or
given up, and only the latest marks are kept.

Which one is computed: what somebody asked for, in that order; otherwise the newest mark. A node that catches up over old marks
would else walk over all keys once for each of them, before the one that somebody waits for. An older mark waits, in the middle
of its work perhaps, for somebody to ask; if nobody does for a while, it is forgotten, and whoever comes later is told so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Final

from raft_engine.kv.stream import digest_steps
from raft_engine.kv.views import View
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import LogId

MARK_DATA: Final = b"digest"
"""Data of the blank entry that marks a moment."""
MARKS_MAX: Final = 8
UNASKED_S: Final = 30.0
"""How long a mark that is not the newest waits for somebody to ask. Who compares two nodes may ask the second one when the first
has answered: after 8 s with a million keys. Longer would be dear, as the view costs memory or disk for what changes meanwhile."""
AWAITED_MAX: Final = 64
"""So many entries that were asked for before they were applied are remembered; of others it is not known that somebody waits."""


class Digest:
    """The digest of the state after `log_id`; `value` is there when its turn has come. All but `work` with the lock held."""

    def __init__(self, view: View) -> None:
        self.log_id = view.last_applied
        self.value: Future[str] = Future()
        """SHA-256, hexadecimal. Cancelled: it was given up."""
        self.is_waiting = True
        """Its turn has not come."""
        self.is_asked = False
        self.since = time.monotonic()
        self._steps: Generator[None, None, str] | None = digest_steps(view)
        self._found: str | Exception | None = None

    def work(self, go_on: Callable[[], bool]) -> None:
        """Compute it, or a part of it, until `go_on` says no."""
        steps = self._steps
        assert steps is not None, "a digest that is over has no turn"
        try:
            while go_on():
                next(steps)
        except StopIteration as end:
            self._found = end.value
        except Exception as error:  # noqa: BLE001 (told to whoever asks)
            self._found = error

    def settle(self) -> None:
        """Tell what was found, if the work is done, and let go of the view if it has to do no more."""
        if self._found is not None and not self.is_over and self.value.set_running_or_notify_cancel():
            if isinstance(self._found, Exception):
                self.value.set_exception(self._found)
            else:
                self.value.set_result(self._found)
        if self.value.done():
            self._steps = None

    def give_up(self) -> None:
        """Cancel it."""
        if not self.is_over and self.value.cancel():
            self.value.set_running_or_notify_cancel()  # wakes those who wait

    @property
    def is_over(self) -> bool:
        return self.value.done()


class Digests:
    """The digests of the latest marks, and of the present on request. In any thread."""

    def __init__(self, *, unasked_s: float = UNASKED_S) -> None:
        self._unasked_s = unasked_s
        self._changed = Condition()
        self._marks: dict[LogIndex, Digest] = {}
        """Oldest first."""
        self._asked: list[Digest] = []
        """Not over yet, in the order in which they were asked for."""
        self._awaited: dict[LogIndex, None] = {}
        self._present: Digest | None = None
        self._working: Digest | None = None
        self._thread: Thread | None = None
        """There while there is something to do or to forget."""
        self._is_closed = False

    def close(self) -> None:
        """Give up what is not there yet, and let the thread end."""
        with self._changed:
            self._is_closed = True
            for digest in (*self._asked, *self._marks.values()):
                self._give_up(digest)
            self._changed.notify_all()

    def mark(self, view: View) -> None:
        """Take in a marked moment; the oldest mark makes room."""
        with self._changed:
            newest = self._marks[view.last_applied.index] = Digest(view)
            while len(self._marks) > MARKS_MAX:
                self._give_up(self._marks.pop(next(iter(self._marks))))
            if newest.log_id.index in self._awaited:
                del self._awaited[newest.log_id.index]
                self._ask(newest)
            self._wake()

    def ask(self, index: LogIndex) -> Digest | None:
        """Return the digest of the mark at `index`, which from now on is wanted; if it is not applied yet, as soon as it is."""
        with self._changed:
            digest = self._marks.get(index)
            if digest is not None:
                self._ask(digest)
                return digest
            self._awaited[index] = None
            if len(self._awaited) > AWAITED_MAX:
                del self._awaited[next(iter(self._awaited))]
            return None

    def of_now(self, last_applied: LogId, take_view: Callable[[], View]) -> Digest:
        """Return the digest of the present state, or one asked for that is still waiting: many who ask cost two views."""
        with self._changed:
            present = self._present
            if present is None or present.value.cancelled() or not (present.log_id == last_applied or present.is_waiting):
                present = self._present = Digest(take_view())
            self._ask(present)
            return present

    # --- with the lock held -------------------------------------------------------------------------------------------

    def _ask(self, digest: Digest) -> None:
        if not digest.is_asked:
            digest.is_asked = True
            self._asked.append(digest)
            self._wake()

    def _give_up(self, digest: Digest) -> None:
        digest.give_up()
        if digest is not self._working:
            digest.settle()

    def _wake(self) -> None:
        if self._is_closed:
            for digest in (*self._asked, *self._marks.values()):
                self._give_up(digest)
        elif self._thread is None:
            self._thread = Thread(target=self._run, name="kv-digest", daemon=True)
            self._thread.start()
        else:
            self._changed.notify_all()

    def _first(self) -> Digest | None:
        """Return the one whose turn it is."""
        self._asked = [digest for digest in self._asked if not digest.is_over]
        newest = next(reversed(self._marks.values()), None)
        if not self._asked and newest is not None and not newest.is_over:
            return newest
        return self._asked[0] if self._asked else None

    def _forget(self) -> float | None:
        """Give up what nobody has asked for in time; return when there may be something again, None: never."""
        now = time.monotonic()
        unasked = [digest for digest in self._marks.values() if not (digest.is_asked or digest.is_over)]
        late = [digest for digest in unasked if digest.since + self._unasked_s <= now]
        for digest in late:
            del self._marks[digest.log_id.index]
            self._give_up(digest)
        return min((digest.since + self._unasked_s - now for digest in unasked if digest not in late), default=None)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (digest := self._next()) is not None:
            digest.work(self._go_on)

    def _next(self) -> Digest | None:
        """Return the one whose turn it is; None: there is nothing to do, and the thread is to end."""
        with self._changed:
            if self._working is not None:
                self._working.settle()
                self._working = None
            while (digest := self._first()) is None:
                forget_in_s = self._forget()
                if forget_in_s is None:
                    self._thread = None
                    return None
                self._changed.wait(forget_in_s)
            digest.is_waiting = False
            self._working = digest
            return digest

    def _go_on(self) -> bool:
        with self._changed:
            return self._first() is self._working
