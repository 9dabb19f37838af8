"""What the engine looks like now, and telling those who watch when that changes.

A picture is made when somebody asks, or while somebody watches, after events and then at most every few milliseconds: an
event that comes sooner is looked at when they are over. Unwatched, a busy engine pays nothing. `version` counts the pictures
that differ in more than the passing of time.
Source: openraft `metrics/wait.rs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from raft_engine.types.ids import Millis
from raft_engine.types.metrics import RaftMetrics

INTERVAL_MS = 5.0
"""A watched engine is pictured at most this often: about 1 % of its time."""

Picture = Callable[[], RaftMetrics]


class MetricsWatch:
    """The latest picture and its version. Used on the event loop."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self.latest = picture()
        self._timeless = timeless(self.latest)
        self.version = 1
        """Of the picture last taken."""
        self._taken_at: Millis = 0.0
        self.watchers: set[asyncio.Future[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        """Something happened just after a look: the next one."""

    def current(self) -> RaftMetrics:
        """Return the picture as of now."""
        self.latest = self._picture()
        bare = timeless(self.latest)
        if bare != self._timeless:
            self._timeless = bare
            self.version += 1
            watchers, self.watchers = self.watchers, set()
            for watcher in watchers:
                if not watcher.done():
                    watcher.set_result(None)
        return self.latest

    def look(self, now: Millis) -> None:
        """Something happened: look again, if anybody watches; if the last look was just now, when its interval is over."""
        if not self.watchers or self._later is not None:
            return
        left_ms = self._taken_at + INTERVAL_MS - now
        if left_ms <= 0:
            self._taken_at = now
            self.current()
        else:
            self._later = asyncio.get_running_loop().call_later(left_ms / 1000, self._look_later, now + left_ms)

    def _look_later(self, now: Millis) -> None:
        self._later = None
        self.look(now)

    async def wait_change(self, version: int, timeout_s: float) -> RaftMetrics:
        """Return the picture once its version is another one, or when the time is up."""
        picture = self.current()
        if self.version != version or timeout_s <= 0:
            return picture
        changed = asyncio.get_running_loop().create_future()
        self.watchers.add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                await changed
        except TimeoutError:
            pass
        finally:
            self.watchers.discard(changed)
        return self.current()


def timeless(metrics: RaftMetrics) -> RaftMetrics:
    """Return the picture without the numbers that change by themselves."""
    replication = metrics.replication and {
        node_id: msgspec.structs.replace(target, last_ack_ms_ago=None, revert_armed_ms=target.revert_armed_ms and 1.0)
        for node_id, target in metrics.replication.items()
    }
    restoring = metrics.restoring and msgspec.structs.replace(metrics.restoring, restored_bytes=0)
    return msgspec.structs.replace(metrics, last_quorum_acked_ms_ago=None, replication=replication, restoring=restoring)
