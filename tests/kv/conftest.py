"""No deadline of hypothesis, as a busy machine is no failure; and threads that take turns at every chance."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def eager_threads():
    """Let threads take turns as often as possible, so that a missing lock shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
