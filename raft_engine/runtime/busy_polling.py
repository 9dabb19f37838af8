"""Looking again at once instead of sleeping, while the next step of a lone write is about to come.

A lone write is a chain of a dozen short waits: for the next request, for a follower, for the disk. A process that sleeps through
each of them has to be woken each time, and a processor that had nothing to do takes tens of microseconds for that, more in a virtual
machine. So for a moment after each step the event loop goes round without sleeping. Whoever else is ready to run on the processor
is let through in every round, and where many writes share a batch nothing is gained: the leader's loop sleeps then. It also sleeps beside
somebody who computes without end: who lets such a neighbour through waits for milliseconds.
Source: own design; the kernel does the same for network cards (`busy_poll`) and for guests (`haltpoll`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from raft_engine.runtime.ticker import now_ms
from raft_engine.types.ids import Millis

ACTIVE_MS: Final[Millis] = 2.0
"""Once nothing was appended for so long, what happens is no step of a write: heartbeats, for one."""

KEPT_MS: Final[Millis] = 1.0
"""Whoever was let through keeps the processor for long: other nodes, clients and threads take a tenth of that, endless loops 3 ms."""
PAUSE_MS: Final[Millis] = 1000.0
"""Then it is tried again."""


class BusyPolling:
    """Keeps an event loop from sleeping for `poll_us` after each `step`, while entries are appended. 0: never."""

    def __init__(
        self, poll_us: int, call_soon: Callable[[Callable[[], None]], object], clock: Callable[[], Millis] = now_ms
    ) -> None:
        """Args: call_soon: the event loop's; it looks at its sockets, without sleeping, before it calls. clock: that of `step`."""
        self._poll_ms: Millis = poll_us / 1000
        self._call_soon = call_soon
        self._clock = clock
        self._appended = 0
        self._active_until: Millis = 0.0
        self._until: Millis = 0.0
        self._not_before: Millis = 0.0
        self._is_going_round = False

    def step(self, now: Millis, appended: int, writers: int) -> None:
        """Something was handled at `now`.

        Args:
            appended: entries given to the log since the start.
            writers: writes of clients here that are not answered; with several the next step comes without being waited for.
        """
        if appended != self._appended:
            self._appended = appended
            self._active_until = now + ACTIVE_MS
        if writers > 1 or not self._not_before <= now < self._active_until or not self._poll_ms:
            return
        self._until = self._clock() + self._poll_ms
        if not self._is_going_round:
            self._is_going_round = True
            self._call_soon(self._round)

    def stop(self) -> None:
        """Let the loop sleep from now on."""
        self._poll_ms = self._until = 0.0

    def _round(self) -> None:
        before = self._clock()
        self._is_going_round = before < self._until
        if not self._is_going_round:
            return
        os.sched_yield()
        if self._clock() - before < KEPT_MS:
            self._call_soon(self._round)
        else:
            self._is_going_round = False
            self._not_before = before + PAUSE_MS
