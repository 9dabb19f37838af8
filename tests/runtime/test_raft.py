"""Three engines in one process, driven through the public handle: raft_engine/runtime/raft.py, trigger.py, wait.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from raft_engine.config import Config
from raft_engine.errors import (
    AllowNextRevertError,
    Fatal,
    ForwardToLeader,
    NodeNotFound,
    OutcomeUnknown,
    Overloaded,
    Panicked,
    Refused,
    Stopped,
    StorageFailed,
    TransportError,
    WaitTimeout,
)
from raft_engine.storage.memory import MemoryLog
from raft_engine.types.entry import Entry
from raft_engine.types.metrics import RuntimeFlags, ServerState
from raft_engine.types.outcomes import Expectation, Refusal, RefusalCode, WriteOutcome
from tests.runtime.cluster import CONFIG, Cluster, first_entry


@pytest.fixture
async def cluster():
    made = Cluster()
    await made.start()
    yield made
    await made.stop()


class FailingLog(MemoryLog):
    """Its disk fails from `broken` on."""

    broken = False

    def append(self, entries: Sequence[Entry]) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        super().append(entries)

    def sync(self) -> None:
        if self.broken:
            raise OSError(5, "Input/output error")


# -- writing and reading -------------------------------------------------------------------------------------------------


async def test_a_write_returns_its_log_id_and_what_the_state_machine_said(cluster):
    leader = await cluster.leader()
    first, second = await leader.client_write(b"one"), await leader.client_write(b"two")
    assert (first.result, second.result) == (0, 1)
    assert second.log_id.index == first.log_id.index + 1


async def test_every_node_applies_the_same_words_in_the_same_order(cluster):
    leader = await cluster.leader()
    outcomes = await leader.client_write_many([str(i).encode() for i in range(1000)])
    for raft in cluster.rafts.values():
        await raft.wait().applied_index_at_least(outcomes[-1].log_id.index)
    assert [machine.words for machine in cluster.machines.values()] == [[str(i) for i in range(1000)]] * 3


async def test_many_writes_beyond_one_batch_are_all_answered(cluster):
    leader = await cluster.leader()
    outcomes = await leader.client_write_many([b"w"] * (CONFIG.max_append_entries + 10))
    assert {type(outcome) for outcome in outcomes} == {WriteOutcome}


async def test_a_callback_is_called_after_submit_write_has_returned(cluster):
    leader = await cluster.leader()
    heard = asyncio.get_running_loop().create_future()
    leader.submit_write(b"word", heard.set_result)
    assert not heard.done()
    assert (await heard).result == 0


@pytest.mark.parametrize("data", ["text", 5, bytearray(b"it could change meanwhile")])
async def test_data_that_is_not_bytes_is_refused_and_the_node_goes_on(cluster, data):
    leader = await cluster.leader()
    for write in (leader.client_write, leader.client_write_ff, leader.write, lambda data: leader.client_write_many([data])):
        with pytest.raises(TypeError, match="must be bytes, not"):
            await write(data)
    assert isinstance(await leader.client_write(b"on"), WriteOutcome)


async def test_of_many_writes_none_is_done_if_one_is_not_bytes(cluster):
    leader = await cluster.leader()
    with pytest.raises(TypeError, match="must be bytes, not str; encode it first"):
        await leader.client_write_many([b"before", "text"])
    await leader.client_write(b"after")
    assert leader.state_machine.words == ["after"]


async def test_a_follower_refuses_a_write_and_names_the_leader(cluster):
    follower = (await cluster.followers())[0]
    with pytest.raises(ForwardToLeader) as refusal:
        await follower.client_write(b"word")
    assert refusal.value.leader_id == (await cluster.leader()).metrics().leader


async def test_a_read_index_on_a_follower_covers_what_was_written_before(cluster):
    leader = await cluster.leader()
    written = await leader.client_write(b"word")
    for follower in await cluster.followers():
        assert await follower.read_index() >= written.log_id.index
        assert follower.state_machine.words == ["word"]


async def test_a_write_without_a_quorum_ends_as_unknown_and_not_as_done(cluster):
    leader = await cluster.leader()
    me = leader.metrics().me.node_id
    cluster.network.partition([me], [i for i in cluster.ids if i != me])
    with pytest.raises(OutcomeUnknown):
        await leader.client_write(b"word", timeout_s=0.05)
    assert leader.state_machine.words == []


async def test_a_cancelled_caller_is_dropped_and_its_write_goes_on(cluster):
    leader = await cluster.leader()
    caller = asyncio.ensure_future(leader.client_write(b"word"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert len(leader._loop.tickets) == 0
    await leader.client_write(b"next")
    assert leader.state_machine.words == ["word", "next"]


async def test_more_waiting_requests_than_the_limit_are_refused_at_once():
    cluster = Cluster(config=msgspec.structs.replace(CONFIG, api_channel_size=10))
    await cluster.start()
    leader = await cluster.leader()
    outcomes = await leader.client_write_many([b"w"] * 15)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert [refusal.code for refusal in refused] == [RefusalCode.OVERLOADED] * 5
    assert len(leader.state_machine.words) == 10
    await leader.client_write(b"there is room again")
    await cluster.stop()


async def test_a_single_overloaded_write_raises_overloaded():
    cluster = Cluster(config=msgspec.structs.replace(CONFIG, api_channel_size=1))
    await cluster.start()
    leader = await cluster.leader()
    first = asyncio.ensure_future(leader.client_write(b"one"))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await leader.client_write(b"two")
    await first
    await cluster.stop()


# -- elections and restarts ----------------------------------------------------------------------------------------------


async def test_a_node_alone_leads_and_serves():
    cluster = Cluster(1)
    await cluster.start()
    leader = await cluster.leader()
    assert (await leader.client_write(b"word")).result == 0
    await cluster.stop()


async def test_the_others_elect_a_new_leader_when_the_old_one_stops(cluster):
    old = await cluster.leader()
    await old.client_write(b"before")
    await cluster.stop(old.metrics().me.node_id)
    new = await cluster.leader()
    assert (await new.client_write(b"after")).result == 1


async def test_a_restarted_node_applies_its_log_again(cluster):
    leader = await cluster.leader()
    outcomes = await leader.client_write_many([b"w"] * 100)
    node_id = (await cluster.followers())[0].metrics().me.node_id
    await cluster.stop(node_id)
    await cluster.start(node_id)
    await cluster.rafts[node_id].wait().applied_index_at_least(outcomes[-1].log_id.index)
    assert cluster.machines[node_id].words == ["w"] * 100


async def test_a_restarted_node_begins_with_its_snapshot(cluster):
    leader = await cluster.leader()
    await leader.client_write_many([b"w"] * 100)
    me = leader.metrics().me.node_id
    await leader.trigger.snapshot()
    await cluster.stop(me)
    await cluster.start(me)
    assert cluster.machines[me].words == ["w"] * 100
    assert cluster.machines[me].restored == 1


async def test_a_node_far_behind_is_brought_up_by_a_snapshot(cluster):
    leader = await cluster.leader()
    behind = (await cluster.followers())[0].metrics().me.node_id
    await cluster.stop(behind)
    outcomes = await leader.client_write_many([b"w"] * 200)
    last = outcomes[-1].log_id.index
    await leader.trigger.snapshot()
    assert (await leader.trigger.purge_log(last)).effective["upto"] >= last
    await cluster.start(behind)
    await cluster.rafts[behind].wait().applied_index_at_least(last)
    assert cluster.machines[behind].words == ["w"] * 200
    assert cluster.machines[behind].restored == 1


async def test_a_node_behind_the_cache_is_brought_up_from_the_log(cluster, monkeypatch):
    monkeypatch.setattr("raft_engine.runtime.loop.EntryCache", _tiny_cache)
    leader = await cluster.leader()
    me = leader.metrics().me.node_id
    await cluster.stop(me)
    await cluster.start(me)
    leader = await cluster.leader()
    behind = (await cluster.followers())[0].metrics().me.node_id
    await cluster.stop(behind)
    outcomes = await leader.client_write_many([b"w"] * 2000)
    await cluster.start(behind)
    await cluster.rafts[behind].wait().applied_index_at_least(outcomes[-1].log_id.index)
    assert cluster.machines[behind].words == ["w"] * 2000


def _tiny_cache(last_index: int):
    from raft_engine.runtime.entry_cache import EntryCache

    return EntryCache(last_index, bytes_max=4096)


# -- triggers ------------------------------------------------------------------------------------------------------------


async def test_elect_on_a_follower_makes_it_leader_in_a_later_term(cluster):
    before = (await cluster.leader()).metrics().term
    follower = (await cluster.followers())[0]
    outcome = await follower.trigger.elect(pre_vote=False)
    assert (outcome.changed, outcome.observed) == (True, True)
    assert follower.metrics().state is ServerState.LEADER
    assert follower.metrics().term > before


async def test_elect_on_a_leader_changes_nothing_and_says_so(cluster):
    leader = await cluster.leader()
    assert not (await leader.trigger.elect()).changed


async def test_heartbeat_names_who_answered(cluster):
    leader = await cluster.leader()
    others = [i for i in cluster.ids if i != leader.metrics().me.node_id]
    assert (await leader.trigger.heartbeat()).effective["acked_by"] == others


async def test_snapshot_covers_what_is_applied(cluster):
    leader = await cluster.leader()
    written = await leader.client_write(b"word")
    assert (await leader.trigger.snapshot()).observed
    assert leader.metrics().snapshot.index >= written.log_id.index


async def test_purge_is_clamped_to_the_snapshot_and_says_how_far_it_went(cluster):
    leader = await cluster.leader()
    await leader.client_write(b"word")
    await leader.trigger.snapshot()
    covered = leader.metrics().snapshot.index
    outcome = await leader.trigger.purge_log(covered + 1000)
    assert outcome.effective["upto"] == covered
    await leader.wait().purged_at_least(covered)


async def test_purge_without_a_snapshot_is_refused(cluster):
    leader = await cluster.leader()
    with pytest.raises(Refused) as refusal:
        await leader.trigger.purge_log(1, strict=True)
    assert refusal.value.code in {RefusalCode.NO_SNAPSHOT, RefusalCode.BEYOND_SNAPSHOT}


async def test_transfer_makes_the_target_leader(cluster):
    leader = await cluster.leader()
    await leader.client_write(b"word")
    target = (await cluster.followers())[0].metrics().me.node_id
    assert (await leader.trigger.transfer_leader(target)).observed
    assert (await cluster.rafts[target].wait().state(ServerState.LEADER)).leader == target


async def test_the_revert_permission_is_shown_and_can_be_taken_back(cluster):
    leader = await cluster.leader()
    target = (await cluster.followers())[0].metrics().me.node_id
    await leader.trigger.allow_next_revert(target, True, ttl_s=60)
    assert leader.metrics().replication[target].revert_armed_ms > 0
    await leader.trigger.allow_next_revert(target, False)
    assert leader.metrics().replication[target].revert_armed_ms is None


async def test_the_revert_permission_is_refused_with_the_errors_of_its_own(cluster):
    leader = await cluster.leader()
    follower = (await cluster.followers())[0]
    with pytest.raises(AllowNextRevertError) as forward:
        await follower.trigger.allow_next_revert(1)
    assert isinstance(forward.value, ForwardToLeader)
    with pytest.raises(AllowNextRevertError) as unknown:
        await leader.trigger.allow_next_revert(99)
    assert isinstance(unknown.value, NodeNotFound)


async def test_an_expectation_that_does_not_hold_refuses_before_anything_happens(cluster):
    leader = await cluster.leader()
    with pytest.raises(Refused) as refusal:
        await leader.trigger.snapshot(expect=Expectation(term=999))
    assert refusal.value.code is RefusalCode.PRECONDITION_FAILED
    assert leader.metrics().snapshot.index == 0


async def test_a_barrier_is_held_by_others_than_the_excluded_one(cluster):
    leader = await cluster.leader()
    excluded = (await cluster.followers())[0].metrics().me.node_id
    outcome = await leader.barrier([excluded])
    assert excluded not in outcome.acked_by
    assert len(outcome.acked_by) == 2


async def test_a_voter_becomes_a_learner_and_a_voter_again(cluster):
    leader = await cluster.leader()
    demoted = (await cluster.followers())[0].metrics().me.node_id
    staying = [i for i in cluster.ids if i != demoted]
    await leader.change_membership(staying, retain=True)
    seen = await leader.wait().members(staying)
    assert list(seen.membership.membership.learners) == [demoted]
    await leader.change_membership(cluster.ids)
    assert not (await leader.wait().members(cluster.ids)).membership.membership.learners


async def test_with_the_election_timer_off_nobody_campaigns_but_elect_still_does(cluster):
    leader = await cluster.leader()
    for raft in cluster.rafts.values():
        raft.set_runtime_flags(RuntimeFlags(enable_elect=False))
    node_id = leader.metrics().me.node_id
    await cluster.stop(node_id)
    other = next(iter(cluster.rafts.values()))
    for raft in cluster.rafts.values():
        seen = await raft.wait().metrics(lambda seen: seen.leader is None, "the leader's lease is over")
        assert seen.runtime_flags == RuntimeFlags(enable_elect=False)
    assert (await other.trigger.elect(pre_vote=False)).observed
    assert other.metrics().state is ServerState.LEADER


# -- waiting -------------------------------------------------------------------------------------------------------------


async def test_wait_returns_the_picture_in_which_it_came_true(cluster):
    leader = await cluster.leader()
    follower = (await cluster.followers())[0]
    waiting = asyncio.ensure_future(follower.wait().applied_index_at_least(10))
    await leader.client_write_many([b"w"] * 20)
    assert (await waiting).applied.index >= 10


async def test_wait_members_sees_the_configuration(cluster):
    leader = await cluster.leader()
    assert (await leader.wait().members([1, 2, 3])).membership.membership.voter_ids() == [1, 2, 3]


async def test_a_wait_that_ends_in_vain_names_what_was_waited_for_and_the_last_picture(cluster):
    leader = await cluster.leader()
    with pytest.raises(WaitTimeout, match=r"snapshot index >= 77.*term \d+ leader \d"):
        await leader.wait(timeout_s=0.03).snapshot_at_least(77)


async def test_a_wait_ends_when_the_engine_does(cluster):
    follower = (await cluster.followers())[0]
    waiting = asyncio.ensure_future(follower.wait(timeout_s=60).applied_index_at_least(10**6))
    await asyncio.sleep(0)
    await cluster.stop(follower.metrics().me.node_id)
    with pytest.raises(Stopped):
        await waiting


async def test_a_long_poll_returns_when_something_has_changed(cluster):
    leader = await cluster.leader()
    leader.metrics()
    version = leader.version
    polling = asyncio.ensure_future(leader.wait_change(version, 30))
    await leader.client_write(b"word")
    await polling
    assert leader.version != version


async def test_a_long_poll_of_an_older_version_returns_at_once(cluster):
    leader = await cluster.leader()
    picture = await leader.wait_change(leader.version - 1, 30)
    assert picture.state is ServerState.LEADER


# -- the end -------------------------------------------------------------------------------------------------------------


async def test_shutdown_answers_everybody_who_waits(cluster):
    leader = await cluster.leader()
    me = leader.metrics().me.node_id
    cluster.network.partition([me], [i for i in cluster.ids if i != me])
    writing = asyncio.ensure_future(leader.client_write(b"word"))
    asking = asyncio.ensure_future(leader.barrier([]))
    await leader.wait().log_index_at_least(4)
    await cluster.stop(me)
    with pytest.raises(OutcomeUnknown):
        await writing
    with pytest.raises(Stopped):
        await asking


async def test_a_stopped_engine_says_so_and_keeps_its_last_picture(cluster):
    leader = await cluster.leader()
    await cluster.stop(leader.metrics().me.node_id)
    assert leader.metrics().state is ServerState.SHUTDOWN
    with pytest.raises(Stopped):
        leader.submit_write(b"word", lambda _: None)
    with pytest.raises(Stopped):
        await leader.trigger.snapshot()
    await leader.shutdown()


async def test_a_failing_disk_ends_the_engine_and_nothing_is_acknowledged():
    cluster = Cluster()
    for node_id in cluster.ids:
        log = FailingLog()
        log.append([first_entry(cluster.ids)])
        cluster.logs[node_id] = log
    await cluster.start()
    leader = await cluster.leader()
    me = leader.metrics().me.node_id
    cluster.logs[me].broken = True
    heard = []
    leader.submit_write(b"word", heard.append)
    await leader.wait_over()
    assert [outcome.code for outcome in heard] == [RefusalCode.OUTCOME_UNKNOWN]
    assert "No space left" in leader.fatal
    assert [alarm.code for alarm in leader.metrics().alarms] == ["engine_failed"]
    with pytest.raises(StorageFailed):
        await leader.client_write(b"word")
    await cluster.stop(me)
    new = await cluster.leader()
    assert new is not leader
    await cluster.stop()


async def test_a_failing_state_machine_ends_the_engine_and_is_named_with_the_entry(caplog):
    cluster = Cluster(1)
    await cluster.start()
    leader = await cluster.leader()
    with pytest.raises(Panicked, match=r"the state machine raised \w+ on applying entry T\d+-N1\.\d+: .*chokes on poison"):
        await leader.client_write(b"poison")
    assert "a bug" not in leader.fatal
    assert "Traceback" in caplog.text  # of the state machine, for who wrote it
    with pytest.raises(Fatal):
        await leader.read_index()
    await cluster.stop()


async def test_an_address_that_is_taken_is_said_and_leaves_nothing_running(cluster):
    with pytest.raises(TransportError, match="n1:1"):
        await cluster.start(1)


async def test_defaults_are_good_enough_to_start():
    cluster = Cluster(1, Config())
    await cluster.start()
    assert (await cluster.leader()).runtime_flags == RuntimeFlags()
    await cluster.stop()
