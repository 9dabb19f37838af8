"""The permission for one node to come back with less than it acknowledged.

Rules:
1. Only the leader gives it, it lives in the leader's memory, covers one loss, and ends with use, time, or leadership.
2. Giving it voids what the node acknowledged so far: a new session, nothing counted, and the commit index stays.
3. It may be given before the loss is seen or after: a fenced node is let in at once.
Source: openraft `raft/trigger.rs` (`allow_next_revert`), `progress/entry/update.rs`.
"""

from __future__ import annotations

from raft_engine.core.events import AllowNextRevertRequested
from raft_engine.core.leader import LeaderState
from raft_engine.core.outbox import Outbox
from raft_engine.core.progress import Mode, Progress
from raft_engine.core.replication import restart
from raft_engine.core.state import RaftState
from raft_engine.types.ids import Millis
from raft_engine.types.outcomes import Refusal, RefusalCode, TriggerOutcome


def on_allow_next_revert(state: RaftState, event: AllowNextRevertRequested, now: Millis, out: Outbox) -> None:
    """Give or take back the permission."""
    leader = state.leader
    me = state.me.node_id
    if leader is None:
        out.respond(event.ticket, state.refuse_not_leader())
        return
    if event.to == me:
        detail = f"node {me} leads: it has nothing to revert to"
        out.respond(event.ticket, Refusal(RefusalCode.IS_LEADER, detail, me, hint="transfer leadership first"))
        return
    targets = [progress for progress in leader.progress.values() if progress.peer.node_id == event.to]
    if not targets:
        detail = f"node {event.to} is not in {state.membership}"
        out.respond(event.ticket, Refusal(RefusalCode.NODE_NOT_FOUND, detail, me))
        return
    outcomes = [_set(state, leader, progress, event, now, out) for progress in targets]
    out.respond(event.ticket, outcomes[-1])


def _set(
    state: RaftState,
    leader: LeaderState,
    progress: Progress,
    event: AllowNextRevertRequested,
    now: Millis,
    out: Outbox,
) -> TriggerOutcome:
    node_id = progress.peer.node_id
    was_armed = progress.is_armed(now)
    if not event.allow:
        progress.armed_until = None
        detail = f"node {node_id} may no longer revert" if was_armed else f"node {node_id} was not allowed to revert"
        return TriggerOutcome(was_armed, True, detail, {"to": node_id, "allow": False, "term": state.term})
    progress.armed_until = now + event.ttl_ms if event.ttl_ms > 0 else float("inf")
    effective: dict[str, object] = {"to": node_id, "allow": True, "term": state.term, "ttl_ms": event.ttl_ms or None}
    out.report("revert_armed", f"node {node_id} may revert once", node_id)
    if progress.mode is Mode.REVERTED and not progress.replaced_by and not progress.rolled_back:
        progress.forget(state.next_session())
        progress.next = 1 if not state.log.purged.index else state.log.last.index + 1
        out.report("revert_allowed", f"node {node_id} is let in again", node_id)
        restart(state, leader, progress, now, out)
        return TriggerOutcome(True, True, f"node {node_id} had reverted; it is let in again", effective | {"used": True})
    if progress.mode is Mode.REVERTED:
        what = "came back blank" if progress.replaced_by else "runs on an older copy of its disk; clear it first"
        detail = f"node {node_id} {what}; it is let in as a new life"
        return TriggerOutcome(not was_armed, True, detail, effective)
    progress.matching = 0
    restart(state, leader, progress, now, out)
    return TriggerOutcome(not was_armed, True, f"node {node_id} may revert once", effective)
