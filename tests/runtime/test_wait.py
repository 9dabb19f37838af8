"""Waiting until an engine looks as it should: raft_engine/runtime/wait.py."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from raft_engine.errors import WaitTimeout
from raft_engine.runtime.metrics_watch import MetricsWatch
from raft_engine.runtime.wait import Wait
from raft_engine.types.hard_state import Recovery
from raft_engine.types.ids import NodeId
from raft_engine.types.membership import Membership, StoredMembership
from raft_engine.types.metrics import RaftMetrics, ServerState
from raft_engine.types.vote import Vote
from tests.core.builder import at, members, peer

BLANK = RaftMetrics(me=peer(1), state=ServerState.FOLLOWER)


class Scene:
    """An engine that looks as the test says."""

    def __init__(self) -> None:
        self.picture = BLANK
        self.watch = MetricsWatch(lambda: self.picture)

    def show(self, **what) -> None:
        self.picture = msgspec.structs.replace(self.picture, **what)
        self.watch.current()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def stored(membership: Membership) -> StoredMembership:
    return StoredMembership(at(0, 1), membership)


joint = Membership((members(1, 2).configs[0], members(2, 3).configs[0]), {}, members(1, 2, 3).nodes)

CASES = {
    "leader": ("leader", (), {"term": 2}, {"leader": NodeId(2)}),
    "current_leader": ("current_leader", (2,), {"leader": NodeId(3)}, {"leader": NodeId(2)}),
    "state": ("state", (ServerState.LEADER,), {"state": ServerState.CANDIDATE}, {"state": ServerState.LEADER}),
    "vote": ("vote", (Vote(3, 2, True),), {"vote": Vote(3, 2, False)}, {"vote": Vote(3, 2, True)}),
    "term_at_least": ("term_at_least", (3,), {"term": 2}, {"term": 4}),
    "log": ("log", (3,), {"last_log": at(1, 3), "applied": at(1, 4)}, {"applied": at(1, 3)}),
    "log_at_least": ("log_at_least", (3,), {"last_log": at(1, 5)}, {"applied": at(1, 3)}),
    "log_index": ("log_index", (3,), {"last_log": at(1, 4)}, {"last_log": at(1, 3)}),
    "log_index_at_least": ("log_index_at_least", (3,), {"last_log": at(1, 2)}, {"last_log": at(1, 4)}),
    "committed_index": ("committed_index", (3,), {"committed": at(1, 4)}, {"committed": at(1, 3)}),
    "committed_index_at_least": ("committed_index_at_least", (3,), {"committed": at(1, 2)}, {"committed": at(1, 4)}),
    "applied_index": ("applied_index", (3,), {"applied": at(1, 4)}, {"applied": at(1, 3)}),
    "applied_index_at_least": ("applied_index_at_least", (3,), {"applied": at(1, 2)}, {"applied": at(1, 4)}),
    "snapshot": ("snapshot", (at(1, 3),), {"snapshot": at(2, 3)}, {"snapshot": at(1, 3)}),
    "snapshot_at_least": ("snapshot_at_least", (3,), {"snapshot": at(1, 2)}, {"snapshot": at(1, 4)}),
    "purged": ("purged", (at(1, 3),), {"purged": at(1, 4)}, {"purged": at(1, 3)}),
    "purged_at_least": ("purged_at_least", (3,), {"purged": at(1, 2)}, {"purged": at(1, 4)}),
    "eq": ("eq", ("term", 3), {"term": 4}, {"term": 3}),
    "ge": ("ge", ("committed", at(2, 3)), {"committed": at(1, 9)}, {"committed": at(2, 3)}),
    "members": ("members", ([3, 1, 2],), {"membership": stored(joint)}, {"membership": stored(members(1, 2, 3))}),
    "voter_ids": ("voter_ids", ([3, 2, 1],), {"membership": stored(members(1, 2))}, {"membership": stored(joint)}),
    "learner_ids": (
        "learner_ids",
        ([5, 4],),
        {"membership": stored(members(1, learners=[4]))},
        {"membership": stored(members(1, learners=[4, 5]))},
    ),
}


@pytest.mark.parametrize(("wait", "wanted", "other", "right"), CASES.values(), ids=CASES)
async def test_what_is_waited_for_comes_true(scene: Scene, wait, wanted, other, right):
    waiting = asyncio.ensure_future(getattr(Wait(scene.watch, 10.0), wait)(*wanted))
    await asyncio.sleep(0)
    scene.show(**other)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.show(**right)
    assert scene.picture == await waiting


def test_every_method_has_its_case():
    methods = {name for name, member in vars(Wait).items() if not name.startswith("_") and callable(member)}
    assert methods == {name for name, *_ in CASES.values()} | {"metrics", "leader_with_quorum_acked", "recovered"}


@pytest.mark.parametrize(("wait", "wanted"), [case[:2] for case in CASES.values()], ids=CASES)
async def test_what_does_not_come_true_in_time_is_named_with_the_last_picture(scene: Scene, wait, wanted):
    with pytest.raises(WaitTimeout, match=r"not within 0 s: .+; last seen: node 1 follower term 0"):
        await getattr(Wait(scene.watch, 0.0), wait)(*wanted)


async def test_a_quorums_answer_must_be_young_and_to_this_node_as_leader(scene: Scene):
    waiting = asyncio.ensure_future(Wait(scene.watch, 10.0).leader_with_quorum_acked(50.0))
    await asyncio.sleep(0)
    for what in ({"state": ServerState.LEADER}, {"last_quorum_acked_ms_ago": 60.0}):
        scene.show(**what)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    # Nothing but time makes the answer younger or older, so the picture counts as the same one.
    scene.show(last_quorum_acked_ms_ago=40.0)
    assert 40.0 == (await waiting).last_quorum_acked_ms_ago


async def test_a_node_has_recovered_when_what_a_leader_confirmed_is_applied(scene: Scene):
    waiting = asyncio.ensure_future(Wait(scene.watch, 10.0).recovered())
    steps = (
        {"term": 2, "committed": at(1, 5), "applied": at(1, 5)},
        {"leader": NodeId(2)},
        {"committed": at(2, 9)},
        {"committed": at(2, 12), "applied": at(1, 8)},
        {"recovery": Recovery(at(2, 9), "wiped"), "applied": at(2, 9)},
    )
    await asyncio.sleep(0)
    for what in steps:
        scene.show(**what)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done(), what
    scene.show(recovery=None)
    assert 9 == (await waiting).applied.index
