"""Commands: what may be proposed, and what every node makes of an entry's data."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.kv.commands import (
    ABSENT,
    CHECK,
    DELETE,
    IDEMPOTENCY_KEY_BYTES_MAX,
    KEY_BYTES_MAX,
    OPERATIONS_MAX,
    PUT,
    VALUE_BYTES_MAX,
    BadCommand,
    Check,
    Command,
    Condition,
    Delete,
    Put,
    WireOperation,
    decode_command,
    encode_delete,
    encode_operations,
    encode_put,
)

pack = msgspec.msgpack.encode


def test_a_put_is_one_operation_with_its_condition_and_idempotency_key():
    data = encode_put(b"k", b"v", Condition(revision=7), b"once")
    assert Command(1, b"once", [WireOperation(PUT, b"k", b"v", 7)]) == decode_command(data)


def test_a_delete_carries_no_value():
    assert Command(1, None, [WireOperation(DELETE, b"k", b"", None)]) == decode_command(encode_delete(b"k"))


def test_operations_keep_their_order_and_a_check_without_revision_asks_for_absence():
    data = encode_operations([Check(b"a", None), Check(b"b", 4), Put(b"a", b"1"), Delete(b"b", Condition(absent=True))])
    expected = [
        WireOperation(CHECK, b"a", b"", ABSENT),
        WireOperation(CHECK, b"b", b"", 4),
        WireOperation(PUT, b"a", b"1", None),
        WireOperation(DELETE, b"b", b"", ABSENT),
    ]
    assert Command(1, None, expected) == decode_command(data)


def test_revision_0_is_a_revision_that_no_key_has_and_not_absence():
    command = decode_command(encode_put(b"k", b"v", Condition(revision=0)))
    assert isinstance(command, Command)
    assert command.operations[0].condition == 0


def test_the_largest_key_value_and_idempotency_key_are_accepted():
    key, value, once = b"k" * KEY_BYTES_MAX, b"v" * VALUE_BYTES_MAX, b"i" * IDEMPOTENCY_KEY_BYTES_MAX
    assert Command(1, once, [WireOperation(PUT, key, value, None)]) == decode_command(encode_put(key, value, None, once))


@pytest.mark.parametrize(
    ("encode", "complaint"),
    [
        (lambda: encode_put(b"", b"v"), "the key has 0 bytes"),
        (lambda: encode_put(b"k" * 1025, b"v"), "the key has 1025 bytes"),
        (lambda: encode_put(b"k", bytes(VALUE_BYTES_MAX + 1)), "the value has 1048577 bytes"),
        (lambda: encode_put(b"k", b"v", None, b""), "idempotency key has 0 bytes"),
        (lambda: encode_put(b"k", b"v", None, b"i" * 256), "idempotency key has 256 bytes"),
        (lambda: encode_put(b"k", b"v", Condition()), "either a revision or that the key is absent"),
        (lambda: encode_put(b"k", b"v", Condition(3, absent=True)), "either a revision or that the key is absent"),
        (lambda: encode_put(b"k", b"v", Condition(-1)), "-1 is not a revision"),
        (lambda: encode_put(b"k", b"v", Condition(2**63)), "is not a revision"),
        (lambda: encode_delete(b""), "the key has 0 bytes"),
        (lambda: encode_operations([]), "there are 0 operations"),
        (lambda: encode_operations([Delete(b"k")] * (OPERATIONS_MAX + 1)), "there are 4097 operations"),
        (lambda: encode_operations([Delete(b"k"), Put(b"k", bytes(VALUE_BYTES_MAX + 1))]), "operation 1: the value has"),
        (lambda: encode_operations([Put(b"k", bytes(VALUE_BYTES_MAX))] * 65), "an entry has room for"),
    ],
)
def test_a_command_out_of_bounds_is_refused_in_clear_words(encode, complaint):
    with pytest.raises(ValueError, match=complaint):
        encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack({"a": 1}),
        pack([1, None]),
        pack([2, None, [[PUT, b"k", b"v", None]]]),
        pack([1, "text", [[PUT, b"k", b"v", None]]]),
        pack([1, b"", [[PUT, b"k", b"v", None]]]),
        pack([1, None, []]),
        pack([1, None, [[PUT, b"k", b"v", None]], "more"]),
        pack([1, None, [[3, b"k", b"v", None]]]),
        pack([1, None, [[PUT, b"", b"v", None]]]),
        pack([1, None, [[PUT, b"k" * 1025, b"v", None]]]),
        pack([1, None, [[PUT, b"k", bytes(VALUE_BYTES_MAX + 1), None]]]),
        pack([1, None, [[PUT, b"k", b"v", -2]]]),
        pack([1, None, [[PUT, b"k", b"v"]]]),
        pack([1, None, [[PUT, b"k", b"v", None, None]]]),
        pack([1, None, [[DELETE, b"k", b"", None]] * (OPERATIONS_MAX + 1)]),
        encode_put(b"k", b"v") + b"\x00",
        b"\x93\x01\xc0" + b"\x91" * 100_000,
    ],
)
def test_what_is_no_command_is_a_bad_command_and_not_an_exception(data):
    assert isinstance(decode_command(data), BadCommand)


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_a_command_or_a_bad_command(data):
    assert isinstance(decode_command(data), Command | BadCommand)


@given(st.data())
def test_a_damaged_command_never_raises(data):
    whole = bytearray(encode_operations([Put(b"key", b"value"), Check(b"key", 5), Delete(b"x")], b"once"))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert isinstance(decode_command(cut), Command | BadCommand)
