"""Carrying messages over TCP: one outgoing connection per peer, and whoever connects to us.

Requests go out over the connection this node dialed; answers go back over the newest connection the peer dialed. So each
side notices the other's death on a connection of its own, and a node can answer a leader whose address it has not learned.
Nothing here waits: a message that cannot leave is dropped, as the interface says.
Source: dissertation 10.2.1 (pipelining); etcd `rafthttp`; openraft `network/v2/`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from raft_engine.errors import TransportError
from raft_engine.transport.accepting import BootstrapHandler, HelloWatcher, Listener
from raft_engine.transport.boots import Boots
from raft_engine.transport.codec import FrameReader, FrameWriter
from raft_engine.transport.connection import Connection
from raft_engine.transport.dialing import Backoff, Link
from raft_engine.transport.handshake import Identity
from raft_engine.transport.interface import TransportEvents
from raft_engine.transport.reporting import LogOnce, Reporter
from raft_engine.types.entry import Entry
from raft_engine.types.ids import PeerId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.messages import RESPONSES, AppendRequest, Message

QUEUE_BYTES_MAX: Final = 32 * 1024 * 1024
"""What may wait for one peer; the last frame may exceed it."""


class TcpTransport:
    """`Transport` over TCP.

    `cluster_id` may be a function: a blank node learns its id while it is listening. `bootstrap` answers the questions of a
    cluster's birth; without it they are refused. `on_hello` is told each peer that was let in, and the cluster id it gave.
    `boots` says which runs of peers are known; it outlives this transport.
    """

    def __init__(
        self,
        cluster: str,
        cluster_id: Callable[[], str] | str,
        me: PeerId,
        listen: str,
        *,
        bootstrap: BootstrapHandler | None = None,
        on_hello: HelloWatcher | None = None,
        boots: Boots | None = None,
        backoff_min_ms: int = 20,
        backoff_max_ms: int = 1000,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        self.listening_on = listen
        """host:port; after `start` the real one (the port may have been given as 0)."""
        self.dropped_count = 0
        """Messages that could not leave: no connection, a full queue, or too large."""
        self._identity = Identity(cluster, cluster_id if callable(cluster_id) else lambda: cluster_id, me, boots)
        self._bootstrap = bootstrap
        self._on_hello = on_hello
        self._backoff = Backoff(backoff_min_ms, backoff_max_ms)
        self._queue_bytes_max = queue_bytes_max
        self._log = LogOnce()
        self._reporter: Reporter | None = None
        self._listener: Listener | None = None
        self._links: dict[PeerId, tuple[Link, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._unsent: set[Connection] = set()

    @property
    def misaddressed_count(self) -> int:
        """Frames for or from another life that arrived and were refused."""
        return self._reporter.misaddressed_count if self._reporter else 0

    async def start(self, events: TransportEvents) -> None:
        """Begin to listen and to report.

        Raises: TransportError: the address cannot be listened on.
        """
        reporter = Reporter(events, self._log)
        listener = Listener(self._identity, self._bootstrap, reporter, self._log, self._queue_bytes_max, self._on_hello)
        self.listening_on = await listener.start(self.listening_on)
        self._reporter = reporter
        self._listener = listener

    def set_peers(self, peers: Mapping[PeerId, NodeAddress]) -> None:
        """Keep connections to exactly these; an address that changed is dialed anew. Another life of this node is at its own."""
        me = self._identity.me.node_id
        wanted = {peer: address.raft for peer, address in peers.items() if peer.node_id != me}
        for peer, (link, task) in list(self._links.items()):
            if wanted.get(peer) != link.address:
                del self._links[peer]
                link.end()
                task.cancel()
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
        for peer, address in wanted.items():
            if peer not in self._links:
                self._links[peer] = self._dial(peer, address)

    def _dial(self, peer: PeerId, address: str) -> tuple[Link, asyncio.Task[None]]:
        assert self._reporter is not None, "start comes before set_peers"
        deliver = functools.partial(self._reporter.frame_received, FrameReader(peer, self._identity.me), peer)
        link = Link(peer, address, self._identity, self._reporter, deliver, self._backoff, self._queue_bytes_max)
        return link, asyncio.get_running_loop().create_task(link.run(), name=f"raft-link-{peer}")

    def send(self, target: PeerId, message: Message) -> None:
        """Send a request over the connection to `target`, an answer over the one on which its request came."""
        way = self._way_back(target) if isinstance(message, RESPONSES) else self._way_out(target)
        if way is None:
            self.dropped_count += 1
            return
        try:
            self._queue(way[0], way[1].encode(message))
        except TransportError as error:
            self._drop(target, error)

    def send_append(self, target: PeerId, request: AppendRequest, entries: Sequence[Entry]) -> None:
        """Send `request` with `entries`, whose records go out as they are, and at once: the target works while the next one's are made ready."""
        way = self._way_out(target)
        if way is None:
            self.dropped_count += 1
            return
        try:
            self._queue(way[0], way[1].encode_append(request, entries))
            way[0].flush()
        except TransportError as error:
            self._drop(target, error)

    def _way_out(self, target: PeerId) -> tuple[Connection, FrameWriter] | None:
        found = self._links.get(target)
        return (found[0].connection, found[0].writer) if found and found[0].connection else None

    def _way_back(self, target: PeerId) -> tuple[Connection, FrameWriter] | None:
        return self._listener.way_back(target) if self._listener else None

    def _queue(self, connection: Connection, frame: bytes) -> None:
        if connection.send(frame):
            self._unsent.add(connection)
        else:
            self.dropped_count += 1

    def flush(self) -> None:
        """Let what was sent leave now."""
        unsent, self._unsent = self._unsent, set()
        for connection in unsent:
            connection.flush()

    def _drop(self, target: PeerId, error: TransportError) -> None:
        self.dropped_count += 1
        self._log.warn("a message cannot be sent", str(error), target)

    async def close(self) -> None:
        """Stop listening and drop all connections; nothing is reported any more."""
        if self._reporter:
            self._reporter.silence()
        self.set_peers({})
        while self._ending:
            await asyncio.wait(self._ending)
        if self._listener:
            await self._listener.close()
