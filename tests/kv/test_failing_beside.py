"""A node at rest whose state machine cannot be written any more."""

from __future__ import annotations

import asyncio

from raft_engine.kv.commands import encode_put
from raft_engine.kv.disk_store import DiskStore
from raft_engine.runtime.embed import open_raft
from raft_engine.storage.interface import WorksBeside
from tests.ports import free_ports


async def test_it_ends_at_once_though_nothing_more_is_applied(tmp_path):
    store = DiskStore(tmp_path / "sm", write_after_s=0.001)
    assert isinstance(store, WorksBeside)
    [port] = free_ports(1)
    raft = await open_raft(tmp_path / "node", node_id=1, members={1: f"127.0.0.1:{port}"}, state_machine=store)
    await raft.wait(30).leader()
    await asyncio.to_thread(store.flush)
    store._now.database._writer.execute("PRAGMA max_page_count = 1")
    await raft.client_write(encode_put(b"big", bytes(100_000)))
    await raft.wait_over()
    assert "SQLITE_FULL" in str(raft.fatal)
    await raft.shutdown()
    store.close()
