"""Showing that the leader is there, when an operator asks.

The answer names who heard it. Works with the timer's heartbeats switched off, and does not move the timer.
Source: openraft `raft/trigger.rs` (`heartbeat`), `core/heartbeat/`.
"""

from __future__ import annotations

from raft_engine.core.events import HeartbeatRequested
from raft_engine.core.leader import LeaderState, PendingHeartbeat
from raft_engine.core.outbox import Outbox
from raft_engine.core.replication import start_round
from raft_engine.core.state import RaftState
from raft_engine.types.ids import Millis
from raft_engine.types.outcomes import TriggerOutcome


def on_heartbeat_requested(state: RaftState, event: HeartbeatRequested, now: Millis, out: Outbox) -> None:
    """Send one heartbeat to everybody and wait for those who can be reached."""
    leader = state.leader
    if leader is None:
        out.respond(event.ticket, state.refuse_not_leader())
        return
    round_ = start_round(state, leader, now, out)
    wait = min(event.wait_ms, state.config.election_timeout_max_ms)
    leader.heartbeats.append(PendingHeartbeat(event.ticket, round_, now + wait))
    answer(state, out)
    expire(state, now, out)


def answer(state: RaftState, out: Outbox) -> None:
    """Answer the callers to whom every target has answered."""
    leader = state.leader
    if leader is None or not leader.heartbeats:
        return
    waiting = []
    for waiter in leader.heartbeats:
        if all(item.acked_round >= waiter.round or not item.connected for item in leader.progress.values()):
            out.respond(waiter.ticket, _acked(leader, waiter))
        else:
            waiting.append(waiter)
    leader.heartbeats = waiting


def expire(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell the callers whose wait is over who has answered."""
    leader = state.leader
    if leader is None:
        return
    for waiter in [waiter for waiter in leader.heartbeats if now >= waiter.deadline]:
        leader.heartbeats.remove(waiter)
        out.respond(waiter.ticket, _acked(leader, waiter))


def _acked(leader: LeaderState, waiter: PendingHeartbeat) -> TriggerOutcome:
    acked = sorted(item.peer.node_id for item in leader.progress.values() if item.acked_round >= waiter.round)
    silent = sorted(item.peer.node_id for item in leader.progress.values() if item.acked_round < waiter.round)
    detail = f"answered by {acked or 'nobody'}" + (f", not by {silent}" if silent else "")
    seen = bool(acked) or not silent
    return TriggerOutcome(True, seen, detail, {"acked_by": acked, "not_acked_by": silent})
