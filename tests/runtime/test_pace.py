"""How fast snapshots go to one target: raft_engine/runtime/pace.py."""

from __future__ import annotations

import asyncio

import pytest

from raft_engine.config import Config
from raft_engine.runtime import pace as pace_module
from raft_engine.runtime.pace import CHUNK_BYTES_MIN, LATE_S, SOON_S, Pace


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def sizes(pace: Pace, clock: Clock, answered_after: list[float]) -> list[int]:
    """Send a chunk for each answer, and return the sizes of those that followed."""
    found = []
    for seconds in answered_after:
        pace.in_time(1, lambda: None)
        clock.now += seconds
        found.append(pace.next_chunk_bytes())
    return found


async def test_without_a_limit_everything_is_sent_at_once():
    pace, sent = Pace(Config()), []
    for number in range(3):
        pace.in_time(10**9, lambda number=number: sent.append(number))
    assert [0, 1, 2] == sent


def test_chunks_are_small_while_answers_come_soon(clock):
    pace = Pace(Config())
    assert CHUNK_BYTES_MIN == pace.next_chunk_bytes()
    assert [CHUNK_BYTES_MIN] * 3 == sizes(pace, clock, [SOON_S / 2] * 3)


def test_chunks_grow_up_to_the_setting_where_the_way_is_long_and_shrink_again(clock):
    pace = Pace(Config(snapshot_max_chunk_size_bytes=5 * CHUNK_BYTES_MIN))
    grown = sizes(pace, clock, [LATE_S * 2] * 4)
    assert [2 * CHUNK_BYTES_MIN, 4 * CHUNK_BYTES_MIN, 5 * CHUNK_BYTES_MIN, 5 * CHUNK_BYTES_MIN] == grown
    assert [5 * CHUNK_BYTES_MIN] == sizes(pace, clock, [(SOON_S + LATE_S) / 2])
    assert [5 * CHUNK_BYTES_MIN // 2, 5 * CHUNK_BYTES_MIN // 4, CHUNK_BYTES_MIN] == sizes(pace, clock, [SOON_S / 2] * 3)


def test_a_setting_below_the_smallest_chunk_counts(clock):
    pace = Pace(Config(snapshot_max_chunk_size_bytes=1000))
    assert [1000] * 2 == sizes(pace, clock, [SOON_S / 2, LATE_S * 2])


async def test_with_a_limit_the_next_chunk_waits_until_the_one_before_has_had_its_time():
    pace, sent = Pace(Config(snapshot_send_bytes_per_s=1000)), []
    second = asyncio.Event()
    pace.in_time(10, lambda: sent.append("first"))
    pace.in_time(10, second.set)
    assert (["first"], False) == (sent, second.is_set())
    begun = asyncio.get_running_loop().time()
    await second.wait()
    assert asyncio.get_running_loop().time() - begun >= 0.005


def test_chunks_are_small_enough_that_several_fit_into_the_time_after_which_one_counts_as_lost(clock):
    pace = Pace(Config(snapshot_send_bytes_per_s=80_000, install_snapshot_timeout_ms=1000))
    assert [10_000] == sizes(pace, clock, [1.0])


def test_a_chunk_is_never_empty():
    assert Pace(Config(snapshot_send_bytes_per_s=1)).next_chunk_bytes() == 1
