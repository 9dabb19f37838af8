"""Keeping one outgoing connection: dial, greet, carry requests, and dial again.

A lost connection is reported at once: a dead leader must be noticed before any timeout. After a failure the wait doubles
from the lowest back-off to the highest, jittered so that a cluster does not dial in step; a greeting that succeeds resets
it. Somebody else at the address (another life of the node, another node or cluster) is asked again at the highest back-off.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from typing import Final

import msgspec

from raft_engine.errors import TransportError
from raft_engine.transport.codec import FRAME_BYTES_MAX, FrameWriter
from raft_engine.transport.connection import Connection, split_address
from raft_engine.transport.handshake import HELLO_BYTES_MAX, Identity, Refused, Welcome, decode_reply, encode_greeting
from raft_engine.transport.interface import TransportEvents
from raft_engine.types.ids import PeerId

CONNECT_TIMEOUT_S: Final = 2.0
"""A host that does not even refuse. Longer than a lost SYN's first repetition (1 s)."""
GREETING_TIMEOUT_S: Final = 2.0
STALE_COUNT: Final = 2
"""Answers in a row of a run that must not be, before it is reported."""


class Backoff(msgspec.Struct, frozen=True):
    """How long to wait before dialing again."""

    min_ms: int
    max_ms: int


class Link:
    """The outgoing connection to `peer`. `run` is its only task and ends when cancelled."""

    def __init__(
        self,
        peer: PeerId,
        address: str,
        identity: Identity,
        events: TransportEvents,
        deliver: Callable[[memoryview], None],
        backoff: Backoff,
        queue_bytes_max: int,
    ) -> None:
        self.peer = peer
        self.address = address
        self.writer = FrameWriter(identity.me, peer)
        self.connection: Connection | None = None
        """Set while messages can be sent."""
        self._events = events
        self._deliver = deliver
        self._identity = identity
        self._backoff = backoff
        self._queue_bytes_max = queue_bytes_max
        self._dialed: Connection | None = None
        self._greeted = False
        self._is_somebody_else = False
        self._is_replaced = False
        self._stale_count = 0

    async def run(self) -> None:
        """Dial for ever."""
        delay_ms = self._backoff.min_ms
        while True:
            self._greeted = self._is_somebody_else = self._is_replaced = False
            reason = await self._live()
            if not self._is_replaced:
                self._events.peer_lost(self.peer, reason)
            if self._greeted:
                delay_ms = self._backoff.min_ms
            elif self._is_somebody_else:
                delay_ms = self._backoff.max_ms
            await asyncio.sleep(delay_ms * random.uniform(0.5, 1.0) / 1000)  # noqa: S311 (spreads load, keeps no secret)
            delay_ms = min(delay_ms * 2, self._backoff.max_ms)

    async def _live(self) -> str:
        """Dial once and return, when it is over, why."""
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[str] = loop.create_future()
        make = functools.partial(
            Connection,
            self._on_reply,
            lost.set_result,
            frame_bytes_max=HELLO_BYTES_MAX,
            queue_bytes_max=self._queue_bytes_max,
        )
        try:
            greeting = encode_greeting(self._identity.hello(self.peer))
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(make, *split_address(self.address))
        except TimeoutError:
            return f"{self.address} did not answer within {CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            return f"{self.address} cannot be reached: {error.strerror or error}"
        except TransportError as error:
            return f"{self.address} cannot be reached: {error}"
        timer = loop.call_later(
            GREETING_TIMEOUT_S,
            connection.abort_unless_greeted,
            f"{self.address} did not greet within {GREETING_TIMEOUT_S:g} s",
        )
        try:
            self._dialed = connection
            connection.send(greeting)
            return await asyncio.shield(lost)
        finally:
            timer.cancel()
            self.connection = None
            connection.abort("not wanted any more")
            await lost

    def end(self) -> None:
        """Carry and report nothing more; the task is cancelled by its owner."""
        self.connection = None
        if self._dialed:
            self._dialed.abort("not wanted any more")

    def _on_reply(self, frame: memoryview) -> None:
        """Judge who answers.

        Raises: TransportError: not the peer that was dialed.
        """
        reply = decode_reply(frame)
        if isinstance(reply, Refused):
            self._is_somebody_else = True
            if reply.is_stale:
                self._identity.boots.refused_by[self.peer] = reply.reason
            raise TransportError(f"{self.address} refused: {reply.reason}")
        if not isinstance(reply, Welcome):
            raise TransportError(f"{self.address} answered with another kind of greeting")
        foreign = self._identity.why_foreign(reply)
        if not foreign and reply.node_id != self.peer.node_id:
            foreign = f"it is node {reply.node_id}, not node {self.peer.node_id}; check the addresses in the membership"
        if foreign:
            self._is_somebody_else = True
            raise TransportError(f"wrong peer at {self.address}: {foreign}")
        if reply.incarnation != self.peer.incarnation:
            self._is_somebody_else = self._is_replaced = True
            self._events.peer_replaced(self.peer, reply.incarnation)
            raise TransportError(f"another incarnation of node {self.peer.node_id} answers at {self.address}")
        stale = self._identity.boots.why_stale(self.peer, reply.boots)
        if stale:
            self._refuse_stale(stale)
        self._stale_count = 0
        self._identity.boots.refused_by.pop(self.peer, None)
        assert self._dialed is not None
        self._greeted = True
        self._dialed.frames_from_now_on(self._deliver, FRAME_BYTES_MAX)
        self.connection = self._dialed
        self._events.peer_connected(self.peer)

    def _refuse_stale(self, stale: str) -> None:
        """A run that the peer's last known run did not lead to answers.

        The first time it may be the last word of a process that its successor has already overtaken in our own ears.
        Raises: TransportError.
        """
        self._is_somebody_else = True
        self._stale_count += 1
        if self._stale_count >= STALE_COUNT:
            self._events.peer_rolled_back(self.peer, stale)
        raise TransportError(f"node {self.peer.node_id} at {self.address} is not taken as it is: {stale}")
