"""Asking many nodes at once: a few threads that only wait."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE_MAX: Final = 32
"""More nodes than this have to wait for their turn; a cluster has seldom more than nine."""


class Asking(Generic[T, R]):
    """Answers in the order in which they come; more may be asked meanwhile, and nobody has to be waited for.

    Of one item alone that is waited for without a limit, no thread is made. What is still asked when nobody looks any more ends
    by itself, or with the program.
    """

    def __init__(self, ask: Callable[[T], R]) -> None:
        self._ask = ask
        self._waiting: deque[T] = deque()
        self._came: queue.SimpleQueue[tuple[T, R] | BaseException] = queue.SimpleQueue()
        self._running = 0

    def add(self, items: Sequence[T]) -> None:
        self._waiting.extend(items)
        if len(items) > 1 or self._running:
            self._begin()

    def next(self, within_s: float | None = None) -> tuple[T, R] | None:
        """Return an item and its result; None: nobody is left, or none came within that time.

        Raises: whatever `ask` raised.
        """
        if within_s is None and not self._running and len(self._waiting) == 1:
            item = self._waiting.popleft()
            return item, self._ask(item)
        self._begin()
        if not self._running:
            return None
        try:
            came = self._came.get(timeout=within_s)
        except queue.Empty:
            return None
        self._running -= 1
        self._begin()
        if isinstance(came, BaseException):
            raise came
        return came

    def _begin(self) -> None:
        while self._waiting and self._running < AT_ONCE_MAX:
            self._running += 1
            threading.Thread(target=self._run, args=(self._waiting.popleft(),), daemon=True).start()

    def _run(self, item: T) -> None:
        try:
            self._came.put((item, self._ask(item)))
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is awaited
            self._came.put(error)


def at_once(ask: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return each item's result, in their order."""
    numbered: Asking[int, R] = Asking(lambda number: ask(items[number]))
    numbered.add(range(len(items)))
    results: dict[int, R] = {}
    while (came := numbered.next()) is not None:
        results[came[0]] = came[1]
    return [results[number] for number in range(len(items))]
