"""A no-op that is known to be held without certain nodes.

When n - q + 1 voters other than the excluded hold an entry of this leader's term, every later leader has it and all before
it, even if the excluded nodes forget everything they stored (quorum q of n voters).
Source: docs/decisions (rejoin, way A); model in the design's RejoinKeep specification.
"""

from __future__ import annotations

from raft_engine.core.events import BarrierRequested
from raft_engine.core.leader import LeaderState, PendingBarrier
from raft_engine.core.outbox import Outbox
from raft_engine.core.quorum import holders_needed, holds_without
from raft_engine.core.replication import append_as_leader, has_quorum_contact, quorum_silence
from raft_engine.core.state import RaftState
from raft_engine.types.entry import EntryKind
from raft_engine.types.ids import Millis, PeerId
from raft_engine.types.outcomes import BarrierOutcome, Refusal, RefusalCode


def on_barrier_requested(state: RaftState, event: BarrierRequested, now: Millis, out: Outbox) -> None:
    """Append the no-op, unless it can never be held."""
    leader = state.leader
    if leader is None:
        out.respond(event.ticket, state.refuse_not_leader())
        return
    refusal = _why_not(state, leader, event, now)
    if refusal is not None:
        out.respond(event.ticket, refusal)
        return
    index = append_as_leader(state, EntryKind.BLANK, [event.marker], now, out)
    leader.barriers.append(PendingBarrier(event.ticket, state.log.at(index), event.exclude, now + event.wait_ms))
    check(state, out)


def _why_not(state: RaftState, leader: LeaderState, event: BarrierRequested, now: Millis) -> Refusal | None:
    me = state.me.node_id
    unknown = sorted(node_id for node_id in event.exclude if not state.membership.names(node_id))
    if unknown:
        return Refusal(RefusalCode.NODE_NOT_FOUND, f"node {unknown[0]} is not in {state.membership}", me)
    if leader.transfer is not None:
        detail = f"leadership is being transferred to node {leader.transfer.to.node_id}"
        return Refusal(RefusalCode.TRANSFER_IN_PROGRESS, detail, me)
    for config in state.membership.configs:
        available = len(config.keys() - event.exclude)
        needed = holders_needed(config, event.exclude)
        if available < needed:
            detail = f"{needed} voters outside {sorted(event.exclude)} must hold the barrier, there are {available}"
            return Refusal(RefusalCode.QUORUM_IMPOSSIBLE, detail, me)
    if not event.exclude and not has_quorum_contact(state, leader, now):
        silent = quorum_silence(leader, now)
        return Refusal(RefusalCode.NO_QUORUM, f"no quorum answered node {me} for {silent:.0f} ms")
    return None


def check(state: RaftState, out: Outbox) -> None:
    """Answer the barriers that are held by now."""
    leader = state.leader
    if leader is None or not leader.barriers:
        return
    waiting = []
    for barrier in leader.barriers:
        holders = _holders(state, leader, barrier.log_id.index)
        if holds_without(state.membership.configs, holders, barrier.exclude):
            acked = tuple(sorted(peer.node_id for peer in holders if peer.node_id not in barrier.exclude))
            out.respond(barrier.ticket, BarrierOutcome(barrier.log_id, acked))
        else:
            waiting.append(barrier)
    leader.barriers = waiting


def _holders(state: RaftState, leader: LeaderState, index: int) -> set[PeerId]:
    holders = {progress.peer for progress in leader.progress.values() if progress.counts and progress.matching >= index}
    holders = {peer for peer in holders if state.membership.is_voter(peer)}
    if state.flushed >= index and state.is_voter:
        holders.add(state.me)
    return holders


def expire(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell those whose wait is over who holds it so far."""
    leader = state.leader
    if leader is None:
        return
    for barrier in [barrier for barrier in leader.barriers if now >= barrier.deadline]:
        leader.barriers.remove(barrier)
        holders = sorted(peer.node_id for peer in _holders(state, leader, barrier.log_id.index))
        detail = f"barrier {barrier.log_id} is held by {holders} only"
        out.respond(barrier.ticket, Refusal(RefusalCode.TIMED_OUT, detail, state.me.node_id, extra={"held_by": holders}))
