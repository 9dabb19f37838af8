"""One number for each way to fail."""

from __future__ import annotations

import pytest

from raft_engine.commands.exit_codes import exit_code
from raft_engine.errors import (
    ConfigError,
    Damaged,
    DirectoryLocked,
    ExpectationFailed,
    NewerFormat,
    NoSuchDirectory,
    RaftError,
    StorageError,
    StorageFailed,
    TransportError,
    WouldLose,
    WrongDirectory,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RaftError(""), 1),
        (ConfigError(""), 3),
        (TransportError(""), 3),
        (StorageError("", path=""), 4),
        (StorageFailed(""), 4),
        (WrongDirectory("", path=""), 4),
        (NewerFormat("", path=""), 4),
        (WouldLose("", path=""), 5),
        (DirectoryLocked("", path=""), 6),
        (ExpectationFailed("", path=""), 6),
        (NoSuchDirectory("", path=""), 13),
        (Damaged("", path=""), 14),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_has_its_code(error, code):
    assert exit_code(error) == code
