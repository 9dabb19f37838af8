"""The process ends, or the power fails, at every single disk call of a script: what is found afterwards must be what a prefix
of the script leaves, and never less than what had been synced.

With the power gone each page written since its file's last sync is lost or kept by itself (fixed seeds), so pages of one
write may be torn apart in any way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from raft_engine.storage.memory import MemoryLog
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.testing.storage_suite import blanks, entry, log_id, membership_entry, read
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.vote import Vote
from tests.storage.disks import CountingFiles, PowerCut, VolatileFiles

SEGMENT_BYTES = 2048


def vote(term: int) -> HardState:
    return HardState(Vote(Term(term), NodeId(1), committed=False))


def large(term: int, first: int, last: int) -> list:
    return [entry(term, index, bytes([index % 256]) * 300) for index in range(first, last + 1)]


SCRIPTS: dict[str, list[Callable]] = {
    "append": [
        lambda log: log.append([membership_entry(1, 1, 1, 2)]),
        lambda log: log.append(large(1, 2, 5)),
        lambda log: log.sync(),
        lambda log: log.append(large(1, 6, 14)),
        lambda log: log.sync(),
        lambda log: log.append(blanks(15, 18, term=2)),
        lambda log: log.sync(),
    ],
    "vote and append": [
        lambda log: log.save_hard_state(vote(1)),
        lambda log: log.append(blanks(1, 3, term=1)),
        lambda log: log.sync(),
        lambda log: log.save_hard_state(vote(2)),
        lambda log: log.save_hard_state(vote(3)),
        lambda log: log.append(large(3, 4, 8)),
        lambda log: log.save_hard_state(vote(4)),
        lambda log: log.sync(),
    ],
    "truncate": [
        lambda log: log.append(large(1, 1, 14)),
        lambda log: log.sync(),
        lambda log: log.truncate(LogIndex(11)),
        lambda log: log.append(large(2, 12, 13)),
        lambda log: log.sync(),
        lambda log: log.truncate(LogIndex(3)),
        lambda log: log.sync(),
        lambda log: log.append(blanks(4, 6, term=3)),
        lambda log: log.sync(),
    ],
    "purge": [
        lambda log: log.append(large(1, 1, 14)),
        lambda log: log.sync(),
        lambda log: log.purge(log_id(1, 9)),
        lambda log: log.append(large(1, 15, 18)),
        lambda log: log.sync(),
        lambda log: log.purge(log_id(1, 18)),
        lambda log: log.append(blanks(19, 20)),
        lambda log: log.sync(),
    ],
    "reset": [
        lambda log: log.append(large(1, 1, 14)),
        lambda log: log.sync(),
        lambda log: log.reset(log_id(2, 7)),
        lambda log: log.append(large(2, 8, 12)),
        lambda log: log.sync(),
        lambda log: log.purge(log_id(5, 40)),
        lambda log: log.append(blanks(41, 42, term=5)),
        lambda log: log.sync(),
    ],
}


class Picture(msgspec.Struct, frozen=True):
    """All a log holds."""

    state: object
    hard_state: HardState
    records: tuple[bytes, ...]


def picture(log) -> Picture:
    state = log.state()
    entries = read(log, state.purged.index + 1, state.last.index)
    return Picture(state, log.hard_state(), tuple(item.record for item in entries))


def legal_pictures(script: list[Callable], steps_done: int, synced: int) -> list[Picture]:
    """What may be found: after every step from the last sync on, the batch that was being written in every length."""
    legal = []
    for count in range(synced, min(steps_done + 1, len(script)) + 1):
        log = MemoryLog()
        for step in script[:count]:
            step(log)
        legal.append(picture(log))
        if count < len(script):
            shortened = Shortening(log)
            for length in range(1, 20):
                shortened.length = length
                before = picture(log)
                script[count](shortened)
                legal.append(picture(log))
                shortened.undo(before)
    return legal


class Shortening:
    """Passes on an append, but only its first entries; everything else is left out."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.length = 0

    def append(self, entries):
        self.log.append(entries[: self.length])

    def undo(self, before: Picture) -> None:
        self.log.truncate(before.state.last.index)

    def __getattr__(self, name):
        return lambda *_: None


def run_until_cut(directory: Path, files: CountingFiles, script: list[Callable]) -> tuple[int, int]:
    """Return how many steps were finished and how many of them were known to be durable when the cut came."""
    done = synced = 0
    log = None
    try:
        log = SegmentLog(directory, files=files, segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
        for number, step in enumerate(script, 1):
            step(log)
            done = number
            if log_is_durable(log):
                synced = number
    except PowerCut:
        pass
    finally:
        files.fatal = None
        if log is not None:
            log.close()
    return done, synced


def log_is_durable(log: SegmentLog) -> bool:
    """Tell whether everything so far has been synced: the store's own books, checked against by what is found later."""
    return not log._hard_state.is_dirty and all(segment.durable >= segment.end for segment in log._segments)


def calls_of(script: list[Callable], directory: Path) -> int:
    files = CountingFiles()
    run_until_cut(directory, files, script)
    return files.calls


@pytest.mark.parametrize("name", SCRIPTS)
def test_killed_at_any_call_the_log_holds_a_prefix(name, tmp_path):
    script = SCRIPTS[name]
    for fatal in range(1, calls_of(script, tmp_path / "whole") + 1):
        directory = tmp_path / f"cut-{fatal}"
        done, synced = run_until_cut(directory, CountingFiles(fatal), script)
        log = SegmentLog(directory, files=CountingFiles(), segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
        assert picture(log) in legal_pictures(script, done, synced), f"{name}, call {fatal}"
        log.close()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SCRIPTS)
def test_without_power_from_any_call_on_the_log_holds_what_was_synced(name, seed, tmp_path):
    script = SCRIPTS[name]
    for fatal in range(1, calls_of(script, tmp_path / "whole") + 1):
        directory = tmp_path / f"cut-{fatal}"
        files = VolatileFiles(fatal)
        done, synced = run_until_cut(directory, files, script)
        files.lose(random.Random(f"{name} {seed} {fatal}"))
        log = SegmentLog(directory, files=CountingFiles(), segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
        assert picture(log) in legal_pictures(script, done, synced), f"{name}, call {fatal}"
        log.close()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_start_that_is_cut_short_itself_loses_nothing(name, tmp_path):
    script = SCRIPTS[name]
    for fatal in range(5, calls_of(script, tmp_path / "whole") + 1, 3):
        directory = tmp_path / f"cut-{fatal}"
        files = VolatileFiles(fatal)
        done, synced = run_until_cut(directory, files, script)
        files.lose(random.Random(f"{name} {fatal}"))
        for again in range(1, 6):
            second = VolatileFiles(again)
            run_until_cut(directory, second, [])
            second.lose(random.Random(f"{name} {fatal} {again}"))
        log = SegmentLog(directory, files=CountingFiles(), segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
        assert picture(log) in legal_pictures(script, done, synced), f"{name}, call {fatal}"
        log.close()


def test_the_scripts_end_as_they_should_without_a_crash(tmp_path):
    for name, script in SCRIPTS.items():
        directory = tmp_path / name.replace(" ", "-")
        assert run_until_cut(directory, CountingFiles(), script) == (len(script), len(script))
        log = SegmentLog(directory, files=CountingFiles(), segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
        assert [picture(log)] == legal_pictures(script, len(script), len(script))
        log.close()
