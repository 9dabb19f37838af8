"""The owner of the engine, with an engine that follows a script: raft_engine/runtime/loop.py, ticker.py, metrics_watch.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import msgspec
import pytest

from raft_engine.config import Config
from raft_engine.core.commands import AppendEntries, Command, Respond, RespondReads, RespondWrites
from raft_engine.core.events import (
    ClientWritesRequested,
    Event,
    PeerConnected,
    ReadsRequested,
    ShutdownRequested,
    Ticked,
    WriteRequested,
)
from raft_engine.errors import Damaged, Panicked, RaftError, StorageFailed
from raft_engine.runtime import batching, busy_polling
from raft_engine.runtime.metrics_watch import MetricsWatch
from raft_engine.runtime.ticker import Ticker
from raft_engine.storage.memory import MemoryLog
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.ids import IoId, LogIndex, NodeId, Term, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.metrics import RaftMetrics, ServerState
from raft_engine.types.outcomes import CommitOutcome, Expectation, ReadOutcome, RefusalCode, WriteOutcome
from tests.runtime.cluster import peer
from tests.runtime.scripted import ScriptedEngine, turns


async def test_what_happens_in_one_turn_is_handled_in_order_at_one_time(made):
    engine = ScriptedEngine()
    loop = made(engine)
    for node_id in (1, 2, 3):
        loop.post(PeerConnected(peer(node_id)))
    assert engine.told == []
    await turns()
    assert engine.events() == [PeerConnected(peer(node_id)) for node_id in (1, 2, 3)]
    assert len({now for _, now in engine.told}) == 1


async def test_writes_of_one_turn_become_one_event(made):
    engine = ScriptedEngine()
    loop = made(engine)
    for data in (b"a", b"b", b"c"):
        loop.write(data, lambda _: None)
    await turns()
    assert [[write.data for write in event.writes] for event in engine.events()] == [[b"a", b"b", b"c"]]


async def test_a_batch_of_writes_is_bounded(made):
    engine = ScriptedEngine()
    loop = made(engine, Config(max_append_entries=2))
    for data in (b"a", b"b", b"c"):
        loop.write(data, lambda _: None)
    await turns()
    assert [len(event.writes) for event in engine.events()] == [2, 1]


async def test_an_exception_in_the_core_ends_the_engine_and_tells_everybody(made):
    def answer(event: Event) -> list[Command]:
        assert not isinstance(event, PeerConnected), "an invariant is broken"
        return []

    engine = ScriptedEngine(answer)
    loop = made(engine)
    heard = []
    loop.write(b"a", heard.append)
    loop.read(False, 1000, heard.append)
    await turns()
    loop.post(PeerConnected(peer(2)))
    loop.post(PeerConnected(peer(3)))
    await turns()
    assert [refusal.code for refusal in heard] == [RefusalCode.OUTCOME_UNKNOWN, RefusalCode.SHUTTING_DOWN]
    assert isinstance(loop.fatal, Panicked)
    assert "an invariant is broken" in str(loop.fatal)
    picture = loop.watch.current()
    assert (picture.state, picture.fatal) == (ServerState.SHUTDOWN, str(loop.fatal))
    told = len(engine.told)
    loop.post(PeerConnected(peer(4)))
    await turns()
    assert len(engine.told) == told


async def test_a_damaged_store_ends_the_engine_as_a_storage_failure(made):
    loop = made(ScriptedEngine())
    loop.fail(OSError(5, "Input/output error"))
    assert isinstance(loop.fatal, StorageFailed)


async def test_a_store_that_finds_out_by_itself_that_it_failed_ends_an_idle_engine(made):
    class WorkingLog(MemoryLog):
        def watch_failure(self, told: Callable[[RaftError], None]) -> None:
            self.thread = threading.Thread(target=told, args=(Damaged("entry 7 is altered", path="log"),))
            self.thread.start()

    log = WorkingLog()
    loop = made(ScriptedEngine(), log=log)
    log.thread.join()
    await turns()
    assert isinstance(loop.fatal, StorageFailed)
    assert "entry 7 is altered" in str(loop.fatal)


async def test_the_first_failure_is_the_one_that_is_kept(made):
    loop = made(ScriptedEngine())
    loop.fail(StorageFailed("first"))
    loop.fail(StorageFailed("second"))
    assert str(loop.fatal) == "first"


async def test_a_write_that_the_engine_never_saw_was_not_accepted(made):
    engine = ScriptedEngine()
    loop = made(engine)
    heard = []
    loop.write(b"a", heard.append)
    loop.stop("shutting down")
    assert [refusal.code for refusal in heard] == [RefusalCode.SHUTTING_DOWN]
    assert engine.events() == [ShutdownRequested("shutting down")]


def serve_reads(event: Event) -> list[Command]:
    return [RespondReads(event.tickets, ReadOutcome(LogIndex(7)))] if isinstance(event, ReadsRequested) else []


async def test_an_answer_reaches_the_one_who_asked(made):
    loop = made(ScriptedEngine(serve_reads))
    heard = []
    loop.read(False, 1000, heard.append)
    assert heard == []
    await turns()
    assert heard == [ReadOutcome(LogIndex(7))]


async def test_reads_of_one_turn_on_the_same_terms_become_one_event(made):
    engine = ScriptedEngine()
    loop = made(engine)
    plain = [loop.read(False, 1000, lambda _: None) for _ in range(3)]
    lease = [loop.read(True, 1000, lambda _: None) for _ in range(2)]
    patient = [loop.read(False, 2000, lambda _: None)]
    await turns()
    assert engine.events() == [
        ReadsRequested(plain, False, 1000),
        ReadsRequested(lease, True, 1000),
        ReadsRequested(patient, False, 2000),
    ]


async def test_a_read_that_is_asked_for_by_an_answer_is_handled_too(made):
    loop = made(ScriptedEngine(serve_reads))
    heard = []
    loop.read(False, 1000, lambda _: loop.read(False, 1000, heard.append))
    await turns()
    assert heard == [ReadOutcome(LogIndex(7))]


async def test_a_forgotten_read_is_answered_to_nobody_and_its_neighbours_are(made):
    loop = made(ScriptedEngine(serve_reads))
    heard, forgotten = [], []
    loop.tickets.drop(loop.read(False, 1000, forgotten.append))
    loop.read(False, 1000, heard.append)
    await turns()
    assert (heard, forgotten) == ([ReadOutcome(LogIndex(7))], [])


async def test_a_read_beyond_the_bound_is_refused_and_the_core_never_hears_of_it(made):
    engine = ScriptedEngine()
    loop = made(engine, Config(api_channel_size=1))
    heard = []
    ticket = loop.read(False, 1000, lambda _: None)
    loop.read(False, 1000, heard.append)
    assert heard == []
    await turns()
    assert [refusal.code for refusal in heard] == [RefusalCode.OVERLOADED]
    assert engine.events() == [ReadsRequested([ticket], False, 1000)]


async def test_a_read_that_the_engine_never_saw_is_told_of_its_end(made):
    engine = ScriptedEngine()
    loop = made(engine)
    heard = []
    loop.read(False, 1000, heard.append)
    loop.stop("shutting down")
    await turns()
    assert [refusal.code for refusal in heard] == [RefusalCode.SHUTTING_DOWN]
    assert engine.events() == [ShutdownRequested("shutting down")]


async def test_time_goes_on_by_ticks(made):
    ticked = asyncio.Event()

    def answer(event: Event) -> list[Command]:
        if isinstance(event, Ticked):
            ticked.set()
        return []

    made(ScriptedEngine(answer))
    await asyncio.wait_for(ticked.wait(), 10)


async def test_an_unhandled_write_batch_event_is_never_empty(made):
    engine = ScriptedEngine()
    loop = made(engine)
    loop.post(PeerConnected(peer(2)))
    await turns()
    assert not any(isinstance(event, ClientWritesRequested) for event in engine.events())


async def test_after_a_stall_messages_are_read_before_time_goes_on():
    ticked = asyncio.Event()
    ticker = Ticker(10, 50, ticked.set)
    ticker._due -= 1000
    ticker._timer.cancel()
    ticker._fire()
    assert not ticked.is_set()
    await asyncio.wait_for(ticked.wait(), 10)
    ticker.stop()


async def test_the_version_rises_when_the_picture_differs_in_more_than_time():
    engine = ScriptedEngine()
    clock = iter(range(1000))
    watch = MetricsWatch(lambda: engine.metrics(next(clock)))
    watch.current()
    before = watch.version
    watch.current()
    assert watch.version == before
    engine.term = 2
    watch.current()
    assert watch.version == before + 1


async def test_a_watcher_is_woken_by_a_look_and_an_unwatched_engine_is_not_pictured():
    pictures = []

    def picture() -> RaftMetrics:
        pictures.append(None)
        return msgspec.structs.replace(ScriptedEngine().metrics(0), term=Term(len(pictures)))

    watch = MetricsWatch(picture)
    watch.look(1000)
    assert len(pictures) == 1
    watch.current()
    seen_by_then = watch.version + 1  # every look is another picture here, and waiting begins with one
    waiting = asyncio.ensure_future(watch.wait_change(seen_by_then, 30))
    await turns()
    watch.look(2000)
    await waiting
    assert watch.version > 2


async def test_what_happens_just_after_a_look_is_seen_when_its_interval_is_over():
    engine = ScriptedEngine()
    watch = MetricsWatch(lambda: engine.metrics(0))
    first = asyncio.ensure_future(watch.wait_change(watch.version, 30))
    await turns()
    engine.term = Term(2)
    watch.look(1000)
    await first
    second = asyncio.ensure_future(watch.wait_change(watch.version, 30))
    await turns()
    engine.term = Term(3)
    watch.look(1001)
    async with asyncio.timeout(20):
        assert (await second).term == 3


async def test_however_much_happens_just_after_a_look_one_look_follows(monkeypatch):
    watch = MetricsWatch(lambda: ScriptedEngine().metrics(0))
    waiting = asyncio.ensure_future(watch.wait_change(watch.version, 30))
    await turns()
    watch.look(1000)
    timers = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay_s, *call: timers.append(delay_s) or call)
    for moment in (1001, 1002, 1003):
        watch.look(moment)
    assert [pytest.approx(0.004)] == timers
    waiting.cancel()


async def test_more_bytes_of_writes_than_may_be_uncommitted_are_not_accepted(made):
    loop = made(ScriptedEngine(), Config(max_uncommitted_bytes=10))
    heard = []
    for data in (b"123456", b"7890", b"too much"):
        loop.write(data, heard.append)
    await turns()
    assert [refusal.code for refusal in heard] == [RefusalCode.OVERLOADED]
    loop.write(b"123456", heard.append)
    await turns()
    assert len(heard) == 1, "what was taken no longer counts"


async def test_one_write_larger_than_the_bound_is_still_taken(made):
    engine = ScriptedEngine()
    loop = made(engine, Config(max_uncommitted_bytes=10))
    loop.write(b"larger than that", lambda _: None)
    await turns()
    assert [len(event.writes) for event in engine.events()] == [1]


async def test_writes_that_may_linger_wait_for_others_while_everything_else_is_handled(made):
    engine = ScriptedEngine()
    loop = made(engine, Config(api_batch_linger_ms=60_000, max_append_entries=3))
    for data in (b"a", b"b"):
        loop.write(data, lambda _: None)
    loop.post(PeerConnected(peer(2)))
    await turns()
    assert engine.events() == [PeerConnected(peer(2))]
    loop.write(b"c", lambda _: None)
    await turns()
    assert [len(event.writes) for event in engine.events()[1:]] == [3], "a full batch goes at once"


async def test_writes_that_linger_go_before_a_write_on_conditions(made):
    engine = ScriptedEngine()
    loop = made(engine, Config(api_batch_linger_ms=60_000, max_append_entries=2))
    for data in (b"a", b"b", b"c"):
        loop.write(data, lambda _: None)
    loop.write_on_conditions(b"d", Expectation(term=1), lambda _: None, lambda _: None)
    loop.write(b"e", lambda _: None)
    await turns()
    assert [[b"a", b"b"], [b"c"], b"d"] == [_data_of(event) for event in engine.events()]
    assert (3, 4) == (loop.counters.write_batches, loop.counters.writes)


def _data_of(event: Event):
    return [write.data for write in event.writes] if isinstance(event, ClientWritesRequested) else event.data


async def test_a_write_on_conditions_has_a_ticket_for_the_commit_and_one_for_the_result(made):
    def answer(event: Event) -> list[Command]:
        if not isinstance(event, WriteRequested):
            return []
        log_id = LogId(1, 1, 7)
        return [Respond(event.commit_ticket, CommitOutcome(log_id)), RespondWrites([(event.ticket, log_id, "result")])]

    loop = made(ScriptedEngine(answer))
    heard = []
    loop.write_on_conditions(None, Expectation(), heard.append, heard.append)
    assert [] == heard
    await turns()
    assert [CommitOutcome(LogId(1, 1, 7)), WriteOutcome(LogId(1, 1, 7), "result")] == heard
    assert 0 == len(loop.tickets)


async def test_writes_gather_while_others_are_under_way_and_go_when_those_are_answered(
    made, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batching, "GATHERING_MAX_S", 60)
    taken: list[list[Ticket]] = []

    def answer(event: Event) -> list[Command]:
        if isinstance(event, ClientWritesRequested):
            taken.append([write.ticket for write in event.writes])
        if isinstance(event, PeerConnected):
            return [RespondWrites([(ticket, LogId(1, 1, 1), None) for ticket in taken[0]])]
        return []

    loop = made(ScriptedEngine(answer))
    for data in (b"a", b"b", b"c"):
        loop.write(data, lambda _: None)
    await turns()
    loop.write(b"d", lambda _: None)
    loop.write(b"e", lambda _: None)
    await turns()
    assert [3] == [len(tickets) for tickets in taken]
    loop.post(PeerConnected(peer(2)))
    await turns()
    assert [3, 2] == [len(tickets) for tickets in taken]


async def test_a_write_lingers_no_longer_than_it_may(made):
    taken = asyncio.Event()

    def answer(event: Event) -> list[Command]:
        if isinstance(event, ClientWritesRequested):
            taken.set()
        return []

    engine = ScriptedEngine(answer)
    loop = made(engine, Config(api_batch_linger_ms=1))
    loop.write(b"a", lambda _: None)
    await taken.wait()
    assert [len(event.writes) for event in engine.events()] == [1]


async def test_while_a_lone_write_is_on_its_way_the_loop_does_not_sleep(made, monkeypatch):
    went_round = asyncio.Event()
    monkeypatch.setattr(busy_polling.os, "sched_yield", went_round.set)
    entry = make_entry(Term(1), NodeId(1), LogIndex(1), EntryKind.NORMAL, b"a")

    def append(event: Event) -> list[Command]:
        return [AppendEntries(IoId(1), (entry,))] if isinstance(event, ClientWritesRequested) else []

    made(ScriptedEngine(append), Config(busy_poll_us=10_000)).write(b"a", lambda _: None)
    async with asyncio.timeout(60):
        await went_round.wait()
