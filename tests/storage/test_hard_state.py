"""The vote survives a write cut short, and a page that goes bad later."""

from __future__ import annotations

import pytest

from raft_engine.errors import Damaged
from raft_engine.storage.files import Files
from raft_engine.storage.hard_state import REASON_CHARACTERS_MAX, HardStateFile, read_hard_state
from raft_engine.storage.two_slots import SLOT_BYTES, VALUE_BYTES_MAX, Slot, TwoSlots, encode_slot
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.vote import Vote

FILES = Files()


def vote(term: int) -> HardState:
    return HardState(Vote(Term(term), NodeId(2), committed=False))


def saved(directory, *terms: int) -> None:
    file = HardStateFile(directory, FILES)
    for term in terms:
        file.save(vote(term))
        file.sync()
    file.close()


def found(directory) -> HardState:
    file = HardStateFile(directory, FILES)
    file.close()
    return file.value


def overwrite(directory, slot: int, data: bytes, offset: int = 0) -> None:
    with (directory / "hard_state").open("r+b") as file:
        file.seek(slot * SLOT_BYTES + offset)
        file.write(data)


def test_a_new_file_holds_the_default(tmp_path):
    assert found(tmp_path) == HardState()
    assert (tmp_path / "hard_state").stat().st_mode & 0o777 == 0o600


def test_a_file_never_grows(tmp_path):
    saved(tmp_path, *range(1, 20))
    assert (tmp_path / "hard_state").stat().st_size == 2 * SLOT_BYTES


@pytest.mark.parametrize("slot", [0, 1])
def test_a_page_that_goes_bad_after_the_sync_costs_nothing(slot, tmp_path):
    saved(tmp_path, 1, 2, 3)
    overwrite(tmp_path, slot, b"\xff" * 50)
    assert found(tmp_path) == vote(3)


def test_a_repaired_file_survives_the_other_page_going_bad(tmp_path):
    saved(tmp_path, 1, 2, 3)
    overwrite(tmp_path, 0, bytes(SLOT_BYTES))
    assert found(tmp_path) == vote(3)
    overwrite(tmp_path, 1, bytes(SLOT_BYTES))
    assert found(tmp_path) == vote(3)


def test_two_bad_pages_are_damage_not_a_fresh_start(tmp_path):
    saved(tmp_path, 1, 2, 3)
    overwrite(tmp_path, 0, b"\xff", offset=40)
    overwrite(tmp_path, 1, b"\xff", offset=40)
    with pytest.raises(Damaged, match="both copies"):
        found(tmp_path)
    with pytest.raises(Damaged):
        read_hard_state(tmp_path, FILES)


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_file_cut_short_is_damage(size, tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "hard_state").write_bytes((tmp_path / "hard_state").read_bytes()[:size][:20])
    with pytest.raises(Damaged):
        found(tmp_path)


def test_the_durable_slot_is_never_written(tmp_path):
    class Watching(Files):
        def __init__(self):
            self.offsets = []

        def pwrite(self, descriptor, data, offset):
            self.offsets.append(offset // SLOT_BYTES)
            super().pwrite(descriptor, data, offset)

    files = Watching()
    slots = TwoSlots(files, tmp_path / "file", b"RAFTTEST", b"zero")
    durable = 0
    for value in (b"one", b"two", b"three"):
        files.offsets.clear()
        slots.write(value + b"?")
        slots.write(value)
        assert set(files.offsets) == {1 - durable}
        files.offsets.clear()
        slots.sync()
        assert files.offsets == [durable]  # the copy, once the new one is durable
        durable = 1 - durable
    slots.close()


def test_a_write_cut_short_at_any_byte_leaves_the_value_before(tmp_path):
    path = tmp_path / "file"
    old = encode_slot(b"RAFTTEST", Slot(5, b"old"))
    new = encode_slot(b"RAFTTEST", Slot(6, b"new"))
    for kept in range(40):
        path.write_bytes(old + new[:kept] + old[kept:])
        slots = TwoSlots(FILES, path, b"RAFTTEST", b"")
        assert slots.value == (b"new" if new[:kept] + old[kept:] == new else b"old"), kept
        slots.close()


def test_looking_changes_nothing_and_tells_whether_both_copies_are_whole(tmp_path):
    saved(tmp_path, 4)
    assert read_hard_state(tmp_path, FILES) == (vote(4), True)
    overwrite(tmp_path, 0, bytes(10))
    before = (tmp_path / "hard_state").read_bytes()
    assert read_hard_state(tmp_path, FILES) == (vote(4), False)
    assert (tmp_path / "hard_state").read_bytes() == before


def test_a_long_reason_is_shortened_not_refused(tmp_path):
    file = HardStateFile(tmp_path, FILES)
    file.save(HardState(recovery=Recovery(LogId(Term(1), NodeId(1), LogIndex(9)), "x" * 100_000)))
    file.sync()
    file.close()
    recovery = found(tmp_path).recovery
    assert recovery is not None
    assert len(recovery.reason) == REASON_CHARACTERS_MAX


def test_a_value_too_large_for_a_slot_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        encode_slot(b"RAFTTEST", Slot(1, bytes(VALUE_BYTES_MAX + 1)))
