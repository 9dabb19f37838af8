"""Histories that a single register could have produced, and others that it could not."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_engine.testing.linearizability import History, Operation, StaleRead, check, check_stale


def put(process, value, called, returned=None, key="k"):
    return Operation(process, "put", key, called, returned, value)


def get(process, result, called, returned=None, key="k"):
    return Operation(process, "get", key, called, returned, result=result)


def delete(process, result, called, returned=None, key="k"):
    return Operation(process, "delete", key, called, returned, result=result)


def cas(process, expected, value, result, called, returned=None, key="k"):
    return Operation(process, "cas", key, called, returned, value, expected, result)


LINEARIZABLE = {
    "nothing": [],
    "one after the other": [put("a", 1, 0, 1), get("b", 1, 2, 3)],
    "a key that was never written": [get("a", None, 0, 1)],
    "a read during a write sees the old value": [put("a", 1, 0, 9), get("b", None, 1, 2)],
    "a read during a write sees the new value": [put("a", 1, 0, 9), get("b", 1, 1, 2)],
    "writes at once take effect in either order": [
        put("a", 1, 0, 9),
        put("b", 2, 0, 9),
        get("c", 2, 1, 2),
        get("c", 1, 3, 4),
    ],
    "an open write is seen late": [put("a", 1, 0), put("b", 2, 1, 2), get("c", 2, 3, 4), get("c", 1, 5, 6)],
    "an open write is never seen": [put("a", 1, 0), get("c", None, 3, 4)],
    "an open delete is seen late": [put("a", 1, 0, 1), delete("b", None, 2), get("c", 1, 3, 4), get("c", None, 5, 6)],
    "an open cas builds on an open put": [put("a", 1, 0), cas("b", 1, 2, None, 0), get("c", 2, 3, 4)],
    "a cas that succeeds and one that does not": [
        put("a", 1, 0, 1),
        cas("b", 1, 2, True, 2, 3),
        cas("c", 1, 3, False, 2, 3),
        get("d", 2, 4, 5),
    ],
    "a cas fails because of an open write that nobody reads": [
        put("a", 1, 0, 1),
        put("b", 7, 2),
        cas("c", 1, 2, False, 3, 4),
    ],
    "a delete that found something and one that did not": [
        put("a", 1, 0, 1),
        delete("b", True, 2, 3),
        delete("c", False, 4, 5),
    ],
    "what touches at one instant is concurrent": [put("a", 1, 0, 1), get("b", None, 1, 2)],
    "keys are independent": [put("a", 1, 0, 1, key="x"), get("b", None, 2, 3, key="y")],
}

NOT_LINEARIZABLE = {
    "a lost write": [put("a", 1, 0, 1), get("b", None, 2, 3)],
    "a stale read": [put("a", 1, 0, 1), put("a", 2, 2, 3), get("b", 1, 4, 5)],
    "a value from nowhere": [get("a", 9, 0, 1)],
    "a value before it was written": [get("a", 1, 0, 1), put("b", 1, 2, 3)],
    "a read that goes back during a write": [put("a", 1, 0, 9), get("b", 1, 1, 2), get("c", None, 3, 4)],
    "an open write is seen, then not": [put("a", 1, 0), get("b", 1, 1, 2), get("c", None, 3, 4)],
    "an open write is seen before its call": [get("b", 1, 1, 2), put("a", 1, 3)],
    "an open write takes effect twice": [
        put("a", 1, 0),
        get("c", 1, 1, 2),
        put("b", 2, 3, 4),
        get("c", 2, 5, 6),
        get("c", 1, 7, 8),
    ],
    "two of the same cas succeed": [put("a", 1, 0, 1), cas("b", 1, 2, True, 2, 5), cas("c", 1, 3, True, 2, 5)],
    "a cas fails though its value is there": [put("a", 1, 0, 1), cas("b", 1, 2, False, 2, 3)],
    "a delete found nothing though there was something": [put("a", 1, 0, 1), delete("b", False, 2, 3)],
    "two readers disagree about the order": [
        put("a", 1, 0, 1),
        put("b", 2, 0, 1),
        get("c", 1, 2, 3),
        get("c", 2, 4, 5),
    ],
    "one of many keys": [put("a", 1, 0, 1, key="x"), get("a", 1, 2, 3, key="x"), get("b", 4, 2, 3, key="y")],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_a_history_of_a_single_register_passes(name):
    assert check(LINEARIZABLE[name]).ok


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_a_history_that_no_register_has_fails(name):
    verdict = check(NOT_LINEARIZABLE[name])
    assert (False, False) == (verdict.ok, verdict.undecided)


def test_a_failure_says_of_which_key_and_what_does_not_fit():
    verdict = check([put("a", 1, 0, 1), get("b", None, 2, 3)])
    assert (
        "key 'k' is not linearizable: at most 1 of 2 answered operations can be ordered\n"
        "the last of them:\n"
        "  a: put 1, called at 0, answered None at 1\n"
        "then the register holds 1, and one of these would have to be next:\n"
        "  b: get, called at 2, answered None at 3"
    ) == str(verdict)


def test_too_much_work_is_undecided_and_that_is_not_ok():
    hard = [put(number, number, 0, 99) for number in range(12)] + [get("x", "nobody wrote this", 0, 99)]
    verdict = check(hard, work_max=1000)
    assert (False, True) == (verdict.ok, verdict.undecided)
    assert "undecided" in str(verdict)


def test_a_refused_operation_is_as_if_it_had_never_been():
    history = History()
    refused = history.call("a", "put", "k", 0, argument=1)
    history.refused(refused)
    history.done(history.call("b", "get", "k", 1), 2, None)
    assert history.check().ok


def test_an_operation_that_is_not_ended_may_still_take_effect():
    history = History()
    history.call("a", "put", "k", 0, argument=1)
    history.done(history.call("b", "get", "k", 5), 6, None)
    history.done(history.call("b", "get", "k", 7), 8, 1)
    assert history.check().ok


# -- against a model and a brute force --------------------------------------------------------------------------------


def random_history(chance: random.Random, count: int, keys: int, processes: int, open_share: float) -> list[Operation]:
    """Return what a register that does one thing at a time answers to processes that call at random moments."""
    state: dict[int, object] = {}
    free_at = [0.0] * processes
    history = []
    for _ in range(count):
        process = min(range(processes), key=lambda number: free_at[number])
        called = free_at[process] + chance.random()
        moment = called + chance.random() * 3
        history.append((moment, process, called, moment + chance.random() * 3))
        free_at[process] = history[-1][3] + 0.001
    result = []
    for number, (_moment, process, called, returned) in enumerate(sorted(history)):
        key, value = chance.randrange(keys), chance.choice([number, number % 3])
        action = chance.choice(["put", "get", "get", "cas", "delete"])
        lost = chance.random() < open_share
        happens = not lost or chance.random() < 0.5
        before = state.get(key)
        expected = before if chance.random() < 0.6 else 1
        operation = Operation((process, number) if lost else process, action, key, called, None if lost else returned)
        if action == "get":
            operation.result = before
        elif action == "put":
            operation.argument = value
        elif action == "delete":
            operation.result = chance.choice([None, before is not None])
        else:
            operation.argument, operation.expected, operation.result = value, expected, before == expected
        if lost:
            operation.result = None
        if happens and action in {"put", "delete"}:
            state[key] = value if action == "put" else None
        if happens and action == "cas" and before == expected:
            state[key] = value
        result.append(operation)
    chance.shuffle(result)
    return result


def brute_force(operations: list[Operation]) -> bool:
    """Try every order of every choice of the open operations."""
    known = [item for item in operations if item.returned is not None]
    still_open = [item for item in operations if item.returned is None]
    for count in range(len(still_open) + 1):
        for chosen in itertools.combinations(still_open, count):
            if any(map(_fits, itertools.permutations([*known, *chosen]))):
                return True
    return False


def _fits(order: tuple[Operation, ...]) -> bool:
    state = None
    for position, item in enumerate(order):
        if any(later.returned is not None and later.returned < item.called for later in order[position + 1 :]):
            return False
        known = item.returned is not None
        if item.action == "get" and known and item.result != state:
            return False
        if item.action == "delete" and known and item.result is not None and item.result != (state is not None):
            return False
        if item.action == "cas":
            if known and item.result != (state == item.expected):
                return False
            state = item.argument if state == item.expected else state
        if item.action in {"put", "delete"}:
            state = item.argument
    return True


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.3]))
@settings(max_examples=60, deadline=None)
def test_whatever_a_register_answers_passes(seed, open_share):
    verdict = check(random_history(random.Random(seed), 120, 3, 5, open_share))
    assert verdict.ok, verdict


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3]))
@settings(max_examples=150, deadline=None)
def test_a_changed_answer_is_judged_as_by_trying_every_order(seed, open_share):
    chance = random.Random(seed)
    history = random_history(chance, 6, 1, 3, open_share)
    for operation in chance.sample(history, 2):
        if operation.action == "get":
            operation.result = chance.choice([None, 0, 1, 2, 3])
        elif operation.action == "cas":
            operation.result = chance.random() < 0.5
        elif operation.action == "put":
            operation.argument = chance.choice([0, 1, 2])
        else:
            operation.result = chance.choice([None, True, False])
    assert brute_force(history) == check(history).ok


def test_ten_thousand_operations_of_twenty_keys_take_little_work():
    history = random_history(random.Random(1), 10_000, 20, 10, 0.02)
    assert check(history, work_max=20_000).ok


# -- stale reads -------------------------------------------------------------------------------------------------------

WRITES = [(2, "k", "a"), (3, "other", "x"), (5, "k", "b"), (7, "k", None)]


def test_stale_reads_of_prefixes_pass():
    reads = [StaleRead("n1", "k", None, 1), StaleRead("n1", "k", "a", 4), StaleRead("n2", "k", None, 7)]
    assert check_stale(reads, WRITES).ok


def test_a_stale_read_of_no_prefix_fails():
    assert not check_stale([StaleRead("n1", "k", "b", 4)], WRITES).ok


def test_a_reader_that_goes_back_fails():
    assert not check_stale([StaleRead("n1", "k", "b", 5), StaleRead("n1", "k", "a", 4)], WRITES).ok
