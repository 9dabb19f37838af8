"""How fast snapshots go to one target, and in pieces of which size.

Without a limit, chunks are as small as the way allows: the loop that sends one does nothing else meanwhile (about 2 ms for 1 MiB), so they
are small where the answer comes soon, and grow where the way is long and small ones would leave it idle.
With a limit, an average in bytes per second, a chunk is sent when those before it have had their time. Chunks shrink with
the rate, so that each is sent well before the leader would think it lost.
Source: own design; etcd and openraft leave this to the application.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from raft_engine.config import Config

CHUNK_BYTES_MIN: Final = 128 * 1024
SOON_S: Final = 0.005
LATE_S: Final = 0.010
"""An answer within the first halves the next chunk, one after the second doubles it."""
CHUNKS_PER_TIMEOUT = 8
"""Chunks that a paced target gets within `install_snapshot_timeout_ms`: an answer is due long before that is over."""


class Pace:
    """One target's share. Used on the event loop."""

    def __init__(self, config: Config) -> None:
        rate = config.snapshot_send_bytes_per_s
        self._bytes_per_s = rate
        self._free_at = 0.0
        self._sent_at: float | None = None
        self._bytes_max = config.snapshot_max_chunk_size_bytes
        if rate:
            share = rate * config.install_snapshot_timeout_ms // 1000 // CHUNKS_PER_TIMEOUT
            self._bytes_max = max(1, min(self._bytes_max, share))
        self._bytes_min = self._chunk_bytes = min(CHUNK_BYTES_MIN, self._bytes_max)

    def next_chunk_bytes(self) -> int:
        """Return how much to send at once, now that what was sent before is answered."""
        if self._sent_at is not None:
            waited = time.monotonic() - self._sent_at
            if waited > LATE_S:
                self._chunk_bytes = min(2 * self._chunk_bytes, self._bytes_max)
            elif waited < SOON_S:
                self._chunk_bytes = max(self._chunk_bytes // 2, self._bytes_min)
        return self._chunk_bytes

    def in_time(self, size: int, send: Callable[[], None]) -> None:
        """Call `send` as soon as what was sent before has had its time."""
        now = time.monotonic()
        self._sent_at = begin = max(now, self._free_at)
        if self._bytes_per_s:
            self._free_at = begin + size / self._bytes_per_s
        if begin <= now:
            send()
        else:
            asyncio.get_running_loop().call_later(begin - now, send)
