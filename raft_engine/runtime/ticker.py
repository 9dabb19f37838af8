"""Time: the only place that reads the clock, and the one that tells the engine that it goes on.

After a stall (the process was stopped, the machine slept, a state machine took long) messages may be waiting in the
sockets. A late tick is therefore put off once, so that the leader's heartbeat is read before an election is held for want
of it.
Source: openraft `core/tick.rs`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from raft_engine.types.ids import Millis

RETRY_AFTER_STALL_S = 0.001


def now_ms() -> Millis:
    """Return the monotonic clock in milliseconds."""
    return time.monotonic() * 1000.0


class Ticker:
    """Calls `tick` every `interval_ms` until stopped."""

    def __init__(self, interval_ms: Millis, stall_ms: Millis, tick: Callable[[], None]) -> None:
        self._interval_ms = interval_ms
        self._stall_ms = stall_ms
        self._tick = tick
        self._loop = asyncio.get_running_loop()
        self._due = now_ms() + interval_ms
        self._timer = self._loop.call_later(interval_ms / 1000, self._fire)

    def stop(self) -> None:
        self._timer.cancel()

    def _fire(self) -> None:
        now = now_ms()
        stalled = now - self._due > self._stall_ms
        if not stalled:
            self._tick()
        delay_s = RETRY_AFTER_STALL_S if stalled else self._interval_ms / 1000
        self._due = now + delay_s * 1000
        self._timer = self._loop.call_later(delay_s, self._fire)
