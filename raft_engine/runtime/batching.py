"""When the writes that wait become a batch.

A batch costs the leader and each follower a message, a sync and their wake-ups, however many writes are in it. So while writes
are under way, the next ones gather until they are as many: two batches then take turns, one being made durable while the
other fills. Nothing gathers when nothing is under way, and never for longer than `GATHERING_MAX_S`, so that a far follower or
a slow disk does not keep others waiting. Beside it the configured linger (`api_batch_linger_ms`), which waits in any case.
Source: own design; group commit as in Gray and Reuter 1992, 9.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GATHERING_MAX_S = 0.001
"""About what one batch takes on a machine with a good disk; with 16 connections a seventh more writes than without gathering."""


class Batching:
    """Asked before each batch. Used on the event loop; `wake` is called when a wait is over."""

    def __init__(self, linger_s: float, batch_max: int, wake: Callable[[], None]) -> None:
        self._linger_s = linger_s
        self._batch_max = batch_max
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    def may_begin(self, waiting: int, under_way: int) -> bool:
        """Return whether `waiting` writes (more than none) shall go now; if not, `wake` is called when they must.

        Args:
            under_way: writes that were taken before and are not answered.
        """
        if self._is_due or waiting >= self._batch_max or (not self._linger_s and waiting >= under_way):
            return True
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._linger_s or GATHERING_MAX_S, self._become_due)
        return False

    def begun(self) -> None:
        """The writes that waited were taken."""
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _become_due(self) -> None:
        self._timer = None
        self._is_due = True
        self._wake()
