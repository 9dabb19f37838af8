"""The file of the next segment, made before it is needed.

Goal: a log that only grows never has the disk write a whole segment at once, and nobody who needs the file waits for rests.
"""

from __future__ import annotations

import pytest

from raft_engine.storage import spare_segment
from raft_engine.storage.files import Files
from raft_engine.storage.spare_segment import PIECE_BYTES, SpareSegment

SIZE = 3 * PIECE_BYTES + 4096


class Watched(Files):
    """Real files; notes what is zero-filled and synced, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int] | str] = []

    def zero(self, descriptor, since, until):
        super().zero(descriptor, since, until)
        self.seen.append((since, until))

    def fsync(self, descriptor):
        super().fsync(descriptor)
        self.seen.append("synced")


@pytest.fixture
def files():
    return Watched()


def test_a_new_file_is_written_and_synced_piece_by_piece(tmp_path, files):
    spare = SpareSegment(tmp_path, SIZE, files)
    spare.prepare()
    descriptor = spare.take(tmp_path / "segment", b"header")
    files.close(descriptor)
    pieces = [(since, min(since + PIECE_BYTES, SIZE)) for since in range(0, SIZE, PIECE_BYTES)]
    assert [step for piece in pieces for step in (piece, "synced")] == files.seen
    assert b"header" + bytes(SIZE - 6) == (tmp_path / "segment").read_bytes()


@pytest.mark.parametrize("prepares", [True, False])
def test_whoever_needs_the_file_waits_for_no_rests(tmp_path, files, monkeypatch, prepares):
    monkeypatch.setattr(spare_segment, "_REST_TIMES", float("inf"))
    monkeypatch.setattr(spare_segment, "_REST_MAX_S", 3600)
    spare = SpareSegment(tmp_path, SIZE, files)
    if prepares:
        spare.prepare()
    files.close(spare.take(tmp_path / "segment", b"header"))
    assert (tmp_path / "segment").stat().st_size == SIZE


def test_closing_waits_for_no_rests(tmp_path, files, monkeypatch):
    monkeypatch.setattr(spare_segment, "_REST_TIMES", float("inf"))
    monkeypatch.setattr(spare_segment, "_REST_MAX_S", 3600)
    spare = SpareSegment(tmp_path, SIZE, files)
    spare.prepare()
    spare.close()
    assert (tmp_path / spare_segment.NAME).stat().st_size == SIZE
