"""Every decoder answers or refuses whatever it is given; and a decoder that does not is found."""

from __future__ import annotations

import pytest

from raft_engine.errors import Damaged, StorageError
from raft_engine.storage.identity import decode_identity
from raft_engine.storage.retiring import Wipe, decode_plan
from raft_engine.storage.segment_format import SEGMENT_HEADER_BYTES
from raft_engine.storage.segment_seal import SEAL_BYTES
from raft_engine.testing import fuzz as harness
from raft_engine.testing.fuzz import FuzzFailure, Target, fuzz, input_of
from raft_engine.testing.fuzz_targets import TARGETS

INPUTS_EACH = 8_000


def target(read, samples=(b"sound sample of some bytes",), **more) -> Target:
    return Target("made up", samples, read, (ValueError,), **more)


class Certain:
    """Chance that always does what it may."""

    def random(self) -> float:
        return 0.0


def refuse_everything(data: bytes) -> None:
    raise ValueError


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_answers_or_raises_an_error_of_ours(name):
    understood = fuzz(TARGETS[name], 0, INPUTS_EACH)
    assert understood > INPUTS_EACH / 20, "the inputs do not get past the first checks"


def test_there_are_as_many_inputs_as_the_goal_says():
    assert INPUTS_EACH * len(TARGETS) >= 100_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_samples_are_sound(name):
    for sample in TARGETS[name].samples:
        TARGETS[name].read(sample)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_put_right_is_what_was_right_before(name):
    """Otherwise nothing behind a checksum would be reached."""
    repair = TARGETS[name].repair
    if repair is None:
        return

    assert [repair(sample, Certain()) for sample in TARGETS[name].samples] == list(TARGETS[name].samples)


# --- the harness ---------------------------------------------------------------------------------------------------------


def test_an_input_is_the_same_again():
    inputs = [input_of(TARGETS["frame"], number) for number in range(50)]
    assert inputs == [input_of(TARGETS["frame"], number) for number in range(50)]
    assert len(set(inputs)) > 30


def test_a_foreign_error_is_found_and_its_input_is_shown():
    with pytest.raises(FuzzFailure, match=r"made up, input \d+: ZeroDivisionError: .*\n  \d+ bytes: [0-9a-f]+"):
        fuzz(target(lambda data: 1 // (len(data) % 7)), 0, 1000)


def test_a_checksum_that_is_not_looked_at_is_found():
    def read(data: bytes) -> None:
        found = decode_identity(data, "file")
        assert found.node_id == 1, "an altered identity was believed"

    broken = Target("broken", TARGETS["identity"].samples, read, (StorageError,), TARGETS["identity"].repair)
    with pytest.raises(FuzzFailure, match="an altered identity was believed"):
        fuzz(broken, 0, 20_000)


def test_memory_taken_on_a_strangers_word_is_found():
    with pytest.raises(FuzzFailure, match="bytes of memory were taken"):
        fuzz(target(lambda data: bytes(50_000_000)), 0, 100)


def test_a_decoder_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr(harness, "BATCH_S_MAX", 0.2)

    def read(data: bytes) -> None:
        while True:
            pass

    with pytest.raises(FuzzFailure, match=r"was not read in 0\.2 s"):
        fuzz(target(read), 0, 10)


def test_refusing_everything_understands_nothing():
    assert fuzz(target(refuse_everything), 0, 100) == 0


# --- what was found, and mended ------------------------------------------------------------------------------------------


def with_bytes(name: str, old: bytes, new: bytes) -> bytes:
    """Return a decoder's first sample with some bytes replaced and its checksums right."""
    found = TARGETS[name]
    assert old in found.samples[0]
    return found.repair(found.samples[0].replace(old, new, 1), Certain())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("segment", b"0001", b"\xff001"),
        ("snapshot", b"0001", b"\xff001"),
        ("segment index", b"0001", b"\xff001"),
        ("hard state", b"rejoin", b"\xffejoin"),
        ("identity", b'"c1"', b'"\xff1"'),
        ("identity", b'"c1"', b"[" * 5000),
        ("hello", b'"c1"', b'"\xff1"'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_text_that_is_no_text_and_endless_nesting_are_damage(name, old, new):
    try:
        TARGETS[name].read(with_bytes(name, old, new))
    except TARGETS[name].errors:
        return
    assert name == "segment index", "an index that cannot be read is made anew"


@pytest.mark.parametrize(
    ("offset", "value", "message"), [(8, 0, "record version 0 was never one"), (9, 9, "unknown entry kind 9")]
)
def test_a_record_that_could_not_be_read_later_is_no_record_of_a_segment(offset, value, message):
    data = bytearray(TARGETS["segment"].samples[0])
    data[SEGMENT_HEADER_BYTES + SEAL_BYTES + offset] = value
    with pytest.raises(Damaged, match=message):
        TARGETS["segment"].read(TARGETS["segment"].repair(bytes(data), Certain()))


@pytest.mark.parametrize("name", ["../elsewhere", "log", "retired-2026/x"])
def test_a_plan_that_leads_elsewhere_is_damage(name):
    plan = (
        b'{"retired":"%s","recovery":{"until":{"term":1,"node_id":1,"index":9},"reason":""},"before":null}' % name.encode()
    )
    with pytest.raises(Damaged, match="moves what no wipe moves"):
        decode_plan(plan, Wipe, "wipe.json")
