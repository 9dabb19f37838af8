"""When the event loop goes round instead of sleeping, and when it stops."""

from __future__ import annotations

import pytest

from raft_engine.runtime import busy_polling
from raft_engine.runtime.busy_polling import ACTIVE_MS, KEPT_MS, PAUSE_MS, BusyPolling

POLL_US = 125
ROUND_MS = 1000 * 2**-16
ROUNDS = 9
"""Of 15 µs each, until 125 are over."""


class Turns:
    """An event loop of one queue, in which every round takes 15 µs."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.soon: list = []

    def clock(self) -> float:
        return self.now

    def run(self) -> int:
        """Return how many calls it takes until nothing is left to do: until it would sleep."""
        calls = 0
        while self.soon:
            self.soon.pop(0)()
            self.now += ROUND_MS
            calls += 1
        return calls


@pytest.fixture
def turns():
    return Turns()


@pytest.fixture
def polling(turns):
    return BusyPolling(POLL_US, turns.soon.append, turns.clock)


def test_after_a_step_of_a_write_the_loop_goes_round_for_as_long_as_is_configured_and_then_sleeps(polling, turns):
    polling.step(5000.0, appended=1, writers=1)
    assert turns.run() == ROUNDS + 1


def test_each_step_begins_the_time_again_and_there_is_one_chain_of_rounds(polling, turns):
    polling.step(5000.0, appended=1, writers=1)
    turns.now += 0.05
    polling.step(5000.05, appended=1, writers=0)
    assert len(turns.soon) == 1
    assert turns.run() == ROUNDS + 1


def test_after_the_loop_slept_the_next_step_has_it_go_round_again(polling, turns):
    polling.step(5000.0, appended=1, writers=1)
    turns.run()
    polling.step(5000.5, appended=1, writers=0)
    assert turns.run() > 1


def test_what_happens_where_nothing_is_appended_is_not_waited_for(polling, turns):
    polling.step(5000.0, appended=0, writers=0)
    assert not turns.soon


def test_a_while_after_the_last_entry_the_loop_sleeps_again(polling, turns):
    polling.step(5000.0, appended=1, writers=0)
    turns.run()
    polling.step(5000.0 + ACTIVE_MS, appended=1, writers=0)
    assert not turns.soon


def test_where_several_writes_wait_the_loop_sleeps(polling, turns):
    polling.step(5000.0, appended=2, writers=2)
    assert not turns.soon


def test_beside_somebody_who_keeps_the_processor_the_loop_sleeps_and_tries_again_later(polling, turns, monkeypatch):
    def let_through() -> None:
        turns.now += KEPT_MS

    monkeypatch.setattr(busy_polling.os, "sched_yield", let_through)
    polling.step(turns.now, appended=1, writers=1)
    assert turns.run() == 1
    polling.step(turns.now, appended=2, writers=1)
    assert not turns.soon
    turns.now += PAUSE_MS
    polling.step(turns.now, appended=3, writers=1)
    assert turns.soon


def test_zero_is_never(turns):
    BusyPolling(0, turns.soon.append, turns.clock).step(1000.0, appended=1, writers=1)
    assert not turns.soon


def test_at_the_end_the_rounds_end(polling, turns):
    polling.step(5000.0, appended=1, writers=1)
    polling.stop()
    assert turns.run() == 1
    polling.step(5000.1, appended=2, writers=1)
    assert not turns.soon
