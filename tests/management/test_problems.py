"""How failures are told."""

from __future__ import annotations

import logging

import pytest

from raft_engine.errors import (
    ConfigError,
    Damaged,
    InitializeError,
    Panicked,
    Stopped,
    StorageFailed,
    TransportError,
    refused,
)
from raft_engine.management.kv_routes import write_timed_out
from raft_engine.management.problems import PROBLEMS, ProblemError, as_problem, problem_body, problem_headers
from raft_engine.types.ids import NodeId
from raft_engine.types.outcomes import Refusal, RefusalCode
from tests.management.fakes import leader_metrics

STATUS = {
    "not_leader": 421,
    "no_leader": 503,
    "no_quorum": 503,
    "node_not_found": 404,
    "beyond_snapshot": 422,
    "leadership_lost": 503,
    "precondition_failed": 412,
    "outcome_unknown": 504,
    "overloaded": 503,
    "timed_out": 504,
    "shutting_down": 503,
}


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_has_its_status_and_title(code):
    row = PROBLEMS[code]
    assert STATUS.get(code.value, 409) == row.status
    assert row.title


@pytest.mark.parametrize("code", ["no_leader", "no_quorum", "overloaded"])
def test_what_passes_by_itself_says_when_to_try_again(code):
    assert (b"retry-after", b"1") in problem_headers(ProblemError(code, ""))


@pytest.mark.parametrize("code", RefusalCode)
def test_a_refusal_comes_out_as_it_went_in(code):
    refusal = Refusal(code, "measured 3", NodeId(2), "do this", {"lag": 3})
    problem = as_problem(refused(refusal))
    assert code.value == problem.code
    body = problem_body(problem, leader_metrics())
    assert f"urn:raft-engine:problem:{code.value}" == body.type
    if code is not RefusalCode.SHUTTING_DOWN:
        assert (body.detail, body.hint, body.measured) == ("measured 3", "do this", {"lag": 3})
        assert (body.leader.id, body.leader.management) == (2, "http://127.0.0.1:2")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StorageFailed("disk"), 500, "fatal"),
        (Panicked("bug"), 500, "fatal"),
        (Stopped("bye"), 503, "shutting_down"),
        (Damaged("torn", path="p", offset=3), 500, "storage_failed"),
        (TransportError("port taken"), 500, "start_failed"),
        (ConfigError("raft is not host:port"), 400, "malformed"),
        (InitializeError("member_unreachable", "node 3"), 409, "member_unreachable"),
        (InitializeError("prepared_for_another", "node 3"), 409, "prepared_for_another"),
        (InitializeError("not_in_members", "me"), 409, "not_in_members"),
        (InitializeError("already_initialized", "yes"), 409, "already_initialized"),
    ],
)
def test_errors_of_the_engine_have_a_status_and_a_code(error, status, code):
    problem = as_problem(error)
    assert (status, code) == (problem.status, problem.code)


def test_a_bug_is_told_without_its_insides_and_logged_with_them(caplog):
    with caplog.at_level(logging.ERROR):
        problem = as_problem(ZeroDivisionError("secret detail"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "secret" not in problem.detail
    assert "secret detail" in caplog.text


def test_the_leader_is_the_one_the_engine_knows_when_the_refusal_names_none():
    body = problem_body(ProblemError("not_found", ""), leader_metrics(leader=NodeId(3)))
    assert (body.leader.id, body.leader.management, body.term) == (3, "http://127.0.0.1:3", 7)


def test_a_leader_nobody_has_the_address_of_is_named_all_the_same():
    body = problem_body(ProblemError("not_leader", "", leader=NodeId(9)), leader_metrics())
    assert (body.leader.id, body.leader.management) == (9, None)


def test_who_asks_the_wrong_node_is_told_the_right_one():
    hint = problem_body(ProblemError("not_leader", "", leader=NodeId(2)), leader_metrics()).hint
    assert hint.startswith("send it to node 2, http://127.0.0.1:2; ")
    assert "what changes something may ask for a redirect" in hint, "a read takes no such parameter"


def test_who_asks_the_wrong_node_while_nobody_leads_is_told_to_ask_again():
    assert "ask again" in problem_body(ProblemError("not_leader", ""), leader_metrics(leader=None)).hint


@pytest.mark.parametrize("code", ["no_leader", "no_quorum", "outcome_unknown", "timed_out"])
def test_what_waits_for_other_nodes_has_a_hint_that_leads_to_their_alarms(code):
    hint = problem_body(ProblemError(code, ""), leader_metrics()).hint
    assert "raftctl doctor says why (or see GET /v1/cluster)" in hint
    assert "disk" not in hint, "of many reasons"


def test_a_write_that_is_not_committed_in_time_leads_to_the_nodes_alarms():
    problem = write_timed_out(5.0)
    assert "the same Idempotency-Key" in problem.hint
    assert "GET /v1/cluster" in problem.hint


def test_without_a_leader_the_body_says_null():
    assert problem_body(ProblemError("no_leader", ""), leader_metrics(leader=None)).leader is None
