"""What time does: elections, heartbeats, check quorum, lost answers, and the end of waits.

Switching the timers off (`RuntimeFlags`) stops elections and heartbeats, never an operator's request nor the end of a wait.
Source: Raft paper 5.2; openraft `core/raft_core.rs` (`handle_tick`); etcd `tickElection`, `tickHeartbeat`.
"""

from __future__ import annotations

from raft_engine.core import (
    barrier,
    election,
    heartbeating,
    leadership_transfer,
    membership_change,
    purging,
    reading,
    snapshotting,
)
from raft_engine.core.leader import LeaderState
from raft_engine.core.outbox import Outbox
from raft_engine.core.progress import Mode
from raft_engine.core.replication import quorum_silence, restart, start_round
from raft_engine.core.state import RaftState
from raft_engine.core.voting import step_down
from raft_engine.types.ids import Millis
from raft_engine.types.outcomes import TriggerOutcome

QUORUM_SILENCE_FACTOR = 2
"""A leader that no quorum answers refuses writes after one longest election timeout and steps down after this many: others
may hear its heartbeats and keep following while it hears nobody."""


def on_ticked(state: RaftState, now: Millis, out: Outbox) -> None:
    """Do what is due."""
    _notice_sleep(state, now)
    if state.flags.enable_tick:
        if state.leader is not None:
            _lead(state, state.leader, now, out)
            purging.resume(state, out)
        else:
            election.on_time(state, now, out)
    heartbeating.expire(state, now, out)
    leadership_transfer.on_time(state, now, out)
    barrier.expire(state, now, out)
    membership_change.expire(state, now, out)
    purging.expire(state, now, out)
    snapshotting.expire(state, now, out)
    snapshotting.by_policy(state, now, out)
    reading.expire(state, now, out)
    expire_election(state, now, out)


def _notice_sleep(state: RaftState, now: Millis) -> None:
    """After a sleep, first read what the others said meanwhile: they may have been there all the time.

    Nothing rests on this but who campaigns and steps down when: votes and leases go by the times of messages alone.
    """
    slept = now - state.ticked_at
    state.ticked_at = now
    if slept < state.config.election_timeout_min_ms / 2:
        return
    state.woke_at = now
    read_until = now + state.config.heartbeat_interval_ms
    state.election_deadline = max(state.election_deadline, read_until)
    if state.candidate is not None:
        state.candidate.deadline = max(state.candidate.deadline, read_until)


def _lead(state: RaftState, leader: LeaderState, now: Millis, out: Outbox) -> None:
    silence = min(quorum_silence(leader, now), now - state.woke_at)
    if silence >= state.config.election_timeout_max_ms * QUORUM_SILENCE_FACTOR:
        step_down(state, f"no quorum answered for {silence:.0f} ms", now, out)
        return
    if now >= leader.next_heartbeat:
        leader.next_heartbeat = now + state.config.heartbeat_interval_ms
        if state.flags.enable_heartbeat:
            start_round(state, leader, now, out, spare_ms=state.config.heartbeat_min_interval_ms)
    for progress in leader.progress.values():
        if not progress.connected:
            continue
        chunk_at = progress.snapshot_sent_at
        if progress.mode is Mode.SNAPSHOT:
            if chunk_at is None or now >= chunk_at + state.config.install_snapshot_timeout_ms:
                restart(state, leader, progress, now, out)
        elif progress.inflight and now >= progress.inflight[0].sent_at + state.config.election_timeout_max_ms:
            restart(state, leader, progress, now, out)


def expire_election(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell the caller whose wait is over that the election goes on."""
    waiter = state.elect_waiter
    if waiter is not None and now >= waiter.deadline:
        state.elect_waiter = None
        effective: dict[str, object] = {"term": state.candidate.term if state.candidate is not None else state.term}
        out.respond(waiter.ticket, TriggerOutcome(True, False, "the election is under way", effective))
