"""A node's directory for the commands to work on."""

from __future__ import annotations

import pytest

from tests.commands.directories import make_directory


@pytest.fixture
def directory(tmp_path):
    """As it is when the node has stopped."""
    return make_directory(tmp_path / "n1")
