"""How fast snapshots go to one target: raft_engine/runtime/pace.py."""

from __future__ import annotations

import asyncio

from raft_engine.config import Config
from raft_engine.runtime.pace import Pace


async def test_without_a_limit_everything_is_sent_at_once_in_whole_chunks():
    pace, sent = Pace(Config()), []
    for number in range(3):
        pace.in_time(10**9, lambda number=number: sent.append(number))
    assert [0, 1, 2] == sent
    assert Config().snapshot_max_chunk_size_bytes == pace.chunk_bytes


async def test_with_a_limit_the_next_chunk_waits_until_the_one_before_has_had_its_time():
    pace, sent = Pace(Config(snapshot_send_bytes_per_s=1000)), []
    second = asyncio.Event()
    pace.in_time(10, lambda: sent.append("first"))
    pace.in_time(10, second.set)
    assert (["first"], False) == (sent, second.is_set())
    begun = asyncio.get_running_loop().time()
    await second.wait()
    assert asyncio.get_running_loop().time() - begun >= 0.005


def test_chunks_are_small_enough_that_several_fit_into_the_time_after_which_one_counts_as_lost():
    pace = Pace(Config(snapshot_send_bytes_per_s=80_000, install_snapshot_timeout_ms=1000))
    assert 10_000 == pace.chunk_bytes


def test_a_chunk_is_never_empty():
    assert Pace(Config(snapshot_send_bytes_per_s=1)).chunk_bytes == 1
