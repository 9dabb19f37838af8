"""A loop around a scripted engine."""

from __future__ import annotations

import pytest

from raft_engine.config import Config
from raft_engine.runtime.loop import EngineLoop
from raft_engine.storage.interface import LogStorage
from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.transport.local import LocalNetwork, LocalTransport
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import StoredMembership
from tests.runtime.cluster import Words, peer
from tests.runtime.scripted import ScriptedEngine


@pytest.fixture
async def made():
    loops = []

    def make(
        engine: ScriptedEngine,
        config: Config | None = None,
        log: LogStorage | None = None,
        transport: LocalTransport | None = None,
    ) -> EngineLoop:
        loop = EngineLoop(
            engine,
            config=config or Config(),
            log=log or MemoryLog(),
            snapshots=MemorySnapshots(),
            state_machine=Words(),
            transport=transport or LocalTransport(LocalNetwork(), peer(1), "n1:1"),
            last_index=0,
            applied=BEFORE_LOG,
            membership=StoredMembership(),
            ended=lambda: None,
        )
        loops.append(loop)
        loop.start()
        return loop

    yield make
    for loop in loops:
        loop.stop("the test is over")
        loop.close()
