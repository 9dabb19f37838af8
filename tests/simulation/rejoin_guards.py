"""The rules that make a return safe, each taken out: what must find that it is missing.

A rule of the operator or the identity of nodes is left out by the story itself ("without …"), a rule of the code by a change of
its source. Where two rules stand for each other (a blank node votes for nobody, and nobody counts it), the story leaves
out the other one, or a test of the one rule finds it. Format: see known_bugs.py.
"""

from __future__ import annotations

from tests.simulation.known_bugs import Edit, Mutant, bug


def forgotten(name: str, by: str, breaks: str) -> Mutant:
    """Return a rule that the story's operator leaves out."""
    return Mutant(name, breaks, (), by)


WAY_A = (
    forgotten(
        "barrier_skipped",
        "trace T1 planned without barrier",
        "a leader without what only the wiped node and the dead leader had",
    ),
    forgotten(
        "barrier_skipped_in_a_cluster_of_five",
        "trace T6 planned without barrier",
        "the same with five nodes (openraft's FAQ)",
    ),
    forgotten(
        "second_wipe_without_a_barrier",
        "trace T7 two wipes without barrier",
        "of four nodes one may forget, not two",
    ),
    forgotten(
        "barrier_before_the_stop",
        "trace barrier before the stop without stop first",
        "what the node helped to commit after the barrier is lost with it",
    ),
    forgotten(
        "hard_state_not_kept",
        "trace T10 planned without kept vote",
        "a node that forgot its term acknowledges a deposed leader",
    ),
    forgotten(
        "hard_state_not_kept_and_no_barrier",
        "trace T2 planned without barrier, kept vote",
        "two leaders in one term",
    ),
    forgotten(
        "word_of_a_quorum_from_before",
        "trace T4 planned (T5) without barrier, kept vote",
        "a quorum that had everything is no quorum that votes for nobody else",
    ),
    forgotten(
        "caught_up_is_enough",
        "trace T3 planned without barrier, kept vote",
        "the vote of the old life arrives after the node was let in again",
    ),
    forgotten(
        "recovery_marker_forgotten",
        "trace T9 by elect without recovery marker",
        "the node meets a configuration in which it alone was a quorum",
    ),
    bug(
        "barrier_held_by_too_few",
        "test tests/core/test_quorum.py::test_without_one_voter_n_minus_q_plus_1_holders_are_needed",
        "core.quorum",
        "return len(config) - quorum + 1 if excluded & config.keys() else quorum",
        "return 1",
        "the copies that every later leader must meet are too few; a recovering voter's own rule is the second lock",
    ),
    Mutant(
        "barrier_held_by_too_few_and_voters_forget_their_barrier",
        "a leader without committed entries",
        (
            Edit(
                "raft_engine.core.quorum",
                "return len(config) - quorum + 1 if excluded & config.keys() else quorum",
                "return 1",
            ),
            Edit(
                "raft_engine.core.voting",
                "return last if state.recovery is None else max(last, state.recovery.until)",
                "return last",
            ),
        ),
        "trace T1 planned",
    ),
    bug(
        "barrier_counts_the_excluded_node",
        "test tests/core/test_quorum.py::test_an_excluded_holder_does_not_count",
        "core.quorum",
        "for voter in config.items() if voter[0] not in excluded)",
        "for voter in config.items())",
        "the copies that every later leader must meet are too few; a recovering voter's own rule is the second lock",
    ),
    Mutant(
        "barrier_counts_the_excluded_node_and_voters_forget_their_barrier",
        "a leader without committed entries: the copy that is wiped was counted",
        (
            Edit(
                "raft_engine.core.quorum",
                "for voter in config.items() if voter[0] not in excluded)",
                "for voter in config.items())",
            ),
            Edit(
                "raft_engine.core.voting",
                "return last if state.recovery is None else max(last, state.recovery.until)",
                "return last",
            ),
        ),
        "trace T1 barrier held by the wiped node",
    ),
    Mutant(
        "operator_asks_for_the_barrier_before_the_stop",
        "entries committed with the node's help after the barrier are lost with it",
        (
            Edit(
                "raft_engine.testing.sim_operators",
                '        if node.engine is not None:\n            self._simulation.stop(node)\n        self._simulation.note("rejoin"',
                '        self._simulation.note("rejoin"',
            ),
            Edit(
                "raft_engine.testing.sim_operators",
                "            if not node.in_hand or node.life != life:\n                return  # everything",
                "            if node.engine is not None:\n                self._simulation.stop(node)\n            if not node.in_hand:\n                return  # everything",
            ),
        ),
        "seeds 100",
    ),
    Mutant(
        "operator_forgets_the_barrier",
        "a wiped node lets a leader win that lacks committed entries",
        (
            Edit(
                "raft_engine.testing.sim_operators",
                "            if isinstance(outcome, BarrierOutcome):\n",
                "            if self._simulation.committed:\n                outcome = BarrierOutcome(self._simulation.committed[0].log_id, ())\n",
            ),
        ),
        "seeds 100",
    ),
    bug(
        "recovering_node_votes_by_its_short_log",
        "trace T1 planned without holders",
        "core.voting",
        "return last if state.recovery is None else max(last, state.recovery.until)",
        "return last",
        "a former configuration elects a leader by what a wiped node has forgotten",
    ),
    bug(
        "recovering_node_campaigns",
        "seeds 40",
        "core.election",
        "    if state.recovery is not None:\n",
        "    if state.recovery is None and state.leader is not None:\n",
        "a wiped node leads without what was committed",
    ),
    bug(
        "recovering_node_campaigns_by_timer",
        "trace T9 by timer",
        "core.election",
        "    if state.flags.enable_elect and why_not_campaign(state) is None:\n",
        "    if state.flags.enable_elect and (state.recovery is not None or why_not_campaign(state) is None):\n",
        "alone in an old configuration it elects itself",
    ),
    bug(
        "recovering_node_campaigns_when_asked",
        "trace T9 by elect",
        "core.election",
        "    refusal = why_not_campaign(state)\n",
        "    refusal = None if state.recovery is not None else why_not_campaign(state)\n",
        "the same on an operator's word",
    ),
    bug(
        "recovering_node_campaigns_by_pre_vote",
        "trace T9 by pre-vote",
        "core.election",
        "    refusal = why_not_campaign(state)\n",
        "    refusal = None if state.recovery is not None and event.pre_vote else why_not_campaign(state)\n",
        "the same by way of a pre-vote",
    ),
    bug(
        "recovering_node_takes_over",
        "test tests/core/test_leadership_transfer.py::test_a_recovering_target_refuses",
        "core.leadership_transfer",
        "    refusal = why_not_campaign(state)\n",
        "    refusal = None if state.recovery is not None else why_not_campaign(state)\n",
        "the same by way of a transfer",
    ),
    bug(
        "recovery_is_not_durable",
        "trace T9 killed while recovering",
        "core.state",
        "        return HardState(self.vote, self.recovery)\n",
        "        return HardState(self.vote, None)\n",
        "a new vote wipes out that it is recovering, and a restart lets it campaign",
    ),
    bug(
        "recovery_ends_at_any_entry_of_that_index",
        "test tests/core/test_committing.py::test_the_same_index_of_another_term_does_not_end_a_recovery",
        "core.committing",
        "    if covered or (state.flushed >= until.index and state.log.has(until)):\n",
        "    if covered or state.flushed >= until.index:\n",
        "an entry of a deposed leader is taken for the barrier",
    ),
    bug(
        "recovery_ends_before_the_barrier_is_durable",
        "test tests/core/test_committing.py::test_a_recovery_does_not_end_while_only_what_comes_before_the_barrier_is_durable",
        "core.committing",
        "    if covered or (state.flushed >= until.index and state.log.has(until)):\n",
        "    if covered or state.log.has(until):\n",
        "the node campaigns with entries that a crash takes back",
    ),
    bug(
        "recovering_node_serves_reads",
        "test tests/core/test_reading.py::test_a_recovering_node_serves_no_read",
        "core.reading",
        "    if state.recovery is not None:\n",
        "    if False:\n",
        "clients wait for a node that has nothing",
    ),
    bug(
        "barrier_that_can_never_be_held_is_waited_for",
        "test tests/core/test_barrier.py::test_what_can_never_be_held_is_refused_and_nothing_is_appended",
        "core.barrier",
        "        needed = holders_needed(config, event.exclude)\n",
        "        needed = 0\n",
        "the node is stopped and writes stop for nothing",
    ),
)

PERMISSION = (
    bug(
        "matching_not_taken_back",
        "trace T8 stale matching",
        "core.reverting",
        "    progress.matching = 0\n    restart(state, leader, progress, now, out)\n",
        "    restart(state, leader, progress, now, out)\n",
        "a copy that is gone is counted",
    ),
    bug(
        "answers_of_old_sessions_count",
        "trace T8 late answer",
        "core.replication",
        "return progress if progress is not None and progress.session == session else None",
        "return progress",
        "an answer from before a wipe counts (openraft: stale acknowledgement after a reversion)",
    ),
    bug(
        "permission_keeps_old_promises",
        "test tests/core/test_progress.py::test_a_permitted_loss_forgets_every_promise_and_uses_the_permission",
        "core.progress",
        "        self.matching = 0\n        self.promised = 0\n",
        "",
        "a permitted loss is taken for another one, for ever",
    ),
    bug(
        "unarmed_revert_counts",
        "trace T3 old copy",
        "core.replication",
        "    if progress.is_armed(now) or state.config.allow_log_reversion:\n",
        "    if True:\n",
        "a directory that was put back votes and acknowledges for two lives",
    ),
    bug(
        "permission_of_an_earlier_leader_counts",
        "trace leader changed after arming",
        "core.replication",
        "    if progress.is_armed(now) or state.config.allow_log_reversion:\n",
        "    if True:\n",
        "a permission that the present leader never gave lets a loss in",
    ),
    bug(
        "permission_outlives_a_restart_of_the_leader",
        "trace leader restarted after arming",
        "core.replication",
        "    if progress.is_armed(now) or state.config.allow_log_reversion:\n",
        "    if True:\n",
        "the same, given by the leader's own earlier life",
    ),
    bug(
        "fenced_node_is_counted",
        "trace T3 old copy",
        "core.progress",
        "        self.session = session\n        self._enter(Mode.REVERTED)\n        self.matching = 0\n",
        "        self.promised = self.matching = 0\n        self.probe(session, 1)\n",
        "the alarm is raised, and the node counts all the same",
    ),
    bug(
        "permission_covers_two_losses",
        "trace second wipe after use",
        "core.progress",
        "        self.armed_until = None\n        self.probe(session, self.next)\n",
        "        self.probe(session, self.next)\n",
        "a second loss, which nobody allowed, is let in",
    ),
    bug(
        "armed_twice_covers_two_losses",
        "trace armed twice",
        "core.progress",
        "        self.armed_until = None\n        self.probe(session, self.next)\n",
        "        self.probe(session, self.next)\n",
        "the second permission is kept for a second loss",
    ),
    bug(
        "permission_without_end",
        "trace expired",
        "core.progress",
        "        return self.armed_until is not None and now < self.armed_until\n",
        "        return self.armed_until is not None\n",
        "a permission given long ago lets a loss in",
    ),
    bug(
        "disarming_does_nothing",
        "trace disarmed",
        "core.reverting",
        "        progress.armed_until = None\n        detail",
        "        detail",
        "a permission that was taken back lets a loss in",
    ),
    bug(
        "arming_late_brings_old_acknowledgements_back",
        "trace armed after the loss was seen",
        "core.reverting",
        "        progress.forget(state.next_session())\n        progress.next = 1 if",
        "        promised = progress.promised\n        progress.forget(state.next_session())\n        progress.matching = promised\n        progress.next = promised + 1 if promised else 1 if",
        "what a fenced node acknowledged before its loss is counted again",
    ),
)

WAY_B = (
    Mutant(
        "blank_node_votes",
        "whoever has the id has the vote: a leader without what was committed",
        (
            Edit(
                "raft_engine.core.voting",
                "    if state.is_blank or state.shut_down:\n",
                "    if state.shut_down:\n",
            ),
        ),
        "trace T1 blank without identity",
    ),
    Mutant(
        "blank_node_votes_twice",
        "two leaders in one term",
        (
            Edit(
                "raft_engine.core.voting",
                "    if state.is_blank or state.shut_down:\n",
                "    if state.shut_down:\n",
            ),
        ),
        "trace T2 blank without identity",
    ),
    Mutant(
        "blank_node_votes_in_a_cluster_of_five",
        "a leader without what was committed",
        (
            Edit(
                "raft_engine.core.voting",
                "    if state.is_blank or state.shut_down:\n",
                "    if state.shut_down:\n",
            ),
        ),
        "trace T6 blank without identity",
    ),
    bug(
        "blank_node_answers_candidates",
        "test tests/core/test_voting.py::test_a_blank_node_grants_nobody",
        "core.voting",
        "    if state.is_blank or state.shut_down:\n",
        "    if state.shut_down:\n",
        "the second lock is open: only the incarnation keeps a blank node's vote from counting",
    ),
    forgotten(
        "incarnation_not_checked_after_catching_up",
        "trace T3 blank without identity",
        "the vote of the old life is on its way when the new one is counted",
    ),
    forgotten(
        "incarnation_not_checked_in_a_cluster_of_five",
        "trace T4 blank without identity",
        "a quorum's word is not enough",
    ),
    forgotten(
        "incarnation_not_checked_in_acknowledgements",
        "trace T10 blank without identity",
        "a node that forgot its term acknowledges a deposed leader",
    ),
    forgotten(
        "old_configuration_obeyed",
        "trace T9 blank without identity",
        "the new life takes the old one's place in a configuration in which it was alone",
    ),
    Mutant(
        "grant_of_another_incarnation_counts",
        "a blank node's grant elects",
        (
            Edit(
                "raft_engine.core.election",
                "    if not state.membership.is_voter(sender):\n",
                "    if not state.membership.names(sender.node_id):\n",
            ),
            Edit(
                "raft_engine.core.quorum",
                "    return sum(PeerId(*voter) in peers for voter in config.items())\n",
                "    return sum(voter in {peer.node_id for peer in peers} for voter in config)\n",
            ),
        ),
        "test tests/core/test_election.py::test_a_grant_of_another_incarnation_does_not_count",
    ),
    bug(
        "votes_are_counted_by_id",
        "test tests/core/test_quorum.py::test_another_life_of_a_voter_does_not_count",
        "core.quorum",
        "    return sum(PeerId(*voter) in peers for voter in config.items())\n",
        "    return sum(voter in {peer.node_id for peer in peers} for voter in config)\n",
        "a blank node is counted",
    ),
    bug(
        "blank_node_campaigns",
        "test tests/core/test_election.py::test_who_may_not_campaign_refuses_the_operator",
        "core.election",
        "    if state.is_blank:\n",
        "    if False:\n",
        "a node that knows no cluster asks for votes",
    ),
    bug(
        "blank_node_is_not_fenced",
        "test tests/core/test_replication.py::test_another_incarnation_at_a_members_address_is_fenced_and_reported_once",
        "core.replication",
        '        out.report("node_reverted", detail, event.peer.node_id, warning=True)\n    progress.quarantine(state.next_session())\n',
        '        out.report("node_reverted", detail, event.peer.node_id, warning=True)\n',
        "what the old life acknowledged goes on being counted as if it were there",
    ),
    bug(
        "one_step_replaces_the_incarnation",
        "scenario bootstrap/blank_returns",
        "core.membership_change",
        "            _append(state, _membership((membership.configs[-1], voters), learners, membership.nodes), now, out)\n",
        "            _append(state, _membership((voters,), learners, membership.nodes), now, out)\n",
        "old and new voters have no common quorum; only the learner's entry before it keeps an old vote from electing",
    ),
    bug(
        "blank_node_comes_in_without_permission",
        "scenario bootstrap/blank_returns",
        "core.membership_change",
        "        if progress.replaced_by and progress.is_armed(now) and _why_not",
        "        if progress.replaced_by and _why_not",
        "a directory removed by mistake is filled again without anybody knowing",
    ),
    bug(
        "incarnation_is_derived_from_the_id",
        "test tests/storage/test_data_dir.py::test_a_directory_emptied_by_hand_is_a_new_node",
        "storage.identity",
        'Incarnation(f"{files.random_bits(_INCARNATION_BITS):0{_INCARNATION_BITS // 4}x}")',
        'Incarnation(f"{node_id:032x}")',
        "a wiped node draws its old identity again",
    ),
    bug(
        "frames_for_another_life_are_taken",
        "test tests/transport/test_tcp.py",
        "transport.accepting",
        "        if PeerId(hello.wanted_node_id, hello.wanted_incarnation) != me:\n",
        "        if hello.wanted_node_id != me.node_id:\n",
        "a message for the old life reaches the new one",
    ),
    bug(
        "another_life_answers_unnoticed",
        "test tests/transport/test_tcp.py",
        "transport.dialing",
        "        if reply.incarnation != self.peer.incarnation:\n",
        "        if False:\n",
        "a leader takes the new life for the old one",
    ),
    bug(
        "boot_counter_does_not_rise",
        "test tests/storage/test_identity.py::test_an_identity_is_kept_and_every_start_is_counted",
        "storage.identity",
        "boot_count=identity.boot_count + 1)",
        "boot_count=max(1, identity.boot_count))",
        "a directory restored from an older copy cannot be told from the one that ran last",
    ),
    bug(
        "an_older_copy_is_let_in",
        "test tests/transport/test_boots.py::test_a_run_of_an_older_copy_is_not_taken",
        "transport.boots",
        "            if names.get(known.number, known.name) != known.name:\n",
        "            if False:\n",
        "a voter whose disk was rolled back votes a second time in a term, and counts for what it has forgotten",
    ),
    bug(
        "an_older_copy_is_told_by_its_counter_alone",
        "test tests/transport/test_boots.py::test_a_run_of_an_older_copy_is_not_taken",
        "transport.boots",
        "            if names.get(known.number, known.name) != known.name:\n",
        "            if newest.number == known.number and newest.name != known.name:\n",
        "whoever starts the copy once more has it let in",
    ),
)

GUARDS = (*WAY_A, *PERMISSION, *WAY_B)
