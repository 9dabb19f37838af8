"""From which index on a read is linearizable.

Rules:
1. A leader serves no read before an entry of its own term is committed.
2. Read index: the commit index at the request, once a quorum has answered a heartbeat sent after the request.
3. Lease: the commit index at once, while a quorum's answers are younger than the lease less what clocks may drift apart;
   not while leadership is being handed over, nor in that term after somebody was asked to take over.
4. A follower asks its leader for the index and waits until it has applied it. The answer serves every read that was there when
   it asked; those that come meanwhile share the next question.
5. A recovering node serves no read.
Reads share rounds: those that come while one is under way wait for the next.
Source: dissertation 6.4; openraft `raft/linearizable_read/`; etcd `read_only.go`.
"""

from __future__ import annotations

from raft_engine.core.commands import SendMessage
from raft_engine.core.committing import serve_reads
from raft_engine.core.events import ReadsRequested
from raft_engine.core.leader import LeaderState, PendingRead
from raft_engine.core.outbox import Outbox
from raft_engine.core.quorum import highest_agreed
from raft_engine.core.replication import quorum_acked_at, start_round
from raft_engine.core.state import RaftState, ReadWaiter
from raft_engine.types.ids import NOBODY, LogIndex, Millis, NodeId, PeerId
from raft_engine.types.messages import ReadIndexRequest, ReadIndexResponse
from raft_engine.types.outcomes import Refusal, RefusalCode

CLOCK_DRIFT = 0.1
"""Two clocks may run apart by this share: far beyond any oscillator, and what etcd's users are told to expect of VMs."""


def on_reads_requested(state: RaftState, event: ReadsRequested, now: Millis, out: Outbox) -> None:
    """Callers here want to read."""
    if state.recovery is not None:
        detail = f"node {state.me.node_id} is recovering until its log holds {state.recovery.until}"
        recovering = Refusal(RefusalCode.RECOVERING, detail, state.known_leader, hint="ask another node")
        out.respond_reads(event.tickets, recovering)
        return
    leader = state.leader
    handed_over = state.handed_over is not None and not event.lease
    if leader is None and (event.lease or state.known_leader is None) and not handed_over:
        out.respond_reads(event.tickets, state.refuse_not_leader())
        return
    state.last_read_id += 1
    number = state.last_read_id
    state.read_waiters[number] = ReadWaiter(event.tickets, 0, now + event.wait_ms)
    if leader is None:
        _ask_leader(state, now, out)
    elif event.lease and _lease_read_allowed(state, leader, now):
        _answer(state, number, None, state.committed, out)
        serve_reads(state, out)
    else:
        _wait_for_round(state, leader, number, None, now, out)
    if event.wait_ms <= 0 and number in state.read_waiters:
        _end_wait(state, number, out)


def _ask_leader(state: RaftState, now: Millis, out: Outbox, *, again: bool = False) -> None:
    """Ask on behalf of every read so far; unless `again`, not while this leader has a question to answer."""
    if state.read_question and state.read_asked_of == state.known_leader and not again:
        return
    for peer in state.membership.members():
        if peer.node_id == state.known_leader:
            state.read_question = state.last_read_id
            state.read_asked_of, state.read_asked_at = peer.node_id, now
            out.push(SendMessage(peer, ReadIndexRequest(state.last_read_id)))


def on_read_index_request(state: RaftState, sender: PeerId, request: ReadIndexRequest, now: Millis, out: Outbox) -> None:
    """A follower wants to read."""
    if state.leader is None:
        out.push(SendMessage(sender, ReadIndexResponse(request.request_id, LogIndex(0), state.known_leader or NOBODY)))
        return
    _wait_for_round(state, state.leader, request.request_id, sender, now, out)


def on_read_index_response(state: RaftState, response: ReadIndexResponse, now: Millis, out: Outbox) -> None:
    """The leader has said from which index on: for all reads that were there when it was asked.

    Only the question under way is answered: the number of an earlier one, or of one from before a restart, says nothing of now.
    """
    if response.request_id != state.read_question or not state.read_question:
        return
    state.read_question = 0
    if response.index == 0 and response.leader == NOBODY:
        return  # an office was just handed over, or lost: whoever follows tells these reads, or they ask again in a moment
    asked = [number for number, read in state.read_waiters.items() if number <= response.request_id and not read.index]
    for number in asked:
        if response.index == 0:
            out.respond_reads(state.read_waiters.pop(number).tickets, _not_leader(state, response.leader))
        else:
            state.read_waiters[number].index = response.index
    if asked:
        serve_reads(state, out)
    if state.leader is None and any(not read.index for read in state.read_waiters.values()):
        _ask_leader(state, now, out)


def _not_leader(state: RaftState, leader: NodeId) -> Refusal:
    """Return the refusal of a read whose leader has said who leads instead."""
    if leader == state.me.node_id:
        return state.refuse_not_leader()
    detail = f"node {state.me.node_id} does not lead, nor does node {state.known_leader}; node {leader} does"
    return Refusal(RefusalCode.NOT_LEADER, detail, leader)


def _lease_read_allowed(state: RaftState, leader: LeaderState, now: Millis) -> bool:
    if leader.transfer is not None or leader.lease_given_up or state.committed < leader.first_index:
        return False
    return now < quorum_acked_at(leader, now) + state.config.leader_lease_ms * (1 - CLOCK_DRIFT)


def _wait_for_round(
    state: RaftState, leader: LeaderState, number: int, requester: PeerId | None, now: Millis, out: Outbox
) -> None:
    leader.waiting_reads.append((number, requester))
    _begin_round(state, leader, now, out)


def confirm(state: RaftState, now: Millis, out: Outbox) -> None:
    """A quorum may have answered: serve the reads whose round that was; begin the next round when some wait for one."""
    leader = state.leader
    if leader is None:
        return
    if leader.reads:
        confirmed = _confirmed_round(leader)
        if leader.reads[0].round > confirmed:
            return
        while leader.reads and leader.reads[0].round <= confirmed:
            read = leader.reads.pop(0)
            _answer(state, read.number, read.requester, read.index, out)
        serve_reads(state, out)
    _begin_round(state, leader, now, out)


def _begin_round(state: RaftState, leader: LeaderState, now: Millis, out: Outbox) -> None:
    if leader.waiting_reads and not leader.reads and state.committed >= leader.first_index:
        round_ = start_round(state, leader, now, out)
        index = state.committed
        leader.reads = [PendingRead(number, peer, round_, index) for number, peer in leader.waiting_reads]
        leader.waiting_reads = []
        if _confirmed_round(leader) >= round_:  # a single voter is its own quorum
            confirm(state, now, out)


def _confirmed_round(leader: LeaderState) -> int:
    answered = [
        [leader.round if target is None else target.acked_round if target.counts else 0 for target in voters]
        for voters in leader.voter_sets
    ]
    return int(highest_agreed(answered))


def _answer(state: RaftState, number: int, requester: PeerId | None, index: int, out: Outbox) -> None:
    if requester is not None:
        out.push(SendMessage(requester, ReadIndexResponse(number, LogIndex(index), state.me.node_id)))
        return
    read = state.read_waiters.get(number)
    if read is not None:
        read.index = index


def expire(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell those whose wait is over, and ask the leader again where the question or the answer may be lost."""
    if not state.read_waiters:
        return
    unanswered = state.leader is None and any(not read.index for read in state.read_waiters.values())
    if unanswered and now >= state.read_asked_at + state.config.election_timeout_min_ms:
        _ask_leader(state, now, out, again=True)
    for number in [number for number, read in state.read_waiters.items() if now >= read.deadline]:
        _end_wait(state, number, out)


def _end_wait(state: RaftState, number: int, out: Outbox) -> None:
    read = state.read_waiters.pop(number)
    detail = f"index {read.index} is not applied yet" if read.index else "no quorum has confirmed the leader"
    extra = {} if read.index or state.leader is None else _who_confirmed(state, state.leader, number)
    refusal = Refusal(RefusalCode.TIMED_OUT, f"the read was not served in time: {detail}", state.known_leader, extra=extra)
    out.respond_reads(read.tickets, refusal)


def _who_confirmed(state: RaftState, leader: LeaderState, number: int) -> dict[str, object]:
    """Return the voters, and who of them has answered the read's round (openraft `QuorumNotEnough`)."""
    round_ = next((read.round for read in leader.reads if read.number == number and read.requester is None), None)
    voters = state.membership.voters()
    got = {state.me} & voters
    if round_ is not None:
        got |= {peer for peer, item in leader.progress.items() if item.counts and item.acked_round >= round_} & voters
    return {"cluster": state.membership.voter_ids(), "got": sorted(peer.node_id for peer in got)}
