"""What may be written to the key-value store: the data of an entry, and the results of applying it.

An entry's data is the msgpack array [version, idempotency key or nil, operations]; an operation is the array
[kind, key, value, condition]. A condition is nil (none), -1 (the key must be absent) or the revision the key must have. All
operations of a command are done or none: every condition is looked at before anything is written.

`encode_…` is for callers and says in clear words what is wrong with a command. `decode_command` is for every node alike:
what it does not accept is a `BadCommand` everywhere, so its limits are part of the format.
Source: contract section 4; etcd `Txn` (compare, then operations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raft_engine.types.entry import DATA_BYTES_MAX
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.unreadable import UNREADABLE

COMMAND_VERSION: Final = 1
KEY_BYTES_MAX: Final = 1024
VALUE_BYTES_MAX: Final = 1024 * 1024
IDEMPOTENCY_KEY_BYTES_MAX: Final = 255
OPERATIONS_MAX: Final = 4096
REVISION_MAX: Final = 2**63 - 1

PUT: Final = 0
DELETE: Final = 1
CHECK: Final = 2
ABSENT: Final = -1
"""On the wire: the key must be absent."""


class Condition(msgspec.Struct, frozen=True):
    """When a key may be written: at this `revision`, or only while it is `absent`."""

    revision: int | None = None
    absent: bool = False


class Put(msgspec.Struct, frozen=True):
    key: bytes
    value: bytes
    condition: Condition | None = None


class Delete(msgspec.Struct, frozen=True):
    """A key that is absent already is no error."""

    key: bytes
    condition: Condition | None = None


class Check(msgspec.Struct, frozen=True):
    """Nothing of the command is done unless the key has this revision; None: unless it is absent."""

    key: bytes
    revision: int | None


Operation = Put | Delete | Check

# --- results -------------------------------------------------------------------------------------------------------------


class Applied(msgspec.Struct, frozen=True, tag="applied", array_like=True, gc=False):
    """Everything was done, by the entry of this term, leader and index; the index is the revision of what was written.

    `duplicate`: that was an earlier entry with the same idempotency key.
    """

    term: Term
    node_id: NodeId
    revision: LogIndex
    duplicate: bool = False

    @property
    def log_id(self) -> LogId:
        return LogId(self.term, self.node_id, self.revision)


class ConditionFailed(msgspec.Struct, frozen=True, tag="condition_failed", array_like=True, gc=False):
    """Nothing was done: `key` is at `revision` (None: absent), which is not what the command asked for."""

    key: bytes
    revision: int | None
    duplicate: bool = False


class BadCommand(msgspec.Struct, frozen=True, gc=False):
    """Nothing was done: the entry's data is not a command. `detail` is for people and may differ between versions."""

    detail: str


Result = Applied | ConditionFailed | BadCommand

# --- decoding ------------------------------------------------------------------------------------------------------------


class WireOperation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One operation as it stands in an entry."""

    kind: Annotated[int, Meta(ge=PUT, le=CHECK)]
    key: Annotated[bytes, Meta(min_length=1, max_length=KEY_BYTES_MAX)]
    value: Annotated[bytes, Meta(max_length=VALUE_BYTES_MAX)]
    condition: Annotated[int, Meta(ge=ABSENT, le=REVISION_MAX)] | None


class Command(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An entry's data."""

    version: Annotated[int, Meta(ge=COMMAND_VERSION, le=COMMAND_VERSION)]
    idempotency_key: Annotated[bytes, Meta(min_length=1, max_length=IDEMPOTENCY_KEY_BYTES_MAX)] | None
    operations: Annotated[list[WireOperation], Meta(min_length=1, max_length=OPERATIONS_MAX)]


_encode = msgspec.msgpack.Encoder().encode
decode_or_raise: Final = msgspec.msgpack.Decoder(Command).decode
"""As `decode_command`, for a loop over entries: raises one of `UNREADABLE`."""


def decode_command(data: bytes) -> Command | BadCommand:
    """Return the command in an entry's data. Never raises: a node that raised here could not apply the log at all."""
    try:
        return decode_or_raise(data)
    except UNREADABLE as error:
        return BadCommand(f"not a key-value command: {error}")


# --- encoding ------------------------------------------------------------------------------------------------------------


def encode_put(key: bytes, value: bytes, condition: Condition | None = None, idempotency_key: bytes | None = None) -> bytes:
    """Return the data of an entry that writes one value.

    Raises: ValueError: key, value, condition or idempotency key are out of bounds.
    """
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        _check_key(key)
    if len(value) > VALUE_BYTES_MAX:
        raise ValueError(f"the value has {len(value)} bytes; at most {VALUE_BYTES_MAX} are allowed")
    wire_condition = None if condition is None else _wire_condition(condition)
    known_by = None if idempotency_key is None else _checked(idempotency_key)
    return _encode((COMMAND_VERSION, known_by, ((PUT, key, value, wire_condition),)))


def encode_delete(key: bytes, condition: Condition | None = None, idempotency_key: bytes | None = None) -> bytes:
    """Return the data of an entry that deletes one key.

    Raises: ValueError: key, condition or idempotency key are out of bounds.
    """
    return encode_operations([Delete(key, condition)], idempotency_key)


def encode_operations(operations: Sequence[Operation], idempotency_key: bytes | None = None) -> bytes:
    """Return the data of an entry that does all of `operations` or nothing.

    Raises: ValueError: none, too many, too much data, or an operation is out of bounds (the message says which).
    """
    if not 1 <= len(operations) <= OPERATIONS_MAX:
        raise ValueError(f"there are {len(operations)} operations; 1 to {OPERATIONS_MAX} are allowed")
    wire_operations: list[tuple[int, bytes, bytes, int | None]] = []
    for number, operation in enumerate(operations):
        try:
            wire_operations.append(_wire_operation(operation))
        except ValueError as error:
            raise ValueError(f"operation {number}: {error}") from error
    data = _encode((COMMAND_VERSION, _checked(idempotency_key), wire_operations))
    if len(data) > DATA_BYTES_MAX:
        raise ValueError(f"the operations have {len(data)} bytes together; an entry has room for {DATA_BYTES_MAX}")
    return data


def _wire_operation(operation: Operation) -> tuple[int, bytes, bytes, int | None]:
    _check_key(operation.key)
    if isinstance(operation, Check):
        condition = Condition(absent=True) if operation.revision is None else Condition(operation.revision)
        return CHECK, operation.key, b"", _wire_condition(condition)
    wire_condition = None if operation.condition is None else _wire_condition(operation.condition)
    if isinstance(operation, Delete):
        return DELETE, operation.key, b"", wire_condition
    if len(operation.value) > VALUE_BYTES_MAX:
        raise ValueError(f"the value has {len(operation.value)} bytes; at most {VALUE_BYTES_MAX} are allowed")
    return PUT, operation.key, operation.value, wire_condition


def _wire_condition(condition: Condition) -> int:
    if condition.absent == (condition.revision is not None):
        raise ValueError("a condition names either a revision or that the key is absent")
    if condition.revision is None:
        return ABSENT
    if not 0 <= condition.revision <= REVISION_MAX:
        raise ValueError(f"{condition.revision} is not a revision; it is the index of an entry")
    return condition.revision


def _check_key(key: bytes) -> None:
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"the key has {len(key)} bytes; 1 to {KEY_BYTES_MAX} are allowed")


def _checked(idempotency_key: bytes | None) -> bytes | None:
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= IDEMPOTENCY_KEY_BYTES_MAX:
        raise ValueError(
            f"the idempotency key has {len(idempotency_key)} bytes; 1 to {IDEMPOTENCY_KEY_BYTES_MAX} are allowed"
        )
    return idempotency_key
