"""How far one target is, as its leader sees it.

    PROBE      where the logs agree is not known: one request at a time
    REPLICATE  it is known: many requests in flight
    SNAPSHOT   the entries it needs are gone: a snapshot is on its way
    REVERTED   it lacks what it once acknowledged, and nobody allowed that: it counts for nothing until allowed

A session is a stretch of answers that belong together. Whenever what is in flight becomes meaningless (connection lost,
conflict, permission given) a new session begins and answers of older ones are void.
Source: dissertation 10.2.1; etcd `tracker/progress.go`; openraft `progress/entry/`; docs of the revert permission.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec

from raft_engine.types.ids import Millis, PeerId
from raft_engine.types.snapshot import SnapshotMeta

NEVER: Final = float("-inf")


class Mode(enum.Enum):
    """See the module's first lines."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"
    REVERTED = "reverted"


class Inflight(msgspec.Struct, gc=False):
    """One append request that was sent and not answered."""

    last_index: int
    sent_at: Millis


@dataclass(slots=True)
class Progress:
    """Invariant: matching < next; matching <= promised.

    matching: durable there, and counted. promised: the highest index it ever acknowledged to this leader; if it turns out
    to lack an entry at or below, its log was lost.
    """

    peer: PeerId
    session: int
    next: int
    mode: Mode = Mode.PROBE
    matching: int = 0
    promised: int = 0
    connected: bool = False
    failure: str = ""
    inflight: deque[Inflight] = field(default_factory=deque)
    committed_sent: int = 0
    acked_round: int = 0
    acked_at: Millis = NEVER
    """When the newest answered round was sent: from then on this target has followed nobody else."""
    heard_at: Millis | None = None
    armed_until: Millis | None = None
    replaced_by: str = ""
    rolled_back: str = ""
    """Why the process that answers there must not be taken for this node."""
    snapshot: SnapshotMeta | None = None
    snapshot_offset: int = 0
    snapshot_sent_at: Millis | None = None

    @property
    def counts(self) -> bool:
        """Whether its answers count for a quorum."""
        return self.mode is not Mode.REVERTED

    def is_armed(self, now: Millis) -> bool:
        return self.armed_until is not None and now < self.armed_until

    def has_room(self, inflight_max: int) -> bool:
        if self.mode is Mode.PROBE:
            return not self.inflight
        return self.mode is Mode.REPLICATE and len(self.inflight) < inflight_max

    def sent(self, last_index: int, now: Millis) -> None:
        """Note a request that ends at `last_index`."""
        self.inflight.append(Inflight(last_index, now))
        if self.mode is Mode.REPLICATE:
            self.next = last_index + 1

    def accept(self, matching: int) -> bool:
        """The target holds everything up to `matching`. Return whether that is news."""
        while self.inflight and self.inflight[0].last_index <= matching:
            self.inflight.popleft()
        if self.mode is Mode.PROBE and matching >= self.next - 1:
            self._enter(Mode.REPLICATE)
        news = matching > self.matching
        if news:
            self.matching = matching
        self.promised = max(self.promised, matching)
        self.next = max(self.next, matching + 1)
        return news

    def probe(self, session: int, next_index: int) -> None:
        """Begin a session that looks for the point where the logs agree."""
        self.session = session
        self._enter(Mode.PROBE)
        self.next = max(next_index, self.matching + 1)

    def ship(self, session: int, meta: SnapshotMeta) -> None:
        """Begin a session that ships a snapshot."""
        self.session = session
        self._enter(Mode.SNAPSHOT)
        self.snapshot = meta
        self.snapshot_offset = 0
        self.next = max(meta.last_log_id.index, self.matching) + 1

    def quarantine(self, session: int) -> None:
        """Its log was lost without permission: it counts for nothing."""
        self.session = session
        self._enter(Mode.REVERTED)
        self.matching = 0

    def forget(self, session: int) -> None:
        """The loss is allowed: nothing it ever acknowledged counts; look where it stands."""
        self.matching = 0
        self.promised = 0
        self.armed_until = None
        self.probe(session, self.next)

    def _enter(self, mode: Mode) -> None:
        self.mode = mode
        self.inflight.clear()
        self.snapshot = None
        self.snapshot_sent_at = None

    def __str__(self) -> str:
        return f"{self.peer} {self.mode.value} matching={self.matching} next={self.next} inflight={len(self.inflight)}"
