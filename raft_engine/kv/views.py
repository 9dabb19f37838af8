"""Looking at a store as it was at one moment, while it goes on changing.

Of a store in memory a view takes the sorted keys of that moment and registers an overlay, an empty dict. From then on the store, before it
changes or deletes a key for the first time, puts the old item into the overlay of every view. A reader in another thread
reads the dict first and then lets the overlay win. That is right without a lock: if the reader saw the dict before the
change, it has the old item, and the overlay can only hold the same one; if it saw it after the change, the overlay was
filled before that, and the reader looks there afterwards. Single dict operations are atomic, and all of this rests on that.

A view costs memory for what changes while it lives; it is released when it is closed or nobody refers to it any more.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from raft_engine.kv.commands import Applied, ConditionFailed
from raft_engine.types.log_id import LogId

Item = tuple[bytes, int]
"""A value and its revision."""


class Remembered(NamedTuple):
    """What came of the command with an idempotency key, and which command it was."""

    key: bytes
    fingerprint: bytes
    result: Applied | ConditionFailed


class View(Protocol):
    """A store as it was after `last_applied`; read by one reader, in any thread, while the store goes on."""

    @property
    def last_applied(self) -> LogId: ...

    @property
    def key_count(self) -> int: ...

    @property
    def remembered_count(self) -> int: ...

    def rows(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield (key, value, revision) in order of the keys."""

    def remembered(self) -> Iterator[Remembered]:
        """Yield them in the order in which the keys came."""

    def close(self) -> None:
        """Let go of that moment; the view must not be read again."""


class Overlays:
    """The overlays of the living views of one dict of items. Views come and go in any thread."""

    def __init__(self) -> None:
        self.living: dict[int, dict[bytes, Item]] = {}
        self._numbers = itertools.count()

    def keep(self, key: bytes, old: Item) -> None:
        """`key` is about to be changed: every view that has not kept it yet keeps the old item."""
        for overlay in tuple(self.living.values()):
            overlay.setdefault(key, old)

    def register(self, view: StateView) -> weakref.finalize[[int, None], StateView]:
        """Begin to keep old items for `view`; return what ends it."""
        number = next(self._numbers)
        self.living[number] = view.overlay
        release = weakref.finalize(view, self.living.pop, number, None)
        release.atexit = False
        return release


class StateView:
    """The store as it was after `last_applied`. May be read in another thread, by one reader at a time."""

    def __init__(
        self,
        last_applied: LogId,
        items: Mapping[bytes, Item | None],
        buckets: tuple[Sequence[bytes], ...],
        remembered: Sequence[Remembered],
        overlays: Overlays,
    ) -> None:
        self.last_applied = last_applied
        self._remembered = remembered
        self.overlay: dict[bytes, Item] = {}
        self._items = items
        self._buckets = buckets
        self._release = overlays.register(self)

    @property
    def key_count(self) -> int:
        return sum(map(len, self._buckets))

    @property
    def remembered_count(self) -> int:
        return len(self._remembered)

    def remembered(self) -> Iterator[Remembered]:
        return iter(self._remembered)

    def rows(self) -> Iterator[tuple[bytes, bytes, int]]:
        now = self._items.get
        kept = self.overlay.get
        for bucket in self._buckets:
            for key in bucket:
                item = now(key)  # the dict first, then the overlay: see above
                item = kept(key, item)
                assert item is not None, "a key of the view was lost"
                yield key, item[0], item[1]

    def close(self) -> None:
        self._release()
        self._buckets = ()
