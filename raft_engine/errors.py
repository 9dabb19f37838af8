"""What can go wrong, as one tree.

    RaftError
    ├── Refused                      a request was not carried out, or its result is not known: `.refusal` says why
    │   ├── ForwardToLeader          not the leader (`.leader_id`: whom to ask, None: nobody known)
    │   │   └── QuorumNotEnough      the leader, but no quorum answers it
    │   ├── NodeNotFound             no such node in the effective membership
    │   ├── ChangeMembershipError    the members stay as they are
    │   │   ├── InProgress           another change is not finished (`.committed`, `.membership_log_id`)
    │   │   ├── EmptyMembership      no voter would be left
    │   │   ├── LearnerNotFound      a voter must have been a learner first
    │   │   └── LearnerLagging       it is one, and has not caught up
    │   ├── TransferLeaderError      leadership stays where it is (`.code` says why)
    │   │   ├── TransferForwardToLeader   (also a ForwardToLeader)
    │   │   ├── TransferNodeNotFound      (also a NodeNotFound)
    │   │   ├── VoteChanged          the target follows somebody else by now
    │   │   └── LogNotFlushed        the target lacks the last entry
    │   ├── AllowNextRevertError     the revert permission could not be given
    │   │   ├── AllowNextRevertForwardToLeader   (also a ForwardToLeader)
    │   │   └── AllowNextRevertNodeNotFound      (also a NodeNotFound)
    │   ├── PreconditionFailed       an expectation does not hold; nothing was done
    │   │   ├── TermMismatch, LeaderMismatch
    │   │   └── LastLogIdMismatch, MembershipLogIdMismatch
    │   ├── OutcomeUnknown           accepted, then overtaken or not committed in time: it may yet happen
    │   └── Overloaded               too much is waiting; nothing was accepted
    ├── SessionExpired               a numbered write was not done: nobody remembers its session
    ├── InitializeError              the cluster cannot be initialised like this (`.code`)
    │   ├── NotAllowed               a member belongs to a started cluster
    │   └── NotInMembers             this node is not among the members
    ├── ConfigError                  a setting is unknown, of the wrong type or contradicts another
    ├── WaitTimeout                  a predicate did not come true in time
    ├── Fatal                        the engine is gone
    │   ├── StorageFailed            the disk failed: the node stops and acknowledges nothing more
    │   ├── Panicked                 a bug in the engine or in a state machine
    │   └── Stopped                  it was shut down
    ├── StorageError                 a data directory cannot be used: `.path` (and `.offset`)
    │   ├── DirectoryLocked          another process holds it
    │   ├── NoSuchDirectory          there is none
    │   ├── WrongDirectory           it belongs to another cluster or node, or has the wrong owner or mode
    │   ├── NewerFormat              written by a later version
    │   ├── WouldLose                what was asked for would break a promise or overwrite something; nothing was changed
    │   ├── ExpectationFailed        it is not as the caller believed; nothing was changed
    │   └── Damaged                  what was durable is missing or altered: a promise may be lost
    ├── TransportError               a peer cannot be reached or is not who it should be
    └── SnapshotDeferred             raised by a state machine that wants its snapshot taken later

A message says what, where, and what to do next. HTTP status and exit code are derived from these in one table each.
Source: openraft `errors/`.
"""

from __future__ import annotations

from raft_engine.types.ids import NodeId
from raft_engine.types.outcomes import Refusal, RefusalCode


class RaftError(Exception):
    """Root of everything this package raises on purpose."""


class Refused(RaftError):
    """A request was refused, or its result is not known."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail + (f" (hint: {refusal.hint})" if refusal.hint else ""))
        self.refusal = refusal

    @property
    def code(self) -> RefusalCode:
        return self.refusal.code

    @property
    def leader_id(self) -> NodeId | None:
        return self.refusal.leader


class ForwardToLeader(Refused):
    """This node does not lead; `leader_id` does, if anybody is known to."""


class NodeNotFound(Refused):
    """The effective membership has no such node."""


class QuorumNotEnough(ForwardToLeader):
    """This node leads, but no quorum answers it: nobody can be sent anywhere. `cluster` and `got` for a read that waited."""

    @property
    def cluster(self) -> object:
        return self.refusal.extra.get("cluster")

    @property
    def got(self) -> object:
        return self.refusal.extra.get("got")


class ChangeMembershipError(Refused):
    """The members stay as they are."""


class InProgress(ChangeMembershipError):
    """Another change is not finished, or the leader's first entry is not committed yet."""

    @property
    def committed(self) -> object:
        return self.refusal.extra.get("committed")

    @property
    def membership_log_id(self) -> object:
        return self.refusal.extra.get("membership_log_id")


class EmptyMembership(ChangeMembershipError):
    """No voter would be left."""


class LearnerNotFound(ChangeMembershipError):
    """A node that shall vote is not even a learner."""


class LearnerLagging(ChangeMembershipError):
    """A learner that shall vote has not caught up; with its vote the cluster could stand still."""


class TransferLeaderError(Refused):
    """Leadership stays where it is; `code` says why."""


class TransferForwardToLeader(TransferLeaderError, ForwardToLeader):
    """Only the leader can hand it over."""


class TransferNodeNotFound(TransferLeaderError, NodeNotFound):
    """The target is neither voter nor learner."""


class VoteChanged(TransferLeaderError):
    """The target no longer follows this leader."""


class LogNotFlushed(TransferLeaderError):
    """The target does not hold the leader's last entry durably."""


class AllowNextRevertError(Refused):
    """The permission was not given."""


class AllowNextRevertForwardToLeader(AllowNextRevertError, ForwardToLeader):
    """Only the leader can give it."""


class AllowNextRevertNodeNotFound(AllowNextRevertError, NodeNotFound):
    """The target is neither voter nor learner."""


class PreconditionFailed(Refused):
    """The world is not as the caller believed; nothing was done."""


class TermMismatch(PreconditionFailed):
    """Another term."""


class LeaderMismatch(PreconditionFailed):
    """Another leader."""


class LastLogIdMismatch(PreconditionFailed):
    """The log ends with another entry."""


class MembershipLogIdMismatch(PreconditionFailed):
    """The members were changed by another entry."""


class OutcomeUnknown(Refused):
    """The request may or may not have taken effect."""


class Overloaded(Refused):
    """Too much is waiting already; nothing was accepted."""


class SessionExpired(RaftError):
    """The state machine has forgotten this session, or that it was told this write's result; nothing was done now."""


_BY_CODE: dict[RefusalCode, type[Refused]] = {
    RefusalCode.NOT_LEADER: ForwardToLeader,
    RefusalCode.NO_LEADER: ForwardToLeader,
    RefusalCode.NO_QUORUM: QuorumNotEnough,
    RefusalCode.NODE_NOT_FOUND: NodeNotFound,
    RefusalCode.EMPTY_MEMBERSHIP: EmptyMembership,
    RefusalCode.LEARNER_NOT_FOUND: LearnerNotFound,
    RefusalCode.OUTCOME_UNKNOWN: OutcomeUnknown,
    RefusalCode.TIMED_OUT: OutcomeUnknown,
    RefusalCode.OVERLOADED: Overloaded,
}
_BY_EXPECTATION: dict[object, type[Refused]] = {
    "term": TermMismatch,
    "leader": LeaderMismatch,
    "last_log_id": LastLogIdMismatch,
    "membership_log_id": MembershipLogIdMismatch,
}


def refused(refusal: Refusal) -> RaftError:
    """Return the exception for a refusal."""
    if refusal.code is RefusalCode.SHUTTING_DOWN:
        return Stopped(refusal.detail)
    if refusal.code is RefusalCode.PRECONDITION_FAILED:
        return _BY_EXPECTATION.get(refusal.extra.get("expectation"), PreconditionFailed)(refusal)
    return _BY_CODE.get(refusal.code, Refused)(refusal)


def change_refused(refusal: Refusal) -> RaftError:
    """Return the exception for a refused change of members."""
    if refusal.code is RefusalCode.CHANGE_IN_PROGRESS:
        return InProgress(refusal)
    return LearnerLagging(refusal) if refusal.code is RefusalCode.TARGET_LAGGING else refused(refusal)


def read_refused(refusal: Refusal) -> RaftError:
    """Return the exception for a refused read: one that nobody confirmed in time did nothing, and that is known."""
    unconfirmed = refusal.code is RefusalCode.TIMED_OUT and "got" in refusal.extra
    return QuorumNotEnough(refusal) if unconfirmed else refused(refusal)


def transfer_refused(refusal: Refusal) -> RaftError:
    """Return the exception for a refused `transfer_leader`."""
    match refusal.code:
        case RefusalCode.NOT_LEADER | RefusalCode.NO_LEADER:
            return TransferForwardToLeader(refusal)
        case RefusalCode.NODE_NOT_FOUND:
            return TransferNodeNotFound(refusal)
        case RefusalCode.TARGET_REFUSED:
            reasons: dict[object, type[Refused]] = {"vote": VoteChanged, "log": LogNotFlushed}
            return reasons.get(refusal.extra.get("reason"), TransferLeaderError)(refusal)
        case RefusalCode.PRECONDITION_FAILED | RefusalCode.OVERLOADED | RefusalCode.SHUTTING_DOWN | RefusalCode.TIMED_OUT:
            return refused(refusal)
        case _:
            return TransferLeaderError(refusal)


def revert_refused(refusal: Refusal) -> RaftError:
    """Return the exception for a refused `allow_next_revert`."""
    if refusal.code is RefusalCode.NODE_NOT_FOUND:
        return AllowNextRevertNodeNotFound(refusal)
    if refusal.code in {RefusalCode.NOT_LEADER, RefusalCode.NO_LEADER}:
        return AllowNextRevertForwardToLeader(refusal)
    return refused(refusal)


class InitializeError(RaftError):
    """`init` was refused.

    `code`: `already_initialized`, `not_in_members`, `prepared_for_another`, `member_unreachable`.
    """

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail + (f" (hint: {hint})" if hint else ""))
        self.code = code
        self.detail = detail
        self.hint = hint


class NotAllowed(InitializeError):
    """A member belongs to a started cluster."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__("already_initialized", detail, hint)


class NotInMembers(InitializeError):
    """This node is not among the members."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__("not_in_members", detail, hint)


class ConfigError(RaftError):
    """A setting cannot be used; the message names the key."""


class SnapshotDeferred(RaftError):
    """A state machine's answer to `snapshot`: not now. The policy asks again when as much again was applied."""


class WaitTimeout(RaftError):
    """What was waited for did not happen in time; the message has the last metrics."""


class Fatal(RaftError):
    """The engine is gone; nothing it had not acknowledged is promised."""


class StorageFailed(Fatal):
    """The disk failed. Nothing after the failure was acknowledged."""


class Panicked(Fatal):
    """A bug: an assertion of the engine, or an exception of the state machine; the message says whose, and on which entry."""


class Stopped(Fatal):
    """The engine was shut down."""


class StorageError(RaftError):
    """A data directory cannot be used as it is.

    `record`: which entry, or which chunk of a snapshot, if it is about one.
    """

    def __init__(
        self, message: str, *, path: str, offset: int | None = None, hint: str = "", record: int | None = None
    ) -> None:
        where = path if offset is None else f"{path}, byte {offset}"
        super().__init__(f"{message} ({where})" + (f"; hint: {hint}" if hint else ""))
        self.message = message
        self.path = path
        self.offset = offset
        self.hint = hint
        self.record = record


class DirectoryLocked(StorageError):
    """Another process has this data directory open."""


class NoSuchDirectory(StorageError):
    """Nothing is there, or nothing that is a data directory."""


class WrongDirectory(StorageError):
    """The directory belongs to somebody else, or its owner or mode is wrong."""


class NewerFormat(StorageError):
    """A later version wrote this."""

    def __init__(self, message: str, *, path: str, offset: int | None = None) -> None:
        hint = "run the version that wrote it, or a later one; going back needs the directory as it was before the upgrade"
        super().__init__(message, path=path, offset=offset, hint=hint)


class WouldLose(StorageError):
    """What was asked for would break a promise or overwrite something; nothing was changed."""


class ExpectationFailed(StorageError):
    """The directory is not as the caller believed; nothing was changed."""


class Damaged(StorageError):
    """Something durable is missing or altered."""


class TransportError(RaftError):
    """A peer cannot be reached, or is not the one it should be."""
