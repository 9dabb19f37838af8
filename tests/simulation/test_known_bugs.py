"""Does the simulator find bugs that are known to be there? Every one of them fits the code; the quickest are hunted here.

All of them, with the number of seeds each takes: `make mutants`. The rules of the rejoin are hunted in tests/core/test_rejoin_traces.py.
"""

from __future__ import annotations

import pytest

from tests.builds import puts_a_bug_into_the_source
from tests.simulation.mutants import GUARDS, KNOWN_BUGS, MUTANTS, SCENARIOS, fits, hunt, known

QUICK = [
    "commits_old_terms_by_counting",
    "leader_counts_itself_before_its_flush",
    "stale_append_truncates",
    "accepts_before_entries_are_durable",
    "applies_before_entries_are_durable",
    "round_confirms_earlier_reads_only",
    "leader_ignores_later_terms",
    "new_segment_without_directory_sync",
]
KINDS = {"seeds", "trace", "scenario", "test"}


def test_there_are_at_least_40_bugs_and_40_rules_of_the_rejoin():
    assert len({mutant.name for mutant in KNOWN_BUGS}) >= 40
    assert len({guard.name for guard in GUARDS}) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_known_bug_fits_the_code(mutant):
    assert fits(mutant) == ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_finds_a_known_bug_is_there(mutant):
    kind, _, what = mutant.by.partition(" ")
    assert kind in KINDS
    if kind == "scenario":
        assert (SCENARIOS / f"{what}.txt").is_file()
    elif kind == "test":
        path, _, name = what.partition("::")
        text = (SCENARIOS.parents[2] / path).read_text("utf-8")
        assert not name or f"def {name}(" in text


@puts_a_bug_into_the_source
@pytest.mark.parametrize("name", QUICK)
def test_a_known_bug_is_found_within_the_stated_number_of_seeds(name):
    seeds, _seen = hunt(name, known(name).by)
    assert seeds > 0
