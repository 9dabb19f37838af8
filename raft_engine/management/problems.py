"""How a request that fails is answered: one table from code to HTTP status, and the body that explains it.

A code is stable: scripts match on it. The detail says what was measured, the hint what to do next. What is not in the table
is a bug of ours: 500 `internal`, a line in the log, and nothing about our insides for the client.
Source: RFC 9457; contract section 2.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from raft_engine.errors import (
    ConfigError,
    Fatal,
    InitializeError,
    RaftError,
    Refused,
    Stopped,
    StorageError,
    TransportError,
    WouldLose,
)
from raft_engine.management import schema
from raft_engine.management.convert import leader_body
from raft_engine.types.ids import NodeId
from raft_engine.types.metrics import RaftMetrics
from raft_engine.types.outcomes import Refusal, RefusalCode

_log = logging.getLogger(__name__)

PROBLEM_JSON: Final = b"application/problem+json"
_TYPE_PREFIX: Final = "urn:raft-engine:problem:"


IF_IT_LASTS: Final = "if it lasts, raftctl doctor says why (or see GET /v1/cluster)"
"""What to do about other nodes' silence."""


class Row(NamedTuple):
    """`retry_after_s`: when asking again is worth it, None: not by waiting. `hint`: where whoever refuses gives none."""

    status: int
    title: str
    retry_after_s: int | None = None
    hint: str = ""


PROBLEMS: Final[Mapping[str, Row]] = {
    # what the engine refuses: one row per RefusalCode
    RefusalCode.NOT_LEADER: Row(421, "This node is not the leader", None, "ask again: an election may be under way"),
    RefusalCode.NO_LEADER: Row(503, "No leader is known", 1, f"ask again; {IF_IT_LASTS}"),
    RefusalCode.NO_QUORUM: Row(503, "The leader does not reach a quorum", 1, f"ask again; {IF_IT_LASTS}"),
    RefusalCode.NOT_VOTER: Row(409, "The node is not a voter"),
    RefusalCode.IS_LEADER: Row(409, "The node is the leader"),
    RefusalCode.NODE_NOT_FOUND: Row(404, "No such node in the membership"),
    RefusalCode.TARGET_LAGGING: Row(409, "The target lags too far behind"),
    RefusalCode.TARGET_UNREACHABLE: Row(409, "The target cannot be reached"),
    RefusalCode.TARGET_REFUSED: Row(409, "The target refused"),
    RefusalCode.TRANSFER_IN_PROGRESS: Row(409, "A leadership transfer is under way"),
    RefusalCode.TRANSFER_TIMED_OUT: Row(409, "The target did not take over in time"),
    RefusalCode.ELECTION_LOST: Row(409, "The election was not won"),
    RefusalCode.PRE_VOTE_REFUSED: Row(409, "The pre-vote was refused"),
    RefusalCode.RECOVERING: Row(409, "The node is recovering"),
    RefusalCode.BLANK: Row(409, "The node belongs to no cluster yet"),
    RefusalCode.NO_SNAPSHOT: Row(409, "There is no snapshot"),
    RefusalCode.BEYOND_SNAPSHOT: Row(422, "The snapshot does not cover it"),
    RefusalCode.SNAPSHOT_DEFERRED: Row(409, "The state machine put the snapshot off"),
    RefusalCode.QUORUM_IMPOSSIBLE: Row(409, "The remaining voters are too few"),
    RefusalCode.LEADERSHIP_LOST: Row(503, "The node lost its leadership meanwhile", 1),
    RefusalCode.LEARNER_NOT_FOUND: Row(409, "A voter must have been a learner first"),
    RefusalCode.EMPTY_MEMBERSHIP: Row(409, "A cluster needs a voter"),
    RefusalCode.CHANGE_IN_PROGRESS: Row(409, "A membership change is under way"),
    RefusalCode.ALREADY_INITIALIZED: Row(409, "The cluster is already initialised"),
    RefusalCode.PRECONDITION_FAILED: Row(412, "An expectation does not hold; nothing happened"),
    RefusalCode.OUTCOME_UNKNOWN: Row(
        504, "Accepted, but the outcome is not known", None, f"read before you retry; {IF_IT_LASTS}"
    ),
    RefusalCode.OVERLOADED: Row(503, "Too much is waiting; nothing was accepted", 1),
    RefusalCode.TIMED_OUT: Row(
        504, "Not finished in time; the outcome is not known", None, f"look, or ask again; {IF_IT_LASTS}"
    ),
    RefusalCode.SHUTTING_DOWN: Row(503, "The node is shutting down"),
    # what `init` refuses
    "not_in_members": Row(409, "This node is not among the members"),
    "prepared_for_another": Row(409, "A member is prepared for another cluster"),
    "another_life": Row(409, "The node lost its data"),
    "member_unreachable": Row(409, "A member cannot be reached"),
    # what the state of this process does not allow
    "raft_stopped": Row(503, "The Raft engine of this node is stopped"),
    "raft_running": Row(409, "The Raft engine of this node is running"),
    "confirmation_mismatch": Row(409, "The confirmation names something else"),
    "digest_not_available": Row(409, "No digest is kept for this index"),
    "not_ready": Row(503, "The node is not ready", 1),
    "start_failed": Row(500, "The Raft engine of this node could not start"),
    "fatal": Row(500, "The Raft engine of this node failed"),
    "storage_failed": Row(500, "The data directory cannot be used"),
    "would_lose": Row(409, "It would break a promise; nothing happened"),
    "internal": Row(500, "A bug in this program"),
    # what is wrong with the request itself
    "malformed": Row(400, "The request cannot be understood"),
    "unknown_parameter": Row(400, "Unknown query parameter"),
    "unauthorized": Row(401, "A token is needed"),
    "forbidden": Row(403, "The token's role does not allow this"),
    "host_refused": Row(403, "This endpoint does not answer for that host"),
    "origin_refused": Row(403, "Requests of web pages are refused"),
    "not_found": Row(404, "No such path"),
    "not_available": Row(404, "Not part of this version"),
    "key_not_found": Row(404, "No such key"),
    "method_not_allowed": Row(405, "The path does not have this method"),
    "idempotency_key_in_use": Row(409, "A request with this Idempotency-Key is under way", 1),
    "too_large": Row(413, "The body is too large"),
    "unsupported_media_type": Row(415, "The body must be application/json"),
    "idempotency_key_reused": Row(422, "The Idempotency-Key was used for another request"),
    "headers_too_large": Row(431, "The request's headers are too large"),
    "too_many_connections": Row(503, "Too many connections", 1),
}


class ProblemError(RaftError):
    """A request that this room itself refuses, or words in its own way."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str = "",
        leader: NodeId | None = None,
        status: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        measured: Mapping[str, object] | None = None,
        key: str | UnsetType = UNSET,
        revision: int | UnsetType | None = UNSET,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.leader = leader
        self.status = PROBLEMS[code].status if status is None else status
        self.headers = headers
        self.measured = measured
        self.key = key
        self.revision = revision


def malformed(detail: str, hint: str = "") -> ProblemError:
    return ProblemError("malformed", detail, hint=hint)


def refusal_problem(refusal: Refusal) -> ProblemError:
    """Return the answer to what the engine refused."""
    return ProblemError(
        refusal.code.value, refusal.detail, hint=refusal.hint, leader=refusal.leader, measured=refusal.extra or None
    )


def left_unanswered(method: str) -> ProblemError:
    """Return the answer to a request that was under way when the endpoint ended and could wait no longer."""
    detail = "the endpoint stopped before the request was finished"
    if method == "GET":
        return ProblemError(RefusalCode.SHUTTING_DOWN.value, detail)
    return ProblemError(RefusalCode.OUTCOME_UNKNOWN.value, f"{detail}; it may yet be", hint="read before you retry")


def as_problem(error: Exception) -> ProblemError:
    """Return how `error` is told to a client; what nobody foresaw is logged here and told as `internal`."""
    match error:
        case ProblemError():
            return error
        case Refused():
            return refusal_problem(error.refusal)
        case InitializeError():
            code = error.code if error.code in PROBLEMS else RefusalCode.ALREADY_INITIALIZED.value
            return ProblemError(code, error.detail, hint=error.hint)
        case Stopped():
            return ProblemError(RefusalCode.SHUTTING_DOWN.value, str(error))
        case Fatal():
            return ProblemError("fatal", str(error), hint="read the node's log, mend the cause, restart the process")
        case WouldLose():
            return ProblemError("would_lose", error.message, hint=error.hint)
        case StorageError():
            return ProblemError("storage_failed", str(error), hint="raft-engine inspect shows what is in a data directory")
        case TransportError():
            return ProblemError("start_failed", str(error))
        case ConfigError():
            return malformed(str(error))
        case _:
            _log.error("a request failed on a bug of ours", exc_info=error)
            return ProblemError("internal", "this is a bug; the node's log has the details")


def problem_body(problem: ProblemError, metrics: RaftMetrics) -> schema.Problem:
    """Return the body. The leader is the one the refusal names, else the one this node knows."""
    leader = leader_body(metrics, problem.leader or metrics.leader)
    return schema.Problem(
        type=_TYPE_PREFIX + problem.code,
        title=PROBLEMS[problem.code].title,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
        leader=leader,
        term=metrics.term,
        hint=problem.hint or _usual_hint(problem.code, leader) or None,
        measured=UNSET if problem.measured is None else dict(problem.measured),
        key=problem.key,
        revision=problem.revision,
    )


def _usual_hint(code: str, leader: schema.LeaderBody | None) -> str:
    """Return what to do next where whoever refused did not say."""
    if code == RefusalCode.NOT_LEADER and leader is not None and leader.management:
        return f"send it to node {leader.id}, {leader.management}; what changes something may ask for a redirect: ?forward=redirect"
    return PROBLEMS[code].hint


def problem_headers(problem: ProblemError) -> list[tuple[bytes, bytes]]:
    """Return the headers a problem adds to its reply."""
    retry_after_s = PROBLEMS[problem.code].retry_after_s
    if retry_after_s is None:
        return list(problem.headers)
    return [*problem.headers, (b"retry-after", b"%d" % retry_after_s)]
