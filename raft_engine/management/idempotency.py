"""Answering a repeated request with the reply of the first: what an Idempotency-Key means, except for key-value writes.

Only successes are kept. A refusal changed nothing, so a repeat of it is a fresh attempt; and where the outcome is not known,
every action here is safe to ask for again. The memory is this node's and ends with the process: a client that repeats a
request at another node is helped by `expect`. Key-value writes are different: their key travels in the log entry.
Source: IETF draft "The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Final

from raft_engine.management.exchange import Reply
from raft_engine.management.problems import ProblemError

REPLIES_MAX: Final = 1024
_REPLAYED: Final = (b"idempotency-replayed", b"true")


class Replays:
    """The replies of the latest successful requests that had a key."""

    def __init__(self) -> None:
        self._running: dict[bytes, bytes] = {}
        self._replies: OrderedDict[bytes, tuple[bytes, Reply]] = OrderedDict()

    def begin(self, key: bytes, *what: bytes) -> Reply | None:
        """Return the first reply if this request was answered before; otherwise it is now under way until `end`.

        Args:
            what: everything that tells this request from another one.
        Raises: ProblemError: the same key came with another request, or the first one is still under way.
        """
        fingerprint = sha256(b"\0".join(sha256(part).digest() for part in what)).digest()
        known = self._running.get(key)
        reply: Reply | None = None
        if known is None and key in self._replies:
            known, reply = self._replies[key]
        if known is None:
            self._running[key] = fingerprint
            return None
        if known != fingerprint:
            raise ProblemError(
                "idempotency_key_reused",
                "this Idempotency-Key came with another request before",
                hint="draw a new key for each new request",
            )
        if reply is None:
            raise ProblemError("idempotency_key_in_use", "the first request with this Idempotency-Key is still under way")
        self._replies.move_to_end(key)
        return reply._replace(headers=(*reply.headers, _REPLAYED))

    def end(self, key: bytes, reply: Reply | None) -> None:
        """The request is over; `reply` is kept if it was a success, None: it failed."""
        fingerprint = self._running.pop(key)
        if reply is None or reply.status >= 300:
            return
        self._replies[key] = (fingerprint, reply)
        if len(self._replies) > REPLIES_MAX:
            self._replies.popitem(last=False)
