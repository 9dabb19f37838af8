"""Reading what a client sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.management.exchange import (
    ClientGoneError,
    Fields,
    idempotency_key,
    parse_count,
    parse_duration,
    read_body,
    read_fields,
    read_query,
    unescape,
)
from raft_engine.management.problems import ProblemError


def result_or_status(read):
    try:
        return read()
    except ProblemError as refused:
        return refused.status


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"0", 0), (b"0s", 0), (b"500ms", 0.5), (b"5s", 5), (b"1.5s", 1.5), (b"2m", 120), (b"600s", 600), (b"10m", 600)],
)
def test_durations_have_a_unit(text, seconds):
    assert seconds == pytest.approx(parse_duration(text, "wait"))


@pytest.mark.parametrize(
    "text",
    [b"", b"5", b"-1s", b"s", b"5h", b"1e3s", b" 5s", b"5s ", b"\xff", b"601s", b"11m", b"5S", b"nan", b"9" * 50 + b"s"],
)
def test_other_durations_are_refused_naming_the_parameter(text):
    with pytest.raises(ProblemError, match="wait") as refused:
        parse_duration(text, "wait")
    assert refused.value.status == 400


@given(st.binary(max_size=40))
def test_no_bytes_break_the_duration_parser(text):
    seconds = result_or_status(lambda: parse_duration(text, "wait"))
    assert seconds == 400 or 0 <= seconds <= 600


@given(st.binary(max_size=80))
def test_no_bytes_break_the_query_parser(text):
    query = result_or_status(lambda: read_query(text, ("wait",)))
    assert query == 400 or query.keys() <= {"wait"}


def test_a_query_is_unescaped_with_plus_as_space():
    assert read_query(b"after=a+b%2Fc%ff", ("after",)) == {"after": b"a b/c\xff"}


@pytest.mark.parametrize(
    ("query", "complaint"),
    [(b"wiat=5s", "'wiat'"), (b"wait=1s&wait=1s", "twice"), (b"wait=%zz", "hex"), (b"%zz=1", "hex"), (b"=1", "''")],
)
def test_a_bad_query_is_refused_and_named(query, complaint):
    with pytest.raises(ProblemError, match=complaint):
        read_query(query, ("wait",))


def test_an_unknown_parameter_hints_at_the_known_ones():
    with pytest.raises(ProblemError) as refused:
        read_query(b"x=1", ("wait", "forward"))
    assert (refused.value.code, refused.value.hint) == ("unknown_parameter", "known: forward, wait")


def test_a_long_parameter_name_is_not_quoted_whole():
    with pytest.raises(ProblemError) as refused:
        read_query(b"x" * 10_000, ("wait",))
    assert len(refused.value.detail) < 200


@given(st.binary(max_size=60))
def test_unescaping_gives_bytes_or_a_refusal(value):
    key = result_or_status(lambda: unescape(value, "the key"))
    assert key == 400 or len(key) <= len(value)


@pytest.mark.parametrize("text", [b"", b"-1", b"0", b"11", b"1.0", b"\xb2", b"9" * 5000, b"+1"])
def test_counts_outside_their_bounds_are_refused(text):
    with pytest.raises(ProblemError, match="limit"):
        parse_count(text, "limit", 1, 10)


def test_a_header_that_came_twice_is_refused():
    with pytest.raises(ProblemError, match="if-match came twice"):
        read_fields([(b"if-match", b"1"), (b"accept", b"a"), (b"if-match", b"2")])


def test_headers_without_meaning_may_come_as_often_as_they_like():
    assert Fields(host=b"h") == read_fields([(b"accept", b"a"), (b"host", b"h"), (b"accept", b"b")])


@pytest.mark.parametrize("key", [b"", b"a b", b"\xc3\xa9", b"x" * 256, b"a\tb"])
def test_a_bad_idempotency_key_is_refused(key):
    with pytest.raises(ProblemError, match="Idempotency-Key"):
        idempotency_key(Fields(idempotency_key=key))


def receiving(*messages):
    remaining = list(messages)

    async def receive():
        return remaining.pop(0)

    return receive


def part(body: bytes, more: bool):
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_parts_is_joined():
    assert await read_body(receiving(part(b"a", True), part(b"b", True), part(b"c", False)), Fields(), 3) == b"abc"


async def test_a_declared_length_above_the_limit_is_refused_before_anything_is_read():
    with pytest.raises(ProblemError) as refused:
        await read_body(receiving(), Fields(content_length=b"4"), 3)
    assert refused.value.status == 413


async def test_an_absurd_declared_length_is_refused():
    with pytest.raises(ProblemError) as refused:
        await read_body(receiving(), Fields(content_length=b"9" * 5000), 3)
    assert refused.value.status == 413


async def test_an_undeclared_body_is_refused_as_soon_as_it_is_too_long():
    with pytest.raises(ProblemError) as refused:
        await read_body(receiving(part(b"ab", True), part(b"cd", True)), Fields(), 3)
    assert refused.value.status == 413


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_gets_no_answer():
    with pytest.raises(ClientGoneError):
        await read_body(receiving(part(b"ab", True), {"type": "http.disconnect"}), Fields(), 3)
