"""Following what happens on all nodes at once: a thread a node that listens, one queue that all of them fill.

A node that goes away is an event, and so is its coming back; what it did meanwhile is told by itself when it still knows it.
Source: contract sections 3 (events) and 5 (watch).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from raftctl.client import ClusterClient
from raftctl.errors import CtlError
from raftctl.events import RawEvent
from raftctl.output.text import listed, printable

KINDS: Final = (
    "leader",
    "term",
    "membership",
    "replication",
    "snapshot",
    "purge",
    "revert",
    "alarm",
    "status",
    "connection",
)
"""Those of the endpoint, the status with which a stream begins, and the coming and going of the stream itself."""
RETRY_S: Final = 1.0
_QUEUED_MAX: Final = 10_000


class Event(msgspec.Struct, frozen=True):
    """Something that happened on a node; `data` as the node worded it."""

    node: int
    kind: str
    event_id: str | None
    data: Mapping[str, Any]


class Watch:
    """Listens to nodes; iterate over `events`."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._queue: queue.Queue[tuple[int, RawEvent | str | None]] = queue.Queue(_QUEUED_MAX)
        self._listening: set[int] = set()
        self._lost: set[int] = set()
        self._closed = threading.Event()

    def close(self) -> None:
        """Listen to nobody any more; a thread that waits for a node's next word ends with the program."""
        self._closed.set()

    def listen_to(self, node: int) -> None:
        """Begin with one more node."""
        if node not in self._listening:
            self._listening.add(node)
            threading.Thread(target=self._listen, args=(node,), daemon=True, name=f"watch-{node}").start()

    def _listen(self, node: int) -> None:
        last_id: str | None = None
        while not self._closed.is_set():
            why = "the stream ended"
            try:
                for event in self._client.listen(node, last_id):
                    last_id = event.event_id or last_id
                    self._queue.put((node, event))
            except CtlError as error:
                why = error.message
            except ValueError as error:
                why = str(error)
            self._queue.put((node, why))
            self._closed.wait(RETRY_S)

    def events(self, deadline: float | None) -> Iterator[Event]:
        """Return what happens until `deadline` (of the monotonic clock; None: for ever)."""
        while True:
            try:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return
                node, said = self._queue.get(timeout=left_s)
            except queue.Empty:
                return
            yield from self._told(node, said)

    def _told(self, node: int, said: RawEvent | str | None) -> Iterator[Event]:
        if isinstance(said, RawEvent):
            if node in self._lost:
                self._lost.discard(node)
                yield Event(node, "connection", None, {"connected": True, "detail": "answers again"})
            data = _decoded(said.data)
            if said.kind == "membership":
                for member in map(int, data.get("nodes") or {}):
                    self.listen_to(member)
            yield Event(node, said.kind, said.event_id or None, data)
        elif node not in self._lost:
            self._lost.add(node)
            yield Event(node, "connection", None, {"connected": False, "detail": said})


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(data)
    except msgspec.MsgspecError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


# -- in words ------------------------------------------------------------------------------------------------------------


def sentence(event: Event) -> str:
    """Return what happened, on one line."""
    say = _SENTENCES.get(event.kind)
    return printable(say(event.data) if say is not None else str(dict(event.data)))


def _leader(data: Mapping[str, Any]) -> str:
    leads = f"node {data.get('leader')} leads term {data.get('term')}" if data.get("leader") else "knows no leader"
    return f"{leads}; is {data.get('state')}"


def _membership(data: Mapping[str, Any]) -> str:
    sets = " and ".join("{" + ",".join(map(str, config)) + "}" for config in data.get("configs") or [])
    learners = data.get("learners") or []
    with_learners = f", learners {listed(learners)}" if learners else ""
    return f"voters {sets or 'none'}{with_learners}{'' if data.get('committed', True) else ', not committed yet'}"


def _upto(data: Mapping[str, Any]) -> str:
    log_id = data.get("upto")
    return f"up to {log_id.get('index')}" if isinstance(log_id, dict) else "none"


def _alarm(data: Mapping[str, Any]) -> str:
    if not data.get("raised", True):
        return f"over: {data.get('code')}"
    hint = f" (mend it with: {data.get('hint')})" if data.get("hint") else ""
    return f"{data.get('code')}: {data.get('detail')}{hint}"


def _status(data: Mapping[str, Any]) -> str:
    applied = data.get("applied")
    index = applied.get("index") if isinstance(applied, dict) else 0
    return f"is {data.get('state')} in term {data.get('term')}, applied up to {index}"


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "leader": _leader,
    "term": lambda data: f"term {data.get('term')}",
    "membership": _membership,
    "replication": lambda data: f"to node {data.get('node')}: {data.get('state')}",
    "snapshot": _upto,
    "purge": _upto,
    "revert": lambda data: f"node {data.get('node')} {'may revert once' if data.get('armed') else 'may not revert'}",
    "alarm": _alarm,
    "status": _status,
    "connection": lambda data: str(data.get("detail")),
}
