"""Which id stands at an index."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.core.log_ids import LogIdList
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG
from tests.core.builder import at, entry


def listed(*terms: int, purged: int = 0) -> LogIdList:
    """Return a list whose first live index is `purged + 1`."""
    log = LogIdList(at(1, purged) if purged else BEFORE_LOG, at(1, purged) if purged else BEFORE_LOG, ())
    log.append([entry(term, purged + 1 + position) for position, term in enumerate(terms)])
    return log


def test_an_entry_is_found_by_its_index():
    assert at(2, 3) == listed(1, 1, 2, 2).get(3)


def test_the_purge_point_is_still_known():
    assert at(1, 4) == listed(2, 2, purged=4).get(4)


@pytest.mark.parametrize("index", [3, 7])
def test_what_is_purged_or_beyond_the_end_is_not_there(index: int):
    assert None is listed(2, 2, purged=4).get(index)


def test_asking_for_what_must_be_there_fails_loudly():
    with pytest.raises(AssertionError, match="outside the log"):
        listed(1).at(9)


@pytest.mark.parametrize(("first", "upto"), [(3, 4), (1, 4), (2, 2), (4, 4)])
def test_a_stretch_of_ids_is_that_of_its_entries_one_by_one(first: int, upto: int):
    log = listed(1, 1, 2, 2)
    assert [log.at(index) for index in range(first, upto + 1)] == log.between(first, upto)


def test_a_stretch_beyond_the_end_fails_loudly():
    with pytest.raises(AssertionError, match="outside the log"):
        listed(1, 1).between(1, 3)


def test_an_entry_of_another_term_is_not_the_same():
    log = listed(1, 2)
    assert log.has(at(2, 2))
    assert not log.has(at(1, 2))


def test_entries_follow_without_a_gap():
    with pytest.raises(AssertionError):
        listed(1).append([entry(1, 3)])


def test_terms_never_fall():
    with pytest.raises(AssertionError):
        listed(3).append([entry(2, 2)])


def test_one_run_stands_for_all_entries_of_a_leader():
    assert [(1, 1, 2), (3, 4, 2)] == listed(1, 1, 4, 4, 4).runs()


def test_truncation_forgets_what_follows():
    log = listed(1, 1, 2, 3)
    log.truncate(2)
    assert (at(1, 2), [(1, 1, 2)]) == (log.last, log.runs())


def test_truncation_within_a_run_shortens_it():
    log = listed(1, 1, 2, 2, 2)
    log.truncate(3)
    assert (at(2, 3), None) == (log.last, log.get(4))


def test_truncation_down_to_the_purge_point_leaves_an_empty_log():
    log = listed(2, 2, purged=4)
    log.truncate(4)
    assert (at(1, 4), []) == (log.last, log.runs())


def test_purging_forgets_what_comes_before():
    log = listed(1, 1, 2, 2)
    log.purge(at(2, 3))
    assert (at(2, 3), None, [(4, 2, 2)]) == (log.purged, log.get(2), log.runs())


def test_purging_everything_leaves_an_empty_log_that_goes_on():
    log = listed(1, 1)
    log.purge(at(1, 2))
    log.append([entry(5, 3)])
    assert (at(5, 3), [(3, 5, 2)]) == (log.last, log.runs())


def test_a_reset_forgets_everything_and_goes_on_after_it():
    log = listed(1, 1, 2)
    log.reset(at(7, 9))
    assert (at(7, 9), at(7, 9), None) == (log.purged, log.last, log.get(3))


@pytest.mark.parametrize(
    ("index", "term", "where"),
    [
        (7, 9, at(6, 7)),  # it is there
        (99, 9, at(6, 8)),  # beyond the end: the end
        (7, 5, at(4, 5)),  # terms above are skipped
        (3, 9, at(1, 3)),
        (7, 0, BEFORE_LOG),  # nothing is that old
    ],
)
def test_two_logs_may_agree_up_to_the_last_entry_that_is_neither_later_nor_newer(index: int, term: int, where):
    assert where == listed(1, 1, 1, 4, 4, 6, 6, 6).last_at_or_below(index, Term(term))


def test_at_worst_two_logs_agree_at_the_purge_point():
    assert at(1, 4) == listed(6, 6, purged=4).last_at_or_below(5, Term(2))
    assert at(1, 4) == listed(6, 6, purged=4).last_at_or_below(2, Term(9))


def test_it_shows_itself_for_people():
    assert "LogIdList(purged -, last T2-N2.2, 2 runs)" == repr(listed(1, 2))


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=30).map(sorted),
    st.lists(st.tuples(st.sampled_from(["truncate", "purge", "extend"]), st.integers(0, 40)), max_size=12),
)
def test_it_answers_like_a_plain_list_of_entries(terms: list[int], steps: list[tuple[str, int]]):
    """A model: index → term in a dict."""
    log = listed(*terms)
    model = {index + 1: term for index, term in enumerate(terms)}
    purged = 0
    for step, number in steps:
        last = log.last.index
        if step == "truncate" and purged <= number <= last:
            log.truncate(number)
            model = {index: term for index, term in model.items() if index <= number}
        elif step == "purge" and purged < number <= last:
            log.purge(log.at(number))
            model = {index: term for index, term in model.items() if index > number}
            purged = number
        elif step == "extend":
            log.extend(Term(max(log.last.term, 1) + number % 2), NodeId(2), last + 1)
            model[last + 1] = log.last.term
        live = {index: log.at(index).term for index in range(purged + 1, log.last.index + 1)}
        assert model == live
        assert purged == log.purged.index
        assert LogIndex(max(model, default=purged)) == log.last.index
