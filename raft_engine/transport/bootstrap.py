"""Asking a node one question about the cluster's birth, before any engine runs."""

from __future__ import annotations

import asyncio
import functools

from raft_engine.errors import TransportError
from raft_engine.transport.codec import WIRE_VERSION
from raft_engine.transport.connection import Connection, split_address
from raft_engine.transport.handshake import (
    HELLO_BYTES_MAX,
    Answer,
    BootstrapHello,
    Refused,
    Reply,
    decode_reply,
    encode_greeting,
)
from raft_engine.types.bootstrap import BootstrapReply, BootstrapRequest


async def bootstrap_call(address: str, cluster: str, request: BootstrapRequest, timeout_s: float) -> BootstrapReply:
    """Return what the node at the raft address `address` answers.

    Raises: TransportError: nobody answers in time, or somebody who refuses.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Reply] = loop.create_future()
    lost: asyncio.Future[None] = loop.create_future()

    def on_frame(frame: memoryview) -> None:
        reply = decode_reply(frame)
        if not answered.done():
            answered.set_result(reply)

    def on_lost(reason: str) -> None:
        if not answered.done():
            answered.set_exception(TransportError(f"{address} did not answer: {reason}"))
        lost.set_result(None)

    make = functools.partial(Connection, on_frame, on_lost, frame_bytes_max=HELLO_BYTES_MAX, queue_bytes_max=HELLO_BYTES_MAX)
    greeting = encode_greeting(BootstrapHello(WIRE_VERSION, cluster, request))
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(make, *split_address(address))
            try:
                connection.send(greeting)
                reply = await answered
            finally:
                connection.abort("done")
                await lost
    except TimeoutError as error:
        raise TransportError(f"{address} did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise TransportError(f"{address} cannot be reached: {error.strerror or error}") from error
    if isinstance(reply, Answer):
        return reply.reply
    if isinstance(reply, Refused):
        raise TransportError(f"{address} refused: {reply.reason}")
    raise TransportError(f"{address} answered with another kind of greeting")
