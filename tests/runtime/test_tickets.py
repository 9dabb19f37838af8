"""Who waits for what: raft_engine/runtime/tickets.py."""

from __future__ import annotations

import asyncio
import logging

from raft_engine.runtime.tickets import Tickets, resolve
from raft_engine.types.ids import LogIndex, NodeId, Term, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.outcomes import ReadOutcome, Refusal, RefusalCode, WriteOutcome

ID = LogId(Term(1), NodeId(1), LogIndex(7))


def test_the_writes_of_one_apply_are_answered_together():
    tickets, heard = Tickets(), []
    first, second = tickets.open_write(heard.append), tickets.open_write(heard.append)
    tickets.answer_writes([(first, ID, "a"), (second, ID, "b")])
    assert [WriteOutcome(ID, "a"), WriteOutcome(ID, "b")] == heard
    assert len(tickets) == 0


def test_a_ticket_is_answered_once():
    tickets, heard = Tickets(), []
    ticket = tickets.open(heard.append)
    tickets.answer(ticket, ReadOutcome(LogIndex(1)))
    tickets.answer(ticket, ReadOutcome(LogIndex(2)))
    assert [ReadOutcome(LogIndex(1))] == heard


def test_whoever_has_gone_is_not_called():
    tickets, heard = Tickets(), []
    ticket = tickets.open_write(heard.append)
    tickets.drop(ticket)
    tickets.answer_writes([(ticket, ID, None)])
    assert heard == []


def test_an_answer_to_an_unknown_ticket_is_no_error():
    tickets = Tickets()
    tickets.answer(Ticket(99), ReadOutcome(LogIndex(1)))
    assert len(tickets) == 0


def test_at_the_end_a_write_is_of_unknown_outcome_and_everything_else_was_not_done():
    tickets, heard = Tickets(), []
    tickets.open_write(heard.append)
    tickets.open(heard.append)
    tickets.answer_all("the disk failed")
    assert [refusal.code for refusal in heard] == [RefusalCode.OUTCOME_UNKNOWN, RefusalCode.SHUTTING_DOWN]
    assert all("the disk failed" in refusal.detail for refusal in heard)


def test_a_failing_callback_is_logged_and_harms_nobody_else(caplog):
    tickets, heard = Tickets(), []

    def fail(_):
        raise ValueError("mine")

    broken, sound = tickets.open_write(fail), tickets.open_write(heard.append)
    with caplog.at_level(logging.ERROR):
        tickets.answer_writes([(broken, ID, 1), (sound, ID, 2)])
    assert [WriteOutcome(ID, 2)] == heard
    assert "mine" in caplog.text


async def test_an_answer_for_a_cancelled_future_goes_nowhere():
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    resolve(future)(Refusal(RefusalCode.NO_LEADER, ""))
    assert future.cancelled()
