"""Asking many at once: each answer at its place, whoever is slow."""

from __future__ import annotations

import threading

import pytest

from raftctl.parallel import AT_ONCE_MAX, Asking, at_once


@pytest.mark.parametrize("count", [0, 1, 2, AT_ONCE_MAX, 3 * AT_ONCE_MAX + 1])
def test_answers_stand_in_the_order_of_the_questions(count):
    assert [10 * number for number in range(count)] == at_once(lambda number: 10 * number, range(count))


def test_all_are_asked_before_the_first_has_answered():
    everybody = threading.Barrier(5)
    assert 5 == len(at_once(lambda _number: everybody.wait(60), range(5)))


def test_answers_come_in_the_order_in_which_they_are_given_and_more_may_be_asked_meanwhile():
    later = threading.Event()
    asking = Asking(lambda word: later.wait(60) and word if word == "slow" else word)
    asking.add(["slow", "quick"])
    assert ("quick", "quick") == asking.next()
    asking.add(["more"])
    assert ("more", "more") == asking.next()
    assert asking.next(0.0) is None
    later.set()
    assert ("slow", "slow") == asking.next()
    assert asking.next() is None


def test_what_goes_wrong_is_raised_where_the_answer_is_awaited():
    asking = Asking(int)
    asking.add(["no", "number"])
    with pytest.raises(ValueError, match="invalid literal"):
        asking.next()


def test_of_one_no_thread_is_made():
    assert [threading.get_ident()] == at_once(lambda _item: threading.get_ident(), ["one"])
