"""Waiting until an engine looks as it should.

Each method returns the picture in which it came true, and raises `WaitTimeout` naming what was waited for and the last
picture otherwise.
Source: openraft `metrics/wait.rs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from raft_engine.errors import Stopped, WaitTimeout
from raft_engine.runtime.metrics_watch import MetricsWatch
from raft_engine.types.metrics import RaftMetrics, ServerState


class Wait:
    """`await raft.wait(timeout_s=5).leader()`."""

    def __init__(self, watch: MetricsWatch, timeout_s: float) -> None:
        self._watch = watch
        self._timeout_s = timeout_s

    async def metrics(self, predicate: Callable[[RaftMetrics], bool], what: str) -> RaftMetrics:
        """Wait until `predicate` holds.

        Args:
            what: what is waited for, for the error's text.
        Raises: WaitTimeout. Stopped: the engine ended first, so it can never hold.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        while True:
            picture = self._watch.current()
            version = self._watch.version
            if predicate(picture):
                return picture
            if picture.state is ServerState.SHUTDOWN:
                raise Stopped(f"the engine ended while waiting for {what}: {picture.fatal or 'shut down'}")
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise WaitTimeout(f"not within {self._timeout_s:g} s: {what}; last seen: {describe(picture)}")
            await self._watch.wait_change(version, left_s)

    async def leader(self) -> RaftMetrics:
        """Wait until a leader is known."""
        return await self.metrics(lambda seen: seen.leader is not None, "a known leader")

    async def current_leader(self, node_id: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.leader == node_id, f"node {node_id} leading")

    async def state(self, *states: ServerState) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.state in states, f"state {' or '.join(states)}")

    async def term_at_least(self, term: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.term >= term, f"term >= {term}")

    async def log_index_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.last_log.index >= index, f"last log index >= {index}")

    async def committed_index_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.committed.index >= index, f"committed index >= {index}")

    async def applied_index_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.applied.index >= index, f"applied index >= {index}")

    async def snapshot_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.snapshot.index >= index, f"snapshot index >= {index}")

    async def purged_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.purged.index >= index, f"purged index >= {index}")

    async def members(self, ids: Iterable[int]) -> RaftMetrics:
        """Wait until the effective configuration is uniform and its voters are exactly these."""
        wanted = sorted(ids)

        def holds(seen: RaftMetrics) -> bool:
            membership = seen.membership.membership
            return not membership.is_joint and membership.voter_ids() == wanted

        return await self.metrics(holds, f"voters {wanted}")


def describe(metrics: RaftMetrics) -> str:
    """Return a picture in one line."""
    return (
        f"node {metrics.me.node_id} {metrics.state} term {metrics.term} leader {metrics.leader} last {metrics.last_log} "
        f"committed {metrics.committed} applied {metrics.applied} snapshot {metrics.snapshot} purged {metrics.purged} "
        f"{metrics.membership.membership}"
    )
