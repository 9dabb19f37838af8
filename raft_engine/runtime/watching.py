"""Following how an engine goes on: its progress, and who leads.

Pictures are taken at most every few milliseconds, so what changes and changes back in between is not seen; where it ends
up is. Everything here ends when the engine does.
Source: openraft `raft/mod.rs` (`watch_*_progress`, `on_cluster_leader_change`, `on_leader_change`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from raft_engine.runtime.metrics_watch import MetricsWatch
from raft_engine.runtime.wait import Wait
from raft_engine.types.ids import NodeId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.metrics import RaftMetrics, ServerState
from raft_engine.types.vote import Vote

logger = logging.getLogger(__name__)

LONG_S = 3600.0
Seen = TypeVar("Seen")


class Progress(Generic[Seen]):
    """One number of an engine that goes up: `await raft.progress.applied.wait_until_ge(1200)`."""

    def __init__(
        self, watch: MetricsWatch, name: str, read: Callable[[RaftMetrics], Seen], rank: Callable[[Seen], tuple[int, int]]
    ) -> None:
        """
        Args:
            rank: what decides which of two values is further on, the term first.
        """
        self._watch = watch
        self._name = name
        self._read = read
        self._rank = rank

    def get(self) -> Seen:
        """Return it as of now."""
        return self._read(self._watch.current())

    async def wait_until_ge(self, value: Seen | int, *, timeout_s: float = 10.0) -> Seen:
        """Return it once it is `value` (a number: the index, of a vote the term) or beyond.

        Raises: WaitTimeout. Stopped: the engine ended first.
        """

        def reached(picture: RaftMetrics) -> bool:
            seen = self._read(picture)
            if isinstance(value, int):
                return (seen.index if isinstance(seen, LogId) else self._rank(seen)[0]) >= value
            return self._rank(seen) >= self._rank(value)

        return self._read(await Wait(self._watch, timeout_s).metrics(reached, f"{self._name} >= {value}"))

    async def __aiter__(self) -> AsyncIterator[Seen]:
        """Yield it as it is, then each time that it has changed."""
        async for picture in _pictures(self._watch, self._read):
            yield self._read(picture)


class Progresses:
    """All of them."""

    def __init__(self, watch: MetricsWatch) -> None:
        self.log = _pointer(watch, "log", lambda seen: seen.last_log)
        """The last entry, durable or not."""
        self.vote: Progress[Vote] = Progress(watch, "vote", lambda seen: seen.vote, lambda vote: (vote.term, vote.committed))
        self.committed = _pointer(watch, "committed", lambda seen: seen.committed)
        self.applied = _pointer(watch, "applied", lambda seen: seen.applied)
        self.snapshot = _pointer(watch, "snapshot", lambda seen: seen.snapshot)
        self.purged = _pointer(watch, "purged", lambda seen: seen.purged)


def _pointer(watch: MetricsWatch, name: str, read: Callable[[RaftMetrics], LogId]) -> Progress[LogId]:
    return Progress(watch, name, read, lambda log_id: (log_id.term, log_id.index))


async def _pictures(watch: MetricsWatch, key: Callable[[RaftMetrics], object]) -> AsyncIterator[RaftMetrics]:
    """Yield the picture as it is, then each whose `key` is another one; end when the engine does."""
    picture = watch.current()
    version = watch.version
    yield picture
    last = key(picture)
    while picture.state is not ServerState.SHUTDOWN:
        picture = await watch.wait_change(version, LONG_S)
        version = watch.version  # of this picture: what changes while the caller is busy with it is not missed
        if key(picture) != last:
            last = key(picture)
            yield picture


# -- who leads ---------------------------------------------------------------------------------------------------------


class LeaderChange(msgspec.Struct, frozen=True):
    """Who leads by what this node knows; `leader` None: nobody is known to."""

    term: Term
    leader: NodeId | None


async def leader_changes(watch: MetricsWatch) -> AsyncIterator[LeaderChange]:
    """Yield who leads, then every change of that; the last one, when the engine ends, says nobody."""

    def leads(picture: RaftMetrics) -> LeaderChange:
        return LeaderChange(picture.term, picture.leader)

    async for picture in _pictures(watch, leads):
        yield leads(picture)


OfficeCallback = Callable[[Term], Awaitable[None] | None]


class OfficeWatch:
    """Calls `start` when this node begins to lead a term, `stop` when it no longer does; one after the other, in pairs."""

    def __init__(self, watch: MetricsWatch, start: OfficeCallback, stop: OfficeCallback) -> None:
        self._start = start
        self._stop = stop
        self._task = asyncio.create_task(self._follow(watch), name="raft-office-watch")

    async def close(self) -> None:
        """Stop watching; a callback that runs is cancelled. A `stop` that is due is not called."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, watch: MetricsWatch) -> None:
        leading: Term | None = None

        def office(picture: RaftMetrics) -> Term | None:
            return picture.term if picture.state is ServerState.LEADER else None

        async for picture in _pictures(watch, office):
            now = office(picture)
            if leading is not None and leading != now:
                await _call(self._stop, leading)
            if now is not None and leading != now:
                await _call(self._start, now)
            leading = now


async def _call(callback: OfficeCallback, term: Term) -> None:
    """An application's mistake does not end the watch."""
    try:
        result = callback(term)
        if inspect.isawaitable(result):
            await result
    except Exception:
        logger.exception("a callback for leadership of term %s failed", term)
