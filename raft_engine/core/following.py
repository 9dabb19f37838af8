"""Taking over a leader's log: appended entries, conflicts, snapshots.

Rules:
1. Entries are dropped only where they conflict with the leader's, never because a request is old or short, and never at or
   below the commit index.
2. The commit index follows the leader's up to the last entry that the request has confirmed, not to the log's end.
3. An acceptance is sent when what it claims is durable.
4. A snapshot replaces the log only where the log does not hold its last entry; what follows that entry stays.
Source: Raft paper 5.3, 7; openraft `engine/handler/following_handler/`.
"""

from __future__ import annotations

from raft_engine.core.commands import (
    AppendEntries,
    PurgeLog,
    ResetLog,
    SendMessage,
    StoreSnapshotChunk,
    TruncateLog,
)
from raft_engine.core.committing import apply_ready, commit_upto, cover_writes, end_recovery, lose_writes
from raft_engine.core.configuring import adopt, set_peers, take_back
from raft_engine.core.events import SnapshotChunkStored, SnapshotInstalled
from raft_engine.core.outbox import Outbox
from raft_engine.core.state import EntriesFlushed, InstallWhenFlushed, PurgeFlushed, RaftState, SendWhenFlushed
from raft_engine.core.voting import adopt_leader
from raft_engine.types.entry import Entry
from raft_engine.types.ids import LogIndex, Millis, PeerId
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.messages import AppendRequest, AppendResponse, SnapshotChunk, SnapshotChunkResponse
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.vote import Vote

# -- entries -----------------------------------------------------------------------------------------------------------


def on_append_request(state: RaftState, sender: PeerId, request: AppendRequest, now: Millis, out: Outbox) -> None:
    """A leader sends entries, or shows that it is there."""
    if not _follow(state, sender, request.vote, now, out):
        # It belongs to no session: the sender may lead again by now, with a session of this number.
        refusal = AppendResponse(state.vote, 0, False, request.round, False, BEFORE_LOG, request.prev, state.log.last)
        state.when_flushed(SendWhenFlushed(sender, refusal))
        return
    prev = request.prev
    # What is purged is committed, so it agrees with every leader's log.
    if prev.index >= state.log.purged.index and not state.log.has(prev):
        last = state.log.last_at_or_below(prev.index, prev.term)
        conflict = AppendResponse(state.vote, request.session, request.check, request.round, False, BEFORE_LOG, prev, last)
        _answer(state, sender, conflict, out)
        return
    matching = _take(state, request, out)
    if request.committed > state.committed:
        commit_upto(state, min(request.committed, matching.index), out)
    if not request.wants_answer:
        return
    accepted = AppendResponse(
        state.vote, request.session, request.check, request.round, True, matching, BEFORE_LOG, state.log.last
    )
    _answer(state, sender, accepted, out)


def _follow(state: RaftState, sender: PeerId, vote: Vote, now: Millis, out: Outbox) -> bool:
    """Follow the leader elected with `vote` unless a later term is known."""
    mine = state.vote
    if vote.term < mine.term or vote.node_id != sender.node_id:
        return False
    if vote.term == mine.term and mine.committed and mine.node_id != vote.node_id:
        out.report("two_leaders", f"{sender} claims term {vote.term}, which node {mine.node_id} leads", warning=True)
        return False
    adopt_leader(state, vote, now, out)
    return True


def _take(state: RaftState, request: AppendRequest, out: Outbox) -> LogId:
    """Append what is new and return the last id that the request has confirmed."""
    entries = request.entries
    if not entries:
        return request.prev if request.prev.index >= state.log.purged.index else state.log.purged
    follows = entries[0].index == state.log.last.index + 1
    new = entries if follows else _new_entries(state, entries)
    if new:
        before = new[0].index - 1
        if before < state.log.last.index:
            _truncate(state, before, out)
        state.log.append(new)
        out.push(AppendEntries(state.next_io(), new))
        state.when_flushed(EntriesFlushed(state.log.last.index))
        adopt(state, new, out)
        return state.log.last
    last = entries[-1].log_id
    return last if last.index >= state.log.purged.index else state.log.purged


def _new_entries(state: RaftState, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries from the first one on that the log does not hold."""
    for position, entry in enumerate(entries):
        if entry.index > state.log.purged.index and not state.log.has(entry.log_id):
            return entries[position:]
    return ()


def _truncate(state: RaftState, after: int, out: Outbox) -> None:
    assert after >= state.committed, f"a leader contradicts committed entry {state.log.at(after + 1)}"
    out.report("log_truncated", f"entries {after + 1}..{state.log.last.index} conflict with the leader's")
    state.log.truncate(after)
    state.flushed = min(state.flushed, after)
    _forget_flushes(state, after)
    out.push(TruncateLog(state.next_io(), LogIndex(after)))
    take_back(state, after, out)
    lose_writes(state, after, f"entries after {after} were replaced by a new leader's", out)


def _forget_flushes(state: RaftState, after: int) -> None:
    """A flush under way reports entries that are no longer there."""
    for position, (io_id, action) in enumerate(state.pending_io):
        if isinstance(action, EntriesFlushed) and action.upto > after:
            state.pending_io[position] = (io_id, EntriesFlushed(after))


def _answer(state: RaftState, sender: PeerId, response: AppendResponse, out: Outbox) -> None:
    """Send `response` as soon as what it claims is durable."""
    claimed = response.matching.index if response.accepted else 0
    if claimed <= state.flushed and state.flushed_vote.term == state.vote.term:
        out.push(SendMessage(sender, response))
    else:
        state.when_flushed(SendWhenFlushed(sender, response))


# -- snapshots ---------------------------------------------------------------------------------------------------------


def on_snapshot_chunk(state: RaftState, sender: PeerId, chunk: SnapshotChunk, now: Millis, out: Outbox) -> None:
    """A leader ships a snapshot."""
    if not _follow(state, sender, chunk.vote, now, out):
        _answer_chunk(state, sender, 0, chunk.round, chunk.meta, 0, out, installed=False)
        return
    if chunk.meta.last_log_id.term > chunk.vote.term:
        # No leader can have it; taken over, the log would be later than every vote (openraft issue 1892).
        out.report("snapshot_refused", f"{chunk.meta.last_log_id} is later than term {chunk.vote.term}", warning=True)
        return
    if chunk.meta.last_log_id.index <= state.committed:
        _answer_chunk(state, sender, chunk.session, chunk.round, chunk.meta, chunk.meta.size_bytes, out, installed=True)
    elif state.installing is None:
        out.push(StoreSnapshotChunk(sender, chunk))


def on_snapshot_chunk_stored(state: RaftState, event: SnapshotChunkStored, out: Outbox) -> None:
    """Some of the snapshot is here; when it is whole, it replaces the state machine."""
    if not event.complete:
        _answer_chunk(state, event.sender, event.session, event.round, event.meta, event.next_offset, out, installed=False)
    elif event.meta.last_log_id.index <= state.committed:
        _answer_chunk(state, event.sender, event.session, event.round, event.meta, event.next_offset, out, installed=True)
    elif state.installing is None:
        state.installing = event.meta
        state.installing_for = (event.sender, event.session, event.round)
        # A snapshot of a term that this node has not saved would leave it with a log later than its term after a crash.
        state.when_flushed(InstallWhenFlushed(event.meta))


def on_snapshot_installed(state: RaftState, event: SnapshotInstalled, out: Outbox) -> None:
    """The state machine is the snapshot's; bring the log in line."""
    meta = event.meta
    upto = meta.last_log_id
    state.installing = None
    if state.log.has(upto):
        state.log.purge(upto)
        out.push(PurgeLog(state.next_io(), upto))
    else:
        state.log.reset(upto)
        state.flushed = upto.index
        _forget_flushes(state, upto.index)
        out.push(ResetLog(state.next_io(), upto))
        lose_writes(state, 0, f"a snapshot up to {upto} replaced the log", out)
    cover_writes(state, upto, out)
    state.snapshot = meta
    state.applied = max(state.applied, upto)
    state.apply_submitted = max(state.apply_submitted, upto.index)
    state.committed = max(state.committed, upto.index)
    state.flushed = max(state.flushed, upto.index)
    state.purge_upto = max(state.purge_upto, upto)
    state.purge_submitted = state.purge_upto
    state.snapshot_tried = max(state.snapshot_tried, upto.index)
    state.when_flushed(PurgeFlushed(upto))
    later = [stored for stored in state.memberships if stored.log_id.index > upto.index]
    state.memberships = [meta.membership, *later]
    set_peers(state, out)
    end_recovery(state, out)
    apply_ready(state, out)
    out.report("snapshot_installed", f"{upto}", state.me.node_id)
    if state.installing_for is not None:
        (sender, session, round_), state.installing_for = state.installing_for, None
        _answer_chunk(state, sender, session, round_, meta, meta.size_bytes, out, installed=True)


def _answer_chunk(
    state: RaftState,
    sender: PeerId,
    session: int,
    round_: int,
    meta: SnapshotMeta,
    next_offset: int,
    out: Outbox,
    *,
    installed: bool,
) -> None:
    """An answer is a promise like any other: it waits for what was handed to the log."""
    response = SnapshotChunkResponse(
        state.vote, session, round_, meta.snapshot_id, next_offset, installed, meta.last_log_id if installed else BEFORE_LOG
    )
    del out
    state.when_flushed(SendWhenFlushed(sender, response))
