"""An engine that follows a script, for tests of what is around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raft_engine.core.commands import Command
from raft_engine.core.events import Event, Ticked
from raft_engine.types.ids import Term
from raft_engine.types.metrics import RaftMetrics, ServerState
from tests.runtime.cluster import peer


class ScriptedEngine:
    """Keeps what it is told; `answer` says what it asks for."""

    def __init__(self, answer: Callable[[Event], list[Command]] = lambda _: []) -> None:
        self.told: list[tuple[Event, float]] = []
        self.term = 1
        self._answer = answer

    def start(self, now: float) -> list[Command]:
        return []

    def handle(self, event: Event, now: float) -> list[Command]:
        if not isinstance(event, Ticked):
            self.told.append((event, now))
        return self._answer(event)

    def metrics(self, now: float) -> RaftMetrics:
        return RaftMetrics(me=peer(1), state=ServerState.FOLLOWER, term=Term(self.term), last_quorum_acked_ms_ago=now)

    def events(self) -> list[Event]:
        return [event for event, _ in self.told]


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
