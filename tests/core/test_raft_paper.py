"""The rules of Raft one by one, in the order of the paper "In Search of an Understandable Consensus Algorithm" (extended version) and
of the dissertation "Consensus: Bridging Theory and Practice", each as one test.

What other files of this directory test by module is here by section, so that a reader with the paper in hand finds each of its
sentences. Where this engine goes beyond the paper on purpose, the test says so.
Source: the approach is that of etcd's `raft_paper_test.go`; tests and words are our own.
"""

from __future__ import annotations

import itertools

import pytest

from raft_engine.core.commands import AppendEntries, Apply, ReplicateEntries, SaveHardState
from raft_engine.core.events import (
    Applied,
    ElectRequested,
    MembershipChangeRequested,
    PeerConnected,
    PeerLost,
    ReadsRequested,
    SnapshotChunkStored,
    SnapshotInstalled,
    TransferLeaderRequested,
)
from raft_engine.core.progress import Mode
from raft_engine.testing.scenario_commands import new_cluster, perform
from raft_engine.types.entry import EntryKind
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import NodeId
from raft_engine.types.membership import EMPTY_MEMBERSHIP
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    SnapshotChunk,
    TransferRequest,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.metrics import ServerState
from raft_engine.types.outcomes import ReadOutcome, RefusalCode
from raft_engine.types.snapshot import SnapshotMeta
from tests.core.builder import (
    Node,
    append,
    ask,
    at,
    elected,
    entry,
    grant,
    leader,
    leads,
    members,
    membership_entry,
    meta,
    outcomes,
    peer,
    ranges,
    refuse,
    sent,
    vote,
)

PRE_VOTE_OFF = {"enable_pre_vote": False}
"""The paper's election has one round."""


def role(node: Node) -> ServerState:
    return node.state.server_state()


def candidate(voters: int = 3, log: tuple[int, ...] = ()) -> Node:
    """A node whose election timeout has just run out."""
    node = Node(voters=voters, log=log, config=PRE_VOTE_OFF)
    node.tick(150)
    assert ServerState.CANDIDATE is role(node)
    return node


def votes(commands) -> list[VoteResponse]:
    return [message for message in sent(commands) if isinstance(message, VoteResponse)]


def answers(commands) -> list[AppendResponse]:
    return [message for message in sent(commands) if isinstance(message, AppendResponse)]


# == 5.1  Terms ==============================================================================================================


@pytest.mark.parametrize("make", [lambda: Node(log=[1]), candidate, leader], ids=["follower", "candidate", "leader"])
def test_5_1_whoever_hears_of_a_later_term_from_its_leader_follows_there(make):
    node = make()
    node.hear(2, append(leads(9), node.state.log.last))
    assert (9, ServerState.FOLLOWER, 2) == (node.state.term, role(node), node.engine.leader_id)


@pytest.mark.parametrize("make", [candidate, leader], ids=["candidate", "leader"])
def test_5_1_a_candidate_or_leader_that_finds_its_term_out_of_date_becomes_a_follower(make):
    node = make()
    node.hear(3, refuse(node.state.term, "term", its_term=9))
    assert (9, ServerState.FOLLOWER) == (node.state.term, role(node))


def test_5_1_a_request_of_an_earlier_term_is_refused_with_the_later_one():
    node = Node(hard=vote(5, 0))
    (refusal,) = answers(node.hear(2, append(leads(3), at(0, 1))))
    assert (False, 5) == (refusal.accepted, refusal.vote.term)
    (refused_vote,) = votes(node.hear(2, ask(3, at(9, 9))))
    assert (False, 5) == (refused_vote.granted, refused_vote.vote.term)


def test_5_1_terms_are_kept_on_disk_and_only_rise():
    node = Node(hard=vote(5, 2))
    commands = node.hear(2, append(leads(7), at(0, 1)))
    assert [7] == [command.hard_state.vote.term for command in commands if isinstance(command, SaveHardState)]
    node.hear(3, append(leads(6, 3), at(0, 1)))
    assert 7 == node.state.term


# == 5.2  Leader election ====================================================================================================


def test_5_2_servers_begin_as_followers():
    assert ServerState.FOLLOWER is role(Node())


def test_5_2_a_leader_sends_heartbeats_to_all_and_again_after_each_interval():
    node = leader()
    for _ in range(3):
        beats = [message for message in sent(node.tick(50)) if isinstance(message, AppendRequest)]
        assert [()] * 2 == [beat.entries for beat in beats]
        node.accept(2, 2)
        node.accept(3, 2)


def test_5_2_heartbeats_keep_a_follower_from_campaigning():
    node = Node(config=PRE_VOTE_OFF)
    for _ in range(10):
        node.hear(2, append(leads(1), at(0, 1)))
        node.tick(100)
    assert ServerState.FOLLOWER is role(node)


def test_5_2_without_a_leader_a_follower_raises_its_term_votes_for_itself_and_asks_all_others():
    node = Node(config=PRE_VOTE_OFF)
    commands = node.tick(150)
    assert [HardState(vote(1, 1))] == [command.hard_state for command in commands if isinstance(command, SaveHardState)]
    assert [2, 3] == [
        command.target.node_id for command in commands if getattr(command, "message", None) == ask(1, at(0, 1))
    ]


def test_5_2_a_candidate_whose_round_comes_to_nothing_begins_another_in_the_next_term():
    node = candidate()
    asked = [message for message in sent(node.tick(150)) if isinstance(message, VoteRequest)]
    assert [ask(2, at(0, 1))] * 2 == asked


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 5, 7])
def test_5_2_a_candidate_wins_with_the_votes_of_a_majority_and_not_with_fewer(voters: int):
    node = candidate(voters)
    node.flush()
    needed = voters // 2  # beside its own
    for number, other in enumerate(range(2, voters + 1)):
        assert (number >= needed) == node.engine.is_leader
        node.hear(other, grant(1))
    assert node.engine.is_leader


@pytest.mark.parametrize(("voters", "against"), [(3, 2), (5, 3)])
def test_5_2_a_candidate_that_a_majority_refuses_does_not_win(voters: int, against: int):
    node = candidate(voters)
    node.flush()
    for other in range(2, 2 + against):
        node.hear(other, refuse(1, "vote"))
    assert not node.engine.is_leader


def test_5_2_a_server_votes_once_in_a_term_first_come_first_served():
    node = Node()
    assert [True] == [answer.granted for answer in votes(node.hear(2, ask(1, at(0, 1))) + node.flush())]
    assert [False] == [answer.granted for answer in votes(node.hear(3, ask(1, at(0, 1))) + node.flush())]
    assert [True] == [answer.granted for answer in votes(node.hear(2, ask(1, at(0, 1))) + node.flush())], "asked again"


def test_5_2_the_same_vote_is_remembered_after_a_restart():
    node = Node(hard=vote(1, 2))
    assert [False] == [answer.granted for answer in votes(node.hear(3, ask(1, at(0, 1))))]
    assert [True] == [answer.granted for answer in votes(node.hear(2, ask(1, at(0, 1))))]


@pytest.mark.parametrize("term", [1, 2], ids=["its own term", "a later term"])
def test_5_2_a_candidate_that_hears_from_a_leader_recognises_it(term: int):
    node = candidate()
    node.hear(2, append(leads(term), at(0, 1)))
    assert (ServerState.FOLLOWER, term) == (role(node), node.state.term)


def test_5_2_a_candidate_goes_on_when_a_leader_of_an_earlier_term_speaks():
    node = Node(hard=vote(4, 0), config=PRE_VOTE_OFF)
    node.tick(150)
    node.hear(2, append(leads(4), at(0, 1)))
    assert (ServerState.CANDIDATE, 5) == (role(node), node.state.term)


def test_5_2_election_timeouts_are_drawn_anew_each_time_from_the_whole_interval():
    draws = itertools.cycle([0.0, 0.25, 0.5, 0.999])
    node = Node(chance=lambda: next(draws))
    timeouts = set()
    for _ in range(8):
        node.hear(2, append(leads(1), at(0, 1)))
        timeouts.add(round(node.state.election_deadline - node.now))
    assert {150, 188, 225, 300} == timeouts


def test_5_2_a_split_vote_ends_with_whoever_times_out_first():
    """Two of four ask in the same term and get two votes each; their next timeouts differ."""
    cluster = new_cluster()
    for line in ("nodes 4 enable_pre_vote=false", "partition 1 3 | 2 4", "run 250", "heal", "run 600"):
        perform(cluster, line)
    leaders = [actor.number for actor in cluster.actors.values() if actor.engine.is_leader]
    assert 1 == len(leaders)


# == 5.3  Log replication ====================================================================================================


def test_5_3_a_leader_appends_a_command_and_sends_it_to_all_at_once():
    node = leader()
    commands = node.write(b"x")
    (appended,) = [command for command in commands if isinstance(command, AppendEntries)]
    assert [(1, 3, b"x")] == [(item.term, item.index, item.data) for item in appended.entries]
    assert [(2, 2, 3), (3, 2, 3)] == ranges(commands)


def test_5_3_with_new_entries_goes_the_one_before_them_and_its_term():
    node = leader(log=[3, 3])
    assert [at(4, 4, node=1)] * 2 == [command.prev for command in node.write(b"x") if isinstance(command, ReplicateEntries)]


@pytest.mark.parametrize("voters", [3, 4, 5])
def test_5_3_an_entry_is_committed_when_a_majority_holds_it_whoever_that_is(voters: int):
    others = range(2, voters + 1)
    for count in range(voters):
        for holders in itertools.combinations(others, count):
            node = leader(voters)
            node.write(b"x")
            node.flush()
            for holder in holders:
                node.accept(holder, 3)
            assert (len(holders) + 1 > voters / 2) == (node.state.committed == 3), holders


def test_5_3_a_leader_applies_what_is_committed_and_answers_its_client_then():
    node = leader()
    node.write(b"x")
    node.flush()
    assert [Apply(2, at(1, 3, node=1))] == [command for command in node.accept(2, 3) if isinstance(command, Apply)]
    (answer,) = node.do(Applied(at(1, 3, node=1), ["result"]))
    assert ["result"] == [result for _, _, result in answer.writes]


@pytest.mark.parametrize("log", [[], [1], [1, 2], [1, 1, 3]])
def test_5_3_with_an_entry_all_before_it_are_committed_those_of_earlier_leaders_too(log: list[int]):
    node = elected(log=log)
    node.flush()
    last = node.state.log.last.index
    node.accept(2, last)
    assert last == node.state.committed


def test_5_3_a_follower_applies_what_its_leader_says_is_committed_in_order():
    node = Node()
    node.hear(2, append(leads(1), at(0, 1), entry(1, 2), entry(1, 3), committed=1))
    node.flush()
    applied = [node.hear(2, append(leads(1), at(1, 3), committed=upto)) for upto in (2, 3)]
    assert [(1, 2), (2, 3)] == [(c.after, c.upto.index) for cs in applied for c in cs if isinstance(c, Apply)]


def test_5_3_a_slow_or_lost_follower_is_sent_everything_again_until_it_has_it():
    node = leader()
    node.write(b"x")
    node.tick(290)
    assert (2, 2, 3) in ranges(node.tick(20)), "one election timeout without an answer"


@pytest.mark.parametrize(
    ("prev", "agrees"),
    [(at(0, 1), True), (at(1, 2), True), (at(2, 3), True), (at(1, 3), False), (at(3, 3), False), (at(3, 4), False)],
)
def test_5_3_the_consistency_check(prev, agrees: bool):
    """A follower takes entries only behind one that it holds, with the same index and term."""
    node = Node(log=[1, 2], hard=leads(3))
    (answer,) = answers(node.hear(2, append(leads(3), prev)))
    assert agrees == answer.accepted


@pytest.mark.parametrize(
    ("prev", "entries", "after"),
    [
        (at(2, 3), [(3, 4)], [1, 2, 3]),
        (at(1, 2), [(3, 3), (4, 4)], [1, 3, 4]),
        (at(0, 1), [(1, 2)], [1, 2]),
        (at(0, 1), [(3, 2)], [3]),
        (at(1, 2), [(2, 3)], [1, 2]),
    ],
    ids=[
        "new at the end",
        "conflict and all after it",
        "already there, nothing dropped",
        "conflict at once",
        "the same again",
    ],
)
def test_5_3_a_follower_drops_what_conflicts_and_only_that(prev, entries, after):
    node = Node(log=[1, 2], hard=leads(4))
    node.hear(2, append(leads(4), prev, *(entry(term, index) for term, index in entries)))
    assert after == [node.state.log.at(index).term for index in range(2, node.state.log.last.index + 1)]


FIGURE_7 = {
    "a": "1,1,1,4,4,5,5,6,6",
    "b": "1,1,1,4",
    "c": "1,1,1,4,4,5,5,6,6,6,6",
    "d": "1,1,1,4,4,5,5,6,6,6,7,7",
    "e": "1,1,1,4,4,4,4",
    "f": "1,1,1,2,2,2,3,3,3,3,3",
}


@pytest.mark.parametrize("case", FIGURE_7)
def test_5_3_figure_7_any_followers_log_becomes_the_leaders(case: str):
    cluster = new_cluster()
    lines = (
        "nodes 3 stopped",
        "given 1 log=1,1,1,4,4,5,5,6,6,6 term=7",
        f"given 2 log={FIGURE_7[case]} term=7",
        "given 3 log= term=7",
        "restart",
        "run 400",
        "campaign 1",
        "run 400",
    )
    for line in lines:
        perform(cluster, line)
    assert cluster.actors[1].engine.is_leader
    entries = {number: [(item.term, item.index) for item in actor.view.entries] for number, actor in cluster.actors.items()}
    assert entries[1] == entries[2] == entries[3]
    assert [1, 1, 1, 4, 4, 5, 5, 6, 6, 6] == [term for term, _ in entries[1][1:11]]


def test_5_3_a_leader_never_drops_or_overwrites_its_own_entries():
    node = leader(log=[1, 2, 3])
    before = node.state.log.last
    node.lacks(2, 3, at(1, 2))
    node.lacks(3, 2)
    assert before == node.state.log.last


# == 5.4  Safety =============================================================================================================


@pytest.mark.parametrize(
    ("log", "last", "granted"),
    [
        ([1], at(1, 2), True),
        ([1], at(1, 3), True),
        ([1, 1], at(1, 2), False),
        ([1], at(2, 2), True),
        ([1, 1, 1], at(2, 2), True),
        ([2], at(1, 9), False),
        ([2], at(2, 2), True),
    ],
    ids=["equal", "longer", "shorter", "later term", "shorter but later term", "longer but earlier term", "equal again"],
)
def test_5_4_1_a_voter_refuses_whose_log_is_less_up_to_date_than_its_own(log, last, granted: bool):
    (answer,) = votes((node := Node(log=log)).hear(2, ask(5, last)) + node.flush())
    assert granted == answer.granted


def test_5_4_1_a_candidate_says_how_far_its_log_goes():
    requests = [
        message for message in sent(Node(log=[1, 2], config=PRE_VOTE_OFF).tick(150)) if isinstance(message, VoteRequest)
    ]
    assert [at(2, 3)] * 2 == [request.last_log_id for request in requests]


@pytest.mark.parametrize(("index", "committed"), [(2, 0), (3, 0), (4, 4)], ids=["of term 1", "of term 2", "of its own"])
def test_5_4_2_a_leader_commits_by_counting_only_entries_of_its_own_term(index: int, committed: int):
    node = elected(log=[1, 2])
    node.flush()
    node.accept(2, index)
    assert committed == node.state.committed


def test_5_4_2_figure_8_an_entry_of_an_earlier_term_on_a_majority_is_committed_only_with_one_of_the_leaders_own():
    """(c) and (e) of the figure: until then a server with a later last term could still be elected and overwrite it."""
    node = elected(voters=5, log=[1, 2], hard=vote(3, 0))
    node.flush()
    node.accept(2, 3)
    node.accept(3, 3)
    assert (4, 0) == (node.state.term, node.state.committed)
    node.accept(2, 4)
    node.accept(3, 4)
    assert 4 == node.state.committed


# == 5.5, 5.6  Crashes, timing ===============================================================================================


def test_5_5_the_same_request_again_is_answered_and_changes_nothing():
    node = Node()
    request = append(leads(1), at(0, 1), entry(1, 2))
    first = answers(node.hear(2, request) + node.flush())
    commands = node.hear(2, request)
    assert ([True], [True]) == ([a.accepted for a in first], [a.accepted for a in answers(commands)])
    assert [] == [command for command in commands if isinstance(command, AppendEntries)]


def test_5_5_promises_are_on_disk_before_they_are_given():
    """Vote, term and entries: figure 2, persistent state, updated on stable storage before responding to RPCs."""
    node = Node()
    assert [] == votes(node.hear(2, ask(1, at(0, 1))))
    assert [True] == [answer.granted for answer in votes(node.flush())]
    node = Node()
    assert [] == answers(node.hear(2, append(leads(1), at(0, 1), entry(1, 2))))
    assert [True] == [answer.accepted for answer in answers(node.flush())]


def test_5_6_a_leader_outlives_any_message_lost_for_less_than_an_election_timeout():
    cluster = new_cluster()
    for line in ("nodes 3", "campaign 1", "settle"):
        perform(cluster, line)
    for _ in range(10):
        for line in ("cut 1->2 1->3", "run 100", "heal", "run 60"):
            perform(cluster, line)
    assert (1, True) == (cluster.actors[1].engine.term, cluster.actors[1].engine.is_leader)


# == 6  Cluster membership (dissertation 4) ==================================================================================


def test_6_a_server_goes_by_the_newest_configuration_in_its_log_committed_or_not():
    node = Node()
    node.hear(2, append(leads(1), at(0, 1), membership_entry(1, 2, members(1, 2, 3, 4, 5))))
    assert ([1, 2, 3, 4, 5], 0) == (node.state.membership.voter_ids(), node.state.committed)


def test_6_joint_consensus_needs_majorities_of_the_old_and_of_the_new_configuration():
    node = leader(membership=members(1, 2, 3, learners=[4, 5]))
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset(map(NodeId, (1, 4, 5)))))
    node.flush()
    node.accept(2, 3)
    node.accept(3, 3)
    assert 2 == node.state.committed, "a majority of the old one alone"
    node.accept(4, 3)
    assert 3 == node.state.committed


def test_6_new_servers_join_without_a_vote_until_they_have_caught_up():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    node.write(b"x")
    node.flush()
    node.accept(4, 3)
    assert 2 == node.state.committed, "a learner is not counted"


def test_6_a_leader_that_is_not_in_the_new_configuration_steps_down_once_that_is_committed():
    node = leader()
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset(map(NodeId, (2, 3)))))
    for _ in range(2):
        assert node.engine.is_leader
        node.flush()
        for other in (2, 3):
            if node.state.leader is not None:
                node.accept(other, node.state.log.last.index)
    assert not node.engine.is_leader


def test_6_a_leader_that_is_not_in_the_new_configuration_does_not_count_itself():
    node = leader(voters=4)
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset(map(NodeId, (2, 3, 4)))))
    node.flush()
    node.accept(2, 3)
    assert 2 == node.state.committed, "two of the old four, and itself would be a third"
    node.accept(3, 3)
    assert 3 == node.state.committed


def test_6_a_server_that_hears_a_leader_refuses_votes_and_keeps_its_term():
    """Removed servers must not disturb the cluster."""
    node = Node(log=[1], just_started=True)
    node.hear(2, append(leads(1), at(1, 2)))
    (answer,) = votes(node.hear(3, ask(7, at(9, 9))))
    assert (False, "lease", 1) == (answer.granted, answer.reason, node.state.term)


# == 7  Log compaction (dissertation 5) ======================================================================================


def test_7_a_leader_sends_a_snapshot_when_the_next_entries_are_gone():
    node = leader()
    node.do(PeerLost(peer(3), "reset"))
    node.write(b"a", b"b")
    node.flush()
    node.accept(2, 4)
    node.applied(node.state.log.last, 2)
    node.snapshot_at(4)
    node.flush()
    node.do(PeerConnected(peer(3)))
    assert Mode.SNAPSHOT is node.target(3).mode


def test_7_a_follower_keeps_what_follows_the_snapshot_in_a_log_that_holds_its_end():
    node = Node(log=[1, 1, 1], hard=leads(1))
    _install(node, meta(1, 3))
    assert (at(1, 4), at(1, 3)) == (node.state.log.last, node.state.applied)


def test_7_a_follower_drops_a_log_that_does_not_hold_the_snapshots_end():
    node = Node(log=[1, 1, 1], hard=leads(2))
    _install(node, meta(2, 3))
    assert at(2, 3) == node.state.log.last


def test_7_a_snapshot_in_pieces_is_taken_piece_by_piece():
    node = Node(hard=leads(1))
    node.hear(2, SnapshotChunk(leads(1), 7, 3, meta(1, 5), 0, b"first", done=False))
    (answer,) = sent(node.do(SnapshotChunkStored(peer(2), 7, 3, meta(1, 5), 5, complete=False)))
    assert (5, False) == (answer.next_offset, answer.installed)


def _install(node: Node, snapshot: SnapshotMeta) -> None:
    node.hear(2, SnapshotChunk(leads(snapshot.last_log_id.term), 7, 3, snapshot, 0, b"all", done=True))
    node.flush()
    node.do(SnapshotChunkStored(peer(2), 7, 3, snapshot, snapshot.size_bytes, complete=True))
    node.flush()
    node.do(SnapshotInstalled(snapshot))


# == 8  Clients (dissertation 6) =============================================================================================


def test_8_a_follower_sends_its_clients_to_the_leader():
    node = Node()
    node.hear(2, append(leads(1), at(0, 1)))
    (refusal,) = outcomes(node.write(b"x"))
    assert (RefusalCode.NOT_LEADER, 2) == (refusal.code, refusal.leader)


def test_8_a_new_leader_begins_its_term_with_a_blank_entry():
    node = candidate(log=(1,))
    node.flush()
    (command,) = [command for command in node.hear(2, grant(2)) if isinstance(command, AppendEntries)]
    assert [(2, 3, EntryKind.BLANK)] == [(item.term, item.index, item.kind) for item in command.entries]


def test_8_a_read_waits_for_the_leaders_first_commit_and_then_for_heartbeats_of_a_majority():
    node = elected()
    assert [] == outcomes(node.do(ReadsRequested([node.ticket()], False, 1000.0)))
    node.flush()
    assert [] == outcomes(node.accept(2, 2))
    node.applied(at(1, 2, node=1), 2)
    assert [ReadOutcome(2)] == outcomes(node.accept(3, 2))


# == dissertation ============================================================================================================


def test_d3_10_leadership_goes_to_a_target_that_has_everything_and_is_told_to_campaign_now():
    node = leader()
    node.write(b"x")
    assert [] == [
        m for m in sent(node.do(TransferLeaderRequested(node.ticket(), 2, 1000.0))) if isinstance(m, TransferRequest)
    ]
    assert [at(1, 3, node=1)] == [m.last_log_id for m in sent(node.accept(2, 3), 2) if isinstance(m, TransferRequest)]


def test_d4_1_one_change_of_members_at_a_time():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset(map(NodeId, (1, 2, 4)))))
    (refusal,) = outcomes(node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset(map(NodeId, (1, 2))))))
    assert RefusalCode.CHANGE_IN_PROGRESS is refusal.code


def test_d4_1_no_change_before_an_entry_of_the_leaders_own_term_is_committed():
    """The bug of single-server changes, found in 2015; the rule holds for joint ones as well."""
    node = elected()
    (refusal,) = outcomes(node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset(map(NodeId, (1, 2))))))
    assert (RefusalCode.CHANGE_IN_PROGRESS, True) == (refusal.code, "first entry" in refusal.detail)


def test_d6_2_a_leader_that_no_majority_answers_steps_down():
    node = leader()
    node.tick(600)
    assert not node.engine.is_leader


def test_d6_4_a_lease_is_counted_from_when_the_heartbeat_was_sent():
    node = leader()
    node.tick(50)
    node.now += 90
    node.accept(2, 2)
    node.accept(3, 2)
    assert [ReadOutcome(2)] == outcomes(node.do(ReadsRequested([node.ticket()], True, 1000.0)))
    node.now += 45
    assert [] == outcomes(node.do(ReadsRequested([node.ticket()], True, 1000.0)))


def test_d9_6_a_node_that_cannot_win_asks_without_raising_its_term():
    node = Node()
    requests = [message for message in sent(node.tick(150)) if isinstance(message, VoteRequest)]
    assert ([True, True], 0) == ([request.pre_vote for request in requests], node.state.term)
    node.hear(2, grant(1, pre_vote=True))
    assert (ServerState.CANDIDATE, 1) == (role(node), node.state.term)


def test_d10_2_1_a_leader_writes_to_its_disk_while_it_replicates_and_may_commit_before_its_own_copy_is_durable():
    node = leader()
    node.write(b"x")
    node.accept(2, 3)
    assert 2 == node.state.committed
    commands = node.accept(3, 3)
    assert (3, []) == (node.state.committed, [command for command in commands if isinstance(command, Apply)])
    assert [Apply(2, at(1, 3, node=1))] == [command for command in node.flush() if isinstance(command, Apply)]


def test_d10_2_1_entries_are_sent_without_waiting_for_the_answer_to_those_before():
    node = leader()
    assert [(2, 2, 3), (3, 2, 3)] == ranges(node.write(b"x"))
    assert [(2, 3, 4), (3, 3, 4)] == ranges(node.write(b"y"))


# == beyond the paper, on purpose ============================================================================================


def test_beyond_a_refused_candidate_does_not_move_anybody_to_its_term():
    """The paper adopts any later term it sees. A node that cannot win would depose a leader that works (decision 5)."""
    node = leader()
    (answer,) = votes(node.hear(3, ask(9, at(0, 1))))
    assert (False, 1, True) == (answer.granted, node.state.term, node.engine.is_leader)


def test_beyond_a_blank_server_does_not_vote():
    """The paper's servers never lose what they stored. Here one that did must not vote a second time (decision 8)."""
    (answer,) = votes(Node(membership=EMPTY_MEMBERSHIP).hear(2, ask(9, at(9, 9))))
    assert (False, "mute") == (answer.granted, answer.reason)


def test_beyond_a_candidates_own_vote_counts_when_it_is_durable():
    node = candidate()
    node.hear(2, grant(1))
    assert not node.engine.is_leader
    node.flush()
    assert node.engine.is_leader


def test_beyond_a_restarted_leader_does_not_resume_its_term():
    node = Node(log=[1], hard=leads(1, 1))
    assert ServerState.FOLLOWER is role(node)
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=0.0))
    assert 2 == node.state.term
