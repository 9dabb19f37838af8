"""How far the log is agreed and applied: the only writer of `state.committed` and `state.applied`.

Nothing is applied that is not durable here, so a state machine is never ahead of its own log after a crash.
Source: Raft paper 5.3, 5.4.2; openraft `engine/handler/following_handler`, `core/sm/`.
"""

from __future__ import annotations

from raft_engine.core.commands import Apply, RespondWrites, SaveHardState
from raft_engine.core.configuring import forget_superseded
from raft_engine.core.outbox import Outbox
from raft_engine.core.state import RaftState
from raft_engine.types.ids import LogIndex, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import CommitOutcome, ReadOutcome, Refusal, RefusalCode


def commit_upto(state: RaftState, index: int, out: Outbox) -> bool:
    """Everything up to `index` is agreed. Return whether that is news."""
    if index <= state.committed:
        return False
    assert index <= state.log.last.index
    state.committed = index
    if state.commit_waiters:
        _tell_committed(state, out)
    if len(state.memberships) > 1:
        forget_superseded(state)
    apply_ready(state, out)
    return True


def _tell_committed(state: RaftState, out: Outbox) -> None:
    waiters = state.commit_waiters
    while waiters and waiters[0][0] <= state.committed:
        index, ticket = waiters.popleft()
        out.respond(ticket, CommitOutcome(state.log.at(index)))


def apply_ready(state: RaftState, out: Outbox) -> None:
    """Ask for what is agreed and durable to be applied, as much as the state machine has room for."""
    upto = min(state.committed, state.flushed, state.applied.index + state.config.state_machine_channel_size)
    if upto > state.apply_submitted and state.installing is None:
        out.push(Apply(LogIndex(state.apply_submitted), state.log.at(upto)))
        state.apply_submitted = upto


def on_applied(state: RaftState, upto: LogId, results: list[object], out: Outbox) -> None:
    """Answer the writes among the applied entries."""
    if upto.index <= state.applied.index:
        return  # applied before a snapshot replaced the state machine
    state.applied = upto
    if state.apply_submitted < state.committed:
        apply_ready(state, out)
    writes = state.writes
    if writes and writes[0][0] <= upto.index:
        first = upto.index - len(results) + 1
        first_write = writes[0][0]
        log_ids = state.log.between(first_write, upto.index)
        answers: list[tuple[Ticket, LogId, object]] = []
        while writes and writes[0][0] <= upto.index:
            index, ticket = writes.popleft()
            answers.append((ticket, log_ids[index - first_write], results[index - first]))
        out.push(RespondWrites(answers))


def serve_reads(state: RaftState, out: Outbox) -> None:
    """Answer the reads whose index is applied by now."""
    if not state.read_waiters:
        return
    ready = [number for number, read in state.read_waiters.items() if 0 < read.index <= state.applied.index]
    for number in ready:
        read = state.read_waiters.pop(number)
        out.respond_reads(read.tickets, ReadOutcome(state.applied.index))


def lose_writes(state: RaftState, after: int, why: str, out: Outbox) -> None:
    """Writes after `after` were overtaken. They may still be committed through a copy elsewhere, so nobody can say."""
    unknown = Refusal(RefusalCode.OUTCOME_UNKNOWN, why, state.known_leader, hint="read before you retry")
    for waiting in (state.writes, state.commit_waiters):
        while waiting and waiting[-1][0] > after:
            out.respond(waiting.pop()[1], unknown)


def cover_writes(state: RaftState, upto: LogId, out: Outbox) -> None:
    """A snapshot has passed these writes: something was committed at their index, and nobody can say whether they were."""
    detail = f"a snapshot up to {upto} covers the entry; whether it was this one is not known"
    unknown = Refusal(RefusalCode.OUTCOME_UNKNOWN, detail, hint="read before you retry")
    for waiting in (state.writes, state.commit_waiters):
        while waiting and waiting[0][0] <= upto.index:
            out.respond(waiting.popleft()[1], unknown)


def leave_waiting(state: RaftState, why: str, out: Outbox) -> None:
    """The node ends: what is in the log may be committed by the others, be it a write or a change of members."""
    tickets = [ticket for _, ticket in (*state.writes, *state.commit_waiters)]
    if state.leader is not None:
        tickets += [change.ticket for change in state.leader.changes]
    state.writes.clear()
    state.commit_waiters.clear()
    unknown = Refusal(RefusalCode.OUTCOME_UNKNOWN, f"{why}; it may yet be committed", hint="read before you retry")
    for ticket in tickets:
        out.respond(ticket, unknown)


def end_recovery(state: RaftState, out: Outbox) -> None:
    """A wiped node that durably holds its barrier is a full member again (docs/decisions: rejoin, way A)."""
    recovery = state.recovery
    if recovery is None:
        return
    until = recovery.until
    covered = state.snapshot.last_log_id.index >= until.index or state.log.purged.index > until.index
    if covered or (state.flushed >= until.index and state.log.has(until)):
        state.recovery = None
        out.push(SaveHardState(state.next_io(), state.hard_state()))
        out.report("recovered", f"the log holds {until}", state.me.node_id)
