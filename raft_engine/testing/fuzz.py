"""Bytes that nobody meant, given to a decoder: it answers, or raises an error of ours, soon and without taking much memory.

Inputs are made from sound samples: bits, numbers and lengths changed, pieces cut out, doubled, put in or exchanged with another
sample's, the whole cut short or nested deeply. Then, most of the time, lengths and checksums are put right again, as otherwise
nothing behind a checksum would ever be reached. Input number n of a target is the same on every machine.

    python -m raft_engine.testing.fuzz_campaign --inputs 1000000 --jobs 2
    python -m raft_engine.testing.fuzz_campaign --only frame --first 4711 --inputs 1

Source: own; "The Fuzzing Book" (Zeller et al.), chapters on mutation and grammars; the interesting numbers are AFL's.
"""

from __future__ import annotations

import random
import signal
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

Repair = Callable[[bytes, random.Random], bytes]
"""Puts lengths and checksums of altered bytes right, or some of them."""

_NUMBERS: Final = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    511,
    512,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
_BYTES: Final = bytes(
    [0, 1, 0x7F, 0x80, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC4, 0xC6, 0xCB, 0xCF, 0xD3, 0xD9, 0xDB, 0xDC, 0xDD, 0xDF, 0xFF]
)
_NESTING: Final = (b"\x91", b"\x81\xa1a", b"[", b'{"a":', b"\xdd\xff\xff\xff\xff", b"\xff")
_TOKENS: Final = (
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"9" * 400,
    b'""',
    b"{}",
    b"[]",
    b'"\\ud800"',
    b"\xed\xa0\x80",
    b"\x00",
    b"..",
    b"/",
)
_REPAIRED: Final = 0.8
_TRACED_EVERY: Final = 64
_MEMORY_PER_BYTE: Final = 100
_MEMORY_BASE: Final = 2 * 1024 * 1024
BATCH: Final = 1000
BATCH_S_MAX: Final = 60
"""So many inputs take well under a second; a decoder that hangs on one of them is stopped after this."""


@dataclass(frozen=True)
class Target:
    """A decoder, sound inputs for it, and the errors that it may raise. It reads all that is read of such bytes."""

    name: str
    samples: Sequence[bytes]
    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    repair: Repair | None = None


class FuzzFailure(AssertionError):
    """A decoder did something else than answer or raise an error of ours: the input is in the message."""


class _HangError(BaseException):
    """Nothing catches it but the harness."""


def fuzz(target: Target, first: int, count: int) -> int:
    """Give inputs `first` … `first + count - 1` to a decoder and return how many of them it understood.

    Raises: FuzzFailure.
    """
    understood = 0
    for start in range(first, first + count, BATCH):
        numbers = range(start, min(start + BATCH, first + count))
        with _stopped_after(BATCH_S_MAX, target, numbers):
            understood += sum(_try(target, number) for number in numbers)
    return understood


def input_of(target: Target, number: int) -> bytes:
    """Return the input with this number."""
    chance = random.Random(f"{target.name} {number}")  # noqa: S311 (an input must be repeatable)
    data = bytearray(chance.choice(target.samples))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        chance.choice(_MUTATIONS)(data, target.samples, chance)
    if target.repair is not None and chance.random() < _REPAIRED:
        return target.repair(bytes(data), chance)
    return bytes(data)


def _try(target: Target, number: int) -> bool:
    """Return whether the input was understood."""
    data = input_of(target, number)
    try:
        if number % _TRACED_EVERY:
            target.read(data)
        else:
            _read_traced(target, number, data)
    except target.errors:
        return False
    except FuzzFailure:
        raise
    except Exception as error:
        raise _failure(target, number, f"{type(error).__name__}: {error}") from error
    return True


def _read_traced(target: Target, number: int, data: bytes) -> None:
    tracemalloc.start()
    try:
        target.read(data)
    finally:
        _current, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if peak > _MEMORY_BASE + _MEMORY_PER_BYTE * len(data):
            raise _failure(target, number, f"{peak} bytes of memory were taken for {len(data)} bytes of input")


@contextmanager
def _stopped_after(seconds: float, target: Target, numbers: range) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _HangError as error:
        raise _failure(
            target, numbers[0], f"this or one of the next {len(numbers)} inputs was not read in {seconds} s"
        ) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _failure(target: Target, number: int, what: str) -> FuzzFailure:
    data = input_of(target, number)
    return FuzzFailure(f"{target.name}, input {number}: {what}\n  {len(data)} bytes: {data[:2000].hex()}")


# --- mutations: each changes `data` in place -----------------------------------------------------------------------------


def _flip(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice(_BYTES)


def _number(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    width = chance.choice((1, 2, 4, 8))
    if len(data) >= width:
        at = chance.randrange(len(data) - width + 1)
        value = chance.choice((chance.choice(_NUMBERS), len(data) + chance.randint(-2, 2)))
        data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, chance.choice(("little", "big")))


def _cut_out(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    at, end = _piece(data, chance)
    del data[at:end]


def _double(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    at, end = _piece(data, chance)
    data[at:at] = data[at:end]


def _put_in(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = chance.choice(
        (chance.randbytes(chance.randint(1, 40)), chance.choice(_TOKENS), bytes(chance.randint(1, 200)))
    )


def _overwrite(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    at, end = _piece(data, chance)
    data[at:end] = chance.choice((bytes(end - at), chance.randbytes(end - at), chance.choice(_TOKENS)))


def _exchange(data: bytearray, samples: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(samples)
    at, end = _piece(data, chance)
    from_at, from_end = _piece(other, chance)
    data[at:end] = other[from_at:from_end]


def _shorten(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    del data[chance.randint(0, len(data)) :]


def _nest(data: bytearray, _samples: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = chance.choice(_NESTING) * chance.choice((3, 100, 2000))


def _piece(data: bytes | bytearray, chance: random.Random) -> tuple[int, int]:
    at = chance.randint(0, len(data))
    return at, min(len(data), at + chance.choice((1, 2, 4, 8, 16, 40, 200)))


_MUTATIONS: Final = (
    _flip,
    _byte,
    _byte,
    _number,
    _number,
    _cut_out,
    _double,
    _put_in,
    _overwrite,
    _exchange,
    _shorten,
    _nest,
)
