"""How fast snapshots go to one target: an average in bytes per second, so that shipping one leaves room for everything else.

A chunk is sent when those before it have had their time. Chunks shrink with the rate, so that each is sent well before the
leader would think it lost.
Source: own design; etcd and openraft leave this to the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raft_engine.config import Config

CHUNKS_PER_TIMEOUT = 8
"""Chunks that a paced target gets within `install_snapshot_timeout_ms`: an answer is due long before that is over."""


class Pace:
    """One target's share. Used on the event loop."""

    def __init__(self, config: Config) -> None:
        rate = config.snapshot_send_bytes_per_s
        self._bytes_per_s = rate
        self._free_at = 0.0
        self.chunk_bytes = config.snapshot_max_chunk_size_bytes
        """How much to send at once."""
        if rate:
            share = rate * config.install_snapshot_timeout_ms // 1000 // CHUNKS_PER_TIMEOUT
            self.chunk_bytes = max(1, min(self.chunk_bytes, share))

    def in_time(self, size: int, send: Callable[[], None]) -> None:
        """Call `send` as soon as what was sent before has had its time."""
        if not self._bytes_per_s:
            send()
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._bytes_per_s
        if begin <= now:
            send()
        else:
            loop.call_later(begin - now, send)
