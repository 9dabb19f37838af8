"""How the cluster looks from here: one row for every endpoint and member, whether it answers or not, and the arithmetic.

Pure: what a client gathered goes in, conclusions come out. Reads work without a leader, because nothing here needs one.
Source: contract sections 3 and 5; field notes B 10, 15, 17 (unreachable nodes are rows, tolerance is a number).
"""

from __future__ import annotations

import enum
from collections.abc import Container, Mapping
from typing import Final

import msgspec

from raftctl.model import Membership, NodeStatus, Replication, index_of

EVERYBODY: Final[Container[int]] = range(1 << 64)
"""Every node's id, and 0 for an endpoint of whom no id is known: for a look on which a refusal rests, whoever it is about."""


NO_TIME: Final = "no_time"
"""The code of a row of whom nothing is known, because there was no time to ask or to hear it."""


class Absence(enum.StrEnum):
    """Why a node is not counted as up though it may answer us, in the words that follow its name."""

    DOWN = "is down"
    UNKNOWN = "was not asked for lack of time"
    NOT_ADMITTED = "is not admitted"
    FENCED = "is fenced"
    UNREACHED = "is not reached by its leader"
    RECOVERING = "is recovering"


class NodeError(msgspec.Struct, frozen=True):
    code: str
    detail: str


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `node_id` is None for an endpoint that never said who it is; `status` or `error` is None."""

    node_id: int | None
    management: str
    raft: str = ""
    status: NodeStatus | None = None
    raw: Mapping[str, object] | None = None
    error: NodeError | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of it, not even that it does not answer."""
        return self.error is not None and self.error.code == NO_TIME


class Quorum(msgspec.Struct, frozen=True):
    """`tolerance`: how many more voters may fail before writes stop. `unknown`: voters whom there was no time to ask."""

    voters: int
    needed: int
    reachable: int
    tolerance: int
    unknown: int = 0

    @property
    def reached(self) -> bool:
        return self.voters > 0 and self.reachable >= self.needed

    @property
    def is_lost(self) -> bool:
        """Not reached, whatever those are whom there was no time to ask."""
        return self.voters > 0 and self.reachable + self.unknown < self.needed


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was learned in one round."""

    nodes: tuple[NodeReport, ...]

    @property
    def statuses(self) -> list[NodeStatus]:
        return [node.status for node in self.nodes if node.status is not None]

    @property
    def cluster(self) -> str:
        view = self.view
        return view.cluster if view is not None else ""

    @property
    def leader(self) -> NodeStatus | None:
        """The node that leads the latest term; an older leader that has not heard of it yet does not count."""
        leaders = [status for status in self.statuses if status.leads]
        leader = max(leaders, key=lambda status: status.term, default=None)
        if leader is None:
            return None
        followed = [status for status in self.statuses if status.term > leader.term and status.leader is not None]
        return leader if all(status.leader == leader.node_id for status in followed) else None

    @property
    def view(self) -> NodeStatus | None:
        """Whose membership is believed: the leader's, else that of the node which knows the latest."""
        return self.leader or max(
            self.statuses,
            key=lambda status: (_order(status), status.term),
            default=None,
        )

    @property
    def membership(self) -> Membership:
        view = self.view
        return view.membership if view is not None else Membership()

    @property
    def term(self) -> int:
        return max((status.term for status in self.statuses), default=0)

    @property
    def quorum(self) -> Quorum:
        """In a joint configuration: the numbers of the voter set that is worse off."""
        sets = [self._quorum_of(config) for config in self.membership.configs]
        return min(sets, key=lambda quorum: quorum.reachable - quorum.needed, default=Quorum(0, 0, 0, 0))

    def _quorum_of(self, config: tuple[int, ...]) -> Quorum:
        needed = len(config) // 2 + 1
        reachable = sum(1 for node_id in config if self.is_up(node_id))
        unknown = sum(1 for node_id in config if self.absence(node_id) is Absence.UNKNOWN)
        return Quorum(len(config), needed, reachable, max(0, reachable - needed), unknown)

    def runs(self, node_id: int) -> bool:
        """Answers us, runs its engine, and is a life of the node that the configuration names."""
        status = self.status(node_id)
        return not (status is None or status.stopped or status.fatal is not None or self.is_new_life(status))

    def is_up(self, node_id: int) -> bool:
        """Whether it can be counted on: for the next write, and for the failure of another."""
        return self.absence(node_id) is None

    def up_without(self, node_id: int) -> list[int]:
        """The voters that are up, this one not counted."""
        return [other for other in self.membership.voters if other != node_id and self.is_up(other)]

    def absence(self, node_id: int) -> Absence | None:
        """Why it is not counted as up, None if it is. Without a leader nobody tells who reaches whom, and its own word is all."""
        status = self.status(node_id)
        if status is None and (report := self.report(node_id)) is not None and report.is_unknown:
            return Absence.UNKNOWN
        if status is None or status.stopped or status.fatal is not None:
            return Absence.DOWN
        lives = self.membership.incarnations.get(node_id, ())
        if lives and status.incarnation != lives[0]:  # two are named while the second one takes the first one's place
            return Absence.NOT_ADMITTED
        if self.leader is not None and self.leader.node_id == node_id:
            return None
        target = self.replication(node_id)
        if status.is_older_copy or (target is not None and target.state == "reverted"):
            return Absence.FENCED
        if target is not None and target.state == "unreachable":
            return Absence.UNREACHED
        return Absence.RECOVERING if status.recovering is not None else None

    @property
    def absences(self) -> dict[int, Absence]:
        """Members that are not counted as up, and why."""
        members = sorted({*self.membership.voters, *self.membership.learners})
        return {node_id: why for node_id in members if (why := self.absence(node_id)) is not None}

    def moved_from(self, node_id: int) -> str | None:
        """The raft address at which its peers look for it, if the node itself tells another one."""
        status, known = self.status(node_id), self.membership.nodes.get(node_id)
        if status is None or known is None or not status.advertised.raft:
            return None
        return known.raft if _are_apart(known.raft, status.advertised.raft) else None

    def is_new_life(self, status: NodeStatus) -> bool:
        """Whether its directory is new: the configuration names another life of this node."""
        lives = self.membership.incarnations.get(status.node_id, ())
        return bool(lives) and status.incarnation not in lives

    def role(self, node_id: int | None) -> str:
        """`voter`, `learner`, or a dash for a node that no configuration names."""
        membership = self.membership
        if node_id in membership.voters:
            return "voter"
        return "learner" if node_id in membership.learners else "-"

    def state(self, node: NodeReport) -> str:
        """In one word. A voter that was wiped calls itself a learner until its log tells it that it is none."""
        status = node.status
        if status is None:
            return "unknown" if node.is_unknown else "unreachable"
        is_wiped = status.recovering is not None and not status.stopped and self.role(node.node_id) == "voter"
        return "recovering" if is_wiped else status.state

    @property
    def down(self) -> list[int]:
        """Members that do not answer, were not asked, or whose engine does not run."""
        members = {*self.membership.voters, *self.membership.learners}
        return [node_id for node_id in sorted(members) if not self.runs(node_id)]

    def report(self, node_id: int) -> NodeReport | None:
        return next((node for node in self.nodes if node.node_id == node_id), None)

    def status(self, node_id: int) -> NodeStatus | None:
        report = self.report(node_id)
        return report.status if report is not None else None

    def replication(self, node_id: int) -> Replication | None:
        """The leader's word on a target."""
        leader = self.leader
        return (leader.replication or {}).get(node_id) if leader is not None else None

    def progress(self, node_id: int) -> tuple[int, ...]:
        """Everything that grows while a node catches up: standing still is when none of it does."""
        status, replication = self.status(node_id), self.replication(node_id)
        restoring = status.restoring if status is not None else None
        return (
            index_of(replication.matching) if replication is not None else 0,
            replication.snapshot_sent_bytes if replication is not None else 0,
            index_of(status.applied) if status is not None else 0,
            restoring.restored_bytes if restoring is not None else 0,
        )

    def lag(self, node_id: int) -> int | None:
        """Entries the node is behind, by its leader's word; 0 for the leader itself, None when nobody knows."""
        leader = self.leader
        if leader is not None and leader.node_id == node_id:
            return 0
        replication = self.replication(node_id)
        return replication.lag if replication is not None else None


def _are_apart(one: str, other: str) -> bool:
    """Whether two addresses `HOST:PORT` are certainly not the same place: another port, or two numbers. A name may be any host."""
    if one == other:
        return False
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    return port != other_port or (_is_number(host) and _is_number(other_host))


def _is_number(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _order(status: NodeStatus) -> tuple[int, int]:
    log_id = status.membership.log_id
    return (log_id.term, log_id.index) if log_id is not None else (0, 0)
