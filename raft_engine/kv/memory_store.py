"""The key-value store in memory: for data that fits, and where every microsecond counts.

It begins empty and is filled from the newest snapshot and the entries behind it, so a start takes as long as reading those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, takewhile

from raft_engine.kv.sorted_keys import SortedKeys
from raft_engine.kv.store import REMEMBERED_MAX, KeyValueStore, Row
from raft_engine.kv.stream import decode_state, encode_state
from raft_engine.kv.views import Item, Overlays, Remembered, StateView
from raft_engine.types.log_id import BEFORE_LOG, LogId


class MemoryStore(KeyValueStore):
    """A dictionary of items beside the sorted list of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self._items: dict[bytes, Item | None] = {}
        """None: being deleted by the entry that is being applied."""
        self._keys = SortedKeys()
        self._remembered: dict[bytes, Remembered] = {}
        self._remembered_in_order: deque[Remembered] = deque()
        self._overlays = Overlays()
        self._data_bytes = 0

    # --- StateMachine -----------------------------------------------------------------------------------------------

    def applied(self) -> LogId:
        """Nothing survives a restart by itself."""
        return BEFORE_LOG

    def snapshot(self) -> Iterator[bytes]:
        return encode_state(self._view(self.last_applied))

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        state = decode_state(chunks, last_log_id)
        with self._gate:
            # Living views keep the old dict, which nobody changes any more.
            self._items = state.items
            self._keys = SortedKeys(state.keys)
            self._remembered = {known.key: known for known in state.remembered}
            self._remembered_in_order = deque(state.remembered)
            self._overlays = Overlays()
            self.last_applied = last_log_id
            self._data_bytes = sum(map(len, state.keys)) + sum(len(item[0]) for item in state.items.values() if item)

    def close(self) -> None:
        self._digests.close()

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> Item | None:
        return self._items.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[Row], bytes | None]:
        assert limit >= 1
        from_prefix = after < prefix
        with self._gate:
            candidates = self._keys.following(prefix if from_prefix else after, inclusive=from_prefix)
            keys = list(islice(takewhile(lambda key: key.startswith(prefix), candidates), limit + 1))
            items = [(key, *item) for key in keys[:limit] if (item := self._items[key])]
        return items, keys[limit - 1] if len(keys) > limit else None

    @property
    def key_count(self) -> int:
        return len(self._items)

    @property
    def data_bytes(self) -> int:
        return self._data_bytes

    @property
    def remembered_count(self) -> int:
        return len(self._remembered)

    @property
    def view_count(self) -> int:
        return len(self._overlays.living)

    def _view(self, last_applied: LogId) -> StateView:
        return StateView(last_applied, self._items, self._keys.frozen(), list(self._remembered_in_order), self._overlays)

    # --- where the keys are -----------------------------------------------------------------------------------------

    def _find(self, key: bytes) -> Item | None:
        return self._items.get(key)

    def _change(self, changes: Mapping[bytes, Item | None]) -> None:
        gone = [key for key, item in changes.items() if self._note_change(key, item)]
        self._items.update(changes)  # one step: keys and values are plain bytes, so no other thread can come between
        for key in gone:
            del self._items[key]

    def _note_change(self, key: bytes, item: Item | None) -> bool:
        """Keep the old item for living views, and the order and size right; return whether the key must go."""
        old = self._items.get(key)
        if old is None:
            if item is not None:
                self._keys.add(key)
                self._data_bytes += len(key) + len(item[0])
        else:
            if self._overlays.living:
                self._overlays.keep(key, old)
            if item is None:
                self._keys.remove(key)
                self._data_bytes -= len(key) + len(old[0])
            else:
                self._data_bytes += len(item[0]) - len(old[0])
        return item is None

    def _recall(self, key: bytes) -> Remembered | None:
        return self._remembered.get(key)

    def _remember(self, known: Remembered) -> None:
        self._remembered[known.key] = known
        self._remembered_in_order.append(known)
        if len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[self._remembered_in_order.popleft().key]
