"""What becomes of output that cannot be written: the reader has left, the disk is full, the terminal is gone.

Standard error is a courtesy: what cannot be said there is dropped, from the first failure on for good, so that nothing that is
being done to a cluster ever stops because nobody listens any more. Standard output is the answer: that it did not arrive is
raised, as an error of its own that is no `OSError`, so that nobody takes it for trouble with the cluster.
Source: write(2) (EPIPE, ENOSPC, EIO, EBADF); gnulib's stdopen (standard streams that were closed).
"""

from __future__ import annotations

import abc
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast


class OutputLostError(Exception):
    """Standard output takes no more."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"standard output cannot be written: {reason.strerror or reason}")
        self.reader_has_left = reason.errno == errno.EPIPE


class _Guarded(abc.ABC):
    """A stream that is written until it fails; all else is the stream's own business."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    @abc.abstractmethod
    def _try(self, deed: Callable[[], object]) -> None:
        """Do it; say, or do not say, that it failed."""


class _Answer(_Guarded):
    """Standard output: raises `OutputLostError`, also at every later write."""

    _lost: OutputLostError | None = None

    def flush(self) -> None:
        if self._lost is None:
            super().flush()

    def write_bytes(self, data: bytes) -> None:
        def both() -> None:
            self._stream.flush()
            self._stream.buffer.write(data)
            self._stream.buffer.flush()

        self._try(both)

    def _try(self, deed: Callable[[], object]) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            deed()
        except OSError as error:
            self._lost = OutputLostError(error)
            _to_nowhere(self._stream)
            raise self._lost from error


class _Courtesy(_Guarded):
    """Standard error: never raises."""

    _is_lost = False

    def _try(self, deed: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            deed()
        except (OSError, ValueError):  # ValueError: somebody closed it
            self._is_lost = True
            _to_nowhere(self._stream)


def _to_nowhere(stream: TextIO) -> None:
    """Let what the stream still holds go, or the interpreter would try it once more when it ends, and exit with 120."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard both streams of this process meanwhile."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("TextIO", _Answer(sys.stdout)), cast("TextIO", _Courtesy(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output as they are. Raises: OutputLostError."""
    stream: Any = sys.stdout
    stream.write_bytes(data)


def reopen_closed() -> None:
    """Take the places of standard streams that were closed when the program began, so that no file of ours gets their number.

    They are opened for reading only: what is written there fails as it should.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free, which is this one
    missing: Any = None
    if sys.stdin is missing:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (a number, for as long as we live)
    if sys.stdout is missing:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is missing:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
