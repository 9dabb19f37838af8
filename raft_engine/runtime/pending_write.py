"""A write that is on its way, for who wants to hear of it twice: when it is committed, and when it is applied.

Committed is durable on a quorum: it will be applied, here and everywhere, whatever fails now. Applied brings the state
machine's result. Nobody has to wait for either.
Source: openraft `client_write` with a two-shot responder, `client_write_ff`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raft_engine.errors import RaftError
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import CommitOutcome, Outcome, Refusal, RefusalCode, WriteOutcome


class PendingWrite:
    """Made by `Raft.write`. Both methods may be called any number of times, in any order, by anybody."""

    def __init__(
        self,
        committed: asyncio.Future[Outcome],
        applied: asyncio.Future[Outcome],
        *,
        as_error: Callable[[Refusal], RaftError],
    ) -> None:
        self._committed = committed
        self._applied = applied
        self._as_error = as_error

    async def committed(self, *, timeout_s: float | None = 10) -> LogId:
        """Return the entry's log id once it is committed.

        Raises: as `Raft.client_write`. OutcomeUnknown: not within `timeout_s`; it may yet be, and may be waited for again.
        """
        outcome = await self._heard(self._committed, timeout_s)
        assert isinstance(outcome, CommitOutcome), outcome
        return outcome.log_id

    async def applied(self, *, timeout_s: float | None = 10) -> WriteOutcome:
        """Return what the state machine made of it. Raises: as `committed`."""
        outcome = await self._heard(self._applied, timeout_s)
        assert isinstance(outcome, WriteOutcome), outcome
        return outcome

    async def _heard(self, answer: asyncio.Future[Outcome], timeout_s: float | None) -> Outcome:
        try:
            async with asyncio.timeout(timeout_s):
                outcome = await asyncio.shield(answer)
        except TimeoutError:
            outcome = timed_out(timeout_s)
        if isinstance(outcome, Refusal):
            raise self._as_error(outcome)
        return outcome


def timed_out(timeout_s: float | None) -> Refusal:
    """Return what a caller is told whose time was up before an answer came."""
    detail = f"no result within {timeout_s:g} s; it may yet happen" if timeout_s is not None else "no result"
    return Refusal(RefusalCode.TIMED_OUT, detail, hint="look before you retry")
