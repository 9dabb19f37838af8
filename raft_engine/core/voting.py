"""What a node's vote allows: the only writer of `state.vote`.

Rules:
1. A vote never falls, and is durable before anybody hears of it.
2. In one term a node grants one candidate; a leader of the term overrides the grant.
3. Whoever heard from a leader within the shortest election timeout grants nobody, unless that leader asked for the election.
4. A candidate whose log ends before one's own is refused.
5. A blank node grants nobody: it may be a wiped voter that has forgotten what it promised.
A refused request changes nothing here, whatever its term: a node that cannot win must not depose a leader that works.
Source: Raft paper 5.2, 5.4.1; dissertation 4.2.3, 9.6; openraft `engine/handler/vote_handler/`.
"""

from __future__ import annotations

from raft_engine.core.commands import SaveHardState, SendMessage
from raft_engine.core.leader import LeaderState
from raft_engine.core.outbox import Outbox
from raft_engine.core.state import HandedOver, RaftState, VoteFlushed
from raft_engine.types.ids import NOBODY, LogIndex, Millis, PeerId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.messages import ReadIndexResponse, VoteRequest
from raft_engine.types.outcomes import Refusal, RefusalCode
from raft_engine.types.vote import Vote


def save(state: RaftState, vote: Vote, out: Outbox) -> None:
    """Adopt `vote` and hand it to the disk."""
    assert vote.term >= state.vote.term
    state.vote = vote
    out.push(SaveHardState(state.next_io(), state.hard_state()))
    state.when_flushed(VoteFlushed(vote))


def adopt_higher_term(state: RaftState, term: Term, now: Millis, out: Outbox) -> None:
    """Somebody is in a later term: follow it there, having voted for nobody."""
    if term > state.term:
        step_down(state, f"term {term} was seen", now, out)
        save(state, Vote(term, NOBODY, committed=False), out)
        state.known_leader = state.outgoing_leader = None


def adopt_leader(state: RaftState, vote: Vote, now: Millis, out: Outbox) -> None:
    """A leader elected with `vote` speaks: follow it and renew its lease."""
    assert vote.term >= state.vote.term
    leader = vote.node_id
    mine = state.vote
    known = mine.term == vote.term and mine.node_id == leader and mine.committed
    if not known or state.candidate is not None:
        # A round of pre-votes ends too: grants that come late must not depose a leader that is heard again.
        step_down(state, f"node {leader} leads term {vote.term}", now, out)
    if not known:
        committed = Vote(vote.term, leader, committed=True)
        if vote.term > state.flushed_vote.term or state.vote.term < vote.term:
            save(state, committed, out)
        else:
            # The term is durable already. Who leads it need not be: a leader exists, so no other can be elected in it.
            state.vote = committed
    if state.known_leader != leader:
        state.known_leader = leader
        fail_reads(state, out)
        forward_held_writes(state, out)
        out.report("leader_changed", f"node {leader} leads term {vote.term}", leader)
    state.outgoing_leader = None
    state.promised_to = leader
    state.promised_until = now + state.config.leader_lease_ms
    state.seen_greater_log = False
    state.election_deadline = now + state.election_timeout()


def step_down(state: RaftState, why: str, now: Millis, out: Outbox) -> None:
    """Stop leading or campaigning. A deposed leader waits an election timeout before it stands again.

    Writes that are in the log stay open: a later leader may commit them.
    """
    drop_candidacy(state, RefusalCode.ELECTION_LOST, why, out)
    leader = state.leader
    if leader is None:
        return
    state.leader = None
    state.election_deadline = now + state.election_timeout()
    if state.known_leader == state.me.node_id:
        state.known_leader = None
    lost = Refusal(RefusalCode.LEADERSHIP_LOST, f"node {state.me.node_id} stopped leading: {why}")
    for heartbeat in leader.heartbeats:
        out.respond(heartbeat.ticket, lost)
    for barrier in leader.barriers:
        out.respond(barrier.ticket, lost)
    for change in leader.changes:
        hint = "look at the membership before you retry"
        out.respond(change.ticket, Refusal(RefusalCode.OUTCOME_UNKNOWN, lost.detail, state.known_leader, hint))
    for number, requester in [*((read.number, read.requester) for read in leader.reads), *leader.waiting_reads]:
        if requester is not None:
            out.push(SendMessage(requester, ReadIndexResponse(number, LogIndex(0), NOBODY)))
    _keep_held_writes(state, leader, out)
    if state.handed_over is None:
        fail_reads(state, out)  # else they, too, wait for the new leader's name
    out.report("stepped_down", why, state.me.node_id, warning=True)


def _keep_held_writes(state: RaftState, leader: LeaderState, out: Outbox) -> None:
    """Writes held for a transfer wait for the new leader's name, so that their callers know whom to ask."""
    transfer = leader.transfer
    if transfer is not None and transfer.requested:
        state.handed_over = HandedOver(transfer.to.node_id, leader.held_writes, transfer.deadline)
        return
    for write in leader.held_writes:
        out.respond(write.ticket, state.refuse_not_leader())


def forward_held_writes(state: RaftState, out: Outbox) -> None:
    """Tell the callers of writes held over a transfer who leads; nobody does in time: whom this node asked to.

    A node that the configuration no longer names is not told of its successor by anybody.
    """
    handed_over, state.handed_over = state.handed_over, None
    if handed_over is None:
        return
    refusal = state.refuse_not_leader()
    if refusal.code is RefusalCode.NO_LEADER and not state.membership.is_member(state.me):
        detail = f"node {state.me.node_id} does not lead; node {handed_over.to} was asked to"
        refusal = Refusal(RefusalCode.NOT_LEADER, detail, handed_over.to)
    for write in handed_over.writes:
        out.respond(write.ticket, refusal)


def fail_reads(state: RaftState, out: Outbox) -> None:
    """The leader that was to confirm these reads is no longer it."""
    state.read_question = 0
    for number in [number for number, read in state.read_waiters.items() if not read.index]:
        out.respond_reads(state.read_waiters.pop(number).tickets, state.refuse_not_leader())


def drop_candidacy(state: RaftState, code: RefusalCode, why: str, out: Outbox) -> None:
    """End a running election without a win; whoever asked for it is told."""
    candidate, state.candidate = state.candidate, None
    waiter = state.elect_waiter
    if candidate is not None and waiter is not None:
        state.elect_waiter = None
        code = RefusalCode.PRE_VOTE_REFUSED if candidate.pre_vote else code
        refused = "; ".join(f"{peer.node_id}: {reason}" for peer, reason in sorted(candidate.refused.items()))
        granted = sorted(peer.node_id for peer in candidate.granted)
        detail = f"{why} (granted by {granted or 'nobody'}{', refused by ' + refused if refused else ''})"
        out.respond(waiter.ticket, Refusal(code, detail, state.known_leader))


def lease_holds(state: RaftState, now: Millis) -> bool:
    """Return whether this node heard from a leader, or was started, within the shortest election timeout."""
    return now < state.promised_until


def why_not_grant(state: RaftState, sender: PeerId, request: VoteRequest, now: Millis) -> str:
    """Return in one word why `request` is refused, or nothing. One rule for votes and pre-votes.

    `mute`: this node is blank; `term`: the request is old; `vote`: somebody else has the vote of that term; `lease`: a
    leader lives; `log`: the candidate lacks entries.
    """
    if state.is_blank or state.shut_down:
        return "mute"
    if request.term < state.term:
        return "term"
    if request.term == state.term:
        if request.pre_vote or state.vote.committed or state.vote.node_id not in {NOBODY, sender.node_id}:
            return "vote"
    elif _leader_lives(state, sender, now) and not request.leadership_transfer:
        return "lease"
    if request.last_log_id < _must_hold(state):
        return "log"
    return ""


def _must_hold(state: RaftState) -> LogId:
    """Return what a candidate's log must reach: this node's own end; while it recovers, the barrier it was wiped behind.

    Every later leader of the configuration that held the barrier has it. A node that a former configuration still names may
    never have heard of that one, and must not be elected by what the wiped node has forgotten.
    """
    last = state.log.last
    return last if state.recovery is None else max(last, state.recovery.until)


def _leader_lives(state: RaftState, sender: PeerId, now: Millis) -> bool:
    """A leader that campaigns itself has lost its office, so its own lease does not stand in its way."""
    if state.leader is not None:
        return True
    return sender.node_id != state.promised_to and lease_holds(state, now)
