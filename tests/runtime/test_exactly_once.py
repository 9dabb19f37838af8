"""Each write once, however often it is sent: raft_engine/runtime/exactly_once.py, session.py."""

from __future__ import annotations

import asyncio
import random

import pytest

from raft_engine.errors import Damaged, ForwardToLeader, OutcomeUnknown, Overloaded, SessionExpired, Stopped
from raft_engine.runtime.exactly_once import MARK, OPEN, ExactlyOnce, Expired, SessionTable, write_data
from raft_engine.runtime.session import Session
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.outcomes import Refusal, RefusalCode, WriteOutcome
from tests.core.builder import at, entry
from tests.runtime.cluster import Cluster, Words


class Kinds(Words):
    """Notes of which kind each entry was, too."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[tuple[int, int]] = []

    def apply(self, entries):
        self.kinds += [(item.index, item.kind) for item in entries]
        return super().apply(entries)


def machine(**bounds) -> ExactlyOnce:
    made = ExactlyOnce(Kinds(), **bounds)
    assert [1] == made.apply([entry(1, 1, OPEN)])
    return made


def write(index: int, serial: int, word: str = "", *, floor: int = 1, session: int = 1) -> Entry:
    return entry(1, index, write_data(session, serial, floor, word.encode() or b"w%d" % serial))


# -- the machine -----------------------------------------------------------------------------------------------------------


def test_a_session_is_named_by_the_entry_that_opened_it():
    made = machine()
    assert [2, 3] == made.apply([entry(1, 2, OPEN), entry(1, 3, OPEN)])
    assert 3 == len(made.table)


def test_a_repeated_write_is_not_done_again_and_has_the_first_result():
    made = machine()
    assert [[0], [1], [0]] == [made.apply([item]) for item in (write(2, 1, "a"), write(3, 2, "b"), write(4, 1, "a"))]
    assert ["a", "b"] == made.inner.words


def test_a_write_that_is_repeated_within_one_batch_is_done_once():
    made = machine()
    batch = [write(2, 1, "a"), write(3, 1, "a"), write(4, 2, "b"), write(5, 1, "a"), write(6, 2, "b")]
    assert [0, 0, 1, 0, 1] == made.apply(batch)
    assert ["a", "b"] == made.inner.words


def test_writes_come_in_any_order():
    made = machine()
    assert [0, 1, 0] == made.apply([write(2, 2), write(3, 1), write(4, 2)])


def test_the_machine_inside_is_given_every_index_and_a_blank_where_nothing_is_to_be_done():
    made = machine()
    made.apply([write(2, 1, "a"), write(3, 1, "a"), entry(1, 4, b"", kind=EntryKind.BLANK), entry(1, 5, OPEN)])
    blank, normal = int(EntryKind.BLANK), int(EntryKind.NORMAL)
    assert [(1, blank), (2, normal), (3, blank), (4, blank), (5, blank)] == made.inner.kinds


def test_writes_without_a_session_are_done_as_they_come():
    made = machine()
    assert [0, 1, 2] == made.apply([entry(1, 2, b"a"), entry(1, 3, b"a"), entry(1, 4, b"")])


@pytest.mark.parametrize("data", [MARK[:7], b"x" + MARK])
def test_what_only_looks_like_a_numbered_write_is_not_one(data):
    made = ExactlyOnce(Latin())
    assert [data.decode("latin-1")] == made.apply([entry(1, 1, data)])


class Latin(Words):
    def _apply_one(self, item: Entry) -> object:
        return item.data.decode("latin-1")


def test_a_write_of_a_session_that_nobody_knows_is_not_done():
    made = machine()
    assert [Expired(9)] == made.apply([write(2, 1, session=9)])
    assert [] == made.inner.words


def test_the_session_unused_for_longest_is_forgotten_first():
    made = machine(sessions_max=2)
    made.apply([entry(1, 2, OPEN), write(3, 1, "a"), entry(1, 4, OPEN)])
    assert [0, Expired(2)] == made.apply([write(5, 1, "a"), write(6, 1, "b", session=2)])


def test_a_result_that_the_client_has_is_forgotten():
    made = machine()
    made.apply([write(2, 1), write(3, 2), write(4, 3, floor=3)])
    assert [Expired(1), Expired(1), 2] == made.apply([write(5, 1), write(6, 2), write(7, 3)])


def test_a_client_with_too_many_writes_under_way_is_refused_until_it_says_that_it_has_answers():
    made = machine(results_max=2)
    assert [0, 1, Expired(1)] == made.apply([write(2, 1), write(3, 2), write(4, 3)])
    assert [2] == made.apply([write(5, 4, floor=3)])


def test_a_floor_beyond_the_write_itself_does_not_hide_it():
    made = machine()
    assert [0, 0] == made.apply([write(2, 1, floor=9), write(3, 1, floor=9)])


def any_history(seed: int) -> list[Entry]:
    """Writes of several sessions, repeated, late and reordered, as they may come to stand in a log."""
    dice = random.Random(seed)
    entries = [entry(1, index, OPEN) for index in range(1, 4)]
    for index in range(4, 200):
        session, serial = dice.randint(1, 5), dice.randint(1, 20)
        item = write(index, serial, f"{session}.{serial}", floor=dice.randint(1, 20), session=session)
        entries.append(dice.choice([item, item, item, item, entry(1, index, OPEN), entry(1, index, b"plain")]))
    return entries


@pytest.mark.parametrize("seed", range(20))
def test_how_entries_are_batched_makes_no_difference(seed):
    """Nodes cut the log into batches as it comes; all must come to the same state, results and snapshot."""
    history = any_history(seed)
    bounds = {"sessions_max": 4, "results_max": 5}
    one_by_one, in_batches = ExactlyOnce(Kinds(), **bounds), ExactlyOnce(Kinds(), **bounds)
    results = [result for item in history for result in one_by_one.apply([item])]
    dice = random.Random(-seed)
    batched: list[object] = []
    while len(batched) < len(history):
        batched += in_batches.apply(history[len(batched) : len(batched) + dice.randint(1, 30)])
    assert results == batched
    assert list(one_by_one.snapshot()) == list(in_batches.snapshot())


@pytest.mark.parametrize("seed", range(20))
def test_no_write_is_done_twice_whatever_is_repeated(seed):
    made = ExactlyOnce(Words(), sessions_max=4, results_max=5)
    made.apply(any_history(seed))
    numbered = [word for word in made.inner.words if word != "plain"]
    assert len(set(numbered)) == len(numbered)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_snapshot_knows_the_sessions_however_it_is_cut(size):
    made = machine()
    made.apply([write(2, 1, "a"), write(3, 2, "b", floor=2)])
    whole = b"".join(made.snapshot())
    other = ExactlyOnce(Kinds())
    other.restore([whole[start : start + size] for start in range(0, len(whole), size)], at(1, 3))
    assert [1, Expired(1), 2] == other.apply([write(4, 2, "b"), write(5, 1, "a"), write(6, 3, "c")])
    assert ["a", "b", "c"] == other.inner.words


def test_a_snapshot_does_not_show_what_was_applied_after_it_began():
    made = machine()
    chunks = made.snapshot()
    made.apply([write(2, 1, "a")])
    other = ExactlyOnce(Kinds())
    other.restore(chunks, at(1, 1))
    assert [0] == other.apply([write(2, 1, "a")])


@pytest.mark.parametrize("chunks", [[], [b"\5"], [b"\5" + bytes(7)], [b"\1" + bytes(7) + b"\xc1"]])
def test_what_is_no_snapshot_is_damage(chunks):
    with pytest.raises(Damaged):
        ExactlyOnce(Words()).restore(chunks, at(1, 3))


class OnDisk(Words):
    def applied(self):
        return at(1, 7)


def test_a_machine_that_keeps_its_state_by_itself_is_refused():
    with pytest.raises(ValueError, match="SessionTable of its own"):
        ExactlyOnce(OnDisk()).applied()
    assert BEFORE_LOG == ExactlyOnce(Words()).applied()


def test_a_result_that_cannot_be_remembered_is_said():
    table = SessionTable()
    table.open(1)
    table.find(1, 1, 1)
    table.keep(1, 1, object())
    with pytest.raises(TypeError):
        table.to_bytes()


# -- the client --------------------------------------------------------------------------------------------------------------


class Line:
    """A way to a machine on which answers get lost: `loses` says what happens to the next ones."""

    def __init__(self, *loses: Exception | None) -> None:
        self.machine = ExactlyOnce(Words())
        self.index = 0
        self.loses = list(loses)

    async def send(self, data: bytes) -> WriteOutcome:
        trouble = self.loses.pop(0) if self.loses else None
        if isinstance(trouble, ForwardToLeader | Overloaded):
            raise trouble
        self.index += 1
        (result,) = self.machine.apply([entry(1, self.index, data)])
        if trouble is not None:
            raise trouble
        return WriteOutcome(at(1, self.index), result)


def lost() -> OutcomeUnknown:
    return OutcomeUnknown(Refusal(RefusalCode.OUTCOME_UNKNOWN, "the answer is lost"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("raft_engine.runtime.session.RETRY_S", 0.0)


async def test_a_write_whose_answer_is_lost_is_sent_again_and_done_once():
    line = Line(None, lost(), lost(), None)
    session = await Session.open(line.send)
    assert 0 == (await session.write(b"a")).result
    assert ["a"] == line.machine.inner.words


async def test_a_write_is_sent_again_when_nobody_leads_or_too_much_is_waiting():
    nobody = ForwardToLeader(Refusal(RefusalCode.NO_LEADER, "nobody leads"))
    much = Overloaded(Refusal(RefusalCode.OVERLOADED, "too much is waiting"))
    session = await Session.open(Line(nobody, None, much, nobody).send)
    assert 0 == (await session.write(b"a")).result


async def test_the_last_trouble_is_told_when_the_time_is_up():
    session = await Session.open(Line(None, lost()).send)
    with pytest.raises(OutcomeUnknown, match="the answer is lost"):
        await session.write(b"a", timeout_s=0)


async def test_a_write_that_hangs_ends_with_its_time():
    line = Line()
    session = await Session.open(line.send)

    async def never(_: bytes) -> WriteOutcome:
        return await asyncio.get_running_loop().create_future()

    session._send = never
    with pytest.raises(OutcomeUnknown, match="no result within"):
        await session.write(b"a", timeout_s=0.01)


async def test_a_forgotten_session_is_told_and_nothing_is_done():
    line = Line()
    session = await Session.open(line.send)
    line.machine.table = SessionTable()
    with pytest.raises(SessionExpired, match=f"session {session.id} is forgotten"):
        await session.write(b"a")
    assert [] == line.machine.inner.words


async def test_writes_side_by_side_are_each_done_once_and_answered_results_are_forgotten():
    line = Line(None, *[lost(), None] * 20)
    session = await Session.open(line.send)
    await asyncio.gather(*(session.write(b"%d" % number) for number in range(20)))
    await session.write(b"end")
    assert sorted([*map(str, range(20)), "end"]) == sorted(line.machine.inner.words)
    assert 1 == len(line.machine.table._clients[session.id].results)


# -- in a cluster ------------------------------------------------------------------------------------------------------------


async def test_a_client_that_goes_on_with_the_next_leader_has_each_of_its_writes_done_once(monkeypatch):
    """Leaders stop under its writes; it sends them again, wherever somebody leads. Snapshots carry the sessions to who restarts."""
    monkeypatch.setattr("tests.runtime.cluster.Words", lambda: ExactlyOnce(Words()))
    cluster = Cluster()
    await cluster.start()
    attempts = 0

    async def send(data: bytes) -> WriteOutcome:
        nonlocal attempts
        attempts += 1
        raft = next((raft for raft in cluster.rafts.values() if raft.is_leader), None)
        if raft is None:
            raise ForwardToLeader(Refusal(RefusalCode.NO_LEADER, "nobody leads"))
        try:
            return await raft.client_write(data, timeout_s=1)
        except Stopped as error:
            raise lost() from error

    await cluster.leader()
    session = await Session.open(send)
    for turn in range(3):
        writes = [asyncio.ensure_future(session.write(b"%d.%d" % (turn, number), timeout_s=60)) for number in range(20)]
        await asyncio.sleep(0)
        leader = next(raft for raft in cluster.rafts.values() if raft.is_leader)
        await cluster.stop(leader.node_id)
        await asyncio.gather(*writes)
        await cluster.start(leader.node_id)
        await (await cluster.leader()).trigger.snapshot()
    leader = await cluster.leader()
    words = leader.state_machine.inner.words
    assert sorted(f"{turn}.{number}" for turn in range(3) for number in range(20)) == sorted(words)
    assert attempts > 61, "no write had to be sent again"
    await cluster.stop()
