"""Sending a snapshot: one chunk after the other, from where the receiver is.

The receiver's answer says how much it has, so a transfer that was cut off goes on where it stopped.
Source: Raft paper 7; openraft `replication/snapshot_transmitter.rs`.
"""

from __future__ import annotations

from raft_engine.core.events import SnapshotSendFailed
from raft_engine.core.outbox import Outbox
from raft_engine.core.progress import Mode
from raft_engine.core.replication import advance_commit, current_target, note_contact, send, send_chunk, ship_snapshot
from raft_engine.core.state import RaftState
from raft_engine.core.voting import adopt_higher_term
from raft_engine.types.ids import Millis, PeerId
from raft_engine.types.messages import SnapshotChunkResponse


def on_chunk_response(state: RaftState, sender: PeerId, response: SnapshotChunkResponse, now: Millis, out: Outbox) -> None:
    """The target has a chunk, or the whole snapshot in place."""
    if response.vote.term > state.term:
        adopt_higher_term(state, response.vote.term, now, out)
        return
    progress = current_target(state, sender, response.session)
    leader = state.leader
    if progress is None or leader is None or progress.mode is not Mode.SNAPSHOT or progress.snapshot is None:
        return
    note_contact(leader, progress, response.round, now)
    if response.snapshot_id != progress.snapshot.snapshot_id:
        return
    if not response.installed:
        if response.next_offset == progress.snapshot_offset:
            return  # that chunk is on its way; answering every doubled answer would double the chunks for ever (RFC 1123, 4.2.3.1)
        progress.snapshot_offset = response.next_offset
        send_chunk(leader, progress, now, out)
        return
    out.report("snapshot_transfer_finished", f"{response.last_log_id}", sender.node_id)
    upto = progress.snapshot.last_log_id.index
    progress.probe(state.next_session(), upto + 1)
    if progress.accept(upto):
        advance_commit(state, leader, out)
    send(state, leader, progress, now, out)


def on_send_failed(state: RaftState, event: SnapshotSendFailed, now: Millis, out: Outbox) -> None:
    """The snapshot that was being sent is gone: begin with the newest one."""
    progress = current_target(state, event.target, event.session)
    if progress is not None and state.leader is not None and progress.mode is Mode.SNAPSHOT:
        out.report("snapshot_transfer_restarted", event.reason, event.target.node_id, warning=True)
        ship_snapshot(state, state.leader, progress, now, out)
