"""Who belongs to the cluster: voter sets, learners and where to reach them.

A configuration names (id, incarnation): a wiped node that returns is another server, and one joint change can replace an
old life of a node by a new one without changing any id.
Source: dissertation 4.3; openraft `membership/`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from raft_engine.types.ids import Incarnation, NodeId, PeerId
from raft_engine.types.log_id import BEFORE_LOG, LogId


class NodeAddress(msgspec.Struct, frozen=True):
    """Where a node listens: `raft` is host:port, `management` an http(s) URL."""

    raft: str
    management: str


class Membership(msgspec.Struct, frozen=True):
    """One (uniform) or two (joint) voter sets, the learners, and the addresses of all of them."""

    configs: tuple[dict[NodeId, Incarnation], ...] = ()
    learners: dict[NodeId, Incarnation] = msgspec.field(default_factory=dict)
    nodes: dict[NodeId, NodeAddress] = msgspec.field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.configs and not self.learners

    @property
    def is_joint(self) -> bool:
        return len(self.configs) > 1

    def voters(self) -> set[PeerId]:
        return {PeerId(*item) for config in self.configs for item in config.items()}

    def members(self) -> set[PeerId]:
        return self.voters() | {PeerId(*item) for item in self.learners.items()}

    def voter_ids(self) -> list[NodeId]:
        return sorted({node_id for config in self.configs for node_id in config})

    def is_voter(self, peer: PeerId) -> bool:
        for config in self.configs:  # noqa: SIM110 (asked for every batch, and a generator costs several times the question)
            if config.get(peer.node_id) == peer.incarnation:
                return True
        return False

    def is_member(self, peer: PeerId) -> bool:
        return self.is_voter(peer) or self.learners.get(peer.node_id) == peer.incarnation

    def names(self, node_id: NodeId) -> bool:
        return any(node_id in config for config in self.configs) or node_id in self.learners

    def __str__(self) -> str:
        sets = "->".join("{" + ",".join(map(str, sorted(config))) + "}" for config in self.configs)
        learners = " learners{" + ",".join(map(str, sorted(self.learners))) + "}" if self.learners else ""
        return f"Membership{sets}{learners}"

    def __repr__(self) -> str:
        return self.__str__()


EMPTY_MEMBERSHIP = Membership()


class StoredMembership(msgspec.Struct, frozen=True):
    """A membership and the entry that brought it."""

    log_id: LogId = BEFORE_LOG
    membership: Membership = EMPTY_MEMBERSHIP


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Membership)


def encode_membership(membership: Membership) -> bytes:
    """Return the data of a membership entry; equal memberships give equal bytes."""
    ordered = Membership(
        tuple(dict(sorted(config.items())) for config in membership.configs),
        dict(sorted(membership.learners.items())),
        dict(sorted(membership.nodes.items())),
    )
    return _encoder.encode(ordered)


def decode_membership(data: bytes) -> Membership:
    """Return the membership in an entry's data.

    Raises: msgspec.MsgspecError: not a membership.
    """
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise msgspec.ValidationError(str(error)) from error


def uniform(voters: Iterable[PeerId], nodes: dict[NodeId, NodeAddress]) -> Membership:
    """Return a configuration with one voter set and no learner."""
    return Membership(({peer.node_id: peer.incarnation for peer in sorted(voters)},), {}, nodes)
