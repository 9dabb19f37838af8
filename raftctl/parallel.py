"""Asking many nodes at once: a few threads that only wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE_MAX: Final = 32
"""More nodes than this have to wait for their turn; a cluster has seldom more than nine."""


def at_once(ask: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return each item's result, in their order. `ask` must not raise; of one item, no thread is made."""
    if len(items) == 1:
        return [ask(items[0])]
    results: dict[int, R] = {}
    todo = iter(enumerate(items))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number, item = next(todo, (-1, None))
            if number < 0:
                return
            results[number] = ask(item)  # type: ignore[arg-type]  # an item, as the number says

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(len(items), AT_ONCE_MAX))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(items))]
