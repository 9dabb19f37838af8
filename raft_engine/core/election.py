"""Who leads: pre-vote and vote as one kind of round, and what winning means.

Rules:
1. Only a voter that is neither blank nor recovering may campaign, by whatever path: a voter of the newest configuration, or of
   an earlier one while the newest is not known to be committed. Those who hold the configuration that removes them may be
   the only ones who can bring it to the others (dissertation 4.2.2).
2. A timer's round asks first (pre-vote): a node that cannot win does not disturb.
3. The own vote counts when it is durable, and no election is won without it: a node that forgot its vote in a crash could
   otherwise be elected twice in one term, with two different logs.
4. A grant counts only from the incarnation that the configuration names, and only if this log is what it was given for: a
   node that lost vote and entries in a crash may stand again in a term for whose first round a late answer comes.
5. A vote refused because of a lease is asked for again while the round can be won: leases end by themselves.
6. Who learns that the connection to its leader ended does not wait for its random timeout, but never campaigns before its lease
   of that leader is over: something between the two may end connections while the leader lives, and serves reads by its lease.
7. A new leader appends an entry of its term at once; until that is committed it serves nobody.
A restarted leader does not resume its term: entries it sent before they were durable here may exist elsewhere.
Source: Raft paper 5.2, 5.4; dissertation 4.2.3, 9.6; openraft `engine/engine_impl.rs`.
"""

from __future__ import annotations

from raft_engine.core.candidate import CandidateState
from raft_engine.core.commands import SendMessage
from raft_engine.core.events import ElectRequested
from raft_engine.core.leader import LeaderState
from raft_engine.core.outbox import Outbox
from raft_engine.core.quorum import has_quorum, is_lost
from raft_engine.core.replication import append_as_leader, on_writes_requested, start_round, sync_targets
from raft_engine.core.state import ElectWaiter, OwnVoteFlushed, RaftState, SendWhenFlushed
from raft_engine.core.voting import adopt_higher_term, drop_candidacy, lease_holds, save, step_down, why_not_grant
from raft_engine.types.entry import EntryKind
from raft_engine.types.ids import Millis, PeerId, Term
from raft_engine.types.messages import VoteRequest, VoteResponse
from raft_engine.types.outcomes import Refusal, RefusalCode, TriggerOutcome
from raft_engine.types.vote import Vote

FIRST_ASKS = 4
"""How often a candidate asks in its first heartbeat interval while a lease stands in its way. Followers heard a dead leader for
the last time within such an interval, mostly at nearly the same moment."""

# -- campaigning -------------------------------------------------------------------------------------------------------


def why_not_campaign(state: RaftState) -> Refusal | None:
    """Return why this node must not campaign, or None."""
    me = state.me.node_id
    if state.is_blank:
        return Refusal(RefusalCode.BLANK, f"node {me} belongs to no cluster yet", hint="initialise the cluster first")
    if state.recovery is not None:
        until = state.recovery.until
        return Refusal(RefusalCode.RECOVERING, f"node {me} is recovering until its log holds {until}", state.known_leader)
    if not any(stored.membership.is_voter(state.me) for stored in state.memberships):
        return Refusal(RefusalCode.NOT_VOTER, f"node {me} is not a voter of {state.membership}", state.known_leader)
    return None


def campaign(state: RaftState, now: Millis, out: Outbox, *, pre_vote: bool, transfer: bool = False) -> None:
    """Begin a round. The caller has checked `why_not_campaign`."""
    assert state.leader is None
    term = Term(max(state.term, state.refused_term) + 1)
    candidate = CandidateState(term, pre_vote, transfer, started_at=now, deadline=now + state.election_timeout())
    state.candidate = candidate
    if pre_vote:
        candidate.granted.add(state.me)
    else:
        if not transfer and lease_holds(state, now):
            candidate.ask_at = state.promised_until
            candidate.deadline = candidate.ask_at + state.election_timeout()
        state.outgoing_leader = state.known_leader if transfer else None
        state.known_leader = None
        save(state, Vote(term, state.me.node_id, committed=False), out)
        state.when_flushed(OwnVoteFlushed(term))
    out.report("campaign_started", f"{'pre-vote' if pre_vote else 'vote'} for term {term}", state.me.node_id)
    if candidate.ask_at is None:
        _ask(state, candidate, out)
    _count(state, candidate, now, out)


def _ask(state: RaftState, candidate: CandidateState, out: Outbox) -> None:
    request = VoteRequest(candidate.term, state.log.last, candidate.pre_vote, candidate.leadership_transfer)
    for peer in sorted(state.membership.voters() - candidate.granted - {state.me}):
        out.push(SendMessage(peer, request))


def on_time(state: RaftState, now: Millis, out: Outbox) -> None:
    """Begin a round when no leader was heard of for too long, or the last round came to nothing."""
    candidate = state.candidate
    if candidate is not None and candidate.ask_at is not None and now >= candidate.ask_at:
        candidate.ask_at = None
        candidate.refused.clear()
        _ask(state, candidate, out)
    if state.leader is not None or now < (candidate.deadline if candidate is not None else state.election_deadline):
        return
    state.known_leader = state.outgoing_leader = None
    state.seen_greater_log = False
    if candidate is not None:
        drop_candidacy(state, RefusalCode.ELECTION_LOST, "the round ended without a majority", out)
    state.election_deadline = now + state.election_timeout()
    if state.flags.enable_elect and why_not_campaign(state) is None:
        campaign(state, now, out, pre_vote=state.flags.enable_pre_vote and state.membership.voters() != {state.me})


def on_leader_lost(state: RaftState, peer: PeerId, now: Millis) -> None:
    """The connection to the leader ended: campaign when its lease is over and one's turn has come.

    May be told repeatedly, and changes nothing for good: who hears the leader again waits for a random timeout as before.
    """
    if state.leader is not None or state.known_leader != peer.node_id:
        return
    soon = max(now, state.promised_until) + _turn(state) * state.config.heartbeat_interval_ms
    state.election_deadline = min(state.election_deadline, soon)


def _turn(state: RaftState) -> int:
    """Return how many voters that can be reached go before this node.

    All see a dead leader's connections end at once. One heartbeat interval between two of them is time enough for the first
    one's requests; chance would have some of them vote for themselves together.
    """
    return sum(voter < state.me and voter in state.connected for voter in state.membership.voters())


def on_elect_requested(state: RaftState, event: ElectRequested, now: Millis, out: Outbox) -> None:
    """An operator wants an election now. On a leader there is nothing to do, and that is said."""
    if state.leader is not None:
        effective: dict[str, object] = {"leader": state.me.node_id, "term": state.term}
        outcome = TriggerOutcome(False, True, f"node {state.me.node_id} leads term {state.term} already", effective)
        out.respond(event.ticket, outcome)
        return
    refusal = why_not_campaign(state)
    if refusal is not None:
        out.respond(event.ticket, refusal)
        return
    if state.elect_waiter is not None:
        detail = "another request for an election is being served"
        out.respond(event.ticket, Refusal(RefusalCode.CHANGE_IN_PROGRESS, detail, state.known_leader))
        return
    drop_candidacy(state, RefusalCode.ELECTION_LOST, "a new election was asked for", out)
    state.elect_waiter = ElectWaiter(event.ticket, now + event.wait_ms)
    campaign(state, now, out, pre_vote=event.pre_vote)


# -- voting for others -------------------------------------------------------------------------------------------------


def on_vote_request(state: RaftState, sender: PeerId, request: VoteRequest, now: Millis, out: Outbox) -> None:
    """Grant or refuse; a grant is durable before it is sent."""
    reason = why_not_grant(state, sender, request, now)
    granted = not reason
    if reason == "log" and not request.pre_vote:
        state.refused_term = max(state.refused_term, request.term)
    if granted and not request.pre_vote:
        step_down(state, f"node {sender.node_id} is granted term {request.term}", now, out)
        state.outgoing_leader = (state.known_leader or state.outgoing_leader) if request.leadership_transfer else None
        state.known_leader = None
        state.election_deadline = now + state.election_timeout()
        wanted = Vote(request.term, sender.node_id, committed=False)
        if wanted != state.vote:
            save(state, wanted, out)
    response = VoteResponse(
        request.term, request.pre_vote, granted, state.vote, state.log.last, reason, state.known_leader or state.vote.node_id
    )
    state.when_flushed(SendWhenFlushed(sender, response))


def on_own_vote_flushed(state: RaftState, term: Term, now: Millis, out: Outbox) -> None:
    """The vote for oneself is durable: it counts."""
    candidate = state.candidate
    if candidate is not None and not candidate.pre_vote and candidate.term == term:
        candidate.granted.add(state.me)
        _count(state, candidate, now, out)


def on_vote_response(state: RaftState, sender: PeerId, response: VoteResponse, now: Millis, out: Outbox) -> None:
    """A voter has answered."""
    if not response.granted and response.vote.term > state.term:
        adopt_higher_term(state, response.vote.term, now, out)
        return
    candidate = state.candidate
    if candidate is None or (candidate.term, candidate.pre_vote) != (response.term, response.pre_vote):
        return
    if not state.membership.is_voter(sender):
        return  # another incarnation, or no longer a voter
    if response.granted and response.last_log_id > state.log.last:
        return  # it was asked by a candidacy of this term that a crash has undone, with entries that the crash took along
    if response.granted:
        candidate.granted.add(sender)
    else:
        candidate.refused[sender] = response.reason
        if response.reason == "log" and not state.seen_greater_log:
            # Whoever has more entries goes first, also where the round goes on because somebody does not answer at all.
            state.seen_greater_log = True
            candidate.deadline += state.config.election_timeout_max_ms
    _count(state, candidate, now, out)


def _count(state: RaftState, candidate: CandidateState, now: Millis, out: Outbox) -> None:
    configs = state.membership.configs
    refused = candidate.refused.keys() if candidate.pre_vote else candidate.refused_for_good()
    if state.me in candidate.granted and has_quorum(configs, candidate.granted):
        if candidate.pre_vote:
            campaign(state, now, out, pre_vote=False)
        else:
            _establish(state, candidate, now, out)
    elif is_lost(configs, refused):
        drop_candidacy(state, RefusalCode.ELECTION_LOST, f"a majority refused term {candidate.term}", out)
        # Whoever has more entries goes first: wait one longest timeout more (openraft: smaller-log timeout).
        penalty = state.config.election_timeout_max_ms if state.seen_greater_log else 0
        state.seen_greater_log = False
        state.election_deadline = now + state.election_timeout() + penalty
    elif "lease" in candidate.refused.values() and candidate.ask_at is None:
        _ask_again(state, candidate, now)


def _ask_again(state: RaftState, candidate: CandidateState, now: Millis) -> None:
    """Somebody's lease stands in the way: it ends in a moment if it was given by the leader of all; else ask where only leases do."""
    heartbeat = state.config.heartbeat_interval_ms
    if now < candidate.started_at + heartbeat:
        candidate.ask_at = now + heartbeat / FIRST_ASKS
    elif is_lost(state.membership.configs, candidate.refused.keys()):
        candidate.ask_at = now + heartbeat


def _establish(state: RaftState, candidate: CandidateState, now: Millis, out: Outbox) -> None:
    state.candidate = state.outgoing_leader = None
    state.vote = Vote(candidate.term, state.me.node_id, committed=True)
    state.known_leader = state.me.node_id
    leader = LeaderState(
        vote=state.vote,
        first_index=state.log.last.index + 1,
        elected_at=now,
        next_heartbeat=now + state.config.heartbeat_interval_ms,
        waiting_reads=[(number, None) for number, read in state.read_waiters.items() if not read.index],
    )
    state.leader = leader
    state.read_question = 0
    out.report("leader_elected", f"node {state.me.node_id} leads term {candidate.term}", state.me.node_id)
    sync_targets(state, leader)
    start_round(state, leader, now, out)
    append_as_leader(state, EntryKind.BLANK, [b""], now, out)
    held, state.handed_over = state.handed_over, None
    if held is not None and held.writes:
        on_writes_requested(state, held.writes, now, out)
    waiter, state.elect_waiter = state.elect_waiter, None
    if waiter is not None:
        effective: dict[str, object] = {"leader": state.me.node_id, "term": state.term}
        out.respond(waiter.ticket, TriggerOutcome(True, True, f"node {state.me.node_id} leads term {state.term}", effective))
