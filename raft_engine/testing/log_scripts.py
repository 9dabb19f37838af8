"""What is done to a `LogStorage` when it is looked at in every crash: scripts of its calls.

A log may lose what was not synced, but only from the end: after a crash it holds what some prefix of the calls would have
left, hard state included, the last append perhaps in part.
Source: own; the durability contract of `storage/interface`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import StorageError
from raft_engine.storage.files import Files
from raft_engine.storage.interface import LogState, LogStorage
from raft_engine.storage.memory import MemoryLog
from raft_engine.storage.segment_format import SEGMENT_HEADER_BYTES
from raft_engine.storage.segment_seal import BATCH_SEAL_BYTES, SEAL_BYTES
from raft_engine.testing.crash_points import DATA, Call, Script, Subject
from raft_engine.testing.sim_disk import SECTOR_BYTES
from raft_engine.testing.storage_suite import blanks, entry, log_id, membership_entry, read, write
from raft_engine.types.entry import HEADER_BYTES, Entry, decode_records
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.vote import Vote

SEGMENT_BYTES: Final = 2048
"""The scripts fill segments of this size exactly, and by one byte more or less; any other size is looked at as well."""
OpenLog = Callable[[Path, Files], LogStorage]


class LogView(msgspec.Struct, frozen=True):
    """All that a log holds."""

    state: LogState
    hard_state: HardState
    records: bytes

    def __repr__(self) -> str:
        entries = ", ".join(str(found) for found in decode_records(self.records))
        return f"{self.hard_state.vote}, purged {self.state.purged}, [{entries}]"


class Op(msgspec.Struct, frozen=True):
    """A call of a log as a value: its name and its one argument."""

    name: str
    argument: object = None

    def __str__(self) -> str:
        argument = self.argument
        if isinstance(argument, tuple):
            argument = f"{len(argument)} entries"
        return self.name if argument is None else f"{self.name} {argument}"


def append(entries: Sequence[Entry]) -> Op:
    return Op("append", tuple(entries))


def truncate(after: int) -> Op:
    return Op("truncate", LogIndex(after))


def purge(upto: LogId) -> Op:
    return Op("purge", upto)


def reset(upto: LogId) -> Op:
    return Op("reset", upto)


def save(hard_state: HardState) -> Op:
    return Op("save_hard_state", hard_state)


SYNC: Final = Op("sync")
REOPEN: Final = Op("reopen")


def vote(term: int, *, committed: bool = False) -> HardState:
    return HardState(Vote(Term(term), NodeId(1), committed))


def large(term: int, first: int, last: int, size: int = 300) -> list[Entry]:
    return [entry(term, index, bytes([index % 256]) * size) for index in range(first, last + 1)]


def look(log: LogStorage) -> LogView:
    state = log.state()
    entries = read(log, state.purged.index + 1, state.last.index)
    return LogView(state, log.hard_state(), b"".join(found.record for found in entries))


class OpenedLog:
    """A log, and how it is opened again."""

    def __init__(self, open_log: Callable[[], LogStorage]) -> None:
        self._open_log = open_log
        self._log: LogStorage | None = open_log()

    @property
    def log(self) -> LogStorage:
        if self._log is None:
            raise StorageError("the log could not be opened again", path=str(DATA))
        return self._log

    def reopen(self) -> None:
        """Stop in order and start again."""
        self.log.sync()
        self.close()
        self._log = self._open_log()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def log_subject(open_log: OpenLog) -> Subject[OpenedLog, LogView]:
    """Return what `explore` needs to know of a log; `open_log` opens it in a directory, on the disk that it is given."""
    return Subject(
        open=lambda files: OpenedLog(partial(open_log, DATA, files)),
        look=lambda opened: look(opened.log),
        close=OpenedLog.close,
        blank=look(MemoryLog()),
        go_on=_go_on,
    )


def script(name: str, *ops: Op) -> Script[OpenedLog, LogView]:
    """Return the script of these calls."""
    return Script(name, [Call(str(op), partial(_perform, op), partial(stages, op), op in {SYNC, REOPEN}) for op in ops])


def _go_on(opened: OpenedLog, found: LogView) -> LogView:
    """A new leader cuts the last entry off and writes a shorter one, and the vote moves."""
    log = opened.log
    last = found.state.last.index
    if last > found.state.purged.index:
        log.truncate(LogIndex(last - 1))
        last = LogIndex(last - 1)
    write(log, [entry(999, last + 1)])
    log.save_hard_state(vote(999, committed=True))
    log.sync()
    return look(log)


def _perform(op: Op, opened: OpenedLog) -> OpenedLog:
    if op == REOPEN:
        opened.reopen()
    else:
        call(op, opened.log)
    return opened


def call(op: Op, log: LogStorage) -> None:
    """Make the call that `op` says."""
    method = getattr(log, op.name)
    if op.argument is None:
        method()
    else:
        method(op.argument)


def stages(op: Op, before: LogView) -> Sequence[LogView]:
    """Return what a log may hold while `op` is done: of an append any number of entries."""
    parts = [op]
    if op.name == "append":
        assert isinstance(op.argument, tuple)
        parts = [Op("append", op.argument[:count]) for count in range(1, len(op.argument) + 1)]
    return [before, *(_after(part, before) for part in parts)]


def _after(op: Op, before: LogView) -> LogView:
    if op == REOPEN:
        return before
    log = MemoryLog()
    log.save_hard_state(before.hard_state)
    log.reset(before.state.purged)
    log.append(decode_records(before.records))
    call(op, log)
    return look(log)


def _mixed(seed: int) -> Iterator[Op]:
    """Yield calls as a node makes them, drawn from a seed."""
    chance = random.Random(f"mixed {seed}")  # noqa: S311 (a script must be repeatable)
    term, purged, last = 1, log_id(0, 0), 0
    terms: list[int] = [0]
    for _ in range(12):
        match chance.choice(["append", "append", "append", "truncate", "purge", "vote", "reset", "reopen"]):
            case "append":
                count = chance.choice([1, 2, 5])
                yield append(large(term, last + 1, last + count, chance.choice([0, 100, 476, 700])))
                last += count
                terms += [term] * count
            case "truncate" if last > purged.index:
                last = chance.randint(purged.index, last)
                del terms[last + 1 :]
                term += 1
                yield truncate(last)
            case "purge" if last > purged.index:
                index = chance.randint(purged.index + 1, last)
                purged = log_id(terms[index], index)
                yield purge(purged)
            case "vote":
                term += 1
                yield save(vote(term))
            case "reset" if chance.random() < 0.5:
                term += 1
                purged = log_id(term, max(1, last + chance.choice([-2, 0, 3])))
                last = purged.index
                terms = [term] * (last + 1)
                yield reset(purged)
            case "reopen":
                yield REOPEN
            case _:
                pass  # drawn at a moment at which it would do nothing
        if chance.random() < 0.5:
            yield SYNC
    yield SYNC


def mixed_script(seed: int) -> Script[OpenedLog, LogView]:
    """Return the script of calls that a seed draws."""
    return script(f"mixed {seed}", *_mixed(seed))


_FULL: Final = SEGMENT_BYTES - SEGMENT_HEADER_BYTES - SEAL_BYTES - HEADER_BYTES
"""Data bytes of the one entry that fills a segment to its last byte."""

_TWO_PURGED: Final = (append(large(1, 1, 17)), SYNC, purge(log_id(1, 12)))
"""Two segments have left the log, and are there for the next ones."""
_RESET: Final = (append(large(1, 1, 17)), SYNC, reset(log_id(2, 30)))
"""All segments have left the log at once, for a snapshot beyond its end."""
_TO_SECTOR: Final = SECTOR_BYTES - SEGMENT_HEADER_BYTES - BATCH_SEAL_BYTES - HEADER_BYTES
"""Data bytes of a reused segment's first entry that ends with the sector."""


def _forger(first: int) -> Entry:
    """Return the first entry of a log, whose data are entries `first + 1` … where a batch of a reused segment begins a sector."""
    records = b"".join(entry(1, first + at, b"forged").record for at in range(1, 9))
    return entry(1, 1, bytes(SECTOR_BYTES - SEGMENT_HEADER_BYTES - SEAL_BYTES - HEADER_BYTES) + records)


LOG_SCRIPTS: Final = (
    script("append one", append(blanks(1, 1)), SYNC),
    script("append in batches", append(large(1, 1, 4)), SYNC, append(large(1, 5, 6)), SYNC, append(blanks(7, 9)), SYNC),
    script("append nothing", append([]), SYNC, append(blanks(1, 2)), append([]), SYNC),
    script("many appends before a sync", *(append(blanks(at, at + 1)) for at in range(1, 12, 2)), SYNC),
    script("a batch over several segments", append(large(1, 1, 18)), SYNC),
    script(
        "batches over segments", append(large(1, 1, 5)), SYNC, append(large(1, 6, 14)), SYNC, append(blanks(15, 16)), SYNC
    ),
    script("entries larger than a segment", append(large(1, 1, 2, 3000)), SYNC, append(large(2, 3, 3, 5000)), SYNC),
    script("a segment filled to the last byte", append(large(1, 1, 1, _FULL)), SYNC, append(blanks(2, 3)), SYNC),
    script("a segment with room for a seal", append(large(1, 1, 1, _FULL - 16)), SYNC, append(blanks(2, 2)), SYNC),
    script("a segment with room for half a seal", append(large(1, 1, 1, _FULL - 8)), SYNC, append(blanks(2, 2)), SYNC),
    script("a segment one byte too small", append(large(1, 1, 1, _FULL + 1)), SYNC, append(blanks(2, 2)), SYNC),
    script("entries of a sector", append(large(1, 1, 3, 476)), SYNC, append(large(1, 4, 7, 476)), SYNC),
    script("entries of zeros", append([entry(1, at, bytes(400)) for at in range(1, 4)]), SYNC, append(blanks(4, 4)), SYNC),
    script("votes", save(vote(1)), SYNC, save(vote(2)), SYNC, save(vote(2, committed=True)), SYNC),
    script("votes before a sync", save(vote(1)), save(vote(2)), save(vote(3)), SYNC, save(vote(4)), save(vote(5)), SYNC),
    script(
        "votes between entries",
        save(vote(1)),
        append(blanks(1, 3)),
        SYNC,
        save(vote(2)),
        append(large(2, 4, 6)),
        save(vote(3)),
        append(large(3, 7, 9)),
        SYNC,
    ),
    script(
        "a recovery marker set and cleared",
        save(HardState(vote(4).vote, Recovery(log_id(4, 99), "x" * 400))),
        SYNC,
        append(blanks(1, 2)),
        save(vote(5)),
        SYNC,
    ),
    script("truncate in a segment", append(large(1, 1, 5)), SYNC, truncate(2), SYNC, append(large(2, 3, 3)), SYNC),
    script("truncate over segments", append(large(1, 1, 16)), SYNC, truncate(3), SYNC, append(large(2, 4, 9)), SYNC),
    script("truncate at a segment's end", append(large(1, 1, 11)), SYNC, truncate(5), append(large(2, 6, 7)), SYNC),
    script("truncate everything", append(large(1, 1, 9)), SYNC, truncate(0), SYNC, append(blanks(1, 2, term=2)), SYNC),
    script("truncate twice", append(large(1, 1, 12)), SYNC, truncate(8), truncate(2), append(blanks(3, 4, term=3)), SYNC),
    script("truncate what was not synced", append(blanks(1, 2)), SYNC, append(large(1, 3, 9)), truncate(4), SYNC),
    script(
        "the same entries of another leader",
        append(large(1, 1, 4)),
        SYNC,
        truncate(2),
        append(large(2, 3, 4)),
        SYNC,
        truncate(2),
        append(large(3, 3, 4)),
        SYNC,
    ),
    script("a shorter tail, then a start", append(large(1, 1, 4)), SYNC, truncate(1), append(blanks(2, 2, 2)), REOPEN, SYNC),
    script("purge in a segment", append(large(1, 1, 4)), SYNC, purge(log_id(1, 2)), SYNC, append(blanks(5, 6)), SYNC),
    script("purge segments", append(large(1, 1, 17)), SYNC, purge(log_id(1, 12)), append(large(1, 18, 20)), SYNC),
    script("purge everything", append(large(1, 1, 9)), SYNC, purge(log_id(1, 9)), SYNC, append(blanks(10, 11)), SYNC),
    script("purge beyond the end", append(large(1, 1, 9)), SYNC, purge(log_id(2, 30)), append(blanks(31, 32, 2)), SYNC),
    script("purge step by step", append(large(1, 1, 13)), SYNC, *(purge(log_id(1, at)) for at in (2, 5, 6, 11)), SYNC),
    script("purge what was not synced", append(large(1, 1, 13)), purge(log_id(1, 8)), append(blanks(14, 14)), SYNC),
    script("purge, then truncate to it", append(large(1, 1, 9)), SYNC, purge(log_id(1, 7)), truncate(7), SYNC),
    script("truncate, then purge", append(large(1, 1, 13)), SYNC, truncate(9), purge(log_id(1, 9)), SYNC),
    script("reset", append(large(1, 1, 9)), SYNC, reset(log_id(2, 7)), SYNC, append(large(2, 8, 12)), SYNC),
    script("reset a new log", reset(log_id(3, 40)), SYNC, append(blanks(41, 43, term=3)), SYNC),
    script("reset backwards", append(large(1, 1, 9)), SYNC, reset(log_id(2, 3)), append(blanks(4, 5, term=2)), SYNC),
    script("reset twice", append(large(1, 1, 7)), reset(log_id(2, 3)), append(blanks(4, 5, 2)), reset(log_id(2, 5)), SYNC),
    script(
        "started again and again",
        append(large(1, 1, 3)),
        REOPEN,
        append(large(1, 4, 8)),
        REOPEN,
        REOPEN,
        save(vote(2)),
        REOPEN,
    ),
    script(
        "members come and go",
        append([membership_entry(1, 1, 1), *blanks(2, 3), membership_entry(1, 4, 1, 2, 3)]),
        SYNC,
        append([membership_entry(1, 5, 2, 3), *large(1, 6, 9)]),
        truncate(4),
        append([membership_entry(2, 5, 1)]),
        SYNC,
        purge(log_id(1, 4)),
        SYNC,
    ),
    script("a segment used again", *_TWO_PURGED, append(large(1, 18, 26)), SYNC, append(blanks(27, 28)), SYNC),
    script(
        "a segment used again, batches before a sync",
        *_TWO_PURGED,
        append(large(1, 18, 21)),
        SYNC,
        *(append(blanks(at, at + 1)) for at in range(22, 28, 2)),
        SYNC,
    ),
    script(
        "a segment used again, cut in a batch",
        *_TWO_PURGED,
        append(large(1, 18, 25)),
        SYNC,
        truncate(23),
        append(blanks(24, 25, term=2)),
        SYNC,
        append(blanks(26, 27, term=2)),
        SYNC,
    ),
    script(
        "a segment used again, cut in a batch, then a start",
        *_TWO_PURGED,
        append(large(1, 18, 25)),
        truncate(23),
        REOPEN,
        append(large(2, 24, 24)),
        REOPEN,
    ),
    script(
        "segments used again and again",
        append(large(1, 1, 17)),
        *(op for at in range(18, 42, 6) for op in (purge(log_id(1, at - 3)), append(large(1, at, at + 5)), SYNC)),
    ),
    script(
        "a segment used again, a start, and used again",
        *_TWO_PURGED,
        REOPEN,
        append(large(1, 18, 27)),
        REOPEN,
        purge(log_id(1, 22)),
        append(large(1, 28, 36)),
        SYNC,
    ),
    script(
        "a segment used again behind one that was filled",
        append(large(1, 1, 1, _FULL)),
        append(large(1, 2, 6)),
        SYNC,
        purge(log_id(1, 1)),
        append(large(1, 7, 10)),
        SYNC,
        append(large(1, 11, 11)),
        SYNC,
    ),
    script(
        "a segment used again that holds what looks like later entries",
        append([_forger(9)]),
        append(large(1, 2, 7)),
        SYNC,
        purge(log_id(1, 4)),
        append([entry(1, 8, bytes(900))]),
        SYNC,
        append([entry(1, 9, bytes(_TO_SECTOR)), *blanks(10, 16)]),
        SYNC,
        append(blanks(17, 18)),
        SYNC,
    ),
    script("segments used again after a reset", *_RESET, append(large(2, 31, 44)), SYNC, append(blanks(45, 46, 2)), SYNC),
    script(
        "segments used again after a reset, batches before a sync",
        *_RESET,
        append(large(2, 31, 33)),
        *(append(blanks(at, at + 1, 2)) for at in range(34, 40, 2)),
        SYNC,
    ),
    script(
        "segments used again after a reset, starts between",
        *_RESET,
        REOPEN,
        append(large(2, 31, 38)),
        REOPEN,
        reset(log_id(3, 50)),
        append(large(3, 51, 57)),
        SYNC,
    ),
    script(
        "segments used again after resets among entries that come again",
        append(large(1, 1, 17)),
        SYNC,
        reset(log_id(2, 12)),
        append(large(2, 13, 24)),
        SYNC,
        reset(log_id(3, 16)),
        append(large(3, 17, 24)),
        truncate(20),
        append(blanks(21, 22, term=4)),
        SYNC,
    ),
    script(
        "segments used again after a reset and before a purge",
        append(large(1, 1, 17)),
        reset(log_id(2, 30)),
        append(large(2, 31, 44)),
        SYNC,
        purge(log_id(2, 42)),
        append(large(2, 45, 56)),
        SYNC,
    ),
    script(
        "a segment used again after a reset that holds what looks like later entries",
        append([_forger(9)]),
        SYNC,
        reset(log_id(1, 8)),
        append([entry(1, 9, bytes(_TO_SECTOR)), *blanks(10, 16)]),
        SYNC,
        append(blanks(17, 18)),
        SYNC,
    ),
    *(mixed_script(seed) for seed in range(1, 9)),
)
"""What a log must survive."""
