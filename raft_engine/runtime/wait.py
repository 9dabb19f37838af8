"""Waiting until an engine looks as it should.

Each method returns the picture in which it came true, and raises `WaitTimeout` naming what was waited for and the last
picture otherwise.
Source: openraft `metrics/wait.rs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal

from raft_engine.errors import Stopped, WaitTimeout
from raft_engine.runtime.metrics_watch import MetricsWatch
from raft_engine.types.ids import Millis
from raft_engine.types.log_id import LogId
from raft_engine.types.metrics import RaftMetrics, ServerState
from raft_engine.types.vote import Vote

LOOK_S = 0.02
MetricName = Literal["term", "last_log", "committed", "applied", "snapshot", "purged"]


class Wait:
    """`await raft.wait(timeout_s=5).leader()`."""

    def __init__(self, watch: MetricsWatch, timeout_s: float) -> None:
        self._watch = watch
        self._timeout_s = timeout_s

    async def metrics(
        self, predicate: Callable[[RaftMetrics], bool], what: str, *, look_every_s: float = float("inf")
    ) -> RaftMetrics:
        """Wait until `predicate` holds.

        Args:
            what: what is waited for, for the error's text.
            look_every_s: look that often, too, without a change: for what comes true with the passing of time.
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
            await self._watch.wait_change(version, min(left_s, look_every_s))

    # -- who leads -----------------------------------------------------------------------------------------------------

    async def leader(self) -> RaftMetrics:
        """Wait until a leader is known."""
        return await self.metrics(lambda seen: seen.leader is not None, "a known leader")

    async def current_leader(self, node_id: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.leader == node_id, f"node {node_id} leading")

    async def leader_with_quorum_acked(self, within_ms: Millis = 1000.0) -> RaftMetrics:
        """Wait until this node leads and a quorum has answered it so lately: what it was told to write can be committed."""

        def holds(seen: RaftMetrics) -> bool:
            age = seen.last_quorum_acked_ms_ago
            return seen.state is ServerState.LEADER and age is not None and age <= within_ms

        return await self.metrics(holds, f"leading, a quorum's answer at most {within_ms:g} ms old", look_every_s=LOOK_S)

    async def state(self, *states: ServerState) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.state in states, f"state {' or '.join(states)}")

    async def vote(self, vote: Vote) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.vote == vote, f"vote {vote}")

    async def term_at_least(self, term: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.term >= term, f"term >= {term}")

    async def recovered(self) -> RaftMetrics:
        """Wait until a leader has confirmed what is committed, and that is applied here: after a restart, or a wipe."""
        need: int | None = None

        def holds(seen: RaftMetrics) -> bool:
            nonlocal need
            if need is None and seen.leader is not None and seen.committed.term == seen.term > 0:
                need = seen.committed.index
            return need is not None and seen.recovery is None and seen.applied.index >= need

        return await self.metrics(holds, "everything committed being known and applied")

    # -- how far it is -------------------------------------------------------------------------------------------------

    async def log(self, index: int) -> RaftMetrics:
        """Wait until the log ends at `index` and all of it is applied."""
        return await self.metrics(
            lambda seen: seen.last_log.index == seen.applied.index == index, f"last log index = applied index = {index}"
        )

    async def log_at_least(self, index: int) -> RaftMetrics:
        """Wait until the log reaches `index` and that is applied."""
        return await self.metrics(
            lambda seen: min(seen.last_log.index, seen.applied.index) >= index, f"last log and applied index >= {index}"
        )

    async def log_index(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.last_log.index == index, f"last log index = {index}")

    async def log_index_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.last_log.index >= index, f"last log index >= {index}")

    async def committed_index(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.committed.index == index, f"committed index = {index}")

    async def committed_index_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.committed.index >= index, f"committed index >= {index}")

    async def applied_index(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.applied.index == index, f"applied index = {index}")

    async def applied_index_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.applied.index >= index, f"applied index >= {index}")

    async def snapshot(self, log_id: LogId) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.snapshot == log_id, f"snapshot {log_id}")

    async def snapshot_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.snapshot.index >= index, f"snapshot index >= {index}")

    async def purged(self, log_id: LogId) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.purged == log_id, f"purged {log_id}")

    async def purged_at_least(self, index: int) -> RaftMetrics:
        return await self.metrics(lambda seen: seen.purged.index >= index, f"purged index >= {index}")

    async def eq(self, name: MetricName, value: object) -> RaftMetrics:
        """Wait until the metric of that name is `value`."""
        return await self.metrics(lambda seen: getattr(seen, name) == value, f"{name} = {value}")

    async def ge(self, name: MetricName, value: Any) -> RaftMetrics:
        """Wait until the metric of that name is `value` or above."""
        return await self.metrics(lambda seen: getattr(seen, name) >= value, f"{name} >= {value}")

    # -- who belongs to it ---------------------------------------------------------------------------------------------

    async def members(self, ids: Iterable[int]) -> RaftMetrics:
        """Wait until the effective configuration is uniform and its voters are exactly these."""
        wanted = sorted(ids)

        def holds(seen: RaftMetrics) -> bool:
            membership = seen.membership.membership
            return not membership.is_joint and membership.voter_ids() == wanted

        return await self.metrics(holds, f"voters {wanted}")

    async def voter_ids(self, ids: Iterable[int]) -> RaftMetrics:
        """Wait until exactly these vote, in either set of a joint configuration."""
        wanted = sorted(ids)
        return await self.metrics(lambda seen: seen.membership.membership.voter_ids() == wanted, f"voting: {wanted}")

    async def learner_ids(self, ids: Iterable[int]) -> RaftMetrics:
        wanted = sorted(ids)
        return await self.metrics(lambda seen: sorted(seen.membership.membership.learners) == wanted, f"learners {wanted}")


def describe(metrics: RaftMetrics) -> str:
    """Return a picture in one line."""
    return (
        f"node {metrics.me.node_id} {metrics.state} term {metrics.term} leader {metrics.leader} last {metrics.last_log} "
        f"committed {metrics.committed} applied {metrics.applied} snapshot {metrics.snapshot} purged {metrics.purged} "
        f"{metrics.membership.membership}"
    )
