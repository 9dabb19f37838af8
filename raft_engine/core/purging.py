"""Dropping log entries that a snapshot already covers.

Rules:
1. Never beyond the snapshot: an operator's request is clamped to it, and told so.
2. A leader waits while a request on its way to a target needs the entries; nothing new is sent from the region, so the wait
   ends with the answer or with the connection.
3. An operator's request looks neither at `max_in_snapshot_log_to_keep` nor at `purge_batch_size`; the policy does.
Source: openraft `engine/engine_impl.rs` (`trigger_purge_log`), `engine/handler/log_handler/`, `replication_handler/`.
"""

from __future__ import annotations

from raft_engine.core.commands import PurgeLog
from raft_engine.core.events import PurgeLogRequested
from raft_engine.core.outbox import Outbox
from raft_engine.core.state import PurgeFlushed, PurgeWaiter, RaftState
from raft_engine.types.ids import Millis, NodeId
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import Refusal, RefusalCode, TriggerOutcome


def on_purge_log_requested(state: RaftState, event: PurgeLogRequested, now: Millis, out: Outbox) -> None:
    """An operator wants entries dropped on this node."""
    end = state.snapshot.last_log_id.index
    if event.upto <= state.purged.index:
        out.respond(event.ticket, _outcome(state, event.upto, changed=False))
    elif event.upto > end and event.strict:
        detail = f"asked to purge up to {event.upto}, the snapshot ends at {end}"
        out.respond(event.ticket, Refusal(RefusalCode.BEYOND_SNAPSHOT, detail, hint="take a snapshot first"))
    elif end == 0:
        detail = f"node {state.me.node_id} has no snapshot, so nothing can be purged"
        out.respond(event.ticket, Refusal(RefusalCode.NO_SNAPSHOT, detail, hint="take a snapshot first"))
    elif end <= state.purged.index:
        out.respond(event.ticket, _outcome(state, event.upto, changed=False))
    else:
        upto = min(event.upto, end)
        state.purge_waiters.append(PurgeWaiter(event.ticket, event.upto, upto, now + event.wait_ms))
        _schedule(state, upto)
        resume(state, out)
        expire(state, now, out)


def by_policy(state: RaftState, out: Outbox) -> None:
    """After a snapshot: drop what it covers but for the entries that slow followers may still want."""
    end = state.snapshot.last_log_id.index - state.config.max_in_snapshot_log_to_keep
    if end >= state.purge_upto.index + state.config.purge_batch_size:
        _schedule(state, end)
    resume(state, out)


def _schedule(state: RaftState, upto: int) -> None:
    if upto > state.purge_upto.index:
        state.purge_upto = state.log.at(upto)


def resume(state: RaftState, out: Outbox) -> None:
    """Purge what is scheduled unless a target still needs it."""
    upto = state.purge_upto
    if upto.index <= state.purge_submitted.index or _needed_by(state, upto):
        return
    state.purge_submitted = upto
    state.log.purge(upto)
    out.push(PurgeLog(state.next_io(), upto))
    state.when_flushed(PurgeFlushed(upto))


def _needed_by(state: RaftState, upto: LogId) -> list[NodeId]:
    """Return the targets to which a request is on its way that rests on entries at or below `upto`."""
    if state.leader is None:
        return []
    return sorted(
        progress.peer.node_id
        for progress in state.leader.progress.values()
        if progress.inflight and progress.connected and progress.matching < upto.index
    )


def on_purge_flushed(state: RaftState, upto: LogId, out: Outbox) -> None:
    """The entries are gone; tell who asked."""
    state.purged = max(state.purged, upto)
    waiting = []
    for waiter in state.purge_waiters:
        if waiter.upto <= state.purged.index:
            out.respond(waiter.ticket, _outcome(state, waiter.requested, changed=True))
        else:
            waiting.append(waiter)
    state.purge_waiters = waiting


def expire(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell those whose wait is over who holds the purge up; it goes on."""
    for waiter in [waiter for waiter in state.purge_waiters if now >= waiter.deadline]:
        state.purge_waiters.remove(waiter)
        held_by = _needed_by(state, state.purge_upto)
        why = f"deferred: requests to node {', '.join(map(str, held_by))} need the entries" if held_by else "under way"
        effective: dict[str, object] = {"upto": waiter.upto, "deferred_by": held_by}
        out.respond(waiter.ticket, TriggerOutcome(True, False, f"purge up to {waiter.upto} is {why}", effective))


def _outcome(state: RaftState, requested: int, *, changed: bool) -> TriggerOutcome:
    upto = state.purged.index
    end = state.snapshot.last_log_id.index
    detail = f"purged up to {upto}" if changed else f"already purged up to {upto}"
    if requested > end:
        detail += f" (asked for {requested}; the snapshot ends at {end})"
    return TriggerOutcome(changed, True, detail, {"upto": upto})
