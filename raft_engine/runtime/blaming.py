"""Whose exception it is, where the state machine is called: the engine's word for it names what was asked of the state machine.

Never compiled: mypyc drops the cause of an exception (`raise … from`), and here the cause is the story.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from raft_engine.errors import Fatal, Panicked, SnapshotDeferred, StorageError


class BlamingTheStateMachine:
    """A context that says whose exception it is and at what; one of a disk is left as it is.

    Raises: Panicked.
    """

    __slots__ = ("_what",)

    def __init__(self, what: Callable[[], str]) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, (Fatal, StorageError, OSError, SnapshotDeferred)):
            message = f"the state machine raised {type(error).__name__} on {self._what()}: {error}"
            raise Panicked(f"{message}; its state cannot be trusted any more, and the node stops") from error


def blamed(chunks: Iterable[bytes], what: Callable[[], str]) -> Iterator[bytes]:
    """Return `chunks`, which the state machine makes, with its exceptions said to be its."""
    with BlamingTheStateMachine(what):
        yield from chunks
