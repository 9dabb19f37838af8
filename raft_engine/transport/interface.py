"""What the engine needs of a network.

A transport delivers messages to the incarnation they are meant for or not at all; it may lose, delay or reorder them, and
may deliver one twice. It never blocks and never grows: what does not fit into a peer's queue is dropped and reported.
Source: openraft `network/v2/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from raft_engine.types.entry import Entry
from raft_engine.types.ids import Incarnation, PeerId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.messages import AppendRequest, Message


class TransportEvents(Protocol):
    """Where a transport reports to; called on the event loop."""

    def message_received(self, sender: PeerId, message: Message) -> None:
        """A message arrived for this incarnation of this node."""

    def peer_connected(self, peer: PeerId) -> None:
        """The outgoing connection to `peer` stands."""

    def peer_lost(self, peer: PeerId, reason: str) -> None:
        """The outgoing connection broke, could not be made, or its queue overflowed."""

    def peer_replaced(self, peer: PeerId, seen: Incarnation) -> None:
        """Another incarnation answers at the address of `peer`."""

    def peer_rolled_back(self, peer: PeerId, why: str) -> None:
        """`peer` runs on an older copy of its data directory; it is not connected to. May come repeatedly."""


class Transport(Protocol):
    """Carries messages."""

    async def start(self, events: TransportEvents) -> None:
        """Begin to listen and to report.

        Raises: TransportError: the address cannot be listened on.
        """

    def set_peers(self, peers: Mapping[PeerId, NodeAddress]) -> None:
        """Keep (re-connecting) connections to exactly these."""

    def send(self, target: PeerId, message: Message) -> None:
        """Send a request over the connection to `target`, an answer over the one on which its request came."""

    def send_append(self, target: PeerId, request: AppendRequest, entries: Sequence[Entry]) -> None:
        """Send `request` with `entries`, whose records go out as they are."""

    def flush(self) -> None:
        """Let what was sent leave now; it would leave in the event loop's next turn anyway."""

    async def close(self) -> None:
        """Stop listening and drop all connections."""
