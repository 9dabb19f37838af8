"""How far a catch-up has come: a bar on a terminal, now and then a line elsewhere. On stderr, so that data stays clean."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from raftctl.output.text import human_bytes, human_seconds

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_EVERY_S: Final = 2.0
_RATE_OVER_S: Final = 5.0
"""The rate is that of the last seconds: what was fast once says nothing about the rest."""


class CatchUpBar:
    """Shown between `with` and its end; `quiet`: not at all."""

    def __init__(self, *, quiet: bool, color: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._color = color
        self._seen: deque[tuple[float, int]] = deque()
        self._unit = ""
        self._said_at = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(stderr=True, no_color=not self._color, highlight=False)
            columns = (TextColumn("      catching up"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"))
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=console, transient=True)
            self._bar.start()
            self._bar.add_task("")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, unit: str) -> None:
        """Show `done` of `total` `entries`, `bytes` or `bytes restored`."""
        if self._quiet:
            return
        text = self._text(done, total, unit)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=max(total, 1), description=text)
        elif time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = time.monotonic()
            percent = done * 100 // max(total, 1)
            sys.stderr.write(f"      catching up: {percent} %, {text}\n")
            sys.stderr.flush()

    def _text(self, done: int, total: int, unit: str) -> str:
        rate = self._rate(done, unit)
        in_bytes, restored = unit != "entries", " restored" if unit == "bytes restored" else ""
        amount = f"{human_bytes(done)} of {human_bytes(total)}{restored}" if in_bytes else f"{done} of {total} entries"
        if rate <= 0:
            return amount
        speed = f"{human_bytes(rate)}/s" if in_bytes else f"{rate:.0f}/s"
        return f"{amount}, {speed}, {human_seconds(max(0, total - done) / rate)} left"

    def _rate(self, done: int, unit: str) -> float:
        now = time.monotonic()
        if unit != self._unit:
            self._seen.clear()
            self._unit = unit
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_OVER_S:
            self._seen.popleft()
        begun, before = self._seen[0]
        return (done - before) / (now - begun) if now - begun > 0.2 else 0.0
