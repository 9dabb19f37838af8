"""What can go wrong, and with which exit code the program ends: one table.

Scripts branch on the exit code, people read the message and the hint. A message says what, where and what was measured; the
hint is a command to type. Codes of the endpoint's problems are kept as they are, so that both sides speak of the same thing.
Source: contract section 5; the endpoint's problem codes of section 2.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final


class ExitCode(enum.IntEnum):
    """0 means done *and observed*, never "accepted"."""

    DONE = 0
    BUG = 1
    USAGE = 2
    CONFIG = 3
    UNREACHABLE = 4
    REFUSED = 5
    CONFLICT = 6
    NOT_OBSERVED = 7
    UNDONE = 8
    ATTENTION = 9
    DEGRADED = 10
    NO_QUORUM = 11
    AUTH = 12
    NOT_FOUND = 13
    MISMATCH = 14
    DECLINED = 20
    INTERRUPTED = 130


EXIT_CODES: Final[Mapping[str, ExitCode]] = {
    # what this program finds itself
    "bug": ExitCode.BUG,
    "output_lost": ExitCode.BUG,
    "usage": ExitCode.USAGE,
    "confirmation_needed": ExitCode.USAGE,
    "config": ExitCode.CONFIG,
    "unreachable": ExitCode.UNREACHABLE,
    "not_an_endpoint": ExitCode.UNREACHABLE,
    "refused": ExitCode.REFUSED,
    "locked": ExitCode.CONFLICT,
    "port_taken": ExitCode.CONFLICT,
    "not_observed": ExitCode.NOT_OBSERVED,
    "reply_lost": ExitCode.NOT_OBSERVED,
    "unclear_answer": ExitCode.NOT_OBSERVED,
    "out_of_time": ExitCode.NOT_OBSERVED,
    "undone": ExitCode.UNDONE,
    "needs_attention": ExitCode.ATTENTION,
    "lock_lost": ExitCode.ATTENTION,
    "journal_damaged": ExitCode.ATTENTION,
    "point_of_no_return": ExitCode.ATTENTION,
    "command_failed": ExitCode.ATTENTION,
    "degraded": ExitCode.DEGRADED,
    "no_cluster_leader": ExitCode.NO_QUORUM,
    "not_found_here": ExitCode.NOT_FOUND,
    "digest_mismatch": ExitCode.MISMATCH,
    "declined": ExitCode.DECLINED,
    "interrupted": ExitCode.INTERRUPTED,
    # what the endpoint says is wrong with the request
    "malformed": ExitCode.USAGE,
    "unknown_parameter": ExitCode.USAGE,
    "too_large": ExitCode.USAGE,
    "headers_too_large": ExitCode.USAGE,
    "method_not_allowed": ExitCode.USAGE,
    "unsupported_media_type": ExitCode.USAGE,
    "unauthorized": ExitCode.AUTH,
    "forbidden": ExitCode.AUTH,
    "host_refused": ExitCode.AUTH,
    "origin_refused": ExitCode.AUTH,
    "key_not_found": ExitCode.NOT_FOUND,
    "node_not_found": ExitCode.NOT_FOUND,
    "not_found": ExitCode.NOT_FOUND,
    "not_available": ExitCode.NOT_FOUND,
    # what the cluster refuses; nothing changed
    "not_voter": ExitCode.REFUSED,
    "is_leader": ExitCode.REFUSED,
    "target_lagging": ExitCode.REFUSED,
    "target_unreachable": ExitCode.REFUSED,
    "target_refused": ExitCode.REFUSED,
    "pre_vote_refused": ExitCode.REFUSED,
    "recovering": ExitCode.REFUSED,
    "blank": ExitCode.REFUSED,
    "no_snapshot": ExitCode.REFUSED,
    "beyond_snapshot": ExitCode.REFUSED,
    "snapshot_deferred": ExitCode.REFUSED,
    "quorum_impossible": ExitCode.REFUSED,
    "raft_stopped": ExitCode.REFUSED,
    "raft_running": ExitCode.REFUSED,
    "confirmation_mismatch": ExitCode.REFUSED,
    "not_in_members": ExitCode.REFUSED,
    "member_unreachable": ExitCode.REFUSED,
    "another_life": ExitCode.REFUSED,
    "learner_not_found": ExitCode.REFUSED,
    "empty_membership": ExitCode.REFUSED,
    # somebody or something else was there first
    "precondition_failed": ExitCode.CONFLICT,
    "already_initialized": ExitCode.CONFLICT,
    "prepared_for_another": ExitCode.CONFLICT,
    "change_in_progress": ExitCode.CONFLICT,
    "transfer_in_progress": ExitCode.CONFLICT,
    "rejoin_in_progress": ExitCode.CONFLICT,
    "idempotency_key_in_use": ExitCode.CONFLICT,
    "idempotency_key_reused": ExitCode.CONFLICT,
    "digest_not_available": ExitCode.CONFLICT,
    "not_leader": ExitCode.CONFLICT,
    "leadership_lost": ExitCode.CONFLICT,
    # tried, and not seen to have happened
    "outcome_unknown": ExitCode.NOT_OBSERVED,
    "timed_out": ExitCode.NOT_OBSERVED,
    "transfer_timed_out": ExitCode.NOT_OBSERVED,
    "election_lost": ExitCode.NOT_OBSERVED,
    # the cluster or the node cannot
    "no_leader": ExitCode.NO_QUORUM,
    "no_quorum": ExitCode.NO_QUORUM,
    "overloaded": ExitCode.UNREACHABLE,
    "shutting_down": ExitCode.UNREACHABLE,
    "too_many_connections": ExitCode.UNREACHABLE,
    "not_ready": ExitCode.DEGRADED,
    "fatal": ExitCode.DEGRADED,
    "storage_failed": ExitCode.DEGRADED,
    "internal": ExitCode.BUG,
}
"""Failure to exit code. A code of a newer endpoint that is not here is judged by its HTTP status."""

_BY_STATUS: Final[Mapping[int, ExitCode]] = {
    400: ExitCode.USAGE,
    401: ExitCode.AUTH,
    403: ExitCode.AUTH,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.REFUSED,
    412: ExitCode.CONFLICT,
    413: ExitCode.USAGE,
    421: ExitCode.CONFLICT,
    422: ExitCode.REFUSED,
    423: ExitCode.CONFLICT,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.NOT_OBSERVED,
}

UNKNOWN_OUTCOMES: Final = frozenset({"outcome_unknown", "timed_out", "reply_lost", "unclear_answer"})
"""After these the effect may or may not come: look, do not repeat."""


_PASSING: Final = (UNKNOWN_OUTCOMES - {"unclear_answer"}) | {
    *("no_leader", "no_quorum", "not_leader", "leadership_lost", "transfer_in_progress", "overloaded", "unreachable"),
    "out_of_time",
}


class CtlError(Exception):
    """A failure that a person can do something about. `code` is stable snake_case, `hint` says what to do next."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        rule_ids: Sequence[str] = (),
        status: int | None = None,
        leader: tuple[int, str | None] | None = None,
        measured: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.rule_ids = tuple(rule_ids)
        self.status = status
        self.leader = leader
        self.measured = dict(measured or {})

    @property
    def exit_code(self) -> ExitCode:
        known = EXIT_CODES.get(self.code)
        if known is not None:
            return known
        return _BY_STATUS.get(self.status or 0, ExitCode.BUG)

    @property
    def outcome_unknown(self) -> bool:
        """The request may have been carried out all the same."""
        return self.code in UNKNOWN_OUTCOMES

    @property
    def may_pass(self) -> bool:
        """The same request may be answered otherwise in a moment; one that changes something, only with the id that makes it one change."""
        return self.code in _PASSING


def usage(message: str, hint: str = "") -> CtlError:
    return CtlError("usage", message, hint=hint)
