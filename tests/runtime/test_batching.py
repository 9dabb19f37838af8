"""When waiting writes become a batch: raft_engine/runtime/batching.py."""

from __future__ import annotations

import asyncio

import pytest

from raft_engine.runtime.batching import Batching


class Woken:
    """Awaits what `wake` is called for."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.event.set()


async def test_a_write_goes_at_once_when_none_is_under_way():
    assert Batching(0, 64, Woken()).may_begin(1, 0)


@pytest.mark.parametrize(("waiting", "under_way", "goes"), [(1, 1, True), (4, 5, False), (5, 5, True), (6, 5, True)])
async def test_writes_gather_until_they_are_as_many_as_those_under_way(waiting: int, under_way: int, goes: bool):
    batching = Batching(0, 64, Woken())
    assert goes == batching.may_begin(waiting, under_way)
    batching.begun()


async def test_a_full_batch_goes_at_once():
    assert Batching(0, 64, Woken()).may_begin(64, 1000)
    assert Batching(60, 64, Woken()).may_begin(64, 0)


async def test_nothing_gathers_for_long_though_nothing_is_answered():
    woken = Woken()
    batching = Batching(0, 64, woken)
    assert not batching.may_begin(1, 5)
    await woken.event.wait()
    assert batching.may_begin(1, 5)


async def test_a_wait_counts_for_one_batch():
    woken = Woken()
    batching = Batching(0, 64, woken)
    assert not batching.may_begin(1, 5)
    await woken.event.wait()
    batching.begun()
    assert not batching.may_begin(1, 5), "the next one gathers anew"
    batching.begun()


async def test_who_was_taken_is_not_waited_for():
    woken = Woken()
    batching = Batching(0.001, 64, woken)
    assert not batching.may_begin(1, 0)
    batching.begun()
    assert not batching.may_begin(1, 0)
    await woken.event.wait()
    assert 1 == woken.count


async def test_a_configured_linger_waits_though_nothing_is_under_way():
    woken = Woken()
    batching = Batching(0.001, 64, woken)
    assert not batching.may_begin(3, 0)
    await woken.event.wait()
    assert batching.may_begin(3, 0)
