"""When the process lets others finish and when it stops doing so, with a scheduler that is told what to say; and Linux's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raft_engine.commands.courtesy import LOOK_EVERY_S, LOOKS, NORMAL_FOR_S, RUNS_MIN, SETTLED_LOOKS, Account, Courtesy


class Neighbourhood:
    """A scheduler and a loop of timers. In each `LOOK_EVERY_S` the thread runs 100 times."""

    def __init__(self) -> None:
        self.account_now = Account(1.0, 5.0, 1000)
        self.is_batch = False
        self.timers: list = []

    def account(self) -> Account:
        return self.account_now

    def set_batch(self, *, batch: bool) -> None:
        self.is_batch = batch

    def call_later(self, delay_s: float, call) -> None:
        self.timers.append((delay_s, call))

    def pass_time(self, ran_s: float, waited_s: float, runs: int = 100) -> float:
        """Let the one timer fire after the thread ran and waited for so long; return what it had waited for."""
        before = self.account_now
        self.account_now = Account(before.ran_s + ran_s, before.waited_s + waited_s, before.runs + runs)
        ((delay_s, call),), self.timers = self.timers, []
        call()
        return delay_s


@pytest.fixture
def here():
    here = Neighbourhood()
    Courtesy(here, here).begin()
    return here


def test_it_begins_courteous_and_looks_regularly(here):
    assert here.is_batch
    assert [here.pass_time(0.1, 0.01) for _ in range(3)] == [LOOK_EVERY_S] * 3
    assert here.is_batch


def kept_waiting(here, runs=100) -> None:
    here.pass_time(ran_s=0.02, waited_s=0.1, runs=runs)


def normal_for(here) -> float:
    """Keep it waiting until it gives up; return after which time it tries again."""
    for _ in range(LOOKS):
        assert here.is_batch
        kept_waiting(here)
    assert not here.is_batch
    delay_s = here.pass_time(ran_s=2.0, waited_s=0.1)
    assert here.is_batch
    return delay_s


def test_beside_somebody_who_computes_without_end_it_is_normal_for_a_while_and_longer_each_time(here):
    assert [normal_for(here) for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0]


def test_after_a_good_while_the_next_failure_is_a_first_one(here):
    normal_for(here)
    normal_for(here)
    for _ in range(SETTLED_LOOKS):
        here.pass_time(ran_s=0.1, waited_s=0.01)
    assert normal_for(here) == NORMAL_FOR_S


@pytest.mark.parametrize(
    ("ran_s", "waited_s"),
    [
        pytest.param(0.05, 0.07, id="waits longer than it runs, as among busy nodes"),
        pytest.param(0.001, 0.02, id="waits shortly each time, and hardly runs"),
    ],
)
def test_waits_that_busy_neighbours_cause_are_borne(here, ran_s, waited_s):
    for _ in range(2 * LOOKS):
        here.pass_time(ran_s, waited_s)
    assert here.is_batch


def test_a_moment_in_which_it_was_kept_waiting_is_borne(here):
    for _ in range(3):
        for _ in range(LOOKS - 1):
            kept_waiting(here)
        here.pass_time(ran_s=0.1, waited_s=0.01)
    assert here.is_batch


def test_few_runs_say_nothing_until_there_are_more(here):
    for _ in range(2 * LOOKS - 1):
        kept_waiting(here, runs=RUNS_MIN // 2)
        assert here.is_batch
    kept_waiting(here, runs=RUNS_MIN // 2)
    assert not here.is_batch


PROGRAM = """
import asyncio, os, threading, time
from raft_engine.commands.courtesy import LinuxScheduler, be_courteous

def classes():
    return {os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}

async def main():
    be_courteous()
    going = threading.Event()
    thread = threading.Thread(target=going.wait)
    thread.start()
    before = classes()
    LinuxScheduler().set_batch(batch=False)
    after = classes()
    going.set()
    thread.join()
    print(sorted(before), sorted(after))

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel keeps no accounts")
def test_all_threads_are_in_the_class_and_leave_it_together():
    assert said(PROGRAM) == f"{[os.SCHED_BATCH]} {[os.SCHED_OTHER]}"


@pytest.mark.skipif(sys.platform != "linux", reason="the classes are Linux's")
def test_a_class_that_somebody_chose_for_the_process_stays():
    chosen = "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); be_courteous(); print(os.sched_getscheduler(0))"
    assert said(f"import os\nfrom raft_engine.commands.courtesy import be_courteous\n{chosen}") == str(os.SCHED_IDLE)


def said(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
