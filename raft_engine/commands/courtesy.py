"""Waking up without interrupting others, as long as others return it.

When a thread wakes up, Linux lets it interrupt whoever runs, and each interruption costs both of them a switch and their caches. Nodes
that share processors with each other, with their clients and with their own threads wake each other many thousand times a second. In the
class SCHED_BATCH a thread that wakes up waits until whoever runs goes to sleep, which among such neighbours is soon. A neighbour that
computes without end does not: beside one, each wake-up waits for milliseconds. So the kernel's account of how long the event loop waited
for a processor is looked at, and where that is long the process goes back to the normal class for a while.
Source: sched(7); `/proc/<pid>/schedstat` (Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

LOOK_EVERY_S: Final = 0.25
WAIT_MAX_S: Final = 0.00025
"""Mean wait before each run from which a neighbour may be too much; three busy nodes and their clients on two processors reach it, too."""
WAIT_PER_RUN_TIME_MAX: Final = 3.0
"""How much longer than it ran it may have waited: those neighbours make a follower wait as long as it runs, endless loops four times."""
LOOKS: Final = 3
"""So many looks in a row have to show it: a process that was stopped and continued, or a moment of many starts, is nobody's loop."""
RUNS_MIN: Final = 10
"""Fewer runs since the last look say nothing; their waits count at the next one."""
NORMAL_FOR_S: Final = 1.0
"""Then courtesy is tried again; if it fails soon, twice as long, and so on."""
NORMAL_FOR_MAX_S: Final = 64.0
SETTLED_LOOKS: Final = 40
"""After ten seconds without being kept waiting the next failure is a first one again."""

logger = logging.getLogger("raft_engine.process")


class Account(NamedTuple):
    """Of a thread, since it began."""

    ran_s: float
    waited_s: float
    """For a processor."""
    runs: int


class Scheduler(Protocol):
    """What is asked of the system."""

    def account(self) -> Account:
        """Return the event loop's thread's."""

    def set_batch(self, *, batch: bool) -> None:
        """Put all threads of the process into the class."""


class LinuxScheduler:
    """Of a process whose event loop is on its main thread."""

    def __init__(self) -> None:
        """Raises: OSError: this kernel keeps no accounts."""
        self._account = Path(f"/proc/self/task/{os.getpid()}/schedstat")
        self.account()

    def account(self) -> Account:
        ran_ns, waited_ns, runs = self._account.read_text("ascii").split()
        return Account(int(ran_ns) / 1e9, int(waited_ns) / 1e9, int(runs))

    def set_batch(self, *, batch: bool) -> None:
        policy, parameter = os.SCHED_BATCH if batch else os.SCHED_OTHER, os.sched_param(0)
        for task in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # a thread that ended meanwhile
                os.sched_setscheduler(int(task.name), policy, parameter)


class Courtesy:
    """Keeps the process in the batch class while that costs it little. Used on the event loop; ends with it."""

    def __init__(self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self._seen = scheduler.account()
        self._bad_looks = self._good_looks = 0
        self._normal_for_s = NORMAL_FOR_S

    def begin(self) -> None:
        """Raises: OSError: the class cannot be changed here."""
        self._scheduler.set_batch(batch=True)
        self._seen = self._scheduler.account()
        self._bad_looks = self._good_looks = 0
        self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        account = self._scheduler.account()
        ran_s, waited_s, runs = (now - before for now, before in zip(account, self._seen, strict=True))
        if runs >= RUNS_MIN:
            self._seen = account
            is_kept_waiting = waited_s > runs * WAIT_MAX_S and waited_s > ran_s * WAIT_PER_RUN_TIME_MAX
            self._bad_looks = self._bad_looks + 1 if is_kept_waiting else 0
            self._good_looks += not is_kept_waiting
        if self._bad_looks < LOOKS:
            self._loop.call_later(LOOK_EVERY_S, self._look)
            return
        logger.debug("others keep the processors busy: it ran for %.3f s and waited for %.3f s", ran_s, waited_s)
        if self._good_looks >= SETTLED_LOOKS:
            self._normal_for_s = NORMAL_FOR_S
        self._scheduler.set_batch(batch=False)
        self._loop.call_later(self._normal_for_s, self.begin)
        self._normal_for_s = min(2 * self._normal_for_s, NORMAL_FOR_MAX_S)


def be_courteous() -> None:
    """Begin, on the running loop's thread, which must be the main one; nothing happens where the system cannot, or was told otherwise.

    Only a process in the normal class changes it: whoever chose another one for it (`chrt`) had a reason.
    """
    if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    try:
        Courtesy(LinuxScheduler(), asyncio.get_running_loop()).begin()
    except OSError as error:
        logger.debug("the process stays in the normal scheduling class: %s", error)
