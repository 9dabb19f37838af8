"""Items that were read from the database, so that they are neither searched for nor verified again while it stays as it is.

Two generations: what is read goes into the younger one; when that is full it becomes the older one, and what was the older one
is forgotten unless it was read again meanwhile. So what is read often stays, at the price of a dictionary.
Nothing is ever replaced here: with a database that changed comes a new cache.
"""

from __future__ import annotations

from typing import Final

from raft_engine.kv.views import Item

GENERATION_BYTES: Final = 2 * 1024 * 1024
"""Two of them hold 7,000 values of 256 bytes; a node shall do with 80 MiB altogether."""
ITEM_BYTES: Final = 300
"""What an item costs beside its key and value."""


class Absent:
    """Nothing is known here, as opposed to: there is no such key."""


ABSENT: Final = Absent()


class ReadCache:
    """What a database was found to hold; None: no such key. Any thread may read and keep, beside any other."""

    __slots__ = ("_older", "_size_bytes", "_younger")

    def __init__(self) -> None:
        self._younger: dict[bytes, Item | None] = {}
        self._older: dict[bytes, Item | None] = {}
        self._size_bytes = 0

    def get(self, key: bytes) -> Item | Absent | None:
        item = self._younger.get(key, ABSENT)
        if item is ABSENT:
            item = self._older.get(key, ABSENT)
            if not isinstance(item, Absent):
                self.keep(key, item)
        return item

    def keep(self, key: bytes, item: Item | None) -> None:
        self._size_bytes += ITEM_BYTES + len(key) + (len(item[0]) if item is not None else 0)
        self._younger[key] = item
        if self._size_bytes > GENERATION_BYTES:
            # Two threads may both come here: then something is forgotten, and read again.
            self._older, self._younger, self._size_bytes = self._younger, {}, 0
