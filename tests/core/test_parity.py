"""Scenarios of openraft's integration tests that need no clock but one and no other node: see tests/parity.toml."""

from __future__ import annotations

import msgspec
import pytest

from raft_engine.core.commands import AppendEntries, Apply, ReplicateEntries, SetPeers, StoreSnapshotChunk, TruncateLog
from raft_engine.core.events import MembershipChangeRequested, MessageReceived, PeerConnected, PeerLost, SnapshotInstalled
from raft_engine.testing.scenario_cluster import Cluster
from raft_engine.testing.scenario_commands import new_cluster, perform
from raft_engine.types.ids import NodeId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import EMPTY_MEMBERSHIP
from raft_engine.types.messages import AppendResponse, SnapshotChunk
from raft_engine.types.metrics import ServerState
from raft_engine.types.outcomes import Expectation, RefusalCode
from tests.core.builder import (
    Node,
    address,
    append,
    at,
    deeds,
    entry,
    leader,
    leads,
    members,
    meta,
    outcomes,
    peer,
    reports,
    sent,
    vote,
)


def change(node: Node, voters: set[int], **expect):
    wanted = frozenset(map(NodeId, voters))
    return node.do(MembershipChangeRequested(node.ticket(), 1000.0, wanted, expect=Expectation(**expect)))


def settle(node: Node) -> None:
    """Everybody whom this leader knows holds everything, until nothing new is appended."""
    while node.state.leader is not None:
        last = node.state.log.last.index
        node.flush()
        for target in sorted(node.state.leader.progress if node.state.leader else ()):
            if node.state.leader is not None and target in node.state.leader.progress:
                node.accept(target.node_id, node.state.log.last.index)
        if node.state.log.last.index == last:
            return


def told(*lines: str) -> Cluster:
    """A cluster after these lines of the scenario language."""
    cluster = new_cluster()
    for line in lines:
        perform(cluster, line)
    return cluster


def logs(cluster: Cluster, *numbers: int) -> list[list[tuple[int, int]]]:
    """Return (term, index) of every entry of these nodes."""
    return [[(item.term, item.index) for item in cluster.actors[number].view.entries] for number in numbers]


# -- append_entries ------------------------------------------------------------------------------------------------------

# A node whose log is T0.1 T1.2 T1.3 T2.4 T2.5, of which 3 are committed, hears from the leader of term 3: the point that the
# request follows, its entries, whether it is accepted and up to where, where the log ends then, and whether some were dropped.
MATRIX = {
    "the beginning": (BEFORE_LOG, [], True, 0, 5, False),
    "before the commit index": (at(1, 2), [(1, 3)], True, 3, 5, False),
    "at the commit index": (at(1, 3), [(2, 4)], True, 4, 5, False),
    "what is there": (at(2, 4), [], True, 4, 5, False),
    "the last entry": (at(2, 5), [(3, 6)], True, 6, 6, False),
    "another term at an entry": (at(3, 4), [(3, 5)], False, 0, 5, False),
    "another term at the last entry": (at(3, 5), [(3, 6)], False, 0, 5, False),
    "beyond the end": (at(2, 9), [(3, 10)], False, 0, 5, False),
    "a conflicting tail": (at(1, 3), [(3, 4)], True, 4, 4, True),
    "a conflict within": (at(1, 3), [(2, 4), (3, 5), (3, 6)], True, 6, 6, True),
}


@pytest.mark.parametrize(("prev", "entries", "accepted", "matching", "last", "dropped"), MATRIX.values(), ids=MATRIX)
def test_every_point_at_which_a_request_may_follow(prev, entries, accepted, matching, last, dropped):
    node = Node(log=[1, 1, 2, 2])
    node.hear(2, append(leads(2), at(1, 3), committed=3))
    node.flush()
    commands = node.hear(2, append(leads(3), prev, *[entry(term, index) for term, index in entries]))
    (answer,) = [message for message in sent(commands + node.flush()) if isinstance(message, AppendResponse)]
    assert (accepted, matching, last) == (answer.accepted, answer.matching.index, node.state.log.last.index)
    assert dropped == any(isinstance(command, TruncateLog) for command in commands)


def test_a_hundred_entries_of_a_dead_leader_are_replaced_in_a_few_messages():
    mine = ",".join(["1"] * 100)
    cluster = told(
        "nodes 3 stopped",
        f"given 1 log={mine} term=1",
        "given 2 log=2 term=2",
        "given 3 log=2 term=2",
        "restart",
        "sleep 200",
        "drop",
        "campaign 2",
        "deliver Vote",
        "deliver VoteGranted",
    )
    messages = 0
    while cluster.flights:
        messages += len([flight for flight in cluster.flights if flight.sender.node_id == 2 and flight.target.node_id == 1])
        perform(cluster, "deliver")
    one, two = logs(cluster, 1, 2)
    assert one == two
    assert messages <= 5


@pytest.mark.parametrize("log", [(), (2, 2)])
def test_an_empty_request_with_a_point_that_is_not_there_is_refused(log):
    node = Node(log=log)
    node.hear(2, append(leads(3), at(3, 9)))
    (answer,) = [message for message in sent(node.flush()) if isinstance(message, AppendResponse)]
    assert (False, at(3, 9)) == (answer.accepted, answer.conflict)


def test_a_learner_that_cannot_be_reached_never_blocks_a_commit():
    node = leader(voters=1, membership=members(1, learners=[2]))
    node.do(PeerLost(peer(2), "cut off"))
    node.write(b"x")
    node.flush()
    assert node.state.committed == node.state.log.last.index


def test_a_hundred_conflicting_entries_do_not_hold_up_a_follower():
    node = Node(log=[2] * 100)
    node.hear(3, append(leads(5, 3), at(2, 101), entry(5, 102, node=3)))
    assert node.state.log.last == at(5, 102, node=3)
    node.hear(3, append(leads(6, 3), at(0, 1), *[entry(6, index, node=3) for index in range(2, 52)]))
    assert node.state.log.last == at(6, 51, node=3)


# -- client_api ----------------------------------------------------------------------------------------------------------


def test_a_deposed_leaders_write_is_answered_when_a_snapshot_passes_it():
    node = leader()
    node.write(b"lost")
    node.hear(2, append(leads(5), at(1, 2, node=1)))
    assert not node.engine.is_leader
    snapshot = meta(5, 40)
    node.hear(2, SnapshotChunk(leads(5), 1, 1, snapshot, 0, b"x" * 100, done=True))
    found = outcomes(node.do(SnapshotInstalled(snapshot)))
    found += outcomes(node.flush())
    assert [RefusalCode.OUTCOME_UNKNOWN] == [outcome.code for outcome in found]


def test_a_write_of_nothing_is_an_entry_like_any_other():
    node = leader()
    commands = node.write(b"")
    (appended,) = [command for command in commands if isinstance(command, AppendEntries)]
    assert [b""] == [bytes(item.data) for item in appended.entries]
    node.flush()
    assert node.state.log.last.index == node.target(2).next - 1


def test_a_write_that_waits_when_contact_is_lost_is_done_when_it_is_back():
    node = leader()
    node.write(b"pending")
    node.flush()
    node.tick(node.engine.state.config.election_timeout_max_ms + 10)
    (refusal,) = outcomes(node.write(b"too late"))
    assert RefusalCode.NO_QUORUM is refusal.code
    node.accept(2, node.state.log.last.index)
    (done,) = [command for command in node.applied(node.state.log.last, 1) if hasattr(command, "writes")]
    assert 1 == len(done.writes)
    assert [] == outcomes(node.write(b"again"))


# -- life_cycle ----------------------------------------------------------------------------------------------------------


def test_a_node_without_a_cluster_says_and_does_nothing():
    node = Node(membership=EMPTY_MEMBERSHIP)
    assert ([], ServerState.LEARNER) == (deeds(node.first_commands)[1:] + node.tick(5000), node.state.server_state())


def test_a_node_whose_vote_made_it_leader_but_that_is_no_member_begins_as_a_learner():
    node = Node(log=[3], hard=vote(3, 1, committed=True), membership=members(2, 3))
    assert ServerState.LEARNER is node.state.server_state()
    assert [] == node.tick(5000)


def test_a_restarted_leader_knows_of_no_commit_before_a_quorum_tells_it():
    node = Node(log=[3, 3], hard=vote(3, 1, committed=True))
    assert (0, False) == (node.state.committed, node.engine.is_leader)


def test_a_restart_within_a_joint_change_appends_nothing_by_itself():
    both = members(1, 2, 3)
    joint = type(both)(both.configs + members(3, 4, 5).configs, {}, members(1, 2, 3, 4, 5).nodes)
    node = Node(log=[3], membership=joint)
    assert [] == [command for command in [*node.first_commands, *node.tick(100)] if isinstance(command, AppendEntries)]


# -- membership ----------------------------------------------------------------------------------------------------------

CHANGES = {
    "0_to_12": ({1}, {2, 3}),
    "0_to_123": ({1}, {2, 3, 4}),
    "01_to_12": ({1, 2}, {2, 3}),
    "01_to_1": ({1, 2}, {2}),
    "01_to_2": ({1, 2}, {3}),
    "01_to_3": ({1, 2}, {4}),
    "012_to_4": ({1, 2, 3}, {5}),
    "012_to_456": ({1, 2, 3}, {5, 6, 7}),
    "01234_to_0123": ({1, 2, 3, 4, 5}, {1, 2, 3, 4}),
    "0_and_01": ({1}, {1, 2}),
    "0_and_12": ({1}, {1, 2, 3}),
    "01_and_nobody": ({1, 2}, {1, 2}),
    "012_without_01": ({1, 2, 3}, {3}),
    "012_without_3": ({1, 2, 3}, {1, 2, 3}),
    "012_without_nobody": ({1, 2, 3}, {1, 2, 3}),
    "012_without_13": ({1, 2, 3}, {1, 3}),
}
"""openraft's transitions; its node 0 is node 1 here."""


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_any_set_of_voters_becomes_any_other(before: set[int], after: set[int]):
    new = sorted(after - before)
    cluster = told(f"nodes {len(before)} blank={len(new)}" if new else f"nodes {len(before)}", "campaign 1", "settle")
    numbers = dict(zip(sorted(after), sorted(after & before) + list(cluster.actors)[len(before) :], strict=False))
    wanted = [numbers[number] for number in sorted(after)]
    for line in [f"learner 1 {' '.join(map(str, wanted))}"] * bool(new) + [
        "settle",
        f"voters 1 {' '.join(map(str, wanted))}",
    ]:
        perform(cluster, line)
    perform(cluster, "run 700")
    (leading,) = [actor for actor in cluster.running() if actor.engine is not None and actor.engine.is_leader]
    assert leading.number in wanted
    removed = [actor.number for actor in cluster.running() if actor.number not in wanted]
    last = [logs(cluster, number)[0][-1] for number in removed]
    perform(cluster, f"propose {leading.number} after")
    perform(cluster, "run 100")
    states = [cluster.actors[number].engine.state for number in wanted]
    assert {tuple(wanted)} == {tuple(state.membership.voter_ids()) for state in states}
    assert {b"after"} == {bytes(cluster.actors[number].view.entries[-1].data) for number in wanted}
    assert {leading.engine.state.log.last} == {state.applied for state in states}
    assert last == [logs(cluster, number)[0][-1] for number in removed]


def test_a_removed_follower_is_sent_nothing_more():
    node = leader()
    change(node, {1, 2})
    settle(node)
    commands = node.write(b"x")
    assert {2} == {command.target.node_id for command in commands if isinstance(command, ReplicateEntries)}


def test_the_transport_lets_go_of_a_follower_that_was_removed_and_cannot_be_reached():
    node = leader()
    node.do(PeerLost(peer(3), "gone"))
    change(node, {1, 2})
    node.flush()
    commands = node.accept(2, node.state.log.last.index)
    (told,) = [command for command in commands if isinstance(command, SetPeers)]
    assert [2] == [target.node_id for target in told.peers]
    assert peer(3) not in node.state.leader.progress


def test_a_learner_that_becomes_a_voter_keeps_what_it_has_acknowledged():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    settle(node)
    matching, session = node.target(4).matching, node.target(4).session
    change(node, {1, 2, 3, 4})
    assert (matching, session) == (node.target(4).matching, node.target(4).session)


def test_a_stale_membership_in_the_expectation_refuses_and_writes_nothing():
    node = leader()
    last = node.state.log.last
    (refusal,) = outcomes(change(node, {1, 2}, membership_log_id=at(9, 9)))
    assert (RefusalCode.PRECONDITION_FAILED, last) == (refusal.code, node.state.log.last)


def test_a_right_membership_in_the_expectation_lets_both_steps_pass():
    node = leader()
    change(node, {1, 2}, membership_log_id=node.state.effective.log_id)
    settle(node)
    assert [1, 2] == node.state.membership.voter_ids()


def test_a_follower_names_the_leader_before_it_looks_at_the_expectation():
    node = Node(log=[3])
    node.hear(2, append(leads(3), at(3, 2)))
    (refusal,) = outcomes(change(node, {1, 2}, membership_log_id=at(9, 9)))
    assert (RefusalCode.NOT_LEADER, 2) == (refusal.code, refusal.leader)


def test_a_change_under_another_leader_than_expected_is_refused():
    node = leader()
    (refusal,) = outcomes(change(node, {1, 2}, leader=NodeId(2)))
    assert RefusalCode.PRECONDITION_FAILED is refusal.code
    assert [] == outcomes(change(node, {1, 2}, leader=NodeId(1)))


def test_a_change_is_refused_when_the_log_has_gone_on_since_its_caller_looked():
    node = leader()
    seen = node.state.log.last
    node.write(b"somebody else's")
    (refusal,) = outcomes(change(node, {1, 2}, last_log_id=seen))
    assert (RefusalCode.PRECONDITION_FAILED, "last_log_id") == (refusal.code, refusal.extra["expectation"])
    assert (seen.index + 1, False) == (node.state.log.last.index, node.state.membership.is_joint)


def test_a_change_at_the_expected_end_of_the_log_is_done():
    node = leader()
    change(node, {1, 2}, last_log_id=node.state.log.last)
    settle(node)
    assert [1, 2] == node.state.membership.voter_ids()


def test_nobody_is_sent_to_a_leader_that_the_configuration_has_removed():
    cluster = told("nodes 3", "campaign 1", "settle", "switch elect off 3", "voters 1 3", "deliver 1->3", "deliver 3->1")
    for line in ("deliver 1->3", "deliver 3->1", "drop", "propose 3 a"):
        perform(cluster, line)
    assert ["  3 answers write a: refused (no_leader): node 3 knows no leader in term 1"] == cluster.lines


def test_an_address_is_changed_by_adding_the_node_again():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    moved = msgspec.structs.replace(address(4), raft="elsewhere:1")
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, add_learners={peer(4): moved}))
    settle(node)
    assert (moved, [4]) == (node.state.membership.nodes[NodeId(4)], list(node.state.membership.learners))


def test_a_node_without_a_cluster_refuses_a_change_cleanly():
    (refusal,) = outcomes(change(Node(membership=EMPTY_MEMBERSHIP), {1}))
    assert refusal.code in {RefusalCode.NO_LEADER, RefusalCode.NOT_LEADER, RefusalCode.BLANK}


# -- metrics -------------------------------------------------------------------------------------------------------------


def test_the_targets_shown_follow_the_membership_and_go_with_the_leadership():
    node = leader()
    assert {2, 3} == set(node.engine.metrics(node.now).replication)
    change(node, {1, 2})
    settle(node)
    assert {2} == set(node.engine.metrics(node.now).replication)
    node.hear(2, append(leads(9), BEFORE_LOG))
    assert None is node.engine.metrics(node.now).replication


def test_a_single_node_is_acknowledged_by_itself_at_any_time():
    node = leader(voters=1)
    node.tick(500)
    assert 0 == node.engine.metrics(node.now).last_quorum_acked_ms_ago


# -- snapshot_streaming --------------------------------------------------------------------------------------------------


def test_a_snapshot_that_is_later_than_its_leaders_term_is_refused():
    node = Node(log=[3])
    commands = node.handle(MessageReceived(peer(2), SnapshotChunk(leads(3), 1, 1, meta(4, 40), 0, b"x" * 100, done=True)))
    assert "snapshot_refused" in reports(commands)
    assert [] == [command for command in commands if isinstance(command, StoreSnapshotChunk)]


# -- replication ---------------------------------------------------------------------------------------------------------


def test_an_unreachable_target_is_sent_nothing_until_it_is_back():
    node = leader()
    node.do(PeerLost(peer(3), "gone"))
    written = [node.write(b"x") for _ in range(20)]
    assert [] == [c for commands in written for c in commands if isinstance(c, ReplicateEntries) and c.target == peer(3)]
    back = node.do(PeerConnected(peer(3)))
    assert [] != [c for c in back if isinstance(c, ReplicateEntries) and c.target == peer(3)]


def test_what_is_committed_is_asked_to_be_applied_once():
    node = leader()
    node.write(b"x")
    node.flush()
    first = node.accept(2, 3)
    again = node.accept(3, 3)
    assert [1, 0] == [len([c for c in commands if isinstance(c, Apply)]) for commands in (first, again)]
