"""A network inside one process: for tests, examples and embedding several nodes in one program.

It keeps the promises of the TCP transport and no more: messages may be lost, peers are reported connected, lost or replaced,
and delivery happens in a later turn of the event loop. Links can be cut in one direction; a cut loses messages silently, as
a real one does, and nobody can dial across it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from raft_engine.errors import TransportError
from raft_engine.transport.interface import TransportEvents
from raft_engine.transport.reporting import LogOnce, Reporter
from raft_engine.types.entry import Entry
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.messages import RESPONSES, AppendRequest, Message


class LocalNetwork:
    """Where local transports meet: by the raft address they listen on."""

    def __init__(self) -> None:
        self.drop: Callable[[PeerId, PeerId, Message], bool] | None = None
        """Asked for each message (sender, receiver, message) whether it is lost."""
        self._listening: dict[str, LocalTransport] = {}
        self._cuts: set[tuple[NodeId, NodeId]] = set()

    def cut(self, sender: NodeId, receiver: NodeId) -> None:
        """Lose everything from `sender` to `receiver`; the other direction goes on."""
        self._cuts.add((sender, receiver))

    def partition(self, *groups: Iterable[NodeId]) -> None:
        """Cut both directions between the groups."""
        sides = [set(group) for group in groups]
        self._cuts |= {(a, b) for side in sides for other in sides if side is not other for a in side for b in other}

    def heal(self, sender: NodeId | None = None, receiver: NodeId | None = None) -> None:
        """Mend the cuts from `sender` and to `receiver`; without arguments all of them."""
        self._cuts = {
            (a, b) for a, b in self._cuts if (sender is not None and a != sender) or (receiver is not None and b != receiver)
        }
        self.redial()

    def is_cut(self, sender: NodeId, receiver: NodeId) -> bool:
        return (sender, receiver) in self._cuts

    def add(self, address: str, transport: LocalTransport) -> None:
        if address in self._listening:
            raise TransportError(f"cannot listen for peers on {address}: somebody does already")
        self._listening[address] = transport
        self.redial()

    def remove(self, address: str, transport: LocalTransport) -> None:
        if self._listening.get(address) is transport:
            del self._listening[address]
            self.redial()

    def at(self, address: str) -> LocalTransport | None:
        return self._listening.get(address)

    def find(self, peer: PeerId) -> LocalTransport | None:
        return next((transport for transport in self._listening.values() if transport.me == peer), None)

    def redial(self) -> None:
        """Let everybody notice who has come and gone."""
        for transport in list(self._listening.values()):
            transport.redial()


class LocalTransport:
    """`Transport` on a `LocalNetwork`."""

    def __init__(self, network: LocalNetwork, me: PeerId, listen: str) -> None:
        self.me = me
        self.dropped_count = 0
        self._network = network
        self._listen = listen
        self._reporter: Reporter | None = None
        self._peers: dict[PeerId, str] = {}
        self._reached: dict[PeerId, LocalTransport | None] = {}

    async def start(self, events: TransportEvents) -> None:
        """Begin to listen and to report.

        Raises: TransportError: the address is taken.
        """
        self._reporter = Reporter(events, LogOnce())
        self._network.add(self._listen, self)

    def set_peers(self, peers: Mapping[PeerId, NodeAddress]) -> None:
        """Keep connections to exactly these."""
        self._peers = {peer: address.raft for peer, address in peers.items() if peer != self.me}
        self._reached = {peer: there for peer, there in self._reached.items() if peer in self._peers}
        self.redial()

    def redial(self) -> None:
        """Report every peer whose reachability has changed since the last time."""
        for peer, address in self._peers.items():
            there = self._network.at(address)
            if there and self._reached.get(peer) is not there and self._is_cut_off(peer):
                there = None
            if peer in self._reached and self._reached[peer] is there:
                continue
            self._reached[peer] = there
            self._report_reached(peer, address, there)

    def _is_cut_off(self, peer: PeerId) -> bool:
        return self._network.is_cut(self.me.node_id, peer.node_id) or self._network.is_cut(peer.node_id, self.me.node_id)

    def _report_reached(self, peer: PeerId, address: str, there: LocalTransport | None) -> None:
        assert self._reporter is not None, "start comes before set_peers"
        call_soon = asyncio.get_running_loop().call_soon
        if there is None:
            call_soon(self._reporter.peer_lost, peer, f"{address} cannot be reached: nobody listens there")
        elif there.me.node_id != peer.node_id:
            call_soon(self._reporter.peer_lost, peer, f"wrong peer at {address}: it is node {there.me.node_id}")
        elif there.me != peer:
            call_soon(self._reporter.peer_replaced, peer, there.me.incarnation)
        else:
            call_soon(self._reporter.peer_connected, peer)

    def send(self, target: PeerId, message: Message) -> None:
        """Send a request to a connected peer, an answer to whoever is still there."""
        there = self._network.find(target) if isinstance(message, RESPONSES) else self._reached.get(target)
        if (
            there is None
            or there.me != target
            or self._network.is_cut(self.me.node_id, target.node_id)
            or (self._network.drop is not None and self._network.drop(self.me, target, message))
        ):
            self.dropped_count += 1
            return
        asyncio.get_running_loop().call_soon(there.deliver, self.me, message)

    def send_append(self, target: PeerId, request: AppendRequest, entries: Sequence[Entry]) -> None:
        """Send `request` with `entries`."""
        self.send(target, msgspec.structs.replace(request, entries=tuple(entries)))

    def flush(self) -> None:
        """Nothing waits here."""

    def deliver(self, sender: PeerId, message: Message) -> None:
        if self._reporter:
            self._reporter.message_received(sender, message)

    async def close(self) -> None:
        """Stop listening and drop all connections; nothing is reported any more."""
        if self._reporter:
            self._reporter.silence()
        self._peers = {}
        self._reached = {}
        self._network.remove(self._listen, self)
