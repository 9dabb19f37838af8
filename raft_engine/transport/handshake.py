"""Who is at the other end of a new connection: the first words both sides say.

    dialer                              acceptor
    PeerHello (who I am,          ──►
      whom I want)                ◄──   Welcome (who I am), or Refused (why not)
    message frames, both ways

    BootstrapHello (a request)    ──►
                                  ◄──   Answer, or Refused; then the connection ends

The acceptor says who it is even to somebody who wanted another life of this node, because "another incarnation answers
here" is worth knowing; then it ends that connection, which is none to answer over. Hellos are JSON behind a length and a
magic word, so that any version can read them; they are small, and nothing else is read before them.
Source: own protocol; etcd `rafthttp` compares cluster id, server version and receiver id on each new stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from raft_engine.errors import TransportError
from raft_engine.transport.boots import Boots, Lineage
from raft_engine.transport.codec import LENGTH, WIRE_VERSION, pack_peer
from raft_engine.types.bootstrap import BootstrapReply, BootstrapRequest
from raft_engine.types.ids import Incarnation, NodeId, PeerId
from raft_engine.types.unreadable import UNREADABLE

HELLO_BYTES_MAX: Final = 64 * 1024
"""Bound of what a stranger may make us keep; a first membership of 200 nodes fits."""
_MAGIC: Final = b"raft"


class PeerHello(msgspec.Struct, frozen=True, tag="peer"):
    """The dialer is this node and has messages for the node it wants."""

    version: int
    cluster: str
    cluster_id: str
    node_id: NodeId
    incarnation: Incarnation
    wanted_node_id: NodeId
    wanted_incarnation: Incarnation
    boots: Lineage = ()


class BootstrapHello(msgspec.Struct, frozen=True, tag="bootstrap"):
    """The dialer has one question about the cluster's birth."""

    version: int
    cluster: str
    request: BootstrapRequest


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The acceptor is this node and takes messages from the dialer."""

    version: int
    cluster: str
    cluster_id: str
    node_id: NodeId
    incarnation: Incarnation
    boots: Lineage = ()


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The answer to a BootstrapHello."""

    reply: BootstrapReply


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The acceptor wants nothing from this dialer; `reason` is for people. `is_stale`: it knows a later run of the dialer."""

    reason: str
    is_stale: bool = False


Hello = PeerHello | BootstrapHello
Reply = Welcome | Answer | Refused

_encoder: Final = msgspec.json.Encoder()
_hello_decoder: Final = msgspec.json.Decoder(Hello)
_reply_decoder: Final = msgspec.json.Decoder(Reply)


def encode_greeting(greeting: Hello | Reply) -> bytes:
    """Return the frame of a hello or of the reply to one.

    Raises: TransportError: it is too long.
    """
    body = _encoder.encode(greeting)
    length = LENGTH.size + len(_MAGIC) + len(body)
    if length > HELLO_BYTES_MAX:
        raise TransportError(f"a greeting of {length} bytes exceeds the bound of {HELLO_BYTES_MAX} bytes")
    return LENGTH.pack(length) + _MAGIC + body


def decode_hello(frame: bytes | memoryview) -> Hello:
    """Return what a dialer said first.

    Raises: TransportError: it is not a hello.
    """
    hello: Hello = _decode(_hello_decoder, frame)
    if isinstance(hello, PeerHello):
        pack_peer(PeerId(hello.node_id, hello.incarnation))
    return hello


def decode_reply(frame: bytes | memoryview) -> Reply:
    """Return what an acceptor answered.

    Raises: TransportError: it is not a reply to a hello.
    """
    reply: Reply = _decode(_reply_decoder, frame)
    if isinstance(reply, Welcome):
        pack_peer(PeerId(reply.node_id, reply.incarnation))
    return reply


def _decode(decoder: msgspec.json.Decoder[Any], frame: bytes | memoryview) -> Any:
    body_from = LENGTH.size + len(_MAGIC)
    if bytes(frame[LENGTH.size : body_from]) != _MAGIC:
        raise TransportError("the other side does not speak the raft_engine protocol")
    try:
        return decoder.decode(frame[body_from:])
    except UNREADABLE as error:
        raise TransportError(f"greeting cannot be decoded: {error}") from error


class Identity:
    """Who this node is. Its cluster id is a function: a blank node learns it while it is listening."""

    def __init__(self, cluster: str, cluster_id: Callable[[], str], me: PeerId, boots: Boots | None = None) -> None:
        pack_peer(me)
        self.boots = boots or Boots()
        self.cluster = cluster
        self.cluster_id = cluster_id
        self.me = me

    def hello(self, wanted: PeerId) -> PeerHello:
        return PeerHello(WIRE_VERSION, self.cluster, self.cluster_id(), *self.me, *wanted, self.boots.mine)

    def welcome(self) -> Welcome:
        return Welcome(WIRE_VERSION, self.cluster, self.cluster_id(), *self.me, self.boots.mine)

    def why_foreign(self, other: PeerHello | Welcome) -> str:
        """Return why `other` is not of this cluster, empty if it is.

        Names must be equal. Ids must be equal once both are known: a blank node has none yet.
        """
        cluster_id = self.cluster_id()
        if other.version != WIRE_VERSION:
            return f"it speaks wire version {other.version}, this node {WIRE_VERSION}"
        if other.cluster != self.cluster:
            return f"it belongs to cluster {other.cluster!r}, not {self.cluster!r}"
        if other.cluster_id and cluster_id and other.cluster_id != cluster_id:
            return f"it belongs to another cluster named {self.cluster!r} (id {other.cluster_id}, not {cluster_id})"
        return ""
