"""Who talks to whom in the tests of this room."""

from __future__ import annotations

import asyncio
import contextlib

from raft_engine.transport.codec import LENGTH
from raft_engine.types.ids import Incarnation, NodeId, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import NodeAddress
from raft_engine.types.messages import AppendRequest, ReadIndexRequest, ReadIndexResponse
from raft_engine.types.vote import Vote

CLUSTER = "demo"
CLUSTER_ID = "c" * 32


def peer(node_id: int, life: int = 0) -> PeerId:
    return PeerId(NodeId(node_id), Incarnation(f"{node_id:016x}{life:016x}"))


def address(raft: str) -> NodeAddress:
    return NodeAddress(raft, "")


def request(number: int) -> ReadIndexRequest:
    return ReadIndexRequest(number)


def answer(number: int) -> ReadIndexResponse:
    return ReadIndexResponse(number, 0, NodeId(0))


def append_request(**changes) -> AppendRequest:
    fields = {
        "vote": Vote(Term(1), NodeId(1), True),
        "session": 1,
        "check": True,
        "round": 1,
        "prev": BEFORE_LOG,
        "committed": 0,
    }
    return AppendRequest(**fields | changes)


class Recorder:
    """`TransportEvents` that can be awaited. `on_message`, if set, is called with each message first."""

    def __init__(self, on_message=None) -> None:
        self.messages: asyncio.Queue = asyncio.Queue()
        self.connections: asyncio.Queue = asyncio.Queue()
        self.losses: asyncio.Queue = asyncio.Queue()
        self.replacements: asyncio.Queue = asyncio.Queue()
        self.rollbacks: asyncio.Queue = asyncio.Queue()
        self.on_message = on_message

    def message_received(self, sender, message) -> None:
        if self.on_message:
            self.on_message(sender, message)
        self.messages.put_nowait((sender, message))

    def peer_connected(self, peer) -> None:
        self.connections.put_nowait(peer)

    def peer_lost(self, peer, reason) -> None:
        self.losses.put_nowait((peer, reason))

    def peer_replaced(self, peer, seen) -> None:
        self.replacements.put_nowait((peer, seen))

    def peer_rolled_back(self, peer, why) -> None:
        self.rollbacks.put_nowait((peer, why))


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return one whole frame from a raw stream."""
    head = await reader.readexactly(LENGTH.size)
    return head + await reader.readexactly(LENGTH.unpack(head)[0] - LENGTH.size)


@contextlib.asynccontextmanager
async def silent_server(welcome: bytes | None = None):
    """A raw server that sends `welcome` to whoever has greeted and reads nothing more; yields its address."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_frame(reader)
        if welcome is not None:
            writer.write(welcome)
        await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        done.set()
        server.close()


async def dial_raw(listening_on: str, *frames: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and send `frames`."""
    host, port = listening_on.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    for frame in frames:
        writer.write(frame)
    return reader, writer


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other side closes the connection; nothing if it resets it."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""
