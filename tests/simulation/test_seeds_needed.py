"""The table of known bugs: measured range by range, taken up where it stopped, and complete."""

from __future__ import annotations

import pytest

from tests.simulation import seeds_needed
from tests.simulation.known_bugs import Mutant
from tests.simulation.mutants import MUTANTS

BUGS = [
    Mutant("easy", "everything", (), "seeds 10"),
    Mutant("hard", "something", (), "seeds 10"),
    Mutant("tested", "nothing much", (), "test tests/core/test_quorum.py"),
]


class Hunters:
    """Find the easy bug with the second seed, the hard one with the ninth of every other range."""

    def __init__(self):
        self.hunted = []

    def __call__(self, name, by, seconds):
        self.hunted.append((name, by))
        if name == "tested":
            return 0, "it fails"
        if name == "easy":
            return 2, "election safety"
        first = int(by.removeprefix("seeds ").partition("..")[0])
        return (9, "log matching") if first // seeds_needed.RANGE_STEP % 2 == 0 else (-1, "")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.md"


def measured(path, hunt, minutes=60.0):
    rows = seeds_needed.load(BUGS, path)
    seeds_needed.measure(rows, rows, hunt, seconds=15.0, minutes=minutes, path=path, say=lambda _line: None)
    return rows


def test_the_middle_of_the_ranges_is_what_a_bug_takes(path):
    easy, hard, tested = measured(path, Hunters())
    assert (2, ["2", "2", "2", "2", "2"]) == (easy.median, easy.counts)
    assert (9, ["9", ">10", "9", ">10", "9"]) == (hard.median, hard.counts)
    assert (None, ["found"]) == (tested.median, tested.counts)
    assert all(row.is_found for row in (easy, hard, tested))


def test_ranges_of_seeds_are_disjoint(path):
    hunters = Hunters()
    measured(path, hunters)
    ranges = [by for name, by in hunters.hunted if name == "easy"]
    assert "seeds 1..10" == ranges[0]
    assert "seeds 10001..10010" == ranges[1]
    assert seeds_needed.RANGES == len(set(ranges))


def test_what_was_measured_is_not_measured_again(path):
    measured(path, Hunters())
    hunters = Hunters()
    rows = measured(path, hunters)
    assert [] == hunters.hunted
    assert ["9", ">10", "9", ">10", "9"] == rows[1].counts


def test_a_measurement_goes_on_where_it_was_cut_short(path):
    class Tired(Hunters):
        def __call__(self, name, by, seconds):
            if len(self.hunted) == 4:
                raise KeyboardInterrupt
            return super().__call__(name, by, seconds)

    tired, rested = Tired(), Hunters()
    with pytest.raises(KeyboardInterrupt):
        measured(path, tired)
    measured(path, rested)
    assert len(set(tired.hunted + rested.hunted)) == len(tired.hunted) + len(rested.hunted) == 11


def test_nothing_new_is_begun_when_time_is_up(path):
    hunters = Hunters()
    measured(path, hunters, minutes=0)
    assert [] == hunters.hunted


def test_a_bug_that_shall_be_found_in_another_way_is_measured_anew(path):
    measured(path, Hunters())
    changed = [Mutant("easy", "everything", (), "scenario time/check_quorum"), *BUGS[1:]]
    assert [] == seeds_needed.load(changed, path)[0].counts


def test_when_more_seeds_are_allowed_what_was_found_stays(path):
    measured(path, Hunters())
    changed = [BUGS[0], Mutant("hard", "something", (), "seeds 20"), BUGS[2]]
    row = seeds_needed.load(changed, path)[1]
    assert (9, ["9", "?", "9", "?", "9"]) == (row.median, row.counts)
    hunters = Hunters()
    seeds_needed.measure([row], [row], hunters, seconds=15.0, path=path, say=lambda _line: None)
    assert [("hard", "seeds 10001..10020"), ("hard", "seeds 30001..30020")] == hunters.hunted


def test_a_bug_that_most_ranges_do_not_find_is_not_found(path):
    class Blind(Hunters):
        def __call__(self, name, by, seconds):
            return -1, ""

    rows = measured(path, Blind())
    assert [None, None, None] == [row.median for row in rows]
    assert not any(row.is_found for row in rows)
    assert "3 were not found or not measured" in path.read_text("utf-8")


def test_the_simulator_finds_at_least_25_of_the_known_bugs():
    rows = seeds_needed.load(MUTANTS)
    assert [] == [row.mutant.name for row in rows if row.counts and not row.is_found]
    assert sum(row.stated > 0 and row.is_found for row in rows) >= 25
