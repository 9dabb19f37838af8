"""What can go wrong, as one tree.

    RaftError
    ├── Refused                      a request was not carried out, or its result is not known: `.refusal` says why
    │   ├── ForwardToLeader          not the leader (`.leader_id`: whom to ask, None: nobody known)
    │   ├── NodeNotFound             no such node in the effective membership
    │   ├── AllowNextRevertError     the revert permission could not be given
    │   │   ├── AllowNextRevertForwardToLeader   (also a ForwardToLeader)
    │   │   └── AllowNextRevertNodeNotFound      (also a NodeNotFound)
    │   ├── OutcomeUnknown           accepted, then overtaken or not committed in time: it may yet happen
    │   └── Overloaded               the inbox is full; nothing was accepted
    ├── InitializeError              the cluster cannot be initialised like this
    ├── ConfigError                  a setting is unknown, of the wrong type or contradicts another
    ├── WaitTimeout                  a predicate did not come true in time
    ├── Fatal                        the engine is gone
    │   ├── StorageFailed            the disk failed: the node stops and acknowledges nothing more
    │   ├── Panicked                 a bug in the engine or in a state machine
    │   └── Stopped                  it was shut down
    ├── StorageError                 a data directory cannot be used: `.path` (and `.offset`)
    │   ├── DirectoryLocked          another process holds it
    │   ├── WrongDirectory           it belongs to another cluster or node, or has the wrong owner or mode
    │   ├── NewerFormat              written by a later version
    │   └── Damaged                  what was durable is missing or altered: a promise may be lost
    └── TransportError               a peer cannot be reached or is not who it should be

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


class AllowNextRevertError(Refused):
    """The permission was not given."""


class AllowNextRevertForwardToLeader(AllowNextRevertError, ForwardToLeader):
    """Only the leader can give it."""


class AllowNextRevertNodeNotFound(AllowNextRevertError, NodeNotFound):
    """The target is neither voter nor learner."""


class OutcomeUnknown(Refused):
    """The request may or may not have taken effect."""


class Overloaded(Refused):
    """Too much is waiting already; nothing was accepted."""


_BY_CODE: dict[RefusalCode, type[Refused]] = {
    RefusalCode.NOT_LEADER: ForwardToLeader,
    RefusalCode.NO_LEADER: ForwardToLeader,
    RefusalCode.NO_QUORUM: ForwardToLeader,
    RefusalCode.NODE_NOT_FOUND: NodeNotFound,
    RefusalCode.OUTCOME_UNKNOWN: OutcomeUnknown,
    RefusalCode.TIMED_OUT: OutcomeUnknown,
    RefusalCode.OVERLOADED: Overloaded,
}


def refused(refusal: Refusal) -> RaftError:
    """Return the exception for a refusal."""
    if refusal.code is RefusalCode.SHUTTING_DOWN:
        return Stopped(refusal.detail)
    return _BY_CODE.get(refusal.code, Refused)(refusal)


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


class ConfigError(RaftError):
    """A setting cannot be used; the message names the key."""


class WaitTimeout(RaftError):
    """What was waited for did not happen in time; the message has the last metrics."""


class Fatal(RaftError):
    """The engine is gone; nothing it had not acknowledged is promised."""


class StorageFailed(Fatal):
    """The disk failed. Nothing after the failure was acknowledged."""


class Panicked(Fatal):
    """A bug: an assertion of the engine, or an exception of the state machine."""


class Stopped(Fatal):
    """The engine was shut down."""


class StorageError(RaftError):
    """A data directory cannot be used as it is."""

    def __init__(self, message: str, *, path: str, offset: int | None = None, hint: str = "") -> None:
        where = path if offset is None else f"{path}, byte {offset}"
        super().__init__(f"{message} ({where})" + (f"; hint: {hint}" if hint else ""))
        self.path = path
        self.offset = offset
        self.hint = hint


class DirectoryLocked(StorageError):
    """Another process has this data directory open."""


class WrongDirectory(StorageError):
    """The directory belongs to somebody else, or its owner or mode is wrong."""


class NewerFormat(StorageError):
    """A later version wrote this."""


class Damaged(StorageError):
    """Something durable is missing or altered."""


class TransportError(RaftError):
    """A peer cannot be reached, or is not the one it should be."""
