"""Scenarios of openraft's integration tests that need whole engines: see tests/parity.toml."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec
import pytest

from raft_engine.errors import (
    ForwardToLeader,
    LastLogIdMismatch,
    LearnerLagging,
    OutcomeUnknown,
    Overloaded,
    Panicked,
    PreconditionFailed,
    QuorumNotEnough,
    Stopped,
    TermMismatch,
    WaitTimeout,
)
from raft_engine.runtime.raft import Raft
from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.transport.local import LocalTransport
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.messages import Message
from raft_engine.types.metrics import RaftMetrics, ReplicationState, RuntimeFlags, ServerState
from raft_engine.types.outcomes import Expectation
from tests.runtime.cluster import CONFIG, Cluster, Words, addresses, peer


@pytest.fixture
async def make():
    """Make a cluster; it is stopped at the end."""
    made: list[Cluster] = []

    async def start(size: int = 3, **settings) -> Cluster:
        cluster = Cluster(size, msgspec.structs.replace(CONFIG, **settings))
        made.append(cluster)
        await cluster.start()
        return cluster

    yield start
    for cluster in made:
        await cluster.stop()


async def join(cluster: Cluster, node_id: int) -> None:
    """Start a blank node that nobody knows yet."""
    cluster.logs[node_id] = MemoryLog()
    cluster.snapshots[node_id] = MemorySnapshots()
    await cluster.start(node_id)


async def add_learner(cluster: Cluster, node_id: int, **more):
    leader = next(raft for raft in cluster.rafts.values() if raft.metrics().state is ServerState.LEADER)
    return await leader.change_membership(add_learners={peer(node_id): addresses([node_id])[NodeId(node_id)]}, **more)


async def grown(make, **settings) -> Cluster:
    """Three voters and node 4, a learner that has caught up."""
    cluster = await make(**settings)
    await cluster.leader()
    await join(cluster, 4)
    assert (await add_learner(cluster, 4)).observed
    return cluster


async def everywhere(cluster: Cluster, count: int) -> None:
    """Wait until every running node has applied `count` words."""
    leader = next(raft for raft in cluster.rafts.values() if raft.metrics().state is ServerState.LEADER)
    index = leader.metrics().last_log.index
    for raft in cluster.rafts.values():
        await raft.wait().applied_index_at_least(index)
    assert {count} == {len(machine.words) for machine in cluster.machines.values()}


async def test_many_writers_with_tiny_snapshots_reach_every_node(make):
    cluster = await make(snapshot_logs_since_last=10, max_in_snapshot_log_to_keep=1, purge_batch_size=1)
    leader = await cluster.leader()
    await asyncio.gather(*(leader.client_write(b"w%d" % number) for number in range(200)))
    await everywhere(cluster, 200)
    await leader.wait().metrics(lambda seen: seen.purged.index > 0, "the policy purges")


async def test_a_learner_gets_what_is_written_while_it_joins(make):
    cluster = await make()
    leader = await cluster.leader()
    await join(cluster, 4)
    writes = [asyncio.ensure_future(leader.client_write(b"w")) for _ in range(50)]
    assert (await add_learner(cluster, 4)).observed
    await asyncio.gather(*writes)
    await everywhere(cluster, 50)


async def test_a_learner_that_is_added_again_is_no_change(make):
    cluster = await grown(make)
    assert not (await add_learner(cluster, 4)).changed


async def test_a_learner_follows_the_next_leader(make):
    cluster = await grown(make)
    first = await cluster.leader()
    await first.shutdown()
    cluster.rafts = {node_id: raft for node_id, raft in cluster.rafts.items() if raft is not first}
    second = await cluster.leader()
    written = await second.client_write(b"w")
    await cluster.rafts[4].wait().applied_index_at_least(written.log_id.index)
    assert cluster.rafts[4].metrics().state is ServerState.LEARNER


async def test_new_nodes_become_voters_in_one_call_and_wait_until_they_have_caught_up(make):
    cluster = await make()
    leader = await cluster.leader()
    await leader.client_write_many([b"w"] * 50)
    for node_id in (4, 5):
        await join(cluster, node_id)
    new = {peer(node_id): addresses([node_id])[NodeId(node_id)] for node_id in (4, 5)}
    outcome = await leader.change_membership(add_learners=new, add_voters=[4, 5], wait_s=20)
    assert (True, True, [1, 2, 3, 4, 5]) == (outcome.changed, outcome.observed, leader.voter_ids)
    await everywhere(cluster, 50)


async def test_a_new_node_that_does_not_answer_becomes_no_voter(make):
    cluster = await make()
    leader = await cluster.leader()
    new = {peer(4): addresses([4])[NodeId(4)]}
    outcome = await leader.change_membership(add_learners=new, add_voters=[4], wait_s=0.1)
    assert (True, False, [1, 2, 3], [4]) == (outcome.changed, outcome.observed, leader.voter_ids, leader.learner_ids)
    with pytest.raises(LearnerLagging):
        await leader.change_membership(add_voters=[4])


async def test_a_restarted_learner_stays_one(make):
    cluster = await grown(make)
    await cluster.stop(4)
    await cluster.start(4)
    leader = await cluster.leader()
    written = await leader.client_write(b"w")
    seen = await cluster.rafts[4].wait().applied_index_at_least(written.log_id.index)
    assert seen.state is ServerState.LEARNER


async def test_a_learner_behind_the_purged_log_gets_a_snapshot_and_then_entries(make):
    cluster = await make(max_in_snapshot_log_to_keep=0, snapshot_max_chunk_size_bytes=64)
    leader = await cluster.leader()
    for number in range(30):
        await leader.client_write(b"before-%d" % number)
    await leader.trigger.snapshot()
    upto = leader.metrics().snapshot.index
    await leader.trigger.purge_log(upto)
    await join(cluster, 4)
    assert (await add_learner(cluster, 4)).observed
    await leader.client_write(b"after")
    await everywhere(cluster, 31)
    assert cluster.machines[4].restored == 1
    assert cluster.rafts[4].metrics().snapshot.index == upto


async def test_what_the_metrics_call_applied_is_in_the_state_machine(make):
    cluster = await make()
    leader = await cluster.leader()
    written = await leader.client_write(b"w")
    for node_id, raft in cluster.rafts.items():
        await raft.wait().applied_index_at_least(written.log_id.index)
        assert cluster.machines[node_id].words == ["w"]


async def test_watching_shows_every_change_of_leader(make):
    cluster = await make()
    first = await cluster.leader()
    watcher = (await cluster.followers())[0]
    old = first.metrics().me.node_id
    target = watcher.metrics().me.node_id
    await first.trigger.transfer_leader(to=target)
    seen = await watcher.wait().metrics(lambda picture: picture.leader not in {old, None}, "another leader")
    assert seen.leader == target


async def test_a_leader_that_stopped_comes_back_as_a_follower_and_catches_up(make):
    cluster = await make()
    old = (await cluster.leader()).metrics().me.node_id
    await cluster.stop(old)
    leader = await cluster.leader()
    for _ in range(20):
        await leader.client_write(b"w")
    await cluster.start(old)
    await everywhere(cluster, 20)


async def test_one_node_alone_begins_to_lead_when_it_restarts(make):
    cluster = await make(1)
    await (await cluster.leader()).client_write(b"w")
    await cluster.stop(1)
    await cluster.start(1)
    leader = await cluster.leader()
    await leader.client_write(b"x")
    assert cluster.machines[1].words == ["w", "x"]


async def test_a_snapshot_keeps_the_membership_through_a_second_compaction(make):
    cluster = await grown(make)
    leader = await cluster.leader()
    for _ in range(2):
        await leader.client_write(b"w")
        await leader.trigger.snapshot()
        await leader.trigger.purge_log(leader.metrics().snapshot.index)
    node_id = leader.metrics().me.node_id
    await cluster.stop(node_id)
    await cluster.start(node_id)
    seen = await cluster.rafts[node_id].wait().leader()
    assert sorted(seen.membership.membership.learners) == [4]
    assert seen.membership.membership.voter_ids() == [1, 2, 3]


# -- client_api ----------------------------------------------------------------------------------------------------------


async def test_results_come_in_the_order_of_the_writes(make):
    cluster = await make()
    leader = await cluster.leader()
    outcomes = await leader.client_write_many([b"%d" % number for number in range(500)])
    assert list(range(500)) == [outcome.result for outcome in outcomes]
    assert sorted(outcomes, key=lambda outcome: outcome.log_id) == outcomes


async def test_a_write_whose_result_nobody_wants_is_done(make):
    cluster = await make()
    leader = await cluster.leader()
    leader.forget(leader.submit_write(b"and forget", lambda _: None))
    await leader.client_write(b"after")
    assert ["and forget", "after"] == leader.state_machine.words


async def test_who_writes_and_forgets_is_refused_only_when_nothing_was_accepted(make):
    cluster = await make(1, api_channel_size=2)
    leader = await cluster.leader()
    leader.client_write_ff(b"one")
    leader.client_write_ff(b"two")
    with pytest.raises(Overloaded):
        leader.client_write_ff(b"three")
    await leader.wait().metrics(lambda _: leader.state_machine.words == ["one", "two"], "both words")


async def test_a_write_is_told_twice_first_of_the_commit_and_then_of_the_result(make):
    cluster = await make()
    leader = await cluster.leader()
    heard: list[str] = []
    write = leader.write(b"w")

    async def hear(what: str, told: Awaitable[object]) -> object:
        result = await told
        heard.append(what)
        return result

    applied, committed = await asyncio.gather(hear("applied", write.applied()), hear("committed", write.committed()))
    assert (["committed", "applied"], 0) == (heard, applied.result)
    assert applied.log_id == committed


async def test_a_write_keeps_its_place_among_those_before_and_after_it(make):
    cluster = await make()
    leader = await cluster.leader()
    expect = Expectation(leader=leader.node_id)
    writes = []
    for number in range(30):
        if number % 3 == 0:
            writes.append(leader.write(b"%d" % number, expect=expect).applied())
        else:
            leader.client_write_ff(b"%d" % number)
    await asyncio.gather(*writes)
    await leader.client_write(b"end")
    assert [*map(str, range(30)), "end"] == leader.state_machine.words


async def test_a_write_to_another_leader_than_expected_is_not_done(make):
    cluster = await make(1)
    leader = await cluster.leader()
    with pytest.raises(TermMismatch):
        await leader.client_write(b"w", expect=Expectation(term=99))
    with pytest.raises(LastLogIdMismatch):
        await leader.client_write(b"w", expect=Expectation(last_log_id=BEFORE_LOG))
    assert 0 == (await leader.client_write(b"w", expect=Expectation(term=leader.metrics().term))).result
    assert ["w"] == leader.state_machine.words


async def test_a_blank_write_takes_a_place_in_the_log_and_gives_the_state_machine_nothing(make):
    cluster = await make()
    leader = await cluster.leader()
    blank = await leader.write_blank().applied()
    assert (None, []) == (blank.result, leader.state_machine.words)
    assert blank.log_id.index + 1 == (await leader.client_write(b"w")).log_id.index


async def test_a_write_on_conditions_says_what_an_overloaded_node_says(make):
    cluster = await make(1, api_channel_size=1)
    leader = await cluster.leader()
    leader.client_write_ff(b"one")
    write = leader.write(b"two")
    with pytest.raises(Overloaded):
        await write.committed()
    with pytest.raises(Overloaded):
        await write.applied()


async def test_who_waits_too_short_may_wait_again(make):
    cluster = await make(1)
    leader = await cluster.leader()
    write = leader.write(b"w")
    with pytest.raises(OutcomeUnknown, match="may yet happen"):
        await write.committed(timeout_s=0)
    assert (await write.committed()) == (await write.applied()).log_id


async def test_a_write_that_is_under_way_when_the_engine_ends_is_answered(make):
    cluster = await make()
    leader = await cluster.leader()
    cluster.network.partition([leader.node_id], [node_id for node_id in cluster.ids if node_id != leader.node_id])
    write = leader.write(b"w")
    await leader.shutdown()
    with pytest.raises(Stopped):
        await write.committed()
    with pytest.raises(OutcomeUnknown):
        await write.applied()


async def test_an_engine_says_with_which_settings_it_was_started(make):
    cluster = await make(1, max_payload_entries=7)
    assert (7, cluster.config) == (cluster.rafts[1].config.max_payload_entries, cluster.rafts[1].config)


async def test_a_read_that_nobody_confirms_says_who_did(make):
    cluster = await make()
    leader = await cluster.leader()
    with pytest.raises(QuorumNotEnough) as unconfirmed:
        await leader.read_index(timeout_s=0)
    assert ([1, 2, 3], [leader.node_id]) == (unconfirmed.value.cluster, unconfirmed.value.got)


async def test_writers_are_sent_to_the_new_leader_while_leadership_moves(make):
    """A transfer costs a writer one more hop: nobody is told that there is no leader, and nothing is lost or done twice."""
    cluster = await make(election_timeout_min_ms=1000, election_timeout_max_ms=2000, heartbeat_interval_ms=50)
    begin = await cluster.leader()
    refusals: list[int | None] = []

    async def write(number: int) -> None:
        raft = begin
        for turn in range(30):
            word = b"%d.%d" % (number, turn)
            while True:
                try:
                    await raft.client_write(word)
                    break
                except ForwardToLeader as refusal:
                    refusals.append(refusal.leader_id)
                    raft = cluster.rafts[refusal.leader_id]

    writing = asyncio.gather(*(write(number) for number in range(8)))
    leader = begin
    for _ in range(3):
        await leader.wait().metrics(_replicates, "replication flowing to everybody")
        to = leader.node_id % 3 + 1
        await leader.trigger.transfer_leader(to=to)
        leader = cluster.rafts[to]
    await writing
    assert 0 < len(refusals)
    assert None not in refusals
    await everywhere(cluster, 240)
    assert 240 == len(set(cluster.machines[1].words))


def _replicates(seen: RaftMetrics) -> bool:
    targets = (seen.replication or {}).values()
    return len(targets) == 2 and all(target.state is ReplicationState.REPLICATE for target in targets)


async def test_a_removed_leader_leads_until_it_is_asked_to_leave(make):
    cluster = await make(removed_leader_step_down_ms=-1)
    first = await cluster.leader()
    rest = [node_id for node_id in cluster.ids if node_id != first.node_id]
    await first.change_membership(voters=rest)
    await first.client_write(b"still served")
    with pytest.raises(PreconditionFailed):
        await first.trigger.step_down(expect=Expectation(term=99))
    assert (await first.trigger.step_down()).changed
    assert (await first.wait().state(ServerState.LEARNER)).leader is None
    assert not (await first.trigger.step_down()).changed
    for node_id in rest:
        await cluster.rafts[node_id].wait().metrics(lambda seen: seen.leader in rest, "a leader among the rest")


async def test_the_newest_snapshot_is_there_once_one_was_taken(make):
    cluster = await make(1)
    leader = await cluster.leader()
    assert None is leader.get_snapshot()
    written = await leader.client_write(b"w")
    await leader.trigger.snapshot()
    meta, chunks = leader.get_snapshot()
    other = Words()
    other.restore(await asyncio.to_thread(list, chunks), meta.last_log_id)
    assert (written.log_id, ["w"]) == (meta.last_log_id, other.words)


async def test_the_state_machine_is_read_through_the_handle_also_after_the_end(make):
    cluster = await make(1)
    leader = await cluster.leader()
    await leader.client_write(b"w")
    await leader.shutdown()
    assert ["w"] == leader.state_machine.words
    with pytest.raises(Stopped):
        await leader.read_index()


async def test_the_picture_says_who_leads_who_votes_and_who_learns(make):
    cluster = await grown(make)
    leader = await cluster.leader()
    me = leader.metrics().me.node_id
    for node_id, raft in cluster.rafts.items():
        seen = await raft.wait().metrics(lambda picture: 4 in picture.membership.membership.learners, "the learner")
        assert (node_id, node_id == me) == (seen.me.node_id, seen.state is ServerState.LEADER)
        assert ([1, 2, 3], [4]) == (seen.membership.membership.voter_ids(), list(seen.membership.membership.learners))
        assert (node_id, node_id == me, me) == (raft.node_id, raft.is_leader, raft.current_leader)
        assert ([1, 2, 3], [4], True) == (raft.voter_ids, raft.learner_ids, raft.is_initialized)


async def test_a_blank_node_belongs_to_no_cluster(make):
    cluster = await make(1)
    await join(cluster, 4)
    assert (False, []) == (cluster.rafts[4].is_initialized, cluster.rafts[4].voter_ids)


class LaggingTransport(LocalTransport):
    """Every message arrives up to 20 ms late, by a fixed pattern; those of one sender stay in order."""

    lag_s = 0.0
    turn = 0

    def deliver(self, sender: PeerId, message: Message) -> None:
        loop = asyncio.get_running_loop()
        self.turn += 1
        self.lag_s = max(self.lag_s, loop.time() + (self.turn * 7 % 21) / 1000)
        loop.call_at(self.lag_s, super().deliver, sender, message)


async def test_a_lagging_network_holds_up_neither_writes_nor_a_change_of_members(make, monkeypatch):
    monkeypatch.setattr("tests.runtime.cluster.LocalTransport", LaggingTransport)
    cluster = await make(1, election_timeout_min_ms=400, election_timeout_max_ms=800, heartbeat_interval_ms=50)
    leader = await cluster.leader()
    for node_id in (2, 3):
        await join(cluster, node_id)
        assert (await add_learner(cluster, node_id)).observed
    await leader.client_write(b"learners")
    await leader.change_membership(voters=[1, 2, 3])
    await leader.client_write(b"voters")
    await everywhere(cluster, 2)


# -- life_cycle ----------------------------------------------------------------------------------------------------------


class Choking(Words):
    """Its snapshots fail."""

    def snapshot(self):
        raise RuntimeError("no snapshot today")


async def test_a_state_machine_that_dies_leaves_no_caller_waiting(make, monkeypatch):
    monkeypatch.setattr("tests.runtime.cluster.Words", Choking)
    cluster = await make(1)
    leader = await cluster.leader()
    with pytest.raises(Panicked, match="no snapshot today"):
        await leader.trigger.snapshot()
    with pytest.raises(Panicked):
        await leader.client_write(b"w")


async def stop_all_but_a_follower(make) -> tuple[Cluster, int, int]:
    """Stop everybody; return the cluster, a follower, and how far it has applied."""
    cluster = await make()
    leader = await cluster.leader()
    for _ in range(10):
        written = await leader.client_write(b"w")
    follower = (await cluster.followers())[0]
    await follower.wait().applied_index_at_least(written.log_id.index)
    await cluster.stop()
    return cluster, follower.metrics().me.node_id, written.log_id.index


async def test_a_node_that_lost_its_state_machine_recovers_when_there_is_a_quorum_again(make):
    cluster, node_id, index = await stop_all_but_a_follower(make)
    await cluster.start(node_id)
    assert [] == cluster.machines[node_id].words
    await cluster.start(*[other for other in cluster.ids if other != node_id])
    await cluster.rafts[node_id].wait().applied_index_at_least(index)
    assert ["w"] * 10 == cluster.machines[node_id].words


async def test_without_a_quorum_the_wait_for_recovery_ends_in_vain(make):
    cluster, node_id, index = await stop_all_but_a_follower(make)
    await cluster.start(node_id)
    with pytest.raises(WaitTimeout, match=f"applied index >= {index}"):
        await cluster.rafts[node_id].wait(timeout_s=0.3).applied_index_at_least(index)


# -- metrics: what was done is counted ---------------------------------------------------------------------------------------


async def test_a_leader_and_its_followers_count_what_they_do(make):
    cluster = await make()
    leader = await cluster.leader()
    await everywhere(cluster, 0)
    before = {node_id: Reading(**_counted(raft)) for node_id, raft in cluster.rafts.items()}
    await leader.client_write_many([b"w"] * 30)
    index = leader.metrics().last_log.index
    for raft in cluster.rafts.values():
        await raft.wait().applied_index_at_least(index)
    for node_id, raft in cluster.rafts.items():
        now, then = _counted(raft), before[node_id]
        assert (30, 30) == (now["appended_entries"] - then.appended_entries, now["applied_entries"] - then.applied_entries)
        assert 1 <= now["append_batches"] - then.append_batches <= 30
        wrote = (now["writes"] - then.writes, now["replicated_entries"] - then.replicated_entries)
        assert wrote >= (30, 60) if raft is leader else wrote == (0, 0)
        kinds = {kind.__name__ for kind in raft.counters.messages}
        assert {"VoteRequest", "AppendRequest"} <= kinds if raft is leader else {"VoteResponse", "AppendResponse"} <= kinds
    assert 1 == leader.counters.reports["leader_elected"]


class Reading(msgspec.Struct):
    appended_entries: int = 0
    applied_entries: int = 0
    append_batches: int = 0
    writes: int = 0
    replicated_entries: int = 0


def _counted(raft: Raft) -> dict[str, int]:
    return {name: getattr(raft.counters, name) for name in Reading.__struct_fields__}


# -- metrics -------------------------------------------------------------------------------------------------------------

PROGRESS = {
    "log": ("log_index_at_least", lambda seen: seen.last_log.index),
    "committed": ("committed_index_at_least", lambda seen: seen.committed.index),
    "applied": ("applied_index_at_least", lambda seen: seen.applied.index),
    "snapshot": ("snapshot_at_least", lambda seen: seen.snapshot.index),
    "purged": ("purged_at_least", lambda seen: seen.purged.index),
}


@pytest.mark.parametrize(("wait", "get"), PROGRESS.values(), ids=PROGRESS)
async def test_every_progress_is_read_and_waited_for(make, wait, get):
    cluster = await make(1, snapshot_logs_since_last=5, max_in_snapshot_log_to_keep=0)
    leader = await cluster.leader()
    before = get(leader.metrics())
    waiting = asyncio.ensure_future(getattr(leader.wait(), wait)(before + 5))
    await leader.client_write_many([b"w"] * 12)
    assert before + 5 <= get(await waiting) <= get(leader.metrics())


async def test_the_progress_of_the_log_and_of_the_vote_go_on_under_the_next_leader(make):
    cluster = await make()
    first = await cluster.leader()
    term = first.metrics().term
    watcher = (await cluster.followers())[0]
    later = asyncio.ensure_future(watcher.wait().metrics(lambda seen: seen.last_log.term > term, "an entry of a later term"))
    voted = asyncio.ensure_future(watcher.wait().metrics(lambda seen: seen.vote.term > term, "a later vote"))
    await first.shutdown()
    cluster.rafts = {node_id: raft for node_id, raft in cluster.rafts.items() if raft is not first}
    second = await cluster.leader()
    assert term < (await voted).vote.term
    assert (await later).last_log.term == second.metrics().term


async def test_a_node_hears_when_its_own_leadership_begins_and_ends(make):
    cluster = await make()
    first = await cluster.leader()
    other = (await cluster.followers())[0]
    began, ended = asyncio.Queue(), asyncio.Queue()

    async def start(term: int) -> None:
        await asyncio.to_thread(lambda: None)
        began.put_nowait(term)

    async def stop(term: int) -> None:
        await asyncio.to_thread(lambda: None)
        ended.put_nowait(term)

    watch = first.on_leader_change(start, stop)
    term = first.metrics().term
    assert term == await began.get()
    await first.trigger.transfer_leader(to=other.node_id)
    assert term == await ended.get()
    await watch.close()


async def test_whoever_watches_hears_of_the_next_leader_and_of_the_end(make):
    cluster = await make()
    first = await cluster.leader()
    watcher, other = await cluster.followers()
    changes = watcher.leader_changes()
    assert first.node_id == (await anext(changes)).leader
    await first.trigger.transfer_leader(to=other.node_id)
    while (await anext(changes)).leader != other.node_id:
        pass
    assert (True, other.node_id) == (other.is_leader, watcher.current_leader)
    await watcher.shutdown()
    assert [None] == [change.leader async for change in changes]


async def test_progress_is_watched_by_name(make):
    cluster = await make()
    leader = await cluster.leader()
    written = await leader.client_write(b"w")
    for raft in cluster.rafts.values():
        assert written.log_id <= await raft.progress.applied.wait_until_ge(written.log_id)
        assert leader.metrics().term == (await raft.progress.vote.wait_until_ge(leader.metrics().term)).term


async def test_flags_are_switched_one_by_one_and_do_not_undo_each_other(make):
    cluster = await make(1)
    raft = await cluster.leader()
    raft.enable(heartbeat=False)
    raft.enable(elect=False, tick=True)
    raft.enable(pre_vote=False)
    wanted = RuntimeFlags(enable_heartbeat=False, enable_elect=False, enable_pre_vote=False)
    await raft.wait().metrics(lambda seen: seen.runtime_flags == wanted, "the flags")


async def test_a_restarted_node_has_recovered_when_a_leader_has_confirmed_what_it_holds(make):
    cluster, node_id, index = await stop_all_but_a_follower(make)
    await cluster.start(node_id)
    with pytest.raises(WaitTimeout, match="everything committed being known and applied"):
        await cluster.rafts[node_id].wait(timeout_s=0.3).recovered()
    await cluster.start(*[other for other in cluster.ids if other != node_id])
    assert index <= (await cluster.rafts[node_id].wait().recovered()).applied.index
    assert ["w"] * 10 == cluster.machines[node_id].words
