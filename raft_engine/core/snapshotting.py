"""When a snapshot is built, and what a built one changes.

Rules:
1. One build at a time; who asks meanwhile joins it, or has another built when it does not cover enough.
2. A finished snapshot moves the cursor forward only: a newer one may have been installed meanwhile.
3. Every new snapshot lets the policy purge.
4. Builds by policy take a small share of the time: after each one they rest, the longer the longer it took. Otherwise a large state
   under a quick load would be written over and over again. An operator's request does not wait for that.
Source: dissertation 5.1; openraft `engine/handler/snapshot_handler/`, `core/raft_core.rs` (`trigger_snapshot_by_policy`).
"""

from __future__ import annotations

from raft_engine.core.commands import BuildSnapshot
from raft_engine.core.events import SnapshotBuilt, SnapshotRequested
from raft_engine.core.outbox import Outbox
from raft_engine.core.state import RaftState, SnapshotWaiter
from raft_engine.types.ids import Millis
from raft_engine.types.outcomes import Refusal, RefusalCode, TriggerOutcome

REST_PER_BUILD = 19
"""How many times as long as a build took the policy rests after it: 5 % of the time goes into builds at the most."""


def on_snapshot_requested(state: RaftState, event: SnapshotRequested, now: Millis, out: Outbox) -> None:
    """An operator wants a snapshot that covers everything applied by now."""
    need = state.applied.index
    if need == 0:
        detail = f"node {state.me.node_id} has applied nothing yet"
        out.respond(event.ticket, Refusal(RefusalCode.BLANK, detail, state.known_leader))
        return
    if state.snapshot.last_log_id.index >= need:
        out.respond(event.ticket, _outcome(state, changed=False))
        return
    state.snapshot_waiters.append(SnapshotWaiter(event.ticket, need, now + event.wait_ms))
    _build(state, now, out)
    expire(state, now, out)


def by_policy(state: RaftState, now: Millis, out: Outbox) -> None:
    """Build when enough was committed since the last snapshot or the last try, and the last build is long enough ago."""
    every = state.config.snapshot_logs_since_last
    if every and state.applied.index >= state.snapshot_tried + every and now >= state.snapshot_rest_until:
        _build(state, now, out)


def _build(state: RaftState, now: Millis, out: Outbox) -> None:
    if not state.building_snapshot and state.installing is None:
        state.building_snapshot = True
        state.snapshot_begun_at = now
        state.snapshot_tried = state.applied.index
        out.push(BuildSnapshot())


def on_snapshot_built(state: RaftState, event: SnapshotBuilt, now: Millis, out: Outbox) -> None:
    """A build is done, or was put off by the state machine."""
    state.building_snapshot = False
    state.snapshot_rest_until = now + REST_PER_BUILD * (now - state.snapshot_begun_at)
    if event.meta is None:
        for waiter in state.snapshot_waiters:
            detail = "the state machine put the snapshot off"
            out.respond(waiter.ticket, Refusal(RefusalCode.SNAPSHOT_DEFERRED, detail, hint="ask again later"))
        state.snapshot_waiters.clear()
        return
    if event.meta.last_log_id.index > state.snapshot.last_log_id.index:
        state.snapshot = event.meta
        out.report("snapshot_built", f"{event.meta.last_log_id}, {event.meta.size_bytes} bytes", state.me.node_id)
    resume(state, now, out)


def resume(state: RaftState, now: Millis, out: Outbox) -> None:
    """There is a newer snapshot: tell those whom it is enough, build another one for the rest."""
    waiting = []
    for waiter in state.snapshot_waiters:
        if waiter.need <= state.snapshot.last_log_id.index:
            out.respond(waiter.ticket, _outcome(state, changed=True))
        else:
            waiting.append(waiter)
    state.snapshot_waiters = waiting
    if waiting:
        _build(state, now, out)


def expire(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell those whose wait is over that the build goes on."""
    for waiter in [waiter for waiter in state.snapshot_waiters if now >= waiter.deadline]:
        state.snapshot_waiters.remove(waiter)
        effective: dict[str, object] = {"upto": waiter.need}
        out.respond(waiter.ticket, TriggerOutcome(True, False, f"a snapshot up to {waiter.need} is being built", effective))


def _outcome(state: RaftState, *, changed: bool) -> TriggerOutcome:
    last = state.snapshot.last_log_id
    detail = f"snapshot up to {last.index}" if changed else f"the snapshot up to {last.index} covers everything applied"
    return TriggerOutcome(changed, True, detail, {"upto": last.index, "size_bytes": state.snapshot.size_bytes})
