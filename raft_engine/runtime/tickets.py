"""Who waits for what: the core answers ticket numbers, here they become calls.

A ticket is a plain callable, so a write costs one dictionary entry and no future. Whoever stops waiting is dropped; an
answer for an unknown ticket is no error. When the engine ends, everybody is answered.
Source: own design; openraft answers through oneshot channels.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from raft_engine.types.ids import Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import Outcome, ReadOutcome, Refusal, RefusalCode, WriteOutcome

Answer = TypeVar("Answer")

NO_TICKET = Ticket(0)

logger = logging.getLogger(__name__)

WriteDone = Callable[[WriteOutcome | Refusal], None]
Done = Callable[[Outcome], None]


class Tickets:
    """Open tickets of one engine. Writes are kept apart: what became of an unanswered one is not known."""

    def __init__(self) -> None:
        self._last = 0
        self._writes: dict[Ticket, WriteDone] = {}
        self._others: dict[Ticket, Done] = {}

    def __len__(self) -> int:
        return len(self._writes) + len(self._others)

    @property
    def open_writes(self) -> int:
        return len(self._writes)

    def open_write(self, done: WriteDone, count_max: int | None = None) -> Ticket:
        """Return a ticket; `NO_TICKET` if `count_max` of all kinds are open."""
        if count_max is not None and len(self._writes) + len(self._others) >= count_max:
            return NO_TICKET
        self._last += 1
        ticket = Ticket(self._last)
        self._writes[ticket] = done
        return ticket

    def open(self, done: Done) -> Ticket:
        self._last += 1
        ticket = Ticket(self._last)
        self._others[ticket] = done
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """The caller is gone; its answer will go nowhere."""
        self._writes.pop(ticket, None)
        self._others.pop(ticket, None)

    def answer(self, ticket: Ticket, outcome: Outcome) -> None:
        other = self._others.pop(ticket, None)
        if other is not None:
            _call(other, outcome)
            return
        write = self._writes.pop(ticket, None)
        if write is not None:
            assert isinstance(outcome, WriteOutcome | Refusal), outcome
            _call(write, outcome)

    def answer_writes(self, writes: list[tuple[Ticket, LogId, object]]) -> None:
        pop = self._writes.pop
        for ticket, log_id, result in writes:
            done = pop(ticket, None)
            if done is not None:
                try:
                    done(WriteOutcome(log_id, result))
                except Exception:
                    logger.exception("a caller's callback failed on %s", log_id)

    def answer_reads(self, tickets: list[Ticket], outcome: ReadOutcome | Refusal) -> None:
        pop = self._others.pop
        for ticket in tickets:
            done = pop(ticket, None)
            if done is not None:
                try:
                    done(outcome)
                except Exception:
                    logger.exception("a caller's callback failed on %s", outcome)

    def answer_all(self, reason: str) -> None:
        """The engine is gone: writes may or may not be committed by the others, everything else was not done."""
        writes, self._writes = self._writes, {}
        others, self._others = self._others, {}
        unknown = Refusal(RefusalCode.OUTCOME_UNKNOWN, f"{reason}; the write may or may not be committed")
        for write in writes.values():
            _call(write, unknown)
        stopped = Refusal(RefusalCode.SHUTTING_DOWN, reason)
        for other in others.values():
            _call(other, stopped)


def resolve(future: asyncio.Future[Outcome]) -> Done:
    """Return the callable that gives its outcome to `future`, unless the one who awaited it is gone."""

    def done(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    return done


def _call(done: Callable[[Answer], None], outcome: Answer) -> None:
    """A caller's mistake must not stop the engine."""
    try:
        done(outcome)
    except Exception:
        logger.exception("a caller's callback failed on %s", outcome)
