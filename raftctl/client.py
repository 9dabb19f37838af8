"""The one way in which raftctl talks to a cluster: verbs, not paths.

Nothing above this interface knows how a cluster is reached; a cluster of another make is another class with these verbs.
Every verb either returns what the cluster said or raises `CtlError`; one that changes something and whose reply was lost
raises an error with `outcome_unknown`.
Source: contract sections 2 to 4.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Protocol

from raftctl.errors import CtlError
from raftctl.events import RawEvent
from raftctl.model import (
    ActionReply,
    Address,
    BarrierReply,
    DigestReply,
    Expect,
    ItemList,
    Life,
    LogId,
    NodeStatus,
    RestoreReply,
    Value,
    WipeReply,
    WriteReply,
)
from raftctl.survey import Survey


class ClusterClient(Protocol):
    """`node` is an id out of the last survey; verbs without it go to the leader, wherever that is now.

    `wait_s`: how long the node may take to see the effect before it answers `observed: false`.
    """

    def cluster(self, *, patient_with: Container[int] = ()) -> Survey:
        """Ask every endpoint and every member they name, at once.

        Args:
            patient_with: ids of members that may be as silent as in any request: what follows is about them. Others are given
                the shorter time of a mere look.
        """

    def status(self, node: int) -> NodeStatus: ...

    def elect(self, node: int, *, pre_vote: bool, expect: Expect | None, wait_s: float) -> ActionReply: ...

    def heartbeat(self, *, wait_s: float) -> ActionReply: ...

    def snapshot(self, node: int, *, wait_s: float) -> ActionReply: ...

    def purge_log(self, node: int, upto: int, *, strict: bool, expect: Expect | None, wait_s: float) -> ActionReply: ...

    def transfer_leader(self, to: int, *, expect: Expect | None, wait_s: float) -> ActionReply: ...

    def allow_next_revert(self, to: int, *, allow: bool, ttl_s: float, expect: Expect | None) -> ActionReply: ...

    def add_learner(self, node: int, address: Address, *, expect: Expect | None, wait_s: float) -> ActionReply:
        """Answered when the learner has caught up, or `wait_s` is over."""

    def set_voters(self, voters: Sequence[int], *, retain: bool, expect: Expect | None, wait_s: float) -> ActionReply: ...

    def remove_member(self, node: int, *, expect: Expect | None, wait_s: float) -> ActionReply: ...

    def init(self, members: Mapping[int, Address], *, wait_s: float) -> ActionReply:
        """Give birth to the cluster; asked of the first endpoint that is one of the members."""

    def abort_init(self) -> ActionReply: ...

    def set_runtime_config(self, node: int, flags: Mapping[str, bool], *, wait_s: float) -> ActionReply: ...

    def barrier(self, exclude: Sequence[int], *, digest: bool, expect: Expect | None, wait_s: float) -> BarrierReply: ...

    def digests(self, nodes: Sequence[int], at: int | None, *, wait_s: float) -> Mapping[int, DigestReply | CtlError]:
        """Ask several at once; `at` None: each one's present. Errors are values here, so that one says nothing of another."""

    def clocks(self, nodes: Sequence[int]) -> Mapping[int, tuple[float, float]]:
        """Return how many seconds each one's clock is ahead of ours, at least and at most; who does not tell is not there."""

    def listen(self, node: int, last_id: str | None) -> Iterator[RawEvent]:
        """Follow what happens on a node from behind `last_id`; ends when the stream does. May be used on several threads."""

    def stop_raft(self, node: int) -> ActionReply: ...

    def start_raft(self, node: int) -> ActionReply: ...

    def wipe(self, node: int, *, cluster: str, recover_until: LogId, reason: str, expect_life: Life | None) -> WipeReply:
        """`expect_life`: refused when the engine ran since; what it acknowledged then is behind no barrier."""

    def restore(self, node: int, *, cluster: str, retired: str) -> RestoreReply:
        """Undo a wipe, while the node has not gone on since."""

    def kv_put(self, key: bytes, value: bytes, *, revision: int | None, create: bool, request_id: str) -> WriteReply:
        """`request_id`: a write repeated with the same one happens once."""

    def kv_get(self, key: bytes, *, consistency: str) -> Value: ...

    def kv_delete(self, key: bytes, *, revision: int | None, request_id: str) -> WriteReply: ...

    def kv_list(self, prefix: bytes, *, after: bytes | None, limit: int, consistency: str) -> ItemList: ...

    def close(self) -> None: ...
