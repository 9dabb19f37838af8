"""Bugs that Raft implementations have had, each as a small change of our source: what the simulator and the tests must find.

A change must fit exactly once. `by` says what is expected to find it:

    seeds N               the simulator, within so many seeds from 1 on, each in its own weather
    trace NAME            a story of tests/core/rejoin_traces.py
    scenario TOPIC/NAME   a file of tests/core/scenarios
    test PATH::NAME       a test, where chance would take too long
Source: the classic bugs of the literature (Raft paper and dissertation, Ongaro 2015); fixed issues of openraft (1500, 1747,
1761, 1795, 1796, 1802, 1805, 1829, 1892) and etcd; fsyncgate; protocol-aware recovery (FAST 2018).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One known bug. `breaks`: what goes wrong with it, in words; `by`: see above."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    by: str


def bug(name: str, by: str, module: str, old: str, new: str, breaks: str) -> Mutant:
    """Return a bug of one change; `module` below raft_engine."""
    return Mutant(name, breaks, (Edit(f"raft_engine.{module}", old, new),), by)


VOTES = (
    bug(
        "grants_twice_in_a_term",
        "test tests/core/test_voting.py::test_one_candidate_is_granted_in_a_term",
        "core.voting",
        "state.vote.node_id not in {NOBODY, sender.node_id}",
        "False",
        "two leaders in one term",
    ),
    bug(
        "grants_before_the_vote_is_durable",
        "test tests/core/test_voting.py::test_a_grant_is_sent_when_it_is_durable",
        "core.election",
        "    state.when_flushed(SendWhenFlushed(sender, response))\n",
        "    out.push(SendMessage(sender, response))\n",
        "a crashed voter grants again in the same term",
    ),
    bug(
        "wins_before_own_vote_is_durable",
        "scenario storage/vote_before_answer",
        "core.election",
        "        state.when_flushed(OwnVoteFlushed(term))\n",
        "        candidate.granted.add(state.me)\n",
        "elected twice in one term after a crash",
    ),
    bug(
        "grants_without_comparing_logs",
        "seeds 10",
        "core.voting",
        "if request.last_log_id < _must_hold(state):",
        "if request.last_log_id.index < 0:",
        "a leader without committed entries",
    ),
    bug(
        "compares_only_log_lengths",
        "test tests/core/test_voting.py::test_a_candidate_whose_log_ends_before_ones_own_is_refused",
        "core.voting",
        "if request.last_log_id < _must_hold(state):",
        "if request.last_log_id.index < _must_hold(state).index:",
        "a long log of an old term wins against committed entries",
    ),
    bug(
        "ignores_the_leaders_lease",
        "seeds 100",
        "core.voting",
        "    return sender.node_id != state.promised_to and lease_holds(state, now)\n",
        "    return False\n",
        "lease reads become stale",
    ),
    bug(
        "candidate_breaks_its_own_lease",
        "scenario election/lease",
        "core.election",
        "        if not transfer and lease_holds(state, now):\n",
        "        if False:\n",
        "lease reads become stale, for the candidate's own vote broke the promise",
    ),
    bug(
        "lost_connection_ends_the_lease",
        "scenario election/lost_leader_lives",
        "core.election",
        "    soon = max(now, state.promised_until) + ",
        "    soon = now + ",
        "followers leave a leader that lives when something else ends their connections",
    ),
    bug(
        "followers_of_a_dead_leader_campaign_together",
        "scenario election/forget_leader_quorum",
        "core.election",
        " + _turn(state) * state.config.heartbeat_interval_ms\n",
        "\n",
        "they vote for themselves in one term, and nobody leads for another timeout",
    ),
    bug(
        "restart_forgets_the_promise",
        "test tests/core/test_voting.py::test_a_node_that_was_just_started_keeps_the_promise_that_it_may_have_given",
        "core.state",
        "    if vote.term > 0:\n",
        "    if vote.term < 0:\n",
        "lease reads become stale after a restart",
    ),
    bug(
        "grants_of_another_round_count",
        "test tests/core/test_election.py::test_a_pre_vote_grant_does_not_count_in_the_real_round",
        "core.election",
        "(candidate.term, candidate.pre_vote) != (response.term, response.pre_vote)",
        "False",
        "a pre-vote, or a vote of an earlier term, elects a leader",
    ),
    bug(
        "half_is_a_majority",
        "seeds 40",
        "core.quorum",
        "    return count // 2 + 1\n",
        "    return max(1, (count + 1) // 2)\n",
        "two halves of an even cluster decide for themselves (openraft 1802: a false quorum)",
    ),
    bug(
        "candidate_stays_in_its_term",
        "test tests/core/test_election.py::test_a_higher_term_ends_the_candidacy",
        "core.election",
        "    if not response.granted and response.vote.term > state.term:\n",
        "    if not response.granted and response.vote.term < 0:\n",
        "pre-vote and check quorum wait for each other for ever (openraft 1796)",
    ),
    bug(
        "pre_votes_go_on_under_a_leader",
        "test tests/core/test_election.py::test_a_leader_that_is_heard_again_ends_the_round_of_pre_votes",
        "core.voting",
        "    if not known or state.candidate is not None:\n",
        "    if not known:\n",
        "late answers to a pre-vote depose a leader that is heard again",
    ),
    bug(
        "grant_of_an_undone_candidacy_counts",
        "test tests/core/test_election.py::test_a_grant_given_for_more_entries_than_a_crash_has_left_does_not_count",
        "core.election",
        "    if response.granted and response.last_log_id > state.log.last:\n",
        "    if response.granted and response.last_log_id < state.log.last and not response.term:\n",
        "a leader without committed entries: it lost vote and entries in a crash and stood again in the same term",
    ),
    bug(
        "refused_request_deposes_a_leader",
        "test tests/core/test_voting.py::test_a_refused_request_changes_nothing_whatever_its_term",
        "core.election",
        "    granted = not reason\n",
        "    granted = not reason\n    adopt_higher_term(state, request.term, now, out)\n",
        "a removed or cut off node disturbs the cluster each time it campaigns",
    ),
    bug(
        "restarted_leader_grants_its_successor_nothing",
        "test tests/core/test_voting.py::test_after_the_lease_somebody_else_is_granted",
        "core.voting",
        "    return now < state.promised_until\n",
        "    return state.promised_until > 0\n",
        "no election after the first leader",
    ),
)

REPLICATION = (
    bug(
        "commits_old_terms_by_counting",
        "seeds 10",
        "core.replication",
        "if agreed <= state.committed or agreed < leader.first_index:",
        "if agreed <= state.committed:",
        "paper 5.4.2, figure 8: a committed entry is overwritten",
    ),
    bug(
        "leader_counts_itself_before_its_flush",
        "seeds 10",
        "core.replication",
        "    own = state.flushed\n",
        "    own = state.log.last.index\n",
        "an entry is committed that is on too few disks",
    ),
    bug(
        "stale_append_truncates",
        "seeds 10",
        "core.following",
        "if entry.index > state.log.purged.index and not state.log.has(entry.log_id):",
        "if entry.index > state.log.purged.index:",
        "an old request drops entries that were acknowledged",
    ),
    Mutant(
        "commits_what_the_leader_committed",
        "a follower commits entries that the leader has not confirmed",
        (
            Edit(
                "raft_engine.core.following",
                "min(request.committed, matching.index)",
                "min(request.committed, state.log.last.index)",
            ),
            Edit(
                "raft_engine.core.replication",
                "    committed = LogIndex(min(state.committed, prev.index))\n",
                "    committed = LogIndex(state.committed)\n",
            ),
        ),
        "seeds 20",
    ),
    bug(
        "accepts_before_entries_are_durable",
        "seeds 10",
        "core.following",
        "if claimed <= state.flushed and state.flushed_vote.term == state.vote.term:",
        "if claimed >= 0:",
        "a crashed follower lacks what it acknowledged",
    ),
    bug(
        "accepts_before_the_term_is_durable",
        "test tests/core/test_following.py::test_a_new_term_is_durable_before_anything_is_accepted_in_it",
        "core.following",
        "if claimed <= state.flushed and state.flushed_vote.term == state.vote.term:",
        "if claimed <= state.flushed:",
        "a crashed follower grants a candidate of a term whose leader it has acknowledged",
    ),
    bug(
        "refusal_before_the_term_is_durable",
        "test tests/core/test_following.py::test_a_refusal_is_not_sent_before_the_term_it_rests_on_is_durable",
        "core.following",
        "        state.when_flushed(SendWhenFlushed(sender, refusal))\n        return\n",
        "        out.push(SendMessage(sender, refusal))\n        return\n",
        "a term is shown that a crash takes back",
    ),
    bug(
        "flush_of_replaced_entries_counts",
        "test tests/core/test_following.py::test_a_flush_of_entries_that_were_replaced_does_not_count",
        "core.following",
        "        if isinstance(action, EntriesFlushed) and action.upto > after:\n",
        "        if isinstance(action, EntriesFlushed) and action.upto < 0:\n",
        "append ABA: what was truncated and written anew is taken for durable",
    ),
    bug(
        "applies_before_entries_are_durable",
        "seeds 10",
        "core.committing",
        "upto = min(state.committed, state.flushed, ",
        "upto = min(state.committed, ",
        "the state machine is ahead of its log",
    ),
    Mutant(
        "applies_twice",
        "an entry takes effect twice: the core asks again, and the worker does not look at what it has applied",
        (
            Edit(
                "raft_engine.core.committing",
                "        state.apply_submitted = upto\n",
                "        state.apply_submitted = state.applied.index\n",
            ),
            Edit(
                "raft_engine.runtime.apply_worker",
                "        after = self._applied.index\n",
                "        after = command.after\n",
            ),
        ),
        "seeds 10",
    ),
    bug(
        "leader_ignores_later_terms",
        "seeds 40",
        "core.replication",
        "    if response.vote.term > state.vote.term:\n        adopt_higher_term(state, response.vote.term, now, out)\n        return\n",
        "",
        "a deposed leader stays, and the cluster does not come together",
    ),
    bug(
        "answers_of_an_earlier_term_count",
        "test tests/core/test_replication.py::test_an_answer_given_in_an_earlier_term_does_not_count",
        "core.replication",
        "    if progress is None or leader is None or response.vote.term < state.vote.term:\n",
        "    if progress is None or leader is None:\n",
        "what was acknowledged to an earlier leadership is counted in this one",
    ),
    bug(
        "probe_waits_for_ever",
        "seeds 100",
        "core.ticking",
        "elif progress.inflight and now >= progress.inflight[0].sent_at + state.config.election_timeout_max_ms:",
        "elif False:",
        "a lost request stops replication to its target",
    ),
    bug(
        "acceptance_below_the_probe_ends_it",
        "test tests/core/test_progress.py::test_an_acceptance_below_the_probe_is_no_proof_that_the_logs_agree_there",
        "core.progress",
        "if self.mode is Mode.PROBE and matching >= self.next - 1:",
        "if self.mode is Mode.PROBE:",
        "a heartbeat's answer ends the search, and a healthy follower's conflict looks like a loss (openraft 1500)",
    ),
    bug(
        "any_conflict_is_a_revert",
        "test tests/core/test_replication.py::test_probing_does_not_go_below_what_was_acknowledged",
        "core.replication",
        "    if response.check:\n",
        "    if response.check or conflict <= progress.promised:\n",
        "reordered answers fence a healthy follower",
    ),
    bug(
        "commit_goes_back",
        "seeds 10",
        "core.committing",
        "    if index <= state.committed:\n",
        "    if index == state.committed:\n",
        "an old request takes back what was committed",
    ),
    bug(
        "check_quorum_never",
        "scenario time/check_quorum",
        "core.ticking",
        "    if silence >= state.config.election_timeout_max_ms * QUORUM_SILENCE_FACTOR:\n",
        "    if silence < 0:\n",
        "a leader that hears nobody is followed for ever (one-way partition)",
    ),
    bug(
        "writes_without_quorum_contact",
        "test tests/core/test_replication.py::test_a_leader_that_no_quorum_answers_refuses_writes",
        "core.replication",
        "    if not has_quorum_contact(state, leader, now):\n        silent",
        "    if False:\n        silent",
        "a cut off leader takes writes that it cannot commit",
    ),
)

READS = (
    bug(
        "reads_without_asking_anybody",
        "seeds 40",
        "core.reading",
        "    leader.waiting_reads.append((number, requester))\n    _begin_round(state, leader, now, out)\n",
        "    _answer(state, number, requester, state.committed, out)\n",
        "a deposed leader serves old data",
    ),
    Mutant(
        "reads_before_the_own_term_is_committed",
        "a new leader serves old data",
        (
            Edit("raft_engine.core.reading", " or state.committed < leader.first_index:", ":"),
            Edit("raft_engine.core.reading", " and state.committed >= leader.first_index:", ":"),
        ),
        "seeds 60",
    ),
    bug(
        "round_confirms_earlier_reads_only",
        "seeds 10",
        "core.reading",
        "            read = leader.reads.pop(0)\n            _answer(state, read.number, read.requester, read.index, out)\n",
        "            read = leader.reads.pop(0)\n            _answer(state, read.number, read.requester, max(1, read.index - 9), out)\n",
        "a read is served from before the request",
    ),
    bug(
        "lease_outlives_the_promise",
        "seeds 60",
        "core.reading",
        "state.config.leader_lease_ms * (1 - CLOCK_DRIFT)",
        "state.config.election_timeout_max_ms * 3",
        "a deposed leader serves old data",
    ),
    bug(
        "lease_from_the_answer",
        "test tests/core/test_reading.py::test_the_lease_begins_when_the_answered_round_was_sent_not_when_it_was_answered",
        "core.replication",
        "            progress.acked_at = sent_at\n",
        "            progress.acked_at = now\n",
        "a slow answer makes a lease longer than the promise it rests on",
    ),
    bug(
        "lease_during_a_transfer",
        "test tests/core/test_reading.py::test_no_lease_read_while_leadership_is_handed_over",
        "core.reading",
        "    if leader.transfer is not None or leader.lease_given_up or state.committed",
        "    if state.committed",
        "a leader that asked to be replaced serves old data",
    ),
    bug(
        "lease_after_a_failed_transfer",
        "test tests/core/test_reading.py",
        "core.reading",
        "    if leader.transfer is not None or leader.lease_given_up or state.committed",
        "    if leader.transfer is not None or state.committed",
        "a leader whose successor was elected after all, and died, serves old data",
    ),
    bug(
        "read_joins_a_running_round",
        "test tests/core/test_reading.py::test_reads_that_come_during_a_round_wait_for_the_next",
        "core.reading",
        "    if leader.waiting_reads and not leader.reads and state.committed >= leader.first_index:\n        round_ = start_round(state, leader, now, out)\n",
        "    if leader.waiting_reads and state.committed >= leader.first_index:\n        round_ = leader.reads[0].round if leader.reads else start_round(state, leader, now, out)\n",
        "an answer from before the request confirms it",
    ),
    bug(
        "fenced_answers_confirm_reads",
        "test tests/core/test_reading.py::test_a_fenced_nodes_answer_does_not_confirm_the_leader",
        "core.reading",
        "target.acked_round if target.counts else 0 for",
        "target.acked_round for",
        "a node that forgot whom it follows confirms a deposed leader",
    ),
    bug(
        "numbers_of_two_lives_are_equal",
        "test tests/core/test_reading.py::test_questions_of_two_lives_have_other_numbers",
        "core.state",
        "    state.last_read_id = int(random() * READ_IDS)\n",
        "",
        "a late answer to a question from before a restart serves one of now (etcd's request ids)",
    ),
)

MEMBERSHIP = (
    bug(
        "changes_before_the_own_term_is_committed",
        "test tests/core/test_membership_change.py::test_a_committed_configuration_is_not_enough_before_the_own_first_entry_is_committed",
        "core.membership_change",
        "    if state.committed < leader.first_index:\n        detail",
        "    if False:\n        detail",
        "the bug of single-server changes (2015): two configurations without a common quorum",
    ),
    bug(
        "two_changes_at_once",
        "test tests/core/test_membership_change.py::test_one_change_at_a_time",
        "core.membership_change",
        "    if state.membership.is_joint or state.effective.log_id.index > state.committed:\n",
        "    if False:\n",
        "two configurations without a common quorum",
    ),
    bug(
        "new_voters_alone_elect",
        "test tests/core/test_quorum.py::test_a_joint_quorum_needs_a_majority_of_each_set",
        "core.quorum",
        "    return bool(sets) and all(_count(config, yes) >= majority(len(config)) for config in sets)\n",
        "    return bool(sets) and all(_count(config, yes) >= majority(len(config)) for config in sets[-1:])\n",
        "a joint configuration elects two leaders",
    ),
    bug(
        "new_voters_alone_commit",
        "test tests/core/test_membership_change.py::test_a_joint_configuration_needs_the_old_quorum_too",
        "core.quorum",
        "    return min(agreed)\n",
        "    return agreed[-1]\n",
        "an entry is committed that the old voters do not have",
    ),
    bug(
        "truncated_configuration_stays_in_force",
        "test tests/core/test_membership_change.py::test_a_configuration_is_in_force_when_it_is_appended_and_taken_back_when_it_is_cut",
        "core.configuring",
        "    kept = [stored for stored in state.memberships if stored.log_id.index <= after]\n",
        "    kept = list(state.memberships)\n",
        "a node counts a quorum of voters that nobody agreed on",
    ),
    bug(
        "learner_with_nothing_becomes_a_voter",
        "test tests/core/test_membership_change.py::test_a_learner_that_has_nothing_yet_cannot_become_a_voter",
        "core.membership_change",
        "    if progress is None or not progress.matching:\n",
        "    if progress is None:\n",
        "the joint voters can elect nobody",
    ),
    bug(
        "lagging_learner_becomes_a_voter",
        "test tests/core/test_membership_change.py::test_a_learner_that_lags_too_much_cannot_become_a_voter",
        "core.membership_change",
        '    if progress.mode is Mode.REVERTED or lag > state.config.replication_lag_threshold:\n        return f"is',
        '    if False:\n        return f"is',
        "writes stop until it has caught up",
    ),
    bug(
        "joint_configuration_is_left_standing",
        "test tests/core/test_membership_change.py::test_a_later_leader_finishes_a_joint_configuration",
        "core.membership_change",
        "    if membership.is_joint:\n        if not handed_over:\n",
        "    if membership.is_joint:\n        if False:\n",
        "both sets of voters are needed for ever",
    ),
    bug(
        "removed_leader_stays",
        "test tests/core/test_membership_change.py::test_a_removed_leader_serves_until_that_is_committed_then_hands_over",
        "core.membership_change",
        "    if not membership.is_voter(state.me):\n        _leave",
        "    if False:\n        _leave",
        "a leader that nobody voted into the configuration",
    ),
    bug(
        "removed_node_campaigns",
        "test tests/core/test_election.py::test_a_node_that_a_committed_configuration_removed_does_not_campaign",
        "core.election",
        "    if not any(stored.membership.is_voter(state.me) for stored in state.memberships):\n",
        "    if False:\n",
        "it disturbs a cluster to which it does not belong",
    ),
)

TRANSFER = (
    bug(
        "transfer_never_ends",
        "test tests/core/test_leadership_transfer.py::test_the_leader_serves_again_when_nobody_took_over_within_one_election_timeout",
        "core.leadership_transfer",
        "        elif now >= transfer.deadline:\n",
        "        elif now < 0:\n",
        "writes are held for ever",
    ),
    bug(
        "transfer_to_a_lagging_target",
        "test tests/core/test_leadership_transfer.py::test_a_target_too_far_behind_is_refused_with_the_number",
        "core.leadership_transfer",
        "    if progress.mode is not Mode.REPLICATE or lag > state.config.replication_lag_threshold:\n",
        "    if False:\n",
        "no leader for as long as the target needs to catch up (openraft 1805)",
    ),
    bug(
        "target_campaigns_without_the_leaders_entries",
        "test tests/core/test_leadership_transfer.py::test_the_target_refuses_without_the_leaders_last_entry",
        "core.leadership_transfer",
        '    return "" if state.log.has(request.last_log_id) and state.flushed >= request.last_log_id.index else "log"\n',
        '    return ""\n',
        "an election that cannot be won, and no leader meanwhile",
    ),
    bug(
        "held_writes_are_dropped",
        "test tests/core/test_leadership_transfer.py::test_held_writes_are_taken_in_when_the_transfer_fails",
        "core.leadership_transfer",
        "    if held:\n",
        "    if held and now < 0:\n",
        "writes are never answered after a transfer that failed (openraft 1747)",
    ),
    bug(
        "old_leader_hands_over",
        "test tests/core/test_leadership_transfer.py::test_a_request_of_an_earlier_leadership_of_the_same_node_is_refused",
        "core.leadership_transfer",
        "    if request.vote.term != state.term or state.known_leader",
        "    if state.known_leader",
        "a request that was on its way for long deposes a leader that works",
    ),
)

SNAPSHOTS = (
    bug(
        "snapshot_drops_the_matching_suffix",
        "scenario snapshots/snapshot_keeps_the_matching_tail",
        "core.following",
        "    if state.log.has(upto):\n",
        "    if state.log.last.index < 0:\n",
        "acknowledged entries behind the snapshot are gone",
    ),
    bug(
        "snapshot_of_another_term_matches",
        "test tests/core/test_following.py::test_an_entry_of_another_term_at_the_snapshots_end_is_no_match",
        "core.following",
        "    if state.log.has(upto):\n",
        "    if state.log.last.index >= upto.index:\n",
        "entries that follow on nothing stay behind the snapshot (openraft 1892)",
    ),
    bug(
        "snapshot_before_its_term_is_durable",
        "test tests/core/test_following.py::test_a_snapshot_is_not_installed_before_the_term_of_its_leader_is_durable",
        "core.following",
        "        state.when_flushed(InstallWhenFlushed(event.meta))\n",
        "        from raft_engine.core.commands import InstallSnapshot\n\n        out.push(InstallSnapshot(event.meta))\n",
        "after a crash the log is later than the term",
    ),
    bug(
        "purges_beyond_the_snapshot",
        "seeds 60",
        "core.purging",
        "        upto = min(event.upto, end)\n",
        "        upto = min(event.upto, state.applied.index)\n",
        "entries are gone that no snapshot has",
    ),
    bug(
        "purges_what_a_target_needs",
        "scenario snapshots/purge_deferred",
        "core.purging",
        "if upto.index <= state.purge_submitted.index or _needed_by(state, upto):",
        "if upto.index <= state.purge_submitted.index:",
        "a request on its way loses its entries",
    ),
    bug(
        "snapshot_cursor_goes_back",
        "test tests/core/test_snapshotting.py::test_a_finished_snapshot_moves_the_cursor_forward_only",
        "core.snapshotting",
        "    if event.meta.last_log_id.index > state.snapshot.last_log_id.index:\n",
        "    if True:\n",
        "a slow build replaces the snapshot that was installed meanwhile",
    ),
    bug(
        "lost_chunk_stops_the_transfer",
        "test tests/core/test_shipping.py::test_a_chunk_that_is_not_answered_is_sent_anew",
        "core.ticking",
        "            if chunk_at is None or now >= chunk_at + state.config.install_snapshot_timeout_ms:\n",
        "            if chunk_at is None:\n",
        "a follower behind the purge point never comes back",
    ),
    bug(
        "doubled_answers_double_the_chunks",
        "test tests/core/test_shipping.py",
        "core.shipping",
        "        if response.next_offset == progress.snapshot_offset:\n",
        "        if response.next_offset < 0:\n",
        "a snapshot transfer grows without end and never arrives",
    ),
    bug(
        "old_application_counts_after_a_snapshot",
        "test tests/core/test_committing.py::test_an_application_from_before_a_snapshot_is_no_news",
        "core.committing",
        "    if upto.index <= state.applied.index:\n        return",
        "    if upto.index < 0:\n        return",
        "the applied index goes back",
    ),
)

STORAGE = (
    bug(
        "acknowledges_before_the_sync",
        "test tests/runtime/test_log_worker.py::test_what_gathers_during_a_sync_is_written_in_order_with_one_sync",
        "runtime.log_worker",
        "                    self._log.sync()\n",
        "",
        "the power fails and what was acknowledged is gone (no fsync before the answer)",
    ),
    bug(
        "sync_of_the_log_does_nothing",
        "seeds 10",
        "storage.segment_log",
        "            self._files.fdatasync(_open_file(active))\n            active.durable = active.end\n",
        "            active.durable = active.end\n",
        "the power fails and what was acknowledged is gone",
    ),
    bug(
        "hard_state_is_not_synced",
        "seeds 40",
        "storage.two_slots",
        "            self._files.fdatasync(self._descriptor)\n            self._durable_slot = 1 - self._durable_slot\n",
        "            self._durable_slot = 1 - self._durable_slot\n",
        "a vote that was sent is forgotten",
    ),
    bug(
        "hard_state_is_overwritten_in_place",
        "test tests/storage/test_hard_state.py::test_the_durable_slot_is_never_written",
        "storage.two_slots",
        "        self._files.pwrite(self._descriptor, page, (1 - self._durable_slot) * SLOT_BYTES)\n        self._newest = newest\n",
        "        self._files.pwrite(self._descriptor, page, self._durable_slot * SLOT_BYTES)\n        self._newest = newest\n",
        "a write cut short leaves neither the old vote nor the new one",
    ),
    bug(
        "rename_without_directory_sync",
        "test tests/storage/test_files.py::test_a_file_that_was_replaced_is_the_new_one_after_a_power_failure",
        "storage.files",
        "        self.rename(building, path)\n        self.fsync_dir(path.parent)\n",
        "        self.rename(building, path)\n",
        "a file that was replaced durably is the old one after a power cut",
    ),
    bug(
        "new_segment_without_directory_sync",
        "seeds 10",
        "storage.spare_segment",
        "            self._files.fsync_dir(target.parent)\n",
        "",
        "a segment with acknowledged entries is not in its directory after a power cut",
    ),
    bug(
        "snapshot_shown_before_it_is_durable",
        "seeds 20",
        "storage.snapshot_files",
        "                self._files.fsync(descriptor)\n            except BaseException:",
        "                pass\n            except BaseException:",
        "the log is purged up to a snapshot that the power cut takes away",
    ),
    bug(
        "truncates_at_a_bad_checksum_in_the_middle",
        "test tests/storage/test_segment_log.py::test_a_durable_entry_overwritten_with_zeros_is_rot",
        "storage.log_checks",
        "    if problem is not None and (problem.is_rot or is_short or not is_newest):\n",
        "    if problem is not None and not is_newest:\n",
        "rot is taken for a write cut short, and acknowledged entries are dropped in silence",
    ),
    bug(
        "writes_again_after_a_failed_sync",
        "test tests/storage/test_failing_disk.py::test_after_a_failure_every_write_fails_even_if_the_disk_works_again",
        "storage.segment_log",
        '            self.failure = storage_failed(error, f"log {method.__name__}", self.directory)\n            raise self.failure from error\n',
        '            raise storage_failed(error, f"log {method.__name__}", self.directory) from error\n',
        "fsyncgate: the second sync says yes, and the pages were dropped",
    ),
    bug(
        "entry_before_the_vote_it_rests_on",
        "test tests/storage/test_segment_log.py::test_an_entry_waits_for_the_vote_before_it",
        "storage.segment_log",
        "        self._hard_state.sync()\n        while entries:",
        "        while entries:",
        "order of vote and append: after a crash the log is later than the term",
    ),
    bug(
        "unsynced_leftovers_count_at_the_start",
        "seeds 60",
        "storage.segment_log",
        "        self._files.fdatasync(descriptor)\n        segment.durable = segment.end\n        self._say_durable(segment)\n        if self._marks",
        "        segment.durable = segment.end\n        self._say_durable(segment)\n        if self._marks",
        "a killed process's entries are acknowledged and lost with the power",
    ),
    bug(
        "two_processes_on_one_directory",
        "test tests/storage/test_data_dir.py::test_a_directory_is_open_once",
        "storage.files",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "two nodes write one log",
    ),
    bug(
        "repeated_command_is_done_again",
        "test tests/kv/test_store.py::test_a_repeated_command_is_not_done_again_and_has_the_first_result",
        "kv.store",
        "        known = self._recall(key)\n",
        "        known = None\n",
        "a client's retry takes effect twice",
    ),
)

ANSWERS = (
    bug(
        "read_error_is_passed_over_in_replication",
        "test tests/runtime/test_peer_sender.py::test_a_damaged_entry_is_not_passed_over",
        "runtime.peer_sender",
        "            except Damaged:\n                raise\n",
        "            except Damaged:\n                return []\n",
        "a leader whose log cannot be read goes on, and sends what is none (openraft issue 1795)",
    ),
    bug(
        "snapshot_trigger_during_a_build_is_lost",
        "test tests/core/test_snapshotting.py::test_a_threshold_that_is_passed_during_a_build_is_not_lost",
        "core.engine",
        "            snapshotting.on_snapshot_built(state, event, now, out)\n            snapshotting.by_policy(state, now, out)\n",
        "            snapshotting.on_snapshot_built(state, event, now, out)\n",
        "no snapshot is built until something more is written (openraft issue 1829)",
    ),
    bug(
        "write_is_stranded_by_a_snapshot",
        "test tests/core/test_committing.py::test_a_deposed_leaders_write_is_answered_when_a_snapshot_covers_it_in_a_log_that_holds_it",
        "core.committing",
        "        while waiting and waiting[0][0] <= upto.index:\n",
        "        while False:\n",
        "the caller of a deposed leader's write waits for ever (openraft issue 1761)",
    ),
    bug(
        "held_writes_are_forgotten_when_the_target_is_elected",
        "test tests/core/test_leadership_transfer.py::test_held_writes_are_sent_to_whoever_leads_instead",
        "core.voting",
        '        forward_held_writes(state, out)\n        out.report("leader_changed"',
        '        out.report("leader_changed"',
        "callers wait for the end of a transfer that is long over",
    ),
    bug(
        "reads_of_an_elected_follower_are_forgotten",
        "test tests/core/test_reading.py::test_reads_of_a_follower_that_is_elected_itself_are_confirmed_by_it",
        "core.election",
        "        waiting_reads=[(number, None) for number, read in state.read_waiters.items() if not read.index],\n",
        "",
        "what was asked of the leader before waits until its time is over",
    ),
    bug(
        "conditional_write_is_not_told_of_its_refusal",
        "test tests/core/test_committing.py::test_both_hear_of_a_condition_that_does_not_hold",
        "core.replication",
        "    if event.commit_ticket is not None:\n        out.respond(event.commit_ticket, refusal)\n",
        "",
        "who waits for the commit of a refused write waits for ever",
    ),
)

KNOWN_BUGS = (*VOTES, *REPLICATION, *READS, *MEMBERSHIP, *TRANSFER, *SNAPSHOTS, *STORAGE, *ANSWERS)
