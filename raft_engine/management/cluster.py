"""How the cluster looks from here: every member asked at once, and the arithmetic of its quorums.

Only addresses of the effective membership are asked, redirects are not followed and proxies not used, so the caller's
token, which the members need as much as this node, goes nowhere else.
Source: contract section 3 (`/v1/cluster`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Final

import httpx
import msgspec

from raft_engine.management import schema
from raft_engine.management.control import NodeControl
from raft_engine.management.convert import picture, status_body
from raft_engine.types.ids import NodeId
from raft_engine.types.membership import Membership, NodeAddress
from raft_engine.types.metrics import ReplicationState, ServerState
from raft_engine.types.unreadable import UNREADABLE

MEMBER_ANSWERS_WITHIN_S: Final = 1.0
STATUS_BYTES_MAX: Final = 1024 * 1024

Answer = dict[str, object] | schema.MemberError


class Members:
    """Asks members for their status over kept connections."""

    def __init__(self) -> None:
        # No certificate authority is trusted: loading the system's would stop the event loop for a tenth of a second,
        # which is an election timeout, and members do not speak TLS.
        self._client = httpx.AsyncClient(
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            timeout=MEMBER_ANSWERS_WITHIN_S,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=64),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, address: NodeAddress, authorization: bytes | None) -> Answer:
        """Return a member's status as it words it, or what went wrong."""
        try:
            async with asyncio.timeout(MEMBER_ANSWERS_WITHIN_S):
                return await self._ask(address.management.rstrip("/") + "/v1/status", authorization)
        except (TimeoutError, httpx.TimeoutException):
            return schema.MemberError("timed_out", f"no answer from {address.management} in {MEMBER_ANSWERS_WITHIN_S:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return schema.MemberError("unreachable", f"{address.management}: {str(error) or type(error).__name__}")

    async def _ask(self, url: str, authorization: bytes | None) -> Answer:
        headers = {} if authorization is None else {b"authorization": authorization}
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                return schema.MemberError(f"http_{response.status_code}", f"{url} answered {response.status_code}")
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > STATUS_BYTES_MAX:
                    return schema.MemberError("malformed", f"{url} answered more than {STATUS_BYTES_MAX} bytes")
        try:
            return msgspec.json.decode(body, type=dict[str, object])
        except UNREADABLE as error:
            return schema.MemberError("malformed", f"{url}: {error}")


async def look_around(node: NodeControl, members: Members, authorization: bytes | None) -> schema.Cluster:
    """Return the cluster as the members tell it, this node's own word taken without asking."""
    metrics = picture(node)
    view = status_body(node, metrics)
    membership = metrics.membership.membership
    others = [node_id for node_id in sorted(membership.nodes) if node_id != node.node_id]
    answers = await asyncio.gather(*(members.ask(membership.nodes[node_id], authorization) for node_id in others))
    told: dict[NodeId, Answer] = dict(zip(others, answers, strict=True))
    if node.node_id in membership.nodes:
        told[node.node_id] = msgspec.to_builtins(view, str_keys=True)
    voters = set(membership.voter_ids())
    quorum = worst_quorum(membership, told)
    return schema.Cluster(
        cluster=node.cluster,
        asked=node.node_id,
        view=view,
        members={
            node_id: _member(membership.nodes[node_id], node_id in voters, answer)
            for node_id, answer in sorted(told.items())
        },
        voters=quorum.voters,
        quorum=quorum.needed,
        reachable=quorum.reachable,
        failure_tolerance=max(0, quorum.reachable - quorum.needed),
        has_quorum=0 < quorum.needed <= quorum.reachable,
    )


class Quorum(msgspec.Struct, frozen=True):
    """One voter set: its size, its majority, and how many of it run."""

    voters: int = 0
    needed: int = 0
    reachable: int = 0


class _Row(msgspec.Struct, frozen=True):
    state: str = ""


class _Alarm(msgspec.Struct, frozen=True):
    code: str = ""


class _Status(msgspec.Struct, frozen=True):
    """What is counted of a member's status."""

    incarnation: str = ""
    state: str = ""
    term: int = 0
    recovering: object = None
    alarms: tuple[_Alarm, ...] = ()
    replication: dict[NodeId, _Row] | None = None

    @property
    def takes_part(self) -> bool:
        """Whether it acknowledges writes, as far as it knows itself: not while it is stopped, refused by its peers, or recovers."""
        refused = any(alarm.code == "older_copy" for alarm in self.alarms)
        return self.state != ServerState.SHUTDOWN.value and self.recovering is None and not refused


def _understood(answer: Answer) -> _Status | None:
    try:
        return None if isinstance(answer, schema.MemberError) else msgspec.convert(answer, _Status, str_keys=True)
    except msgspec.ValidationError:
        return None


def worst_quorum(membership: Membership, told: Mapping[NodeId, Answer]) -> Quorum:
    """Return the voter set that can lose the fewest nodes: a joint configuration needs each of its sets."""
    statuses = {node_id: status for node_id, answer in told.items() if (status := _understood(answer)) is not None}
    cut_off = _cut_off(statuses.values())
    running = {
        (node_id, status.incarnation) for node_id, status in statuses.items() if status.takes_part and node_id not in cut_off
    }
    quorums = [
        Quorum(len(config), len(config) // 2 + 1, sum(item in running for item in config.items()))
        for config in membership.configs
    ]
    return min(quorums, key=lambda quorum: quorum.reachable - quorum.needed, default=Quorum())


def _cut_off(statuses: Iterable[_Status]) -> set[NodeId]:
    """Return those whom a leader fences, and whom the leader of the latest term does not reach: no write can count on them."""
    leaders = [status for status in statuses if status.state == ServerState.LEADER.value]
    latest = max((status.term for status in leaders), default=0)
    return {
        node_id
        for leader in leaders
        for node_id, target in (leader.replication or {}).items()
        if target.state == ReplicationState.REVERTED.value
        or (target.state == ReplicationState.UNREACHABLE.value and leader.term == latest)
    }


def _member(address: NodeAddress, voter: bool, answer: Answer) -> schema.Member:
    status, error = (None, answer) if isinstance(answer, schema.MemberError) else (answer, None)
    return schema.Member(raft=address.raft, management=address.management, voter=voter, status=status, error=error)
