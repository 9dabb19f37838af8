"""Handing leadership over, and taking it back when that fails.

Rules:
1. The target must be another voter and stay one, reachable, not fenced, and close enough to catch up within an election
   timeout.
2. While the target catches up and campaigns, writes are held, not refused; leases are not relied upon.
3. The target campaigns only with everything the leader has.
4. Writes held when the target is elected, and reads, wait until it is known to lead, so that their callers are sent to it.
   Whoever asks another node before that is sent to the old leader, which holds the request like the others.
5. When nobody has taken over within one election timeout, the leader serves again and says so; but never again by lease,
   since the target, once asked, may still be elected without regard to leases.
Source: dissertation 3.10; openraft `engine/handler/leader_handler/`, issues 1747, 1805, 2088 for what must not happen.
"""

from __future__ import annotations

from raft_engine.core.commands import SendMessage
from raft_engine.core.election import campaign, why_not_campaign
from raft_engine.core.events import TransferLeaderRequested
from raft_engine.core.leader import LeaderState, Transfer
from raft_engine.core.outbox import Outbox
from raft_engine.core.progress import Mode, Progress
from raft_engine.core.replication import on_writes_requested
from raft_engine.core.state import RaftState, TransferWaiter
from raft_engine.core.voting import fail_reads, forward_held_writes
from raft_engine.types.ids import Millis, NodeId, PeerId
from raft_engine.types.messages import TransferRequest, TransferResponse
from raft_engine.types.outcomes import Refusal, RefusalCode, TriggerOutcome

# -- the leader --------------------------------------------------------------------------------------------------------


def on_transfer_requested(state: RaftState, event: TransferLeaderRequested, now: Millis, out: Outbox) -> None:
    """An operator wants `event.to` to lead."""
    leader = state.leader
    if leader is None:
        out.respond(event.ticket, state.refuse_not_leader())
        return
    progress = next((item for item in leader.progress.values() if item.peer.node_id == event.to), None)
    refusal = _why_not_transfer(state, leader, progress, event.to)
    if refusal is not None:
        out.respond(event.ticket, refusal)
        return
    assert progress is not None
    timeout = state.config.election_timeout_max_ms
    leader.transfer = Transfer(progress.peer, now + timeout)
    state.transfer_waiter = TransferWaiter(event.ticket, event.to, state.term, now + event.wait_ms)
    out.report("transfer_started", f"to node {event.to}", event.to)
    hand_over(state, out)
    if event.wait_ms <= 0:
        expire_waiter(state, now, out)


def _why_not_transfer(state: RaftState, leader: LeaderState, progress: Progress | None, to: NodeId) -> Refusal | None:
    me = state.me.node_id
    if to == me:
        return Refusal(RefusalCode.IS_LEADER, f"node {to} leads already", me)
    if not state.membership.names(to):
        return Refusal(RefusalCode.NODE_NOT_FOUND, f"node {to} is not in {state.membership}", me)
    if progress is None or state.membership.configs[-1].get(to) != progress.peer.incarnation:
        what = "is on its way out" if to in state.membership.voter_ids() else "is a learner"
        return Refusal(RefusalCode.NOT_VOTER, f"node {to} {what} of {state.membership}", me)
    if leader.transfer is not None:
        detail = f"leadership is being transferred to node {leader.transfer.to.node_id}"
        return Refusal(RefusalCode.TRANSFER_IN_PROGRESS, detail, me)
    if not progress.connected:
        return Refusal(
            RefusalCode.TARGET_UNREACHABLE, f"node {to} cannot be reached: {progress.failure or 'no connection'}", me
        )
    lag = state.log.last.index - progress.matching
    if progress.mode is not Mode.REPLICATE or lag > state.config.replication_lag_threshold:
        detail = (
            f"node {to} is {lag} entries behind ({progress.mode.value}); "
            f"the limit is {state.config.replication_lag_threshold} and replication must flow"
        )
        return Refusal(RefusalCode.TARGET_LAGGING, detail, me, hint="wait until it has caught up", extra={"lag": lag})
    return None


def hand_over(state: RaftState, out: Outbox) -> None:
    """Ask the target to campaign once it holds everything."""
    leader = state.leader
    transfer = leader.transfer if leader is not None else None
    if leader is None or transfer is None or transfer.requested:
        return
    progress = leader.progress.get(transfer.to)
    if progress is not None and progress.matching == state.log.last.index:
        transfer.requested = True
        leader.lease_given_up = True
        out.push(SendMessage(transfer.to, TransferRequest(leader.vote, state.log.last)))


def on_transfer_response(state: RaftState, sender: PeerId, response: TransferResponse, now: Millis, out: Outbox) -> None:
    """The target campaigns, or says why it cannot."""
    transfer = state.leader.transfer if state.leader is not None else None
    if transfer is not None and transfer.to == sender and not response.accepted and response.vote.term == state.term:
        detail = f"node {sender.node_id} refused to campaign: {response.reason}"
        _give_up(state, RefusalCode.TARGET_REFUSED, detail, now, out, extra={"reason": response.reason})


def on_time(state: RaftState, now: Millis, out: Outbox) -> None:
    """Serve again when nobody has taken over in time."""
    leader = state.leader
    transfer = leader.transfer if leader is not None else None
    if leader is not None and transfer is not None:
        to = transfer.to.node_id
        progress = leader.progress.get(transfer.to)
        if progress is None or not progress.connected:
            _give_up(state, RefusalCode.TARGET_UNREACHABLE, f"node {to} can no longer be reached", now, out)
        elif now >= transfer.deadline:
            timeout = state.config.election_timeout_max_ms
            detail = f"node {to} has not taken over within {timeout} ms; node {state.me.node_id} serves again"
            _give_up(state, RefusalCode.TRANSFER_TIMED_OUT, detail, now, out)
    if state.handed_over is not None and now >= state.handed_over.deadline:
        forward_held_writes(state, out)
        fail_reads(state, out)
    expire_waiter(state, now, out)


def _give_up(
    state: RaftState,
    code: RefusalCode,
    why: str,
    now: Millis,
    out: Outbox,
    *,
    extra: dict[str, object] | None = None,
) -> None:
    leader = state.leader
    assert leader is not None
    leader.transfer = None
    out.report("transfer_failed", why, warning=True)
    waiter, state.transfer_waiter = state.transfer_waiter, None
    if waiter is not None:
        out.respond(waiter.ticket, Refusal(code, why, state.me.node_id, extra=extra or {}))
    held, leader.held_writes = leader.held_writes, []
    if held:
        on_writes_requested(state, held, now, out)


def on_leader_known(state: RaftState, out: Outbox) -> None:
    """Somebody leads a later term: tell who asked for the transfer whether it is the target."""
    waiter = state.transfer_waiter
    if waiter is None or state.term <= waiter.from_term or state.known_leader is None:
        return
    state.transfer_waiter = None
    effective: dict[str, object] = {"leader": state.known_leader, "term": state.term}
    if state.known_leader == waiter.to:
        outcome = TriggerOutcome(True, True, f"node {waiter.to} leads term {state.term}", effective)
        out.respond(waiter.ticket, outcome)
    else:
        detail = f"node {state.known_leader} was elected in term {state.term}, not node {waiter.to}"
        out.respond(waiter.ticket, Refusal(RefusalCode.ELECTION_LOST, detail, state.known_leader, extra=effective))


def expire_waiter(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell a caller whose wait is over that it is not decided."""
    waiter = state.transfer_waiter
    if waiter is not None and now >= waiter.deadline:
        state.transfer_waiter = None
        effective: dict[str, object] = {"to": waiter.to}
        out.respond(waiter.ticket, TriggerOutcome(True, False, f"node {waiter.to} was asked to take over", effective))


# -- the target --------------------------------------------------------------------------------------------------------


def on_transfer_request(state: RaftState, sender: PeerId, request: TransferRequest, now: Millis, out: Outbox) -> None:
    """The leader wants this node to lead."""
    reason = _why_not_take_over(state, sender, request)
    out.push(SendMessage(sender, TransferResponse(state.vote, not reason, reason)))
    if not reason:
        campaign(state, now, out, pre_vote=False, transfer=True)


def _why_not_take_over(state: RaftState, sender: PeerId, request: TransferRequest) -> str:
    if request.vote.term != state.term or state.known_leader != sender.node_id or state.leader is not None:
        return "vote"
    refusal = why_not_campaign(state)
    if refusal is not None:
        return str(refusal.code)
    return "" if state.log.has(request.last_log_id) and state.flushed >= request.last_log_id.index else "log"
