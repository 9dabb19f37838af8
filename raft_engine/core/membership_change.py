"""Changing who belongs to the cluster: learners in one step, voters through a joint configuration.

Rules:
1. Only a leader whose own first entry is committed, and only one change at a time (the 2015 bug of single-server changes).
2. A voter must have been a learner: nobody votes who has not been brought up to date.
3. Voters change in two entries: the joint configuration, which needs both quorums, and, once that is committed, the new one.
   Whoever leads by then appends the second; a change is never left half done.
4. A leader that is no longer a voter serves until its removal is committed, then hands over and steps down.
5. The life of a node that came back blank replaces the old one the same way: learner first, then one joint change in which
   only the incarnation differs.
Source: dissertation 4.1, 4.2.2, 4.3; openraft `engine/handler/`, `membership/`; etcd `confchange/`.
"""

from __future__ import annotations

from raft_engine.core.commands import SendMessage
from raft_engine.core.events import MembershipChangeRequested, StepDownRequested
from raft_engine.core.leader import LeaderState, PendingChange, Transfer
from raft_engine.core.outbox import Outbox
from raft_engine.core.progress import Mode, Progress
from raft_engine.core.replication import append_as_leader, has_quorum_contact, quorum_silence
from raft_engine.core.state import RaftState
from raft_engine.core.voting import step_down
from raft_engine.types.entry import EntryKind
from raft_engine.types.ids import Incarnation, Millis, NodeId, PeerId
from raft_engine.types.membership import Membership, NodeAddress, encode_membership
from raft_engine.types.messages import TransferRequest
from raft_engine.types.outcomes import Refusal, RefusalCode, TriggerOutcome

VoterSet = dict[NodeId, Incarnation]

# -- asking ------------------------------------------------------------------------------------------------------------


def on_change_requested(state: RaftState, event: MembershipChangeRequested, now: Millis, out: Outbox) -> None:
    """An operator wants other members."""
    leader = state.leader
    if leader is None:
        out.respond(event.ticket, state.refuse_not_leader())
        return
    refusal = _why_not(state, leader, now)
    target = None if refusal is not None else _plan(state, leader, event)
    if refusal is not None:
        out.respond(event.ticket, refusal)
    elif isinstance(target, Refusal):
        out.respond(event.ticket, target)
    elif target is None or target == state.membership:
        _wait_or_answer(state, leader, event, now, out)
    else:
        _append(state, target, now, out)
        learners = event.add_learners if event.blocking else {}
        leader.changes.append(PendingChange(event.ticket, learners, now + event.wait_ms))
        on_progress(state, now, out)
        expire(state, now, out)


def _wait_or_answer(
    state: RaftState, leader: LeaderState, event: MembershipChangeRequested, now: Millis, out: Outbox
) -> None:
    """The members are as wanted; a learner may still have to catch up."""
    if event.blocking and event.add_learners and not _caught_up(state, leader, event.add_learners):
        leader.changes.append(PendingChange(event.ticket, event.add_learners, now + event.wait_ms))
        return
    out.respond(event.ticket, TriggerOutcome(False, True, f"{state.membership} already", _effective(state)))


def _why_not(state: RaftState, leader: LeaderState, now: Millis) -> Refusal | None:
    me = state.me.node_id
    if leader.transfer is not None:
        detail = f"leadership is being transferred to node {leader.transfer.to.node_id}"
        return Refusal(RefusalCode.TRANSFER_IN_PROGRESS, detail, me)
    if state.committed < leader.first_index:
        detail = f"the first entry of term {state.term} is not committed yet"
        return Refusal(RefusalCode.CHANGE_IN_PROGRESS, detail, me, hint="try again in a moment")
    if state.membership.is_joint or state.effective.log_id.index > state.committed:
        detail = f"the change to {state.membership} ({state.effective.log_id}) is not finished"
        committed = state.committed_membership().log_id
        extra: dict[str, object] = {"committed": committed, "membership_log_id": state.effective.log_id}
        return Refusal(RefusalCode.CHANGE_IN_PROGRESS, detail, me, hint="wait until it is committed", extra=extra)
    if not has_quorum_contact(state, leader, now):
        return Refusal(RefusalCode.NO_QUORUM, f"no quorum answered node {me} for {quorum_silence(leader, now):.0f} ms")
    return None


def _plan(state: RaftState, leader: LeaderState, event: MembershipChangeRequested) -> Membership | Refusal | None:
    """Return the configuration to append first: joint when voters change. None: nothing is asked for."""
    now = state.membership
    learners, nodes = dict(now.learners), dict(now.nodes)
    for peer, address in event.add_learners.items():
        nodes[peer.node_id] = address
        if not now.is_voter(peer):
            learners[peer.node_id] = peer.incarnation
    before = now.configs[-1]
    unknown = _unknown(state, event, learners)
    if unknown is not None:
        return unknown
    voters = _voter_set(state, leader, event, learners)
    if isinstance(voters, Refusal):
        return voters
    if event.retain:
        learners |= {removed: before[removed] for removed in before.keys() - voters.keys()}
    gone = event.remove_learners | event.remove_members
    learners = {who: life for who, life in learners.items() if voters.get(who) != life and who not in gone}
    return _membership((voters,) if voters == before else (before, voters), learners, nodes | event.set_addresses)


def _unknown(state: RaftState, event: MembershipChangeRequested, learners: VoterSet) -> Refusal | None:
    """Return the refusal of a change that names somebody who is not there."""
    members = learners.keys() | state.membership.configs[-1].keys()
    strangers = (event.remove_voters | event.remove_members).union(event.set_addresses) - members
    if strangers:
        return _not_found(state, min(strangers), "a member")
    no_learners = event.remove_learners.difference(learners)
    return _not_found(state, min(no_learners), "a learner") if no_learners else None


def _voter_set(
    state: RaftState, leader: LeaderState, event: MembershipChangeRequested, learners: VoterSet
) -> VoterSet | Refusal:
    """Return the wanted voters with their lives: who is named gets a learner's life where there is one, else the voter's."""
    voters = state.membership.configs[-1]
    named = (event.voters or frozenset()) | event.add_voters
    wanted = (voters.keys() if event.voters is None else event.voters) | event.add_voters
    wanted = wanted - event.remove_voters - event.remove_members
    if not wanted:
        return Refusal(RefusalCode.EMPTY_MEMBERSHIP, "a cluster needs at least one voter", state.me.node_id)
    result: VoterSet = {}
    for node_id in sorted(wanted):
        life = (learners.get(node_id) if node_id in named else None) or voters.get(node_id)
        if life is None:
            refusal = _not_found(state, node_id, "a learner or voter")
            return Refusal(RefusalCode.LEARNER_NOT_FOUND, refusal.detail, refusal.leader, hint="add it as a learner first")
        if voters.get(node_id) != life:
            lacks = _what_it_lacks(state, leader.progress.get(PeerId(node_id, life)))
            if lacks:
                hint = "wait until it has caught up: add it with blocking, or look at its lag"
                return Refusal(RefusalCode.TARGET_LAGGING, f"node {node_id} {lacks}", state.me.node_id, hint=hint)
        result[node_id] = life
    return result


def _what_it_lacks(state: RaftState, progress: Progress | None) -> str:
    """Return why a learner cannot be trusted with a vote yet. A blank one grants nothing, and its quorum could never elect."""
    if progress is None or not progress.matching:
        return "has nothing of the log yet"
    lag = state.log.last.index - progress.matching
    if progress.mode is Mode.REVERTED or lag > state.config.replication_lag_threshold:
        return f"is {lag} entries behind, more than {state.config.replication_lag_threshold}"
    return ""


def _not_found(state: RaftState, node_id: NodeId, what: str) -> Refusal:
    return Refusal(RefusalCode.NODE_NOT_FOUND, f"node {node_id} is not {what} of {state.membership}", state.me.node_id)


def _membership(configs: tuple[VoterSet, ...], learners: VoterSet, nodes: dict[NodeId, NodeAddress]) -> Membership:
    """Return a membership that keeps the addresses of its members only."""
    named = {node_id for config in configs for node_id in config} | learners.keys()
    return Membership(configs, learners, {node_id: nodes[node_id] for node_id in sorted(named)})


def _append(state: RaftState, membership: Membership, now: Millis, out: Outbox) -> None:
    append_as_leader(state, EntryKind.MEMBERSHIP, [encode_membership(membership)], now, out)
    out.report("membership_proposed", f"{state.effective.log_id} {membership}")


# -- going on ----------------------------------------------------------------------------------------------------------


def on_progress(state: RaftState, now: Millis, out: Outbox) -> None:
    """Something was committed or acknowledged: leave a joint configuration, answer who waits, let lives in."""
    leader = state.leader
    effective = state.memberships[-1]
    if leader is None or effective.log_id.index > state.committed or state.committed < leader.first_index:
        return
    membership = effective.membership
    # Once the target of a transfer is asked to campaign, an entry that it lacks would only make the others refuse it: what is
    # left to do is the next leader's.
    handed_over = leader.transfer is not None and leader.transfer.requested
    if membership.is_joint:
        if not handed_over:
            _append(state, _membership(membership.configs[-1:], membership.learners, membership.nodes), now, out)
        return
    if leader.changes:
        _answer(state, leader, out)
    if not membership.is_voter(state.me):
        _leave(state, leader, now, out)
    elif not handed_over:
        _let_in(state, leader, membership, now, out)


def _answer(state: RaftState, leader: LeaderState, out: Outbox) -> None:
    waiting = []
    for change in leader.changes:
        if _caught_up(state, leader, change.learners):
            out.respond(change.ticket, TriggerOutcome(True, True, f"{state.membership}", _effective(state)))
        else:
            waiting.append(change)
    leader.changes = waiting


def _caught_up(state: RaftState, leader: LeaderState, learners: dict[PeerId, NodeAddress]) -> bool:
    """Line rate: replication flows and the rest is small (openraft `replication_lag_threshold`)."""
    return all(
        progress is None or is_at_line_rate(state, progress) for progress in (leader.progress.get(peer) for peer in learners)
    )


def is_at_line_rate(state: RaftState, progress: Progress) -> bool:
    """Return whether a target has the newest configuration and little of the rest is missing."""
    lag = state.log.last.index - progress.matching
    known = progress.matching >= state.effective.log_id.index
    return progress.mode is Mode.REPLICATE and known and lag <= state.config.replication_lag_threshold


def expire(state: RaftState, now: Millis, out: Outbox) -> None:
    """Tell those whose wait is over that the change goes on."""
    leader = state.leader
    if leader is None:
        return
    for change in [change for change in leader.changes if now >= change.deadline]:
        leader.changes.remove(change)
        lags = {
            str(peer.node_id): state.log.last.index - leader.progress[peer].matching
            for peer in change.learners
            if peer in leader.progress
        }
        detail = f"the change to {state.membership} goes on" + (f"; behind by {lags}" if lags else "")
        out.respond(change.ticket, TriggerOutcome(True, False, detail, _effective(state)))


def _effective(state: RaftState) -> dict[str, object]:
    membership = state.membership
    return {
        "voters": membership.voter_ids(),
        "learners": sorted(membership.learners),
        "log_id": state.effective.log_id,
        "joint": membership.is_joint,
    }


# -- leaving -----------------------------------------------------------------------------------------------------------


def _leave(state: RaftState, leader: LeaderState, now: Millis, out: Outbox) -> None:
    """This leader is no voter any more, and that is committed: the most up-to-date voter is asked to take over.

    Writes are held while that one catches up, as in any transfer: under a steady load nobody ever would. What does not come
    about is tried again with the next answer.
    """
    if leader.removed_at is None:
        leader.removed_at = now
    wait_ms = state.config.removed_leader_step_down_ms
    if wait_ms < 0 or now < leader.removed_at + wait_ms:
        return
    transfer = leader.transfer
    if transfer is None:
        voters = [item for item in leader.progress.values() if state.membership.is_voter(item.peer) and item.counts]
        best = max(voters, key=lambda item: (item.connected, item.matching, -item.peer.node_id), default=None)
        if best is None or not (best.connected or best.matching == state.log.last.index):
            return
        leader.transfer = transfer = Transfer(best.peer, now + state.config.election_timeout_max_ms)
        if best.matching == state.log.last.index:
            transfer.requested = True
            out.push(SendMessage(best.peer, TransferRequest(leader.vote, state.log.last)))
    if transfer.requested:
        to = transfer.to.node_id
        step_down(state, f"node {state.me.node_id} was removed; node {to} is asked to lead", now, out)


def on_step_down_requested(state: RaftState, event: StepDownRequested, now: Millis, out: Outbox) -> None:
    """An operator wants a leader that serves on after its removal to leave (openraft `refresh_server_state`)."""
    me = state.me.node_id
    if state.leader is None:
        out.respond(event.ticket, TriggerOutcome(False, True, f"node {me} does not lead", {"leader": state.known_leader}))
    elif state.membership.configs[-1].get(me) == state.me.incarnation:
        detail = f"node {me} is a voter of {state.membership}"
        out.respond(event.ticket, Refusal(RefusalCode.IS_LEADER, detail, me, hint="transfer leadership to another voter"))
    elif state.is_voter or state.effective.log_id.index > state.committed:
        detail = f"the change to {state.membership} ({state.effective.log_id}) is not finished"
        out.respond(event.ticket, Refusal(RefusalCode.CHANGE_IN_PROGRESS, detail, me, hint="wait until it is committed"))
    else:
        step_down(state, f"node {me} is no voter any more, and was asked to leave", now, out)
        out.respond(event.ticket, TriggerOutcome(True, True, f"node {me} has stepped down", {"leader": None}))


# -- a node that came back blank -----------------------------------------------------------------------------------------


def _let_in(state: RaftState, leader: LeaderState, membership: Membership, now: Millis, out: Outbox) -> None:
    """Bring the new life of a node one step further: learner (if the leader was armed), then the joint change.

    That a return is under way is seen in the configuration itself, so any later leader finishes it.
    """
    for node_id, life in sorted(membership.learners.items()):
        target = leader.progress.get(PeerId(node_id, life))
        if node_id in membership.configs[-1] and target is not None and is_at_line_rate(state, target):
            learners = {other: its for other, its in membership.learners.items() if other != node_id}
            voters = membership.configs[-1] | {node_id: life}
            _append(state, _membership((membership.configs[-1], voters), learners, membership.nodes), now, out)
            return
    for progress in leader.progress.values():
        if progress.replaced_by and progress.is_armed(now) and _why_not(state, leader, now) is None:
            node_id, life = progress.peer.node_id, Incarnation(progress.replaced_by)
            if membership.learners.get(node_id) != life:
                _use_permission(leader, node_id)
                out.report("revert_allowed", f"node {node_id} is let in as incarnation {life[:8]}", node_id)
                _append(
                    state, _membership(membership.configs, membership.learners | {node_id: life}, membership.nodes), now, out
                )
                return


def _use_permission(leader: LeaderState, node_id: NodeId) -> None:
    for progress in leader.progress.values():
        if progress.peer.node_id == node_id:
            progress.armed_until = None
