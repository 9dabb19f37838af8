"""Slow work beside the event loop: reading old log entries, writing and reading snapshots.

Source: own design.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

THREADS = 4
"""One may build a snapshot, one may take one in, and there is always one left to read for a follower."""


class IoThreads:
    """Runs work in a few threads and hands its result to the event loop; an exception in either ends the engine."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="raft-io")
        self._abandoned = False

    def run(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run `work` in a thread, then `then(result)` on the loop."""

        def finished(future: Future[T]) -> None:
            if not future.cancelled():
                self._loop.call_soon_threadsafe(self._finish, lambda: then(future.result()))

        self._executor.submit(work).add_done_callback(finished)

    def soon(self, then: Callable[[], None]) -> None:
        """Call `then` in the loop's next round, so that others get their turn before."""
        self._loop.call_soon(self._finish, then)

    def abandon(self) -> None:
        """Nobody wants results any more."""
        self._abandoned = True

    def stop(self) -> None:
        """Let running work end; what has not begun is dropped. Blocks."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _finish(self, then: Callable[[], None]) -> None:
        if self._abandoned:
            return
        try:
            then()
        except Exception as error:  # noqa: BLE001 (reported as the engine's end)
            self._failed(error)
