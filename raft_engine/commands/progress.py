"""A bar on the terminal for what takes longer than a moment; nothing at all where nobody looks.

verifying  [#########           ]  45 %  1.2 of 2.7 GiB  00000000000000000123.seg
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from raft_engine.commands.text import human_bytes

FIRST_AFTER_S: Final = 0.5
"""What is done sooner shows no bar."""
REDRAW_S: Final = 0.1
_CELLS: Final = 20
_ERASE: Final = "\r\x1b[K"


class ProgressBar:
    """Called with bytes done since the last call, and where; leave it with `close`, which erases the bar."""

    def __init__(self, total_bytes: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total_bytes = total_bytes
        self._stream = stream or sys.stderr
        self._clock = clock
        self._is_shown = self._stream.isatty()
        self._done_bytes = 0
        self._next_s = clock() + FIRST_AFTER_S
        self._is_drawn = False

    def __call__(self, count: int, name: str) -> None:
        self._done_bytes += count
        if not self._is_shown or self._clock() < self._next_s:
            return
        self._next_s = self._clock() + REDRAW_S
        self._is_drawn = True
        self._stream.write(_ERASE + self._line(name))
        self._stream.flush()

    def close(self) -> None:
        if self._is_drawn:
            self._stream.write(_ERASE)
            self._stream.flush()

    def _line(self, name: str) -> str:
        total = max(self._total_bytes, 1)
        done = min(self._done_bytes, total)  # a part that was written meanwhile is looked at twice
        bar = ("#" * (_CELLS * done // total)).ljust(_CELLS)
        return f"verifying  [{bar}] {100 * done // total:3d} %  {human_bytes(done)} of {human_bytes(total)}  {name[:40]}"
