"""When Ctrl-C ends this program: not while it loads, then at any time by KeyboardInterrupt, not any more once its end is settled.

While it loads, and later while a module is loaded, an interrupt waits: it would come out of the middle of an import, as a
traceback, or be lost in a half-made class, which crashes the interpreter (seen with msgspec 0.22). Once it is known how the program
ends, an interrupt must not change what its exit code says. A terminal that is gone ends no runbook: it goes on as if nobody watched.
Source: signal(7); pthread_sigmask(3).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

_ASKED_TO_END: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_ALL: Final = (*_ASKED_TO_END, signal.SIGHUP, signal.SIGALRM)
_AGAIN_S: Final = 0.005
"""So long after it met an import an interrupt is tried again; a module is loaded in a few milliseconds."""


def wait() -> None:
    """Let Ctrl-C wait until `come`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def come() -> None:
    """Let it come. Raises: KeyboardInterrupt: one has waited."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it was begun with Ctrl-C ignored
        _handle(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def settled() -> None:
    """From here on nothing that asks this program to end is heard: it ends by itself, and its exit code stands."""
    for number in _ALL:
        _handle(number, signal.SIG_IGN)


def undo_when_asked_to_end() -> None:
    """From here on a polite end (SIGTERM) is like Ctrl-C, and a terminal that is gone (SIGHUP) is no reason to end."""
    _handle(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        _handle(signal.SIGHUP, _take_no_notice)


def _handle(number: int, handler: Any) -> None:
    with contextlib.suppress(ValueError):  # not the main thread: whoever embeds this has its own say
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _handle(signal.SIGALRM, lambda *_: signal.raise_signal(number))
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _take_no_notice(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN, this is not handed down to the commands that a runbook starts."""


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let those who ask for the end wait meanwhile.

    For what must not be cut in half, and for msgspec: interrupted while it looks into a Struct that it meets for the first time,
    it crashes the interpreter (seen with 0.22). The mask of one thread would not do: another one may take the signal.
    """
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    handlers = {number: signal.getsignal(number) for number in _ASKED_TO_END}
    for number in handlers:
        _handle(number, remember)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            _handle(number, handler)
        for taken in came:
            signal.raise_signal(taken)


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Give a process that goes on afterwards its own handlers back."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers = {number: signal.getsignal(number) for number in _ALL}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            _handle(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
