"""Both event loops a node may run on, and no deadline of hypothesis: a busy machine is no failure."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    """Run every asynchronous test of this folder on both."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
