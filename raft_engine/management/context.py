"""What the handlers of one endpoint share: the node, what it was asked, and what is under way.

Source: own design.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from raft_engine.errors import RaftError
from raft_engine.management.control import NodeControl
from raft_engine.management.convert import expectation_of, picture, unmet_expectation
from raft_engine.management.exchange import HeaderList, standing_headers
from raft_engine.management.idempotency import Replays
from raft_engine.management.problems import ProblemError
from raft_engine.management.schema import ExpectBody
from raft_engine.runtime.raft import Raft
from raft_engine.types.outcomes import RefusalCode

_STANDING_MAX_AGE_S: Final = 0.01
"""A picture of the engine costs more than a read; the X-Raft headers of key-value replies may be this old."""
_STOPPED_POLL_S: Final = 0.1
"""A stopped engine tells nobody when it starts."""
_STOPPING_POLL_S: Final = 1.0
"""A long poll notices within this time that the endpoint stops."""


class Context:
    """One endpoint's state. Used on the event loop."""

    def __init__(self, node: NodeControl) -> None:
        self.node: Final = node
        self.lever: Final = asyncio.Lock()
        """Held by whatever stops, starts, wipes or initialises: one after the other."""
        self.replays: Final = Replays()
        self.requests: Final[Counter[tuple[str, str, int]]] = Counter()
        """Replies sent, by method, route (never the path itself) and status."""
        self.stopping = False
        self._engine_seen: Raft | None = None
        self._engines = 0
        self._standing: HeaderList = []
        self._standing_until = 0.0

    def raft(self) -> Raft:
        """Return the running engine.

        Raises: ProblemError: it was stopped, or it failed.
        """
        raft = self.node.raft
        fatal = self.node.fatal
        if fatal is not None:
            raise ProblemError("fatal", fatal, hint="read the node's log, mend the cause, restart the process")
        if raft is None:
            raise ProblemError(
                "raft_stopped",
                f"the Raft engine of node {self.node.node_id} is stopped",
                hint="POST /v1/node/start-raft starts it",
            )
        return raft

    def check_expectation(self, expect: ExpectBody | None) -> None:
        """Compare what the caller believes, for actions that the engine does not see.

        Raises: ProblemError: something is otherwise.
        """
        if expect is None:
            return
        unmet = unmet_expectation(expectation_of(expect), picture(self.node))
        if unmet is not None:
            raise ProblemError(RefusalCode.PRECONDITION_FAILED.value, unmet, hint="look again, then decide again")

    def standing(self, *, fresh: bool = False) -> HeaderList:
        """Return the headers every reply carries; all but X-Raft-Applied may be a few milliseconds old unless `fresh`."""
        now = asyncio.get_running_loop().time()
        if fresh or now >= self._standing_until:
            self._standing = standing_headers(picture(self.node))
            self._standing_until = now + _STANDING_MAX_AGE_S
        return [*self._standing, (b"x-raft-applied", b"%d" % self.node.store.last_applied.index)]

    def etag(self) -> str:
        """Return what names the present status; another one as soon as the engine or its picture is another."""
        raft = self.node.raft
        if raft is not self._engine_seen:
            self._engine_seen = raft
            self._engines += 1
        version = 0 if raft is None else raft.version
        end = "f" if self.node.fatal is not None else ""
        return f"{self.node.incarnation[:8]}-{self.node.boot_count}-{self._engines}-{version}{end}"

    async def wait_for_change(self, etag: str, wait_s: float) -> None:
        """Return when the status is not `etag` any more, the time is up, or the endpoint stops."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while self.etag() == etag and not self.stopping:
            left_s = deadline - loop.time()
            if left_s <= 0:
                return
            raft = self.node.raft
            if raft is None or self.node.fatal is not None:
                await asyncio.sleep(min(left_s, _STOPPED_POLL_S))
                continue
            try:
                await raft.wait_change(raft.version, min(left_s, _STOPPING_POLL_S))
            except RaftError:  # the engine ended meanwhile: the next look says so
                await asyncio.sleep(min(left_s, _STOPPED_POLL_S))
