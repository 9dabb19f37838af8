"""Whatever arrives on a connection, cut anywhere: whole frames are handed out once and in order, anything else ends it."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from raft_engine.errors import TransportError
from raft_engine.testing.fuzz import input_of
from raft_engine.testing.fuzz_targets import TARGETS
from raft_engine.transport.connection import Connection

FRAME_BYTES_MAX = 4096
FRAMES = TARGETS["frame"].samples


class Socketless(asyncio.Transport):
    """A transport that is aborted and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def received(pieces: list[bytes], refuse=None) -> tuple[list[bytes], Connection]:
    """Return the frames that a connection hands out of what arrives."""

    async def run() -> tuple[list[bytes], Connection]:
        frames: list[bytes] = []

        def on_frame(frame: memoryview) -> None:
            frames.append(bytes(frame))
            if refuse is not None:
                refuse(frame)

        connection = Connection(on_frame, lambda _: None, frame_bytes_max=FRAME_BYTES_MAX, queue_bytes_max=1 << 20)
        connection.connection_made(Socketless())
        for piece in pieces:
            if not connection.is_open:
                break
            connection.data_received(piece)
            assert len(connection._rest) <= FRAME_BYTES_MAX + len(piece)
        return frames, connection

    return asyncio.run(run())


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(FRAMES), max_size=6), st.lists(st.integers(0, 8000), max_size=12))
def test_frames_cut_anywhere_come_out_whole_and_in_order(frames, cuts):
    found, connection = received(split(b"".join(frames), cuts))
    assert found == frames
    assert connection.is_open


def test_altered_streams_end_the_connection_or_yield_frames():
    target = TARGETS["frame"]
    for number in range(1500):
        chance = random.Random(number)
        data = b"".join(input_of(target, 3 * number + at) for at in range(3))
        _, connection = received(split(data, [chance.randrange(len(data) + 1) for _ in range(4)]), target.read)
        assert connection.is_open or connection.is_broken


def test_a_frame_that_is_refused_ends_the_connection_at_once():
    def refuse(frame: memoryview) -> None:
        raise TransportError("no")

    found, connection = received([FRAMES[0] + FRAMES[1]], refuse)
    assert found == [FRAMES[0]]
    assert connection.is_broken
