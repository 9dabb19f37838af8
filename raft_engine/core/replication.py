"""How entries reach the others: the leader appends, sends, counts acknowledgements and backs off.

Rules:
1. Only entries of the leader's own term are committed by counting; earlier ones with them (Figure 8 of the paper).
2. The leader's own copy counts when it is durable here, like everybody's.
3. What a target answers counts only in the session in which it was asked, and only for the incarnation that the
   configuration names.
4. A target that lacks what it acknowledged has lost its log: allowed, it starts over; otherwise it counts for nothing.
   The commit index never goes back for it.
Source: Raft paper 5.3, 5.4.2; dissertation 10.2; etcd `tracker/`; openraft `engine/handler/replication_handler/`.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft_engine.core.commands import AppendEntries, ReplicateEntries, SendMessage, SendSnapshotChunk
from raft_engine.core.committing import commit_upto
from raft_engine.core.configuring import adopt
from raft_engine.core.events import ClientWrite, PeerConnected, PeerLost, PeerReplaced, PeerRolledBack, WriteRequested
from raft_engine.core.leader import LeaderState
from raft_engine.core.outbox import Outbox
from raft_engine.core.progress import NEVER, Mode, Progress
from raft_engine.core.quorum import highest_agreed
from raft_engine.core.state import EntriesFlushed, RaftState
from raft_engine.core.voting import adopt_higher_term
from raft_engine.errors import Panicked
from raft_engine.types.entry import EntryKind, make_entries, records_bytes
from raft_engine.types.ids import LogIndex, Millis, PeerId
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.messages import AppendRequest, AppendResponse
from raft_engine.types.outcomes import Refusal, RefusalCode
from raft_engine.types.snapshot import SnapshotMeta

ROUNDS_MAX = 1024
"""Rounds whose sending time is remembered; at 50 ms a heartbeat that is most of a minute, and an answer older than that
renews no lease."""


# -- the leader's own log ----------------------------------------------------------------------------------------------


def on_writes_requested(state: RaftState, writes: Sequence[ClientWrite], now: Millis, out: Outbox) -> None:
    """Take client writes into the log, or say why not."""
    leader = state.leader
    if leader is None:
        held = state.handed_over
        if held is not None and len(held.writes) + len(writes) <= state.config.api_channel_size:
            held.writes.extend(writes)
            return
        refusal: Refusal | None = state.refuse_not_leader()
    elif leader.transfer is not None and len(leader.held_writes) + len(writes) <= state.config.api_channel_size:
        leader.held_writes.extend(writes)  # decided within one election timeout: by the new leader's address or here
        return
    else:
        refusal = _why_not_write(state, leader, now)
    if refusal is not None:
        for write in writes:
            out.respond(write.ticket, refusal)
        return
    first = append_as_leader(state, EntryKind.NORMAL, [write.data for write in writes], now, out)
    state.writes.extend([(index, write.ticket) for index, write in enumerate(writes, first)])


def on_write_requested(state: RaftState, event: WriteRequested, now: Millis, out: Outbox) -> None:
    """Take one write into the log as its caller expects; it does not wait for the end of a transfer (openraft `write`)."""
    leader = state.leader
    refusal = state.refuse_not_leader() if leader is None else _why_not_write(state, leader, now)
    if refusal is not None:
        refuse_write(event, refusal, out)
        return
    if event.data is None:
        index = append_as_leader(state, EntryKind.BLANK, [b""], now, out)
    else:
        index = append_as_leader(state, EntryKind.NORMAL, [event.data], now, out)
    state.writes.append((index, event.ticket))
    if event.commit_ticket is not None:
        state.commit_waiters.append((index, event.commit_ticket))


def refuse_write(event: WriteRequested, refusal: Refusal, out: Outbox) -> None:
    """Nothing was appended: tell whoever waits for the commit or for the result."""
    if event.commit_ticket is not None:
        out.respond(event.commit_ticket, refusal)
    out.respond(event.ticket, refusal)


def refuse_held_writes(state: RaftState, reason: str, out: Outbox) -> None:
    """The node ends: what was held for a transfer is in no log, and that is known."""
    leader, handed_over = state.leader, state.handed_over
    held = [*(leader.held_writes if leader is not None else ()), *(handed_over.writes if handed_over is not None else ())]
    for write in held:
        out.respond(write.ticket, Refusal(RefusalCode.SHUTTING_DOWN, f"{reason}; the write was not accepted"))


def _why_not_write(state: RaftState, leader: LeaderState, now: Millis) -> Refusal | None:
    if leader.transfer is not None or leader.uncommitted_bytes > state.config.max_uncommitted_bytes:
        detail = f"{leader.uncommitted_bytes} bytes wait to be committed (max_uncommitted_bytes)"
        return Refusal(RefusalCode.OVERLOADED, detail, state.me.node_id, hint="retry later")
    if not has_quorum_contact(state, leader, now):
        silent = quorum_silence(leader, now)
        return Refusal(RefusalCode.NO_QUORUM, f"no quorum answered node {state.me.node_id} for {silent:.0f} ms")
    return None


def append_as_leader(state: RaftState, kind: EntryKind, payloads: Sequence[bytes], now: Millis, out: Outbox) -> int:
    """Append entries of the own term, one for each of `payloads`, send them, and return the first one's index."""
    leader = state.leader
    assert leader is not None
    term, node_id = leader.vote.term, leader.vote.node_id
    first = state.log.last.index + 1
    entries = make_entries(term, node_id, first, kind, payloads)
    last = first + len(entries) - 1
    state.log.extend(term, node_id, last)
    size = records_bytes(entries)
    leader.uncommitted.append((last, size))
    leader.uncommitted_bytes += size
    out.push(AppendEntries(state.next_io(), entries))
    state.when_flushed(EntriesFlushed(last))
    if kind is EntryKind.MEMBERSHIP:
        adopt(state, entries, out)
        sync_targets(state, leader)
    for progress in leader.progress.values():
        send(state, leader, progress, now, out)
    return first


def advance_commit(state: RaftState, leader: LeaderState, out: Outbox) -> None:
    """Commit what a quorum holds, if it is of this term."""
    if state.committed == state.log.last.index:
        return
    own = state.flushed
    durable = [[own if target is None else target.matching for target in voters] for voters in leader.voter_sets]
    agreed = int(highest_agreed(durable))
    if agreed <= state.committed or agreed < leader.first_index:
        return
    commit_upto(state, agreed, out)
    while leader.uncommitted and leader.uncommitted[0][0] <= agreed:
        leader.uncommitted_bytes -= leader.uncommitted.popleft()[1]
    for progress in leader.progress.values():
        idle = not progress.inflight and progress.mode is Mode.REPLICATE
        if idle and progress.committed_sent < min(state.committed, progress.matching):
            # Idle targets would hear of it a heartbeat later; so with the next tick. They have answered what it rests on.
            _send_heartbeat(state, leader, progress, out, wants_answer=False)


# -- targets -----------------------------------------------------------------------------------------------------------


def sync_targets(state: RaftState, leader: LeaderState) -> None:
    """Have exactly one Progress per member of the configuration in force, and its voters' at hand."""
    membership = state.membership
    members = membership.members() - {state.me}
    for gone in leader.progress.keys() - members:
        del leader.progress[gone]
    for peer in sorted(members - leader.progress.keys()):
        progress = Progress(peer, state.next_session(), state.log.last.index + 1)
        progress.connected = peer in state.connected
        leader.progress[peer] = progress
    leader.voter_sets = [
        [None if voter == state.me else leader.progress[PeerId(*voter)] for voter in config.items()]
        for config in membership.configs
    ]
    leader.is_settled = leader.find_settled(membership, state.me)


def send(state: RaftState, leader: LeaderState, progress: Progress, now: Millis, out: Outbox) -> None:
    """Send what `progress` has room for: entries, a probe, or the beginning of a snapshot."""
    if not progress.connected:
        return  # heartbeats go on; an answer or a new connection starts this again
    last = state.log.last.index
    while progress.next <= last or progress.mode is not Mode.REPLICATE:
        if not progress.has_room(state.config.max_inflight_requests):
            return
        prev = state.log.get(progress.next - 1)
        if prev is None or prev.index < state.purge_upto.index:
            ship_snapshot(state, leader, progress, now, out)
            return
        upto = min(last, progress.next + state.config.max_payload_entries - 1)
        progress.sent(upto, now)
        check = prev.index <= progress.promised
        committed = LogIndex(min(state.committed, upto))
        progress.committed_sent = max(progress.committed_sent, committed)
        vote, session, round_ = leader.vote, progress.session, leader.round
        if upto == prev.index:
            request = AppendRequest(vote, session, check, round_, prev, committed)
            out.push(SendMessage(progress.peer, request))
        else:
            entries = ReplicateEntries(progress.peer, vote, session, check, round_, prev, LogIndex(upto), committed)
            out.push(entries)


def start_round(state: RaftState, leader: LeaderState, now: Millis, out: Outbox, *, spare_ms: Millis = 0) -> int:
    """Send every target a heartbeat of a new round and return the round's number.

    `spare_ms`: not those that answered within this time; entries carry the round as well (openraft `heartbeat_min_interval`).
    """
    leader.round += 1
    leader.round_sent_at[leader.round] = now
    leader.round_sent_at.pop(leader.round - ROUNDS_MAX, None)
    for progress in leader.progress.values():
        if progress.heard_at is None or now - progress.heard_at >= spare_ms:
            _send_heartbeat(state, leader, progress, out)
    return leader.round


def _send_heartbeat(
    state: RaftState, leader: LeaderState, progress: Progress, out: Outbox, *, wants_answer: bool = True
) -> None:
    """Its `prev` is what the target acknowledged, so a target that lacks it shows itself (and no other does)."""
    prev = state.log.get(progress.matching) or BEFORE_LOG
    committed = LogIndex(min(state.committed, prev.index))
    progress.committed_sent = max(progress.committed_sent, committed)
    request = AppendRequest(leader.vote, progress.session, True, leader.round, prev, committed, wants_answer=wants_answer)
    out.push(SendMessage(progress.peer, request))


def ship_snapshot(state: RaftState, leader: LeaderState, progress: Progress, now: Millis, out: Outbox) -> None:
    """What the target needs is gone from the log: send a snapshot, beginning with a question how far it is."""
    assert state.snapshot.last_log_id.index >= state.purge_upto.index
    progress.ship(state.next_session(), state.snapshot)
    out.report("snapshot_transfer_started", f"{state.snapshot.last_log_id}", progress.peer.node_id)
    send_chunk(leader, progress, now, out)


def send_chunk(leader: LeaderState, progress: Progress, now: Millis, out: Outbox) -> None:
    """Ask for the chunk at the target's offset to be sent."""
    assert progress.snapshot is not None
    progress.snapshot_sent_at = now
    out.push(
        SendSnapshotChunk(
            progress.peer, leader.vote, progress.session, leader.round, progress.snapshot, progress.snapshot_offset
        )
    )


# -- answers -----------------------------------------------------------------------------------------------------------


def current_target(state: RaftState, sender: PeerId, session: int) -> Progress | None:
    """Return the target to which an answer belongs; None: it is stale, or from somebody who does not count."""
    if state.leader is None:
        return None
    progress = state.leader.progress.get(sender)
    return progress if progress is not None and progress.session == session else None


def on_append_response(state: RaftState, sender: PeerId, response: AppendResponse, now: Millis, out: Outbox) -> None:
    """A target has taken entries, or lacks what they follow on, or is in a later term."""
    if response.vote.term > state.vote.term:
        adopt_higher_term(state, response.vote.term, now, out)
        return
    progress = current_target(state, sender, response.session)
    leader = state.leader
    if progress is None or leader is None or response.vote.term < state.vote.term:
        return
    note_contact(leader, progress, response.round, now)
    if response.accepted:
        is_news = progress.mode is not Mode.REVERTED and progress.accept(response.matching.index)
        if is_news and progress.matching > state.committed:
            advance_commit(state, leader, out)
        if progress.snapshot is not None:
            _notice_installed(state, progress, progress.snapshot, out)
    else:
        _on_conflict(state, progress, response, now, out)
    send(state, leader, progress, now, out)


def _notice_installed(state: RaftState, progress: Progress, meta: SnapshotMeta, out: Outbox) -> None:
    """The target has what a snapshot on its way would bring: the answer that said so was lost (etcd `maybeUpdate`)."""
    if progress.matching >= meta.last_log_id.index:
        out.report("snapshot_transfer_finished", f"{meta.last_log_id}", progress.peer.node_id)
        progress.probe(state.next_session(), progress.matching + 1)
        progress.accept(progress.matching)


def note_contact(leader: LeaderState, progress: Progress, round_: int, now: Millis) -> None:
    """The target follows this leader: renew what rests on that."""
    progress.connected = True
    progress.heard_at = now
    if round_ > progress.acked_round:
        progress.acked_round = round_
        sent_at = leader.round_sent_at.get(round_)
        if sent_at is not None:
            progress.acked_at = sent_at


def _on_conflict(state: RaftState, progress: Progress, response: AppendResponse, now: Millis, out: Outbox) -> None:
    conflict = response.conflict.index
    if progress.mode is Mode.REVERTED:
        return
    if response.check:
        _on_revert(state, progress, response.last, now, out)
    elif conflict > progress.promised and progress.mode in {Mode.PROBE, Mode.REPLICATE}:
        reach = min(conflict - 1, response.last.index)
        if reach >= state.log.purged.index:
            reach = state.log.last_at_or_below(reach, response.last.term).index
        progress.probe(state.next_session(), reach + 1)


def _on_revert(state: RaftState, progress: Progress, last: LogId, now: Millis, out: Outbox) -> None:
    """The target lacks an entry that it acknowledged. Source: openraft `progress/entry/update.rs`."""
    node_id = progress.peer.node_id
    detail = f"node {node_id} acknowledged up to {progress.promised} and now ends at {last}"
    if progress.is_armed(now) or state.config.allow_log_reversion:
        progress.forget(state.next_session())
        progress.next = max(1, min(progress.next, last.index + 1))
        out.report("revert_allowed", detail, node_id)
    else:
        _panic_if_told(state, detail)
        progress.quarantine(state.next_session())
        out.report("node_reverted", detail, node_id, warning=True)


def _panic_if_told(state: RaftState, detail: str) -> None:
    """openraft's answer to a revert that nobody allowed, for those who want it."""
    if state.config.on_unexpected_revert == "panic":
        raise Panicked(f"{detail}; nobody allowed that, and on_unexpected_revert is panic")


# -- connections -------------------------------------------------------------------------------------------------------


def on_peer_connected(state: RaftState, event: PeerConnected, now: Millis, out: Outbox) -> None:
    """Begin anew with a target that can be reached again."""
    state.connected.add(event.peer)
    leader = state.leader
    progress = leader.progress.get(event.peer) if leader is not None else None
    if leader is None or progress is None:
        return
    progress.connected = True
    progress.failure = ""
    progress.replaced_by = progress.rolled_back = ""
    restart(state, leader, progress, now, out)
    _send_heartbeat(state, leader, progress, out)


def on_peer_lost(state: RaftState, event: PeerLost, out: Outbox) -> None:
    """What was in flight to this target may be lost."""
    state.connected.discard(event.peer)
    progress = state.leader.progress.get(event.peer) if state.leader is not None else None
    if progress is None:
        return
    if progress.connected:
        out.report("peer_lost", event.reason, event.peer.node_id, warning=True)
    progress.connected = False
    progress.failure = event.reason
    void_session(state, progress)


def on_peer_replaced(state: RaftState, event: PeerReplaced, now: Millis, out: Outbox) -> None:
    """The node's directory is new: the member that the configuration names is gone."""
    leader = state.leader
    progress = leader.progress.get(event.peer) if leader is not None else None
    if leader is None or progress is None:
        return
    progress.connected = False
    progress.rolled_back = ""
    if progress.replaced_by != event.seen:
        progress.replaced_by = event.seen
        leader.is_settled = False
        detail = f"node {event.peer.node_id} came back as incarnation {event.seen[:8]}, the cluster knows {event.peer}"
        if not progress.is_armed(now):
            _panic_if_told(state, detail)
        out.report("node_reverted", detail, event.peer.node_id, warning=True)
    progress.quarantine(state.next_session())


def on_peer_rolled_back(state: RaftState, event: PeerRolledBack, now: Millis, out: Outbox) -> None:
    """What the node acknowledged may be gone, and its vote is not the one that it gave: it counts for nothing."""
    progress = state.leader.progress.get(event.peer) if state.leader is not None else None
    if progress is None:
        return
    progress.connected = False
    if not progress.rolled_back:
        detail = f"node {event.peer.node_id} {event.why}"
        if not progress.is_armed(now):
            _panic_if_told(state, detail)
        out.report("node_reverted", detail, event.peer.node_id, warning=True)
    progress.rolled_back = event.why
    progress.quarantine(state.next_session())


def restart(state: RaftState, leader: LeaderState, progress: Progress, now: Millis, out: Outbox) -> None:
    """Send anew what may have been lost."""
    void_session(state, progress)
    if progress.mode is Mode.SNAPSHOT:
        progress.snapshot_offset = 0
        send_chunk(leader, progress, now, out)
    else:
        send(state, leader, progress, now, out)


def void_session(state: RaftState, progress: Progress) -> None:
    """Answers to what was sent so far no longer count; nothing is in flight."""
    if progress.mode is Mode.SNAPSHOT or progress.mode is Mode.REVERTED:
        progress.session = state.next_session()
        progress.snapshot_sent_at = None
    else:
        progress.probe(state.next_session(), progress.matching + 1 if progress.matching else progress.next)


# -- the lease ---------------------------------------------------------------------------------------------------------


def quorum_acked_at(leader: LeaderState, now: Millis) -> Millis:
    """Return when the newest round was sent that a quorum has answered; `now` for a single voter, -inf for never."""
    acked = [
        [now if target is None else target.acked_at if target.counts else NEVER for target in voters]
        for voters in leader.voter_sets
    ]
    return highest_agreed(acked)


def quorum_silence(leader: LeaderState, now: Millis) -> Millis:
    """Return for how long no quorum has answered; a new leader's time begins with its election."""
    return now - max(leader.elected_at, quorum_acked_at(leader, now))


def has_quorum_contact(state: RaftState, leader: LeaderState, now: Millis) -> bool:
    """Return whether a quorum answered within the longest election timeout (check quorum; etcd `CheckQuorum`)."""
    return quorum_silence(leader, now) < state.config.election_timeout_max_ms
