"""Telling an engine to do now what it would do by itself some time: `raft.trigger.elect()` and the others.

Every call ends in what really happened: a `TriggerOutcome` (see its `changed` and `observed`), or an exception.
Source: openraft `raft/trigger.rs`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from raft_engine.core.events import (
    AllowNextRevertRequested,
    ElectRequested,
    Event,
    HeartbeatRequested,
    PurgeLogRequested,
    SnapshotRequested,
    StepDownRequested,
    TransferLeaderRequested,
)
from raft_engine.errors import RaftError, refused, revert_refused, transfer_refused
from raft_engine.types.ids import LogIndex, NodeId, Ticket
from raft_engine.types.outcomes import NOTHING_EXPECTED, Expectation, Outcome, Refusal, TriggerOutcome

WAIT_S = 5.0

Ask = Callable[[Callable[[Ticket], Event], float, Callable[[Refusal], RaftError]], Awaitable[Outcome]]


class Trigger:
    """The triggers of one engine.

    All of them: `wait_s` bounds how long the effect is waited for; `expect` refuses the request when the world is not as
    the caller believes. Raises `Refused` (a subclass of it where one fits) and `Fatal`.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def elect(
        self, pre_vote: bool = True, *, wait_s: float = WAIT_S, expect: Expectation = NOTHING_EXPECTED
    ) -> TriggerOutcome:
        """Campaign now. On a leader nothing changes.

        Args:
            pre_vote: ask first whether the election could be won. False disturbs a living leader.
        """
        return await self._trigger(lambda ticket: ElectRequested(ticket, pre_vote, wait_s * 1000, expect), wait_s)

    async def heartbeat(self, *, wait_s: float = WAIT_S, expect: Expectation = NOTHING_EXPECTED) -> TriggerOutcome:
        """Send a heartbeat to every member now; `effective["acked_by"]` names who answered. Leader only."""
        return await self._trigger(lambda ticket: HeartbeatRequested(ticket, wait_s * 1000, expect), wait_s)

    async def snapshot(self, *, wait_s: float = WAIT_S, expect: Expectation = NOTHING_EXPECTED) -> TriggerOutcome:
        """Have a snapshot that covers what is applied now."""
        return await self._trigger(lambda ticket: SnapshotRequested(ticket, wait_s * 1000, expect), wait_s)

    async def purge_log(
        self, upto: int, strict: bool = False, *, wait_s: float = WAIT_S, expect: Expectation = NOTHING_EXPECTED
    ) -> TriggerOutcome:
        """Drop log entries up to `upto`, inclusive, as far as the snapshot covers them; `effective["upto"]` says how far.

        Args:
            strict: refuse instead of purging less than asked.
        """
        return await self._trigger(
            lambda ticket: PurgeLogRequested(ticket, LogIndex(upto), strict, wait_s * 1000, expect), wait_s
        )

    async def transfer_leader(
        self, to: int, *, wait_s: float = WAIT_S, expect: Expectation = NOTHING_EXPECTED
    ) -> TriggerOutcome:
        """Hand leadership to voter `to`. Leader only; it serves again unless `to` takes over within an election timeout.

        Raises: TransferLeaderError (forward to leader, node not found, vote changed, log not flushed; `code` for the rest).
        """
        return await self._trigger(
            lambda ticket: TransferLeaderRequested(ticket, NodeId(to), wait_s * 1000, expect), wait_s, transfer_refused
        )

    async def step_down(self, *, wait_s: float = WAIT_S, expect: Expectation = NOTHING_EXPECTED) -> TriggerOutcome:
        """Have a leader leave its office that a committed configuration no longer names as a voter.

        Only of use with `removed_leader_step_down_ms` -1; a voter hands over with `transfer_leader`. Whoever does not lead has
        nothing to leave, and says so. (openraft `refresh_server_state`; `expect` is its fence.)
        """
        return await self._trigger(lambda ticket: StepDownRequested(ticket, expect), wait_s)

    async def allow_next_revert(
        self, to: int, allow: bool = True, ttl_s: float = 0.0, *, expect: Expectation = NOTHING_EXPECTED
    ) -> TriggerOutcome:
        """Allow member `to` to come back once with less than it acknowledged, or take that back. Leader only.

        Args:
            ttl_s: for how long; 0: until used, taken back, or leadership is lost.
        Raises: AllowNextRevertError (forward to leader, node not found).
        """
        return await self._trigger(
            lambda ticket: AllowNextRevertRequested(ticket, NodeId(to), allow, ttl_s * 1000, expect), WAIT_S, revert_refused
        )

    async def _trigger(
        self, event: Callable[[Ticket], Event], wait_s: float, as_error: Callable[[Refusal], RaftError] = refused
    ) -> TriggerOutcome:
        outcome = await self._ask(event, wait_s, as_error)
        assert isinstance(outcome, TriggerOutcome), outcome
        return outcome
