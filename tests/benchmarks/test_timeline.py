"""Are the steps of a put read rightly from the system calls of those who take part?"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from benchmarks.timeline import STEPS, Call, Seen, Threads, steps_of_puts, table

GENERATOR, LEADER, CLIENT, PEER = 1, 10, 7, 8
QUICK, SLOW = (20, 21), (30, 31)
THREADS = Threads(GENERATOR, LEADER, CLIENT, [SLOW, QUICK])


def a_put(at: float) -> list[Call]:
    """Return the calls of a put: its steps on the way over the quick follower take 1, 2, 3 … 9 µs, the last one takes 10."""
    moments = [at + sum(range(steps + 1)) for steps in range(10)]
    sent, taken, told, heard, written, syncs, synced, answered, known, replied = moments
    return [
        Call(sent, GENERATOR, "enter_write", 4),
        Call(taken, LEADER, "enter_read", CLIENT),
        Call(told, LEADER, "enter_write", PEER),
        Call(heard - 0.5, QUICK[0], "enter_read", 3),  # the commit notice of the put before
        Call(heard, QUICK[0], "enter_read", 3),
        Call(written, QUICK[1], "enter_pwrite64", 5),
        Call(syncs, QUICK[1], "enter_fdatasync", 5),
        Call(synced, QUICK[1], "exit_fdatasync"),
        Call(answered, QUICK[0], "enter_write", 3),
        Call(known, LEADER, "enter_read", PEER),
        Call(replied, LEADER, "enter_write", CLIENT),
        Call(heard + 1, SLOW[0], "enter_read", 3),
        Call(written + 1, SLOW[1], "enter_pwrite64", 5),
        Call(syncs + 1, SLOW[1], "enter_fdatasync", 5),
        Call(synced + 9, SLOW[1], "exit_fdatasync"),
        Call(answered + 9, SLOW[0], "enter_write", 3),
    ]


def test_each_step_is_that_of_the_follower_who_answers_first():
    calls = [*a_put(100), *a_put(155), Call(210, GENERATOR, "enter_write", 4)]
    assert [[float(step) for step in range(1, 11)]] * 2 == steps_of_puts(reversed(calls), THREADS)


def test_a_put_of_which_something_is_missing_is_left_out():
    calls = [*a_put(100), *a_put(155), Call(210, GENERATOR, "enter_write", 4)]
    for missing in range(11):  # 3 and 4: either read of the follower will do
        rest = [call for number, call in enumerate(calls) if number != missing or call.thread == GENERATOR]
        others = [call for call in rest if call.thread not in SLOW]
        assert 2 - (missing not in {0, 3, 4}) == len(steps_of_puts(others, THREADS)), calls[missing]


def test_what_came_before_the_first_put_and_after_the_last_is_not_taken_for_one():
    assert [] == steps_of_puts(a_put(100)[1:], THREADS)
    assert [] == steps_of_puts(a_put(100), THREADS)


def test_the_table_has_medians_and_how_much_looking_costs():
    seen = Seen(steps=[[1.0] * 10, [2.0] * 10, [6.0] * 10], alone_us=[17.0])
    lines = table({"ours": seen})
    assert f"| {STEPS[0]} | 2 |" == lines[2]
    assert ["| **a put** | 20 |", "| a put, perf not looking | 17 |"] == lines[12:14]
    assert "ours: 3 puts" == lines[-1]
