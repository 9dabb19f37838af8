"""The screen of `top`: lines that fit a terminal, drawn over the ones before; and the one line a sample for pipes.

Pure but for `Screen`, which owns the terminal between `with` and its end and gives it back as it was.
"""

from __future__ import annotations

import signal
import sys
import textwrap
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self

from raftctl.gauging import Gauges, NodeGauge, Sample, sparkline
from raftctl.output.tables import Tone, paint
from raftctl.output.text import human_ms, printable

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_BELOW: Final = "\x1b[J"
_TITLES: Final = ("NODE", "ROLE", "STATE", "TERM", "APPLIED", "/S", "LAG", "HEARD")
_NARROW: Final = 72
"""Below so many columns there is room for the numbers only."""
_STATE_TONES: Final = {
    "leader": Tone.GOOD,
    "candidate": Tone.WARN,
    "recovering": Tone.WARN,
    "shutdown": Tone.BAD,
    "unreachable": Tone.BAD,
}
_CONDITION_TONES: Final = {"ok": Tone.GOOD, "degraded": Tone.WARN}

_FULL_RATE: Final = 10.0
_FULL_LAG: Final = 100.0
"""A bar is not full below these: one entry of lag is none that anybody has to see."""

Line = tuple[str, Tone]


def lines(sample: Sample, gauges: Gauges, happened: Sequence[str], *, width: int, height: int, unicode: bool) -> list[Line]:
    """Return at most `height` lines of at most `width` characters."""
    shown: list[Line] = [
        (f"{_title(sample)}  [{sample.condition}]", _CONDITION_TONES.get(sample.condition, Tone.BAD)),
        (_quorum(sample), Tone.PLAIN),
        (_commit(sample, gauges, width, unicode=unicode), Tone.PLAIN),
        ("", Tone.PLAIN),
        *_table(sample, gauges, width, unicode=unicode),
    ]
    room = height - len(shown) - 2
    if happened and room > 0:
        shown += [("", Tone.PLAIN), ("What happened:", Tone.STRONG)]
        shown += [(f"  {text}", Tone.PLAIN) for text in list(happened)[-room:]]
    return [(printable(text)[:width], tone) for text, tone in shown[:height]]


def _title(sample: Sample) -> str:
    leads = (
        f"node {sample.leader} leads term {sample.term}" if sample.leader is not None else f"no leader (term {sample.term})"
    )
    return f"{sample.cluster or 'nobody answers'}: {leads}"


def _quorum(sample: Sample) -> str:
    spare = f"{sample.failure_tolerance} more may fail" if sample.failure_tolerance else "no more may fail"
    heard = f"; quorum heard {human_ms(sample.quorum_heard_ms)} ago" if sample.quorum_heard_ms is not None else ""
    return f"{sample.up} of {sample.voters} voters up; {spare}{heard}"


def _commit(sample: Sample, gauges: Gauges, width: int, *, unicode: bool) -> str:
    text = f"committed {sample.committed:,}, {_number(sample.committed_per_s)}/s  "
    return text + sparkline(list(gauges.rates), width - len(text), full=_FULL_RATE, unicode=unicode)


def _table(sample: Sample, gauges: Gauges, width: int, *, unicode: bool) -> list[Line]:
    cells = [_cells(node) for node in sample.nodes]
    widths = [max(len(row[at]) for row in [_TITLES, *cells]) for at in range(len(_TITLES))]
    left = width - sum(widths) - 2 * len(widths)
    history = min(30, left // 2) if width >= _NARROW and left > 20 else 0
    head = _row(_TITLES, widths)
    if history:
        head += "  " + "LAG OVER TIME".ljust(history)
    found: list[Line] = [(head + "  NOTE" if left > 8 else head, Tone.STRONG)]
    for node, row in zip(sample.nodes, cells, strict=True):
        text = _row(row, widths)
        if history:
            line = sparkline(list(gauges.lags.get(node.node or 0, ())), history, full=_FULL_LAG, unicode=unicode)
            text += "  " + line.ljust(history)
        tone = _STATE_TONES.get(node.state, Tone.PLAIN)
        fits = len(text) + 2 + len(node.note) <= width
        found.append((f"{text}  {node.note}".rstrip() if fits else text, tone))
        if not fits:
            found += [(f"      {part}", tone) for part in textwrap.wrap(node.note, max(10, width - 6))]
    return found


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = {1, 2}
    return "  ".join(
        cell.ljust(width) if at in words else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _cells(node: NodeGauge) -> tuple[str, ...]:
    return (
        "?" if node.node is None else str(node.node),
        node.role,
        node.state,
        _number(node.term),
        _number(node.applied),
        _number(node.applied_per_s),
        _number(node.lag),
        human_ms(node.heard_ms),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def plain_line(sample: Sample) -> str:
    """Return the sample on one line."""
    leads = (
        f"node {sample.leader} leads term {sample.term}" if sample.leader is not None else f"no leader, term {sample.term}"
    )
    lags = [node.lag for node in sample.nodes if node.lag is not None and node.state not in {"unreachable", "unknown"}]
    lag = f"lag at most {max(lags)}" if lags else "lag not known"
    rate = _number(sample.committed_per_s)
    text = f"{leads}; {sample.up} of {sample.voters} up; committed {sample.committed} ({rate}/s); {lag}; {sample.condition}"
    return printable("; ".join([text, *sample.changes]))


class Screen:
    """The terminal's other screen, without a cursor, between `with` and its end; SIGTERM ends it as Ctrl-C does."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._on_sigterm: Any = None

    def __enter__(self) -> Self:
        self._on_sigterm = signal.signal(signal.SIGTERM, _interrupt)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def draw(self, shown: Sequence[Line]) -> None:
        """Show these lines instead of the last ones."""
        painted = [paint(text, tone, color=self._color) + _REST_OF_LINE for text, tone in shown]
        sys.stdout.write(_HOME + "\r\n".join(painted) + _BELOW)
        sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
