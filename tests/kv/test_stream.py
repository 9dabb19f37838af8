"""Snapshots and digests: the same bytes for the same state, and nothing but a whole stream is restored."""

from __future__ import annotations

import itertools
import math
import time
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.errors import Damaged, NewerFormat
from raft_engine.kv import stream
from raft_engine.kv.commands import Applied, Condition, ConditionFailed, Put
from raft_engine.kv.store import KeyValueStore
from raft_engine.kv.stream import BLOCK_BYTES, BLOCK_ROWS_MAX
from raft_engine.types.log_id import LogId
from tests.kv.entries import LEADER, TERM, Log, contents, digest, new_store

BIG = bytes(BLOCK_BYTES * 2)


def restored(chunks, last_log_id) -> KeyValueStore:
    store = new_store()
    store.restore(chunks, last_log_id)
    return store


def copy_of(store: KeyValueStore) -> KeyValueStore:
    return restored(store.snapshot(), store.last_applied)


@pytest.fixture
def log() -> Log:
    log = Log()
    log.operate(*[Put(b"%05d" % i, b"value") for i in range(2500)])
    log.put(b"big", BIG, None, b"once")
    log.put(b"k", b"v", Condition(revision=9), b"refused")
    return log


def test_a_restored_store_has_the_same_items_size_position_and_digest(log):
    copy = copy_of(log.store)
    assert contents(log.store) == contents(copy)
    assert log.store.data_bytes == copy.data_bytes
    assert log.store.last_applied == copy.last_applied
    assert digest(log.store) == digest(copy)


def test_a_restored_store_knows_repeated_commands(log):
    copy = Log(copy_of(log.store))
    assert Applied(TERM, LEADER, 2, duplicate=True) == copy.put(b"big", BIG, None, b"once")
    assert ConditionFailed(b"k", None, duplicate=True) == copy.put(b"k", b"v", Condition(revision=9), b"refused")


def test_a_restored_store_goes_on_like_the_original(log):
    copy = Log(copy_of(log.store))
    for each in (log, copy):
        each.delete(b"00007")
        each.put(b"00007x", b"new", None, b"twice")
    assert contents(log.store) == contents(copy.store)
    assert digest(log.store) == digest(copy.store)


def test_restoring_replaces_what_was_there(log):
    other = Log()
    other.put(b"left over", b"v", None, b"forgotten")
    other.store.restore(log.store.snapshot(), log.store.last_applied)
    assert contents(log.store) == contents(other.store)
    assert other.store.remembered_count == 2


def test_an_empty_store_can_be_restored():
    copy = copy_of(new_store())
    assert contents(copy) == {}


def test_a_long_snapshot_lets_others_have_the_interpreter_again_and_again(log, monkeypatch):
    rests: list[float] = []
    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=time.monotonic, sleep=rests.append))
    list(log.store.snapshot())
    assert len(rests) == math.ceil(log.store.key_count / stream.ROWS_PER_REST)
    assert max(rests) <= stream.REST_MAX_S


def test_rests_are_several_times_as_long_as_the_rows_took(monkeypatch):
    rests: list[float] = []
    clock = itertools.count()  # each look at it is a second later
    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=clock.__next__, sleep=rests.append))
    monkeypatch.setattr(stream, "REST_MAX_S", 100)
    rows = [(b"%d" % number, b"", number) for number in range(3 * stream.ROWS_PER_REST)]
    assert rows == list(stream._unhurried(iter(rows)))
    assert [stream.RESTS] * 3 == rests


def test_blocks_are_bounded_in_bytes_and_rows(log):
    blocks = list(log.store.snapshot())
    assert max(map(len, blocks)) < BLOCK_BYTES + len(BIG)
    rows = [msgspec.msgpack.decode(block[4:])[1] for block in blocks[1:]]
    assert max(map(len, rows)) == BLOCK_ROWS_MAX


@given(st.lists(st.integers(1, 50), min_size=1))
def test_it_does_not_matter_where_the_stream_is_cut(sizes):
    log = Log()
    for i in range(20):
        log.put(b"%d" % i, bytes(i), None, b"%d" % i)
    whole = b"".join(log.store.snapshot())
    chunks, offset = [], 0
    while offset < len(whole):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(whole[offset : offset + size])
        offset += size
    assert contents(log.store) == contents(restored(chunks, log.store.last_applied))


# --- digests ---


def test_states_reached_in_different_ways_have_the_same_digest():
    straight, detour = Log(), Log()
    straight.put(b"a")
    straight.put(b"b")
    straight.append(b"rubbish")
    detour.put(b"a")
    detour.put(b"b")
    detour.delete(b"never there")
    assert digest(straight.store) == digest(detour.store)


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log.put(b"00001", b"other"),
        lambda log: log.put(b"00001", b"value"),  # the same value at another revision
        lambda log: log.delete(b"00001"),
        lambda log: log.put(b"new"),
        lambda log: log.put(b"00001", b"v", Condition(revision=99), b"remembered refusal"),
    ],
)
def test_every_replicated_difference_shows_in_the_digest(log, change):
    before = digest(log.store)
    change(log)
    assert before != digest(log.store)


# --- what is refused ---


def blocks_of(log: Log) -> list[bytes]:
    return list(log.store.snapshot())


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda blocks: blocks[:-1], "0 of 2 idempotency keys"),
        (lambda blocks: blocks[:1] + blocks[2:], "cut short"),
        (lambda blocks: [*blocks[:-1], blocks[-1][:-1]], "left over|truncated"),
        (lambda blocks: blocks[1:], "cannot be read"),
        (lambda blocks: [], "cannot be read"),
        (lambda blocks: [blocks[0], *blocks], "second head"),
        (lambda blocks: [blocks[0], blocks[2], blocks[1], *blocks[3:]], "not in order"),
        (lambda blocks: [*blocks, b"\xff\xff\xff\xff"], "impossible block length"),
        (lambda blocks: [blocks[0], b"\x01\x00\x00\x00\xc1", *blocks[1:]], "cannot be read"),
    ],
)
def test_a_spoilt_stream_is_refused_and_changes_nothing(log, spoil, complaint):
    other = Log()
    other.put(b"mine")
    before = digest(other.store)
    with pytest.raises(Damaged, match=complaint):
        other.store.restore(spoil(blocks_of(log)), log.store.last_applied)
    assert before == digest(other.store)


def test_a_stream_of_another_log_id_is_refused(log):
    with pytest.raises(Damaged, match=r"T3-N1\.3"):
        restored(log.store.snapshot(), LogId(TERM, LEADER, 99))


def test_a_stream_of_a_later_version_is_refused_as_such(log):
    body = msgspec.msgpack.encode([0, 2, "whatever", "that", "means"])
    with pytest.raises(NewerFormat, match="format 2"):
        restored([len(body).to_bytes(4, "little") + body], log.store.last_applied)


@given(st.data())
def test_a_damaged_stream_is_damaged_or_harmless_but_never_another_exception(data):
    log = Log()
    for i in range(5):
        log.put(b"%d" % i, b"v", None, b"%d" % i)
    stream = bytearray(b"".join(log.store.snapshot()))
    stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    store = new_store()
    try:
        store.restore([bytes(stream)], log.store.last_applied)
    except (Damaged, NewerFormat):
        assert store.key_count == 0
    else:
        assert store.key_count == 5
