"""Taking connections, and stopping to, without losing one in between.

asyncio's own server gives each accepted socket to a task of its own; one accepted in the turn in which the server is closed
belongs to nobody and stays open (CPython issue 109564). Here whoever closes waits for those tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 2048
_PER_TURN: Final = 64
"""Connections taken before others have their turn."""
_PAUSE_S: Final = 0.1
"""Without file descriptors or memory accepting goes on after this pause."""


class Acceptor:
    """One listening socket. Every connection gets a protocol from `make`, which is told by `connection_made`."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return host and port that are really listened on.

        Raises: OSError: the address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        self._listener = socket.create_server((str(address[0]), int(address[1])), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)
        bound = self._listener.getsockname()
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Stop listening. After this no protocol is made; those that were made are the caller's."""
        if self._loop is None or self._listener is None:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        while self._opening:
            await asyncio.wait(self._opening)

    def _accept(self) -> None:
        assert self._loop is not None
        assert self._listener is not None
        for _ in range(_PER_TURN):
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(_PAUSE_S, self._loop.add_reader, self._listener, self._accept)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._open(accepted))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        assert self._loop is not None
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._make, accepted)
