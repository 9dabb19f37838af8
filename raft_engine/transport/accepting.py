"""Taking connections: who may talk to this node, and the way back for answers."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

from raft_engine.errors import TransportError
from raft_engine.transport.acceptor import Acceptor
from raft_engine.transport.codec import FRAME_BYTES_MAX, WIRE_VERSION, FrameReader, FrameWriter
from raft_engine.transport.connection import Connection, split_address
from raft_engine.transport.dialing import GREETING_TIMEOUT_S
from raft_engine.transport.handshake import (
    HELLO_BYTES_MAX,
    Answer,
    BootstrapHello,
    Identity,
    PeerHello,
    Refused,
    Reply,
    decode_hello,
    encode_greeting,
)
from raft_engine.transport.reporting import LogOnce, Reporter
from raft_engine.types.bootstrap import BootstrapReply, BootstrapRequest
from raft_engine.types.ids import PeerId

INBOUND_COUNT_MAX: Final = 256
"""Connections held at once: strangers cannot make this node keep more than this many greetings."""

BootstrapHandler = Callable[[BootstrapRequest], BootstrapReply | Awaitable[BootstrapReply]]
HelloWatcher = Callable[[PeerId, str], None]
"""Told of a peer that was let in, with its cluster id."""


class Listener:
    """The listening socket and every connection it took."""

    def __init__(
        self,
        identity: Identity,
        bootstrap: BootstrapHandler | None,
        reporter: Reporter,
        log: LogOnce,
        queue_bytes_max: int,
        on_hello: HelloWatcher | None = None,
    ) -> None:
        self._identity = identity
        self._bootstrap = bootstrap
        self._on_hello_seen = on_hello
        self._reporter = reporter
        self._log = log
        self._queue_bytes_max = queue_bytes_max
        self._acceptor = Acceptor(self._accept)
        self._open: set[Connection] = set()
        self._by_peer: dict[PeerId, tuple[Connection, FrameWriter]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._all_gone = asyncio.Event()

    async def start(self, address: str) -> str:
        """Listen; return the address that is really listened on (the port may have been given as 0).

        Raises: TransportError: it cannot be listened on.
        """
        host, port = split_address(address)
        try:
            real_host, real_port = await self._acceptor.start(host, port)
        except OSError as error:
            raise TransportError(f"cannot listen for peers on {address}: {error}") from error
        return f"[{real_host}]:{real_port}" if ":" in real_host else f"{real_host}:{real_port}"

    def way_back(self, peer: PeerId) -> tuple[Connection, FrameWriter] | None:
        """Return the newest connection `peer` dialed, if one stands."""
        return self._by_peer.get(peer)

    async def close(self) -> None:
        """Stop listening; return when every connection is gone."""
        await self._acceptor.close()
        for task in self._answering:
            task.cancel()
        for connection in list(self._open):
            connection.abort("this node stops")
        while self._open:
            self._all_gone.clear()
            await self._all_gone.wait()

    def _accept(self) -> Connection:
        """Return the protocol of a new connection."""
        connection = Connection(
            lambda frame: self._on_hello(connection, frame),
            lambda reason: self._on_lost(connection, reason),
            frame_bytes_max=HELLO_BYTES_MAX,
            queue_bytes_max=self._queue_bytes_max,
        )
        if len(self._open) >= INBOUND_COUNT_MAX:
            self._log.warn("too many inbound connections", f"{INBOUND_COUNT_MAX} are held, new ones are closed")
            connection.abort("too many connections")
        self._open.add(connection)
        asyncio.get_running_loop().call_later(GREETING_TIMEOUT_S, connection.abort_unless_greeted, "no greeting in time")
        return connection

    def _on_lost(self, connection: Connection, reason: str) -> None:
        self._open.discard(connection)
        for peer, (current, _) in list(self._by_peer.items()):
            if current is connection:
                del self._by_peer[peer]
        if connection.is_broken:
            self._log.warn("an inbound connection was closed", reason)
        if not self._open:
            self._all_gone.set()

    def _on_hello(self, connection: Connection, frame: memoryview) -> None:
        hello = decode_hello(frame)
        if isinstance(hello, BootstrapHello):
            self._on_bootstrap(connection, hello)
        else:
            self._on_peer(connection, hello)

    def _on_peer(self, connection: Connection, hello: PeerHello) -> None:
        me = self._identity.me
        peer = PeerId(hello.node_id, hello.incarnation)
        refusal = self._identity.why_foreign(hello)
        if not refusal and hello.node_id == me.node_id:
            refusal = f"node id {hello.node_id} is this node's own"
        if refusal:
            self._log.warn("a peer is refused", f"{peer}: {refusal}", peer)
            self._reply_and_end(connection, Refused(f"{me} takes no messages from {peer}: {refusal}"))
            return
        if PeerId(hello.wanted_node_id, hello.wanted_incarnation) != me:
            self._reply_and_end(connection, self._identity.welcome())
            return
        stale = self._identity.boots.why_stale(peer, hello.boots)
        if stale:
            self._log.warn("a peer that runs on an older copy is refused", f"{peer}: {stale}", peer)
            self._reply_and_end(connection, Refused(f"{me} takes no messages from {peer}: {stale}", is_stale=True))
            return
        if self._on_hello_seen is not None:
            self._on_hello_seen(peer, hello.cluster_id)
        older = self._by_peer.pop(peer, None)
        if older:
            older[0].abort("the peer dialed anew")
        self._by_peer[peer] = (connection, FrameWriter(me, peer))
        connection.frames_from_now_on(
            functools.partial(self._reporter.frame_received, FrameReader(peer, me), peer), FRAME_BYTES_MAX
        )
        connection.send(encode_greeting(self._identity.welcome()))

    def _on_bootstrap(self, connection: Connection, hello: BootstrapHello) -> None:
        if hello.version != WIRE_VERSION:
            self._reply_and_end(connection, Refused(f"it speaks wire version {WIRE_VERSION}, not {hello.version}"))
        elif hello.cluster != self._identity.cluster:
            self._reply_and_end(
                connection, Refused(f"it belongs to cluster {self._identity.cluster!r}, not {hello.cluster!r}")
            )
        elif self._bootstrap is None:
            self._reply_and_end(connection, Refused("it takes no part in the birth of a cluster"))
        else:
            connection.frames_from_now_on(_refuse_more, HELLO_BYTES_MAX)
            task = asyncio.get_running_loop().create_task(self._answer(connection, self._bootstrap, hello.request))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, connection: Connection, bootstrap: BootstrapHandler, request: BootstrapRequest) -> None:
        try:
            result = bootstrap(request)
            reply: Reply = Answer(await result if inspect.isawaitable(result) else result)
        except Exception as error:  # noqa: BLE001 (whatever the handler raises, the asker gets an answer)
            self._log.warn("answering a bootstrap request failed", repr(error), error=error)
            reply = Refused(f"the request failed: {error}")
        self._reply_and_end(connection, reply)

    def _reply_and_end(self, connection: Connection, reply: Reply) -> None:
        connection.send(encode_greeting(reply))
        connection.finish()


def _refuse_more(_frame: memoryview) -> None:
    raise TransportError("a second request on a bootstrap connection")
