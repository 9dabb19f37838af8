"""A fake node, and a client that talks to its endpoint without sockets."""

from __future__ import annotations

import httpx
import pytest

from raft_engine.management.app import ManagementApp
from tests.management.fakes import FakeNode


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
async def app(node):
    app = ManagementApp(node)
    yield app
    await app.members.close()


@pytest.fixture
async def client(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver") as client:
        yield client
