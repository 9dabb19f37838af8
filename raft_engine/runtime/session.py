"""A client whose writes happen once: it numbers them, and sends one again until it is answered.

How a write reaches the leader is the application's affair: `send` may be `raft.client_write` of this process's node, or a
call to the process of the leader. Whatever is sent again is the same bytes, so it may be sent anywhere. A `send` that can
reach several nodes turns the end of one of them (`Fatal`) into `OutcomeUnknown`; by itself it ends the attempt.
Source: dissertation 6.3; runtime/exactly_once.py is the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from raft_engine.errors import ForwardToLeader, OutcomeUnknown, Overloaded, SessionExpired
from raft_engine.runtime.exactly_once import OPEN, Expired, write_data
from raft_engine.runtime.pending_write import timed_out
from raft_engine.types.outcomes import WriteOutcome

RETRY_S = 0.05
"""Between two attempts: a fraction of an election."""

Send = Callable[[bytes], Awaitable[WriteOutcome]]


class Session:
    """Made by `open`. Writes may be under way side by side; they are done in any order, each once."""

    def __init__(self, session: int, send: Send) -> None:
        self.id = session
        self._send = send
        self._last = 0
        self._unanswered: set[int] = set()

    @classmethod
    async def open(cls, send: Send, *, timeout_s: float = 10) -> Session:
        """Open a session. One whose answer is lost stays behind, unused, until it is forgotten.

        Raises: OutcomeUnknown, ForwardToLeader, Overloaded: not within `timeout_s`. Fatal.
        """
        outcome = await _until_answered(send, OPEN, timeout_s)
        assert isinstance(outcome.result, int), f"the state machine is not an ExactlyOnce: {outcome.result!r}"
        return cls(outcome.result, send)

    async def write(self, data: bytes, *, timeout_s: float = 10) -> WriteOutcome:
        """Have `data` done, once; send it again where the answer is lost or nobody leads.

        Raises: SessionExpired: it was not done, or its result is forgotten; open a new session. OutcomeUnknown, ForwardToLeader,
            Overloaded: not within `timeout_s`, it may have been done. Fatal.
        """
        self._last += 1
        serial = self._last
        self._unanswered.add(serial)
        try:
            request = write_data(self.id, serial, min(self._unanswered), data)
            outcome = await _until_answered(self._send, request, timeout_s)
        finally:
            self._unanswered.discard(serial)
        if isinstance(outcome.result, Expired):
            raise SessionExpired(f"session {self.id} is forgotten, or write {serial} of it; the write was not done now")
        return outcome


async def _until_answered(send: Send, data: bytes, timeout_s: float) -> WriteOutcome:
    """Return the answer; the last refusal when the time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await send(data)
        except TimeoutError as error:
            raise OutcomeUnknown(timed_out(timeout_s)) from error
        except (OutcomeUnknown, ForwardToLeader, Overloaded):
            if loop.time() + RETRY_S >= deadline:
                raise
        await asyncio.sleep(RETRY_S)
