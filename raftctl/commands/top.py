"""top: the cluster at work, again and again: rates, lags, and what happens."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

from raftctl.deadline import takes
from raftctl.errors import ExitCode
from raftctl.session import Session, nobody_answers

if TYPE_CHECKING:
    import typer

    from raftctl.gauging import Gauges, Sample
    from raftctl.output.dashboard import Screen

_HAPPENED_MAX = 200


@takes(None)
def top(
    session: Session,
    interval: Annotated[str, typer.Option("--interval", metavar="TIME", help="How often to look.")] = "1s",
    count: Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="End after so many looks.")] = None,
) -> None:
    """Show writes a second, each node's lag over time, and what happens; a line a look when piped. Ctrl-C ends it.

    With -o json or -o jsonl each look is a document on one line. With --count it exits with 4 if nobody answers at the last.
    """
    from raftctl.durations import parse_duration
    from raftctl.gauging import Gauges
    from raftctl.output.dashboard import Screen

    every_s = max(0.05, parse_duration(interval, "--interval"))
    on_screen = sys.stdout.isatty() and session.output.for_people and os.environ.get("TERM") != "dumb"
    gauges = Gauges()
    happened: deque[str] = deque(maxlen=_HAPPENED_MAX)
    looks = 0
    try:
        with Screen(color=session.output.colors_stdout) if on_screen else nullcontext() as screen:
            while True:
                begun = time.monotonic()
                survey = session.client.cluster()
                sample = gauges.take(begun, survey)
                happened.extend(f"{time.strftime('%H:%M:%S')}  {text}" for text in sample.changes)
                _show(session, screen, sample, gauges, happened)
                looks += 1
                if looks == count and not survey.statuses:
                    raise nobody_answers(survey)
                if looks == count:
                    return
                time.sleep(max(0.0, every_s - (time.monotonic() - begun)))
    except KeyboardInterrupt:
        session.exit_code = ExitCode.INTERRUPTED


def _show(session: Session, screen: Screen | None, sample: Sample, gauges: Gauges, happened: deque[str]) -> None:
    import msgspec

    from raftctl.output.dashboard import lines, plain_line

    output = session.output
    if screen is None:
        data = msgspec.to_builtins(sample)
        output.show_one_of_many("top", data, f"{time.strftime('%H:%M:%S')}  {plain_line(sample)}", name=sample.condition)
        return
    size = os.get_terminal_size(sys.stdout.fileno())
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    screen.draw(lines(sample, gauges, list(happened), width=size.columns, height=size.lines, unicode=unicode))
