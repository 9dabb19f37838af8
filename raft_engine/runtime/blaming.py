"""Whose exception it is, where the state machine is called: the engine's word for it names what was asked of the state machine.

Never compiled: mypyc drops the cause of an exception (`raise … from`), and here the cause is the story.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from raft_engine.errors import Fatal, Panicked, SnapshotDeferred, StorageError


def blame_the_state_machine(error: Exception, what: Callable[[], str]) -> None:
    """Say whose exception it is and at what; one of a disk is left as it is.

    Raises: Panicked.
    """
    if not isinstance(error, (Fatal, StorageError, OSError, SnapshotDeferred)):
        message = f"the state machine raised {type(error).__name__} on {what()}: {error}"
        raise Panicked(f"{message}; its state cannot be trusted any more, and the node stops") from error


@contextlib.contextmanager
def blaming_the_state_machine(what: Callable[[], str]) -> Iterator[None]:
    """The same around several calls. Raises: Panicked."""
    try:
        yield
    except Exception as error:
        blame_the_state_machine(error, what)
        raise


def blamed(chunks: Iterable[bytes], what: Callable[[], str]) -> Iterator[bytes]:
    """Return `chunks`, which the state machine makes, with its exceptions said to be its."""
    with blaming_the_state_machine(what):
        yield from chunks
