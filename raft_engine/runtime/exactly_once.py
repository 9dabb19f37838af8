"""Applying each of a client's writes once, however often it is sent: a state machine around yours.

    machine = ExactlyOnce(Counter())
    raft = await open_raft(…, state_machine=machine)
    session = await Session.open(raft.client_write)
    await session.write(b"5")

A client opens a session (its id is the index of the entry that opened it, so no two are ever alike), numbers its writes, and
says with each below which number it has all its answers. What is remembered, the results it may still ask for, is part of the
replicated state and of every snapshot: whoever leads next answers a repeated write with the first one's result. A session that
nobody remembers any more refuses its writes rather than do one twice.
Source: dissertation 6.3.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from raft_engine.errors import Damaged
from raft_engine.storage.interface import StateMachine
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.log_id import BEFORE_LOG, LogId

MARK: Final = bytes.fromhex("f1a75e5510a1d3c9")
"""What begins with it is meant for this machine, everything else for yours. Drawn once; an application's own data begins
with it by 1 in 2**64."""
_WRITE: Final = struct.Struct("<8sQQQ")
_LENGTH: Final = struct.Struct("<Q")
OPEN: Final = MARK
"""The data of the entry that opens a session."""
SESSIONS_MAX: Final = 10_000
"""Sessions that are remembered; the one unused for longest goes first."""
RESULTS_MAX: Final = 1024
"""Results remembered for one session: how many writes a client may have under way."""


class Expired(msgspec.Struct, frozen=True):
    """The result of a write that was not done since its session, or its place in it, is forgotten."""

    session: int


class _Client(msgspec.Struct):
    """`floor`: every number below it has been answered, the client says."""

    floor: int = 1
    results: dict[int, object] = msgspec.field(default_factory=dict)


class SessionTable:
    """Who has done what: the part of the replicated state that tells repeated writes.

    A state machine that keeps its state on disk uses this by itself, and stores it in the same transaction as its effects.
    """

    def __init__(self, sessions_max: int = SESSIONS_MAX, results_max: int = RESULTS_MAX) -> None:
        """The bounds are part of the state machine: they must be the same on every node."""
        self._sessions_max = sessions_max
        self._results_max = results_max
        self._clients: OrderedDict[int, _Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def open(self, session: int) -> None:
        """Remember a new session."""
        self._clients[session] = _Client()
        while len(self._clients) > self._sessions_max:
            self._clients.popitem(last=False)

    def find(self, session: int, serial: int, floor: int) -> tuple[bool, object]:
        """Return (whether the write is answered already, its result). Otherwise it is to be done, and `keep` called."""
        client = self._clients.get(session)
        if client is None or serial < client.floor:
            return True, Expired(session)
        self._clients.move_to_end(session)
        client.floor = max(client.floor, min(floor, serial))
        for answered in [number for number in client.results if number < client.floor]:
            del client.results[answered]
        if serial in client.results:
            return True, client.results[serial]
        if len(client.results) >= self._results_max:
            return True, Expired(session)
        client.results[serial] = None  # its place; how writes are batched must not matter
        return False, None

    def keep(self, session: int, serial: int, result: object) -> None:
        """Remember what a write that `find` let through came to."""
        client = self._clients.get(session)
        if client is not None and serial in client.results:
            client.results[serial] = result

    def to_bytes(self) -> bytes:
        """Return everything, the longest unused session first; results must be what msgpack can hold.

        Raises: TypeError: a result is not.
        """
        return msgspec.msgpack.encode([(session, client.floor, client.results) for session, client in self._clients.items()])

    def replace(self, data: bytes) -> None:
        """Be what `to_bytes` returned.

        Raises: ValueError: it is not that.
        """
        try:
            stored = msgspec.msgpack.decode(data, type=list[tuple[int, int, dict[int, object]]])
        except msgspec.MsgspecError as error:
            raise ValueError(f"these are no sessions: {error}") from error
        self._clients = OrderedDict((session, _Client(floor, results)) for session, floor, results in stored)


class ExactlyOnce:
    """A `StateMachine`. The one inside is given a write once; where one is repeated it is given a blank entry."""

    def __init__(self, inner: StateMachine, sessions_max: int = SESSIONS_MAX, results_max: int = RESULTS_MAX) -> None:
        self.inner = inner
        self.table = SessionTable(sessions_max, results_max)

    def applied(self) -> LogId:
        """Return `BEFORE_LOG`.

        Raises: ValueError: the machine inside keeps its state by itself, so sessions kept here would be older after a crash.
        """
        if self.inner.applied() != BEFORE_LOG:
            raise ValueError("a state machine on disk keeps its sessions with its state: give it a SessionTable of its own")
        return BEFORE_LOG

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        """Apply entries in order; the result of one that opens a session is its id."""
        results: list[object] = []
        given: list[Entry] = []
        unanswered: dict[tuple[int, int], int] = {}
        for entry in entries:
            write = split(entry)
            if write is not None and write[:2] in unanswered:
                self._give(given, unanswered, results)  # repeated within one batch: its result must be known first
            given.append(self._judge(entry, write, results, unanswered))
        self._give(given, unanswered, results)
        return results

    def _judge(
        self,
        entry: Entry,
        write: tuple[int, int, int, bytes] | None,
        results: list[object],
        unanswered: dict[tuple[int, int], int],
    ) -> Entry:
        """Note what is known of the result; return what the machine inside shall have of this entry."""
        if write is None:
            if entry.kind != EntryKind.NORMAL or entry.data != OPEN:
                results.append(_ASK)
                return entry
            self.table.open(entry.index)
            results.append(entry.index)
            return _blank(entry)
        session, serial, floor, data = write
        is_answered, result = self.table.find(session, serial, floor)
        if is_answered:
            results.append(result)
            return _blank(entry)
        unanswered[session, serial] = len(results)
        results.append(_ASK)
        return make_entry(entry.term, entry.node_id, entry.index, EntryKind.NORMAL, data)

    def _give(self, given: list[Entry], unanswered: dict[tuple[int, int], int], results: list[object]) -> None:
        """Have what was gathered applied and fill in the results."""
        if not given:
            return
        first = len(results) - len(given)
        for position, result in enumerate(self.inner.apply(given), first):
            if results[position] is _ASK:
                results[position] = result
        for (session, serial), position in unanswered.items():
            self.table.keep(session, serial, results[position])
        given.clear()
        unanswered.clear()

    def snapshot(self) -> Iterator[bytes]:
        """Return the sessions and then the state inside, both as of now."""
        chunks = self.inner.snapshot()
        sessions = self.table.to_bytes()

        def all_of_it() -> Iterator[bytes]:
            yield _LENGTH.pack(len(sessions)) + sessions
            yield from chunks

        return all_of_it()

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        """Replace sessions and state.

        Raises: Damaged: these are not a snapshot's chunks.
        """
        rest = iter(chunks)
        head = _read(rest, b"", _LENGTH.size, last_log_id)
        size = _LENGTH.size + _LENGTH.unpack_from(head)[0]
        head = _read(rest, head, size, last_log_id)
        try:
            self.table.replace(head[_LENGTH.size : size])
        except ValueError as error:
            raise Damaged(str(error), path=f"snapshot {last_log_id}") from error

        def behind() -> Iterator[bytes]:
            if head[size:]:
                yield head[size:]
            yield from rest

        self.inner.restore(behind(), last_log_id)


_ASK: Final = object()
"""In the place of a result that the machine inside has to say."""


def write_data(session: int, serial: int, floor: int, data: bytes) -> bytes:
    """Return the data of an entry that does `data` once."""
    return _WRITE.pack(MARK, session, serial, floor) + data


def split(entry: Entry) -> tuple[int, int, int, bytes] | None:
    """Return session, number, floor and data of a numbered write; None: it is something else."""
    if entry.kind != EntryKind.NORMAL:
        return None
    data = entry.data
    if len(data) < _WRITE.size or not data.startswith(MARK):
        return None
    _, session, serial, floor = _WRITE.unpack_from(data)
    return session, serial, floor, data[_WRITE.size :]


def _blank(entry: Entry) -> Entry:
    return make_entry(entry.term, entry.node_id, entry.index, EntryKind.BLANK, b"")


def _read(chunks: Iterator[bytes], head: bytes, size: int, last_log_id: LogId) -> bytes:
    """Return `head` and as many chunks as it takes for `size` bytes.

    Raises: Damaged: there are not so many.
    """
    while len(head) < size:
        chunk = next(chunks, None)
        if chunk is None:
            raise Damaged("it ends before the sessions do", path=f"snapshot {last_log_id}")
        head += chunk
    return head
