"""Listening: the application on uvicorn, inside the node's own event loop.

Source: uvicorn `server.py`; contract section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import cast

import uvicorn

from raft_engine.errors import TransportError
from raft_engine.management.app import ManagementApp
from raft_engine.management.connection import KEEP_ALIVE_S, Connection, sweep
from raft_engine.management.control import NodeControl
from raft_engine.management.fast_lane import FastLane
from raft_engine.transport.acceptor import Acceptor

GRACE_S = 2
"""Requests under way have this long to finish when the endpoint stops; then they are answered 503."""
LAST_WORD_S = 1


class ManagementServer:
    """The endpoint of one node: `start`, then `stop`, once."""

    def __init__(self, node: NodeControl) -> None:
        self.app = ManagementApp(node)
        self._server = _Server(
            uvicorn.Config(
                self.app,
                http=Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level=logging.ERROR,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            ),
            self.app,
        )
        self._acceptor = Acceptor(self._server.make_connection)
        self._serving: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port (`port` 0: one that is free).

        Raises: TransportError: the address cannot be listened on.
        """
        self._serving = asyncio.create_task(self._server.serve([]), name="management")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((self._serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            ready.cancel()
            await self._serving
        try:
            _, bound = await self._acceptor.start(host, port)
        except OSError as error:
            await self.stop()
            reason = error.strerror or str(error)
            raise TransportError(
                f"the management endpoint cannot listen on {host}:{port}: {reason}; free the port or change listen.management"
            ) from error
        self._sweeping = asyncio.create_task(
            sweep(self._server.server_state.connections, asyncio.get_running_loop()), name="management-sweep"
        )
        return bound

    async def stop(self) -> None:
        """Stop listening, let requests under way finish for a moment, close all connections."""
        self.app.context.stopping = True
        await self._acceptor.close()
        await self.app.events.close()
        self._server.should_exit = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._serving is not None:
            await self._serving
        await self.app.close()


class _Server(uvicorn.Server):
    """uvicorn, except that the node keeps the signals and is told when the server listens."""

    def __init__(self, config: uvicorn.Config, app: ManagementApp) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._app = app
        self._lane: FastLane | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Nothing to listen on here: connections come from an `Acceptor`."""
        await super().startup(sockets)
        now = asyncio.get_running_loop().time
        self._lane = FastLane(self._app.context, lambda: self.server_state.default_headers, now)
        self.ready.set()

    def make_connection(self) -> asyncio.Protocol:
        state = self.lifespan.state
        return Connection(self._lane, config=self.config, server_state=self.server_state, app_state=state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cancelled: each still says so to its client
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORD_S)
        for connection in list(self.server_state.connections):
            cast("Connection", connection).give_up()
