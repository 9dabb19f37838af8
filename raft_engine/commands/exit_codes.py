"""Which number `raft-engine` ends with: one table, the numbers are those of raftctl.

A service manager wants one number for "starting again will not help", so `serve` ends with 4 whatever is the matter with
its directory; commands that look into one or change one say which.
Source: public contract, section 5 (exit codes).
"""

from __future__ import annotations

from typing import Final

from raft_engine.errors import (
    ConfigError,
    Damaged,
    DirectoryLocked,
    ExpectationFailed,
    NoSuchDirectory,
    StorageError,
    StorageFailed,
    TransportError,
    WouldLose,
)

DONE: Final = 0
FAILED: Final = 1
"""A bug."""
USAGE: Final = 2
SETTINGS: Final = 3
DIRECTORY: Final = 4
REFUSED: Final = 5
CONFLICT: Final = 6
NOT_FOUND: Final = 13
DAMAGED: Final = 14
SAID_NO: Final = 20
INTERRUPTED: Final = 130
READER_GONE: Final = 141
"""What a shell makes of a program that ends as nobody reads its output any more."""

_BY_ERROR: Final[tuple[tuple[type[Exception], int], ...]] = (
    (ConfigError, SETTINGS),
    (TransportError, SETTINGS),
    (DirectoryLocked, CONFLICT),
    (ExpectationFailed, CONFLICT),
    (WouldLose, REFUSED),
    (NoSuchDirectory, NOT_FOUND),
    (Damaged, DAMAGED),
    (StorageError, DIRECTORY),
    (StorageFailed, DIRECTORY),
)
"""The first line that fits counts."""


def exit_code(error: Exception) -> int:
    """Return what a command ends with because of `error`."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILED)
