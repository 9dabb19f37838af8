"""Both kinds of store; no deadline of hypothesis, as a busy machine is no failure; and threads that take turns at every chance."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.kv.entries import STORES

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("untimed")


@pytest.fixture(autouse=True, params=["memory", "disk"])
def kind(request, tmp_path):
    """Every test of this room is run against both stores."""
    STORES.kind, STORES.directory = request.param, tmp_path
    yield request.param
    STORES.close()


@pytest.fixture
def eager_threads():
    """Let threads take turns as often as possible, so that a missing lock shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
