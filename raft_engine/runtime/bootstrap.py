"""How the first members of a cluster become one: everybody prepares, then everybody starts.

    asked      each member says who it is (its random incarnation) and whether it is blank
    prepared   each keeps the cluster's id and its first configuration, durably
    started    once all have prepared, nothing can take the birth back: all are told, and elections begin

The configuration names incarnations, so only nodes that never held anything can be named in it: a directory that was wiped
answers with another incarnation and is not mistaken for the one that prepared. Whoever belongs to a started cluster ends the
attempt. Repeating an interrupted birth with the same members finishes it. A member that prepared and was never told of the
start is brought in by the leader like any follower.
Source: docs/decisions (first start of a cluster).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from raft_engine.errors import InitializeError, NotAllowed, NotInMembers, TransportError
from raft_engine.storage.identity import Identity
from raft_engine.types.bootstrap import (
    BirthState,
    BootstrapAbort,
    BootstrapPrepare,
    BootstrapQuery,
    BootstrapReply,
    BootstrapRequest,
    BootstrapStart,
)
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.membership import EMPTY_MEMBERSHIP, Membership, NodeAddress, uniform

CLUSTER_ID_BYTES = 16
ABORT_HINT = "forget that preparation first: raftctl init --abort"

Ask = Callable[[str, BootstrapRequest], Awaitable[BootstrapReply]]
"""Ask the node at this raft address. Raises TransportError."""


# -- the member that is asked --------------------------------------------------------------------------------------------


class BirthKeeper:
    """Answers for one data directory; every change is durable before the answer."""

    def __init__(
        self, identity: Callable[[], Identity], save: Callable[[Identity], None], started: Callable[[], None]
    ) -> None:
        """
        Args:
            identity: what stands in the directory now.
            save: replaces it, durably.
            started: called once when this node is told to begin.
        """
        self._identity = identity
        self._save = save
        self._started = started

    def answer(self, request: BootstrapRequest) -> BootstrapReply:
        identity = self._identity()
        if request.cluster != identity.cluster:
            error = f"this is node {identity.node_id} of cluster {identity.cluster!r}, not of {request.cluster!r}"
            return self._reply(error)
        match request:
            case BootstrapQuery():
                return self._reply()
            case BootstrapPrepare():
                return self._prepare(identity, request)
            case BootstrapStart():
                return self._start(identity, request)
            case BootstrapAbort():
                return self._abort(identity, request)

    def _prepare(self, identity: Identity, request: BootstrapPrepare) -> BootstrapReply:
        me = PeerId(identity.node_id, identity.incarnation)
        state = birth_of(identity)
        if not request.membership.is_voter(me):
            return self._reply(f"the configuration to prepare does not name {me}")
        if state is BirthState.STARTED and identity.cluster_id != request.cluster_id:
            return self._reply("belongs to a started cluster")
        if state is BirthState.PREPARED and identity.cluster_id != request.cluster_id:
            return self._reply("is prepared for another cluster")
        if state is BirthState.BLANK:
            prepared = msgspec.structs.replace(
                identity, birth=BirthState.PREPARED, cluster_id=request.cluster_id, membership=request.membership
            )
            self._save(prepared)
        return self._reply()

    def _start(self, identity: Identity, request: BootstrapStart) -> BootstrapReply:
        state = birth_of(identity)
        if state is BirthState.BLANK or identity.cluster_id != request.cluster_id:
            return self._reply(f"is not prepared for cluster id {request.cluster_id[:8]}")
        if state is BirthState.PREPARED:
            self._save(msgspec.structs.replace(identity, birth=BirthState.STARTED))
            self._started()
        return self._reply()

    def _abort(self, identity: Identity, request: BootstrapAbort) -> BootstrapReply:
        state = birth_of(identity)
        if state is BirthState.STARTED:
            return self._reply("belongs to a started cluster")
        if state is BirthState.PREPARED and identity.cluster_id != request.cluster_id:
            return self._reply("is prepared for another cluster")
        if state is BirthState.PREPARED:
            blank = msgspec.structs.replace(identity, birth=BirthState.BLANK, cluster_id="", membership=EMPTY_MEMBERSHIP)
            self._save(blank)
        return self._reply()

    def _reply(self, error: str = "") -> BootstrapReply:
        identity = self._identity()
        return BootstrapReply(
            identity.node_id,
            identity.incarnation,
            birth_of(identity),
            identity.cluster_id,
            identity.membership if identity.birth is not BirthState.BLANK else None,
            error,
        )


def birth_of(identity: Identity) -> BirthState:
    """A node with a log belongs to its cluster, also if the leader brought it in before it was told of the start."""
    return BirthState.STARTED if identity.log_created else identity.birth


# -- the member that asks ------------------------------------------------------------------------------------------------


async def initialise(cluster: str, me: NodeId, members: Mapping[NodeId, NodeAddress], ask: Ask) -> None:
    """Give birth to a cluster with these first members, or finish what was begun with the same ones.

    Raises: InitializeError: it exists already, or a member cannot take part; then nothing is left that a repetition would
    stumble over, except what the message names.
    """
    if me not in members:
        raise NotInMembers(f"node {me} is not among the members {sorted(members)}")
    replies = await _ask_all(members, BootstrapQuery(cluster), ask)
    known = {node_id: reply for node_id, reply in replies.items() if isinstance(reply, BootstrapReply)}
    elsewhere = started_without(known[me], known) if me in known else []
    if elsewhere:
        raise NotAllowed(f"{names(elsewhere)} already in a started cluster")
    _must_all_answer(replies)
    cluster_id, membership = _decide(known, members)
    await _prepare_all(cluster, cluster_id, membership, known, ask)
    await _start_all(cluster, cluster_id, me, membership, ask)


def started_without(me: BootstrapReply, replies: Mapping[NodeId, BootstrapReply]) -> list[NodeId]:
    """Return who belongs to a cluster whose first configuration does not name this life of `me`."""
    own = PeerId(me.node_id, me.incarnation)
    return [
        node_id
        for node_id, reply in sorted(replies.items())
        if reply.state is BirthState.STARTED and (reply.membership is None or not reply.membership.is_voter(own))
    ]


async def abort(cluster: str, identity: Identity, ask: Ask) -> None:
    """Have the members that are prepared together with `identity` forget it.

    Raises: InitializeError: a member has started.
    """
    if birth_of(identity) is BirthState.STARTED:
        raise NotAllowed(f"node {identity.node_id} belongs to a started cluster")
    if birth_of(identity) is BirthState.BLANK:
        return
    members = identity.membership.nodes
    replies = await _ask_all(members, BootstrapQuery(cluster), ask)
    started = [
        node_id
        for node_id, reply in replies.items()
        if isinstance(reply, BootstrapReply)
        and reply.state is BirthState.STARTED
        and reply.cluster_id == identity.cluster_id
    ]
    if started:
        detail = f"{names(started)} already started in this cluster"
        raise NotAllowed(detail, "finish it: repeat init with the same members")
    await _ask_all(members, BootstrapAbort(cluster, identity.cluster_id), ask)


async def identify(cluster: str, cluster_id: str, node_id: NodeId, address: str, ask: Ask) -> PeerId:
    """Return the life of `node_id` that answers at this raft address, if it may become a member.

    Raises: InitializeError: nobody answers, another node does, or it belongs to another cluster.
    """
    try:
        reply = await ask(address, BootstrapQuery(cluster))
    except TransportError as error:
        raise InitializeError(
            "member_unreachable", f"node {node_id}: {error}", "start it, or correct its address"
        ) from error
    if reply.error:
        raise InitializeError("member_unreachable", f"node {node_id}: {reply.error}")
    if reply.node_id != node_id:
        raise InitializeError("member_unreachable", f"node {reply.node_id} answers at {address}, not node {node_id}")
    if reply.state is BirthState.PREPARED:
        raise InitializeError("prepared_for_another", f"node {node_id} is prepared for another cluster", ABORT_HINT)
    if reply.state is BirthState.STARTED and reply.cluster_id not in {"", cluster_id}:
        detail = f"node {node_id} belongs to another cluster named {cluster!r} (id {reply.cluster_id[:8]})"
        raise NotAllowed(detail, "empty its data directory if that cluster is of no use")
    return PeerId(node_id, reply.incarnation)


def _decide(replies: Mapping[NodeId, BootstrapReply], members: Mapping[NodeId, NodeAddress]) -> tuple[str, Membership]:
    """Return cluster id and first configuration: a new one, or the one that was begun.

    Raises: InitializeError.
    """
    begun = {node_id: reply for node_id, reply in replies.items() if reply.state is not BirthState.BLANK}
    if not begun:
        peers = [PeerId(node_id, reply.incarnation) for node_id, reply in replies.items()]
        return secrets.token_hex(CLUSTER_ID_BYTES), uniform(peers, dict(members))
    started = sorted(node_id for node_id, reply in begun.items() if reply.state is BirthState.STARTED)
    first = begun[started[0]] if started else next(iter(begun.values()))
    same_birth = all(reply.cluster_id == first.cluster_id for reply in begun.values())
    if same_birth and len(started) < len(members) and _is_of(first.membership, replies, members):
        assert first.membership is not None
        return first.cluster_id, first.membership
    if started:
        raise NotAllowed(f"{names(started)} already in a started cluster")
    raise InitializeError(
        "prepared_for_another", f"{names(sorted(begun))} prepared for another first configuration", ABORT_HINT
    )


def _is_of(
    membership: Membership | None, replies: Mapping[NodeId, BootstrapReply], members: Mapping[NodeId, NodeAddress]
) -> bool:
    """Return whether `membership` names exactly these members, in their present lives."""
    present = {node_id: reply.incarnation for node_id, reply in replies.items()}
    return membership is not None and membership.configs == (present,) and membership.nodes == dict(members)


async def _prepare_all(
    cluster: str, cluster_id: str, membership: Membership, before: Mapping[NodeId, BootstrapReply], ask: Ask
) -> None:
    request = BootstrapPrepare(cluster, cluster_id, membership)
    replies = await _ask_all(membership.nodes, request, ask)
    refusals = {node_id: why for node_id, reply in replies.items() if (why := _why_not(reply))}
    if not refusals:
        return
    were_blank = {
        node_id: address
        for node_id, address in membership.nodes.items()
        if before[node_id].state is BirthState.BLANK and node_id not in refusals
    }
    await _ask_all(were_blank, BootstrapAbort(cluster, cluster_id), ask)
    unreachable = any(isinstance(replies[node_id], TransportError) for node_id in refusals)
    code = "member_unreachable" if unreachable else "prepared_for_another"
    raise InitializeError(code, _each(refusals), "mend that, then repeat init" if unreachable else ABORT_HINT)


async def _start_all(cluster: str, cluster_id: str, me: NodeId, membership: Membership, ask: Ask) -> None:
    """Tell the others, then this node. It goes last: as long as it has not started, a repetition finds all that is left."""
    request = BootstrapStart(cluster, cluster_id)
    others = {node_id: address for node_id, address in membership.nodes.items() if node_id != me}
    replies = await _ask_all(others, request, ask)
    refusals = {node_id: why for node_id, reply in replies.items() if (why := _why_not(reply))}
    quorum = len(membership.nodes) // 2 + 1
    if len(others) - len(refusals) + 1 >= quorum:
        own = await _ask_all({me: membership.nodes[me]}, request, ask)
        refusals.update({node_id: why for node_id, reply in own.items() if (why := _why_not(reply))})
    if refusals:
        raise InitializeError(
            "member_unreachable",
            f"the cluster is prepared everywhere, but not everybody could be told to start: {_each(refusals)}",
            "repeat init with the same members",
        )


async def _ask_all(
    members: Mapping[NodeId, NodeAddress], request: BootstrapRequest, ask: Ask
) -> dict[NodeId, BootstrapReply | TransportError]:
    async def one(node_id: NodeId, address: str) -> BootstrapReply | TransportError:
        try:
            reply = await ask(address, request)
        except TransportError as error:
            return error
        if reply.node_id != node_id:
            return TransportError(f"node {reply.node_id} answers at {address}")
        return reply

    replies = await asyncio.gather(*(one(node_id, address.raft) for node_id, address in members.items()))
    return dict(zip(members, replies, strict=True))


def _must_all_answer(replies: Mapping[NodeId, BootstrapReply | TransportError]) -> None:
    silent = {node_id: why for node_id, reply in replies.items() if (why := _why_not(reply))}
    if silent:
        raise InitializeError("member_unreachable", _each(silent), "start the node or correct its raft address")


def _why_not(reply: BootstrapReply | TransportError) -> str:
    return str(reply) if isinstance(reply, TransportError) else reply.error


def _each(reasons: Mapping[NodeId, str]) -> str:
    return "; ".join(f"node {node_id}: {reason}" for node_id, reason in sorted(reasons.items()))


def names(node_ids: list[NodeId]) -> str:
    """Return `node 1 is`, `nodes 1, 2 are`."""
    told = ", ".join(map(str, node_ids))
    return f"node {told} is" if len(node_ids) == 1 else f"nodes {told} are"
