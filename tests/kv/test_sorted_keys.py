"""Sorted keys: always in order, and a frozen copy never changes."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from raft_engine.kv.sorted_keys import BUCKET_KEYS_MAX, SortedKeys

MANY = [b"%06d" % number for number in range(3 * BUCKET_KEYS_MAX)]


def listed(keys: SortedKeys) -> list[bytes]:
    return list(keys.following(b"", inclusive=True))


def test_keys_come_in_order_however_they_were_added():
    keys = SortedKeys()
    for key in MANY[1::2] + MANY[0::2][::-1]:
        keys.add(key)
    assert listed(keys) == MANY


def test_ascending_keys_can_be_taken_over_at_once():
    assert listed(SortedKeys(MANY)) == MANY


def test_removing_every_key_leaves_nothing_and_keys_can_come_back():
    keys = SortedKeys(MANY)
    for key in MANY:
        keys.remove(key)
    assert listed(keys) == []
    keys.add(b"again")
    assert listed(keys) == [b"again"]


def test_a_frozen_copy_does_not_see_later_changes():
    keys = SortedKeys(MANY)
    frozen = keys.frozen()
    for key in MANY[::3]:
        keys.remove(key)
    for key in MANY[: 2 * BUCKET_KEYS_MAX]:
        keys.add(key + b"+")
    assert list(chain.from_iterable(frozen)) == MANY


def test_a_bucket_is_copied_only_once_after_freezing():
    keys = SortedKeys(MANY)
    first = keys.frozen()
    keys.add(MANY[0] + b"+")
    second = keys.frozen()
    assert first[0] is not second[0]
    assert all(a is b for a, b in zip(first[1:], second[1:], strict=True))


@given(
    st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=2)), max_size=200),
    st.binary(max_size=2),
    st.booleans(),
)
def test_following_agrees_with_a_sorted_set(changes, start, inclusive):
    keys, model = SortedKeys(), set()
    for adds, key in changes:
        if adds and key not in model:
            keys.add(key)
            model.add(key)
        elif not adds and key in model:
            keys.remove(key)
            model.remove(key)
    expected = [key for key in sorted(model) if key > start or (inclusive and key == start)]
    assert expected == list(keys.following(start, inclusive=inclusive))
