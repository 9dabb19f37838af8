"""What happened on this node, as it happens: the stream of server-sent events.

Events are the differences between two statuses, so they say nothing that `/v1/status` would not have shown to somebody who
looked often enough, and they cost nothing until somebody listens. Each has a number; a listener that was cut off goes on
behind the last one it saw, or is told that some are missing and given the status instead.
Source: WHATWG HTML 9.2 (server-sent events); contract section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import msgspec

from raft_engine.management.context import Context
from raft_engine.management.convert import picture, status_body

KINDS: Final = ("leader", "term", "membership", "replication", "snapshot", "purge", "revert", "alarm")
KEPT_MAX: Final = 1024
"""Events that a listener may have missed; at some hundred bytes each."""
LOOK_EVERY_S: Final = 0.02
"""A busy node's status changes all the time; differences are taken at most so often."""
SIGN_OF_LIFE_S: Final = 15.0
"""A comment when nothing happens: proxies close silent connections after 30 s or more."""

Event = tuple[str, dict[str, Any]]


class EventLog:
    """The events of one node since somebody first listened. Used on the event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT_MAX)
        self._count = 0
        self._news = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        # Numbers of an earlier process mean nothing here.
        self._era = f"{context.node.incarnation[:8]}-{context.node.boot_count}"

    async def listen(self, last_id: str | None) -> AsyncIterator[bytes]:
        """Return the stream for one listener; it ends when the endpoint stops."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="events")
        seen = self._number(last_id)
        if seen is None or self._is_gone(seen):
            seen = self._count
            yield _encode(f"{self._era}-{seen}", "status", self._status())
        while not self._context.stopping:
            news = self._news
            missed = [text for number, text in self._kept if number > seen]
            if missed:
                seen = self._count
                yield b"".join(missed)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SIGN_OF_LIFE_S):
                    await news.wait()
                    continue
            yield b": nothing new\n\n"

    def _number(self, last_id: str | None) -> int | None:
        """Return the number of an event of this process; None: none of ours."""
        era, _, number = (last_id or "").rpartition("-")
        return int(number) if era == self._era and number.isdecimal() and int(number) <= self._count else None

    def _is_gone(self, seen: int) -> bool:
        return self._count - seen > len(self._kept)

    async def close(self) -> None:
        """End every stream. The context is stopping already."""
        self._wake()
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self) -> None:
        etag = self._context.etag()
        before = self._status()
        while True:
            await self._context.wait_for_change(etag, SIGN_OF_LIFE_S)
            etag = self._context.etag()  # before the status: what changes after it is waited for no further time
            now = self._status()
            for kind, data in differences(before, now):
                self._count += 1
                self._kept.append((self._count, _encode(f"{self._era}-{self._count}", kind, data)))
            if self._kept and self._kept[-1][0] == self._count and now != before:
                self._wake()
            before = now
            await asyncio.sleep(LOOK_EVERY_S)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = msgspec.to_builtins(status_body(self._context.node, picture(self._context.node)))
        return status


def _encode(number: str, kind: str, data: object) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (number.encode(), kind.encode(), msgspec.json.encode(data))


def differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[Event]:
    """Return what happened between two statuses, in the order of `KINDS`."""
    if (before["leader"], before["state"]) != (now["leader"], now["state"]):
        yield "leader", {"leader": now["leader"], "term": now["term"], "state": now["state"]}
    if before["term"] != now["term"]:
        yield "term", {"term": now["term"]}
    if before["membership"] != now["membership"]:
        yield "membership", now["membership"]
    yield from _per_target(before, now, "replication", lambda target: {"state": target["state"]})
    for kind, key in (("snapshot", "snapshot"), ("purge", "purged")):
        if before[key] != now[key]:
            yield kind, {"upto": now[key]}
    yield from _per_target(before, now, "revert", lambda target: {"armed": target["revert_armed"]})
    old, new = ([*map(_name, status["alarms"])] for status in (before, now))
    for alarm in now["alarms"]:
        if _name(alarm) not in old:
            yield "alarm", {"raised": True, **alarm}
    for alarm in before["alarms"]:
        if _name(alarm) not in new:
            yield "alarm", {"raised": False, **alarm}


def _name(alarm: dict[str, Any]) -> tuple[object, object]:
    return alarm["code"], alarm.get("node")


def _per_target(
    before: dict[str, Any], now: dict[str, Any], kind: str, look: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[Event]:
    old, new = before.get("replication") or {}, now.get("replication") or {}
    for node_id, target in new.items():
        if node_id not in old or look(old[node_id]) != look(target):
            shown = look(target)
            if node_id in old or any(value not in {False, None} for value in shown.values()):
                yield kind, {"node": int(node_id), **shown}
