"""Following an engine's progress and who leads: raft_engine/runtime/watching.py."""

from __future__ import annotations

import asyncio

import pytest

from raft_engine.errors import Stopped, WaitTimeout
from raft_engine.runtime.watching import LeaderChange, OfficeWatch, Progresses, leader_changes
from raft_engine.types.ids import NodeId, Term
from raft_engine.types.metrics import ServerState
from raft_engine.types.vote import Vote
from tests.core.builder import at
from tests.runtime.test_wait import Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def settle() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


# -- progress ----------------------------------------------------------------------------------------------------------------

POINTERS = {"log": "last_log", "committed": "committed", "applied": "applied", "snapshot": "snapshot", "purged": "purged"}


@pytest.mark.parametrize(("name", "field"), POINTERS.items())
async def test_a_pointer_is_read_and_waited_for_by_index_and_by_log_id(scene: Scene, name, field):
    progress = getattr(Progresses(scene.watch), name)
    by_index = asyncio.ensure_future(progress.wait_until_ge(3))
    by_log_id = asyncio.ensure_future(progress.wait_until_ge(at(2, 3)))
    await settle()
    scene.show(**{field: at(1, 4)})
    await settle()
    assert (at(1, 4), True, False) == (progress.get(), by_index.done(), by_log_id.done())
    scene.show(**{field: at(2, 3)})
    assert at(2, 3) == await by_log_id


async def test_a_vote_is_waited_for_by_term_and_by_vote(scene: Scene):
    progress = Progresses(scene.watch).vote
    by_term = asyncio.ensure_future(progress.wait_until_ge(2))
    by_vote = asyncio.ensure_future(progress.wait_until_ge(Vote(2, 1, True)))
    await settle()
    scene.show(vote=Vote(Term(2), NodeId(3), committed=False))
    await settle()
    assert (True, False) == (by_term.done(), by_vote.done())
    scene.show(vote=Vote(Term(2), NodeId(3), committed=True))
    assert Vote(Term(2), NodeId(3), committed=True) == await by_vote


async def test_a_wait_in_vain_says_for_what(scene: Scene):
    with pytest.raises(WaitTimeout, match="applied >= 7"):
        await Progresses(scene.watch).applied.wait_until_ge(7, timeout_s=0)


async def test_a_wait_ends_with_the_engine(scene: Scene):
    waiting = asyncio.ensure_future(Progresses(scene.watch).applied.wait_until_ge(7))
    await settle()
    scene.show(state=ServerState.SHUTDOWN)
    with pytest.raises(Stopped):
        await waiting


async def test_progress_is_followed_until_the_engine_ends(scene: Scene):
    async def follow() -> list[int]:
        return [applied.index async for applied in Progresses(scene.watch).applied]

    following = asyncio.ensure_future(follow())
    await settle()
    for what in ({"applied": at(1, 2)}, {"term": 9}, {"applied": at(1, 5)}, {"state": ServerState.SHUTDOWN}):
        scene.show(**what)
        await settle()
    assert [0, 2, 5] == await following


async def test_what_changes_while_the_follower_is_busy_is_not_missed(scene: Scene):
    progress = aiter(Progresses(scene.watch).applied)
    assert 0 == (await anext(progress)).index
    scene.show(applied=at(1, 2))
    assert 2 == (await anext(progress)).index


# -- who leads ---------------------------------------------------------------------------------------------------------------


async def test_every_change_of_leader_is_told_until_the_engine_ends(scene: Scene):
    async def follow() -> list[LeaderChange]:
        return [change async for change in leader_changes(scene.watch)]

    following = asyncio.ensure_future(follow())
    await settle()
    for what in (
        {"term": 1, "leader": NodeId(2)},
        {"applied": at(1, 2)},
        {"term": 2, "leader": None},
        {"term": 2, "leader": NodeId(2)},
        {"state": ServerState.SHUTDOWN, "leader": None},
    ):
        scene.show(**what)
        await settle()
    changes = [(0, None), (1, 2), (2, None), (2, 2), (2, None)]
    assert [LeaderChange(Term(term), leader) for term, leader in changes] == await following


async def test_the_beginning_and_the_end_of_the_own_office_are_told_in_pairs(scene: Scene):
    told: list[tuple[str, int]] = []

    async def start(term: Term) -> None:
        await asyncio.sleep(0)
        told.append(("start", term))

    def stop(term: Term) -> None:
        told.append(("stop", term))

    OfficeWatch(scene.watch, start, stop)
    await settle()
    for what in (
        {"term": 1, "state": ServerState.LEADER},
        {"applied": at(1, 2)},
        {"term": 3},
        {"state": ServerState.FOLLOWER},
        {"term": 4, "state": ServerState.LEADER},
        {"state": ServerState.SHUTDOWN},
    ):
        scene.show(**what)
        await settle()
    assert [("start", 1), ("stop", 1), ("start", 3), ("stop", 3), ("start", 4), ("stop", 4)] == told


async def test_a_callback_that_fails_does_not_end_the_watch(scene: Scene, caplog):
    told: list[int] = []

    def start(term: Term) -> None:
        raise ValueError("an application's mistake")

    OfficeWatch(scene.watch, start, told.append)
    await settle()
    scene.show(term=1, state=ServerState.LEADER)
    await settle()
    scene.show(state=ServerState.FOLLOWER)
    await settle()
    assert [1] == told
    assert "a callback for leadership of term 1 failed" in caplog.text


async def test_a_closed_watch_calls_nobody(scene: Scene):
    told: list[int] = []
    watch = OfficeWatch(scene.watch, told.append, told.append)
    await settle()
    await watch.close()
    scene.show(term=1, state=ServerState.LEADER)
    await settle()
    assert [] == told
