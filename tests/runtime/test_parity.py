"""Scenarios of openraft's integration tests that need whole engines: see tests/parity.toml."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.types.ids import NodeId
from raft_engine.types.metrics import ServerState
from tests.runtime.cluster import CONFIG, Cluster, addresses, peer


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
