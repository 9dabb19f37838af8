"""The keys of a store in order, always ready to be listed.

Buckets of at most 1,000 keys and a list of their upper ends: finding is two bisections, adding moves at most one bucket. A
frozen copy costs one pointer per bucket, because a bucket that a copy holds is duplicated before it is changed. So neither a
list request nor a snapshot ever sorts a million keys while others wait.
Source: the load-factor lists of the sortedcontainers package.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Final

BUCKET_KEYS_MAX: Final = 1000
_FILL: Final = BUCKET_KEYS_MAX // 2


class SortedKeys:
    """A sorted set of keys.

    Invariant: no bucket is empty; no key of bucket i is above `_uppers[i]`, every key of the next bucket is.
    """

    def __init__(self, ascending: Sequence[bytes] = ()) -> None:
        self._buckets = [list(ascending[start : start + _FILL]) for start in range(0, len(ascending), _FILL)]
        self._uppers = [bucket[-1] for bucket in self._buckets]
        self._is_shared = [False] * len(self._buckets)

    def add(self, key: bytes) -> None:
        """Add a key that is not there."""
        i = bisect_left(self._uppers, key)
        if i == len(self._uppers):
            if not i:
                self._buckets, self._uppers, self._is_shared = [[key]], [key], [False]
                return
            i -= 1
            self._uppers[i] = key
        bucket = self._own(i)
        insort(bucket, key)
        if len(bucket) > BUCKET_KEYS_MAX:
            self._buckets[i : i + 1] = [bucket[:_FILL], bucket[_FILL:]]
            self._uppers.insert(i, bucket[_FILL - 1])
            self._is_shared.insert(i, False)

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        i = bisect_left(self._uppers, key)
        bucket = self._own(i)
        position = bisect_left(bucket, key)
        assert bucket[position] == key
        del bucket[position]
        if not bucket:
            del self._buckets[i], self._uppers[i], self._is_shared[i]

    def _own(self, i: int) -> list[bytes]:
        """Return bucket `i`, which may be changed now."""
        if self._is_shared[i]:
            self._buckets[i] = self._buckets[i][:]
            self._is_shared[i] = False
        return self._buckets[i]

    def frozen(self) -> tuple[list[bytes], ...]:
        """Return the buckets as they are now; they will not change any more."""
        self._is_shared = [True] * len(self._buckets)
        return tuple(self._buckets)

    def following(self, start: bytes, *, inclusive: bool) -> Iterator[bytes]:
        """Yield the keys from `start` on; must not be changed meanwhile."""
        i = bisect_left(self._uppers, start)
        if i == len(self._uppers):
            return
        bucket = self._buckets[i]
        yield from bucket[bisect_left(bucket, start) if inclusive else bisect_right(bucket, start) :]
        for bucket in self._buckets[i + 1 :]:
            yield from bucket
