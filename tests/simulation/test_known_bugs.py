"""Does the simulator find bugs that are known to be there? Every one of them fits the code; the quickest are hunted here.

All of them, with the number of seeds each takes: `make mutants`.
"""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, fits, hunt

QUICK = [
    "commits_old_terms_by_counting",
    "leader_counts_itself_before_its_flush",
    "stale_append_truncates",
    "accepts_before_entries_are_durable",
    "applies_before_entries_are_durable",
    "round_confirms_earlier_reads_only",
    "leader_ignores_later_terms",
]


def test_there_are_at_least_25():
    assert len({mutant.name for mutant in MUTANTS}) >= 25


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_known_bug_fits_the_code(mutant):
    assert fits(mutant) == ""


@pytest.mark.parametrize("name", QUICK)
def test_a_known_bug_is_found_within_twenty_seeds(name):
    seeds, _seen = hunt(name, "1..20", 15.0)
    assert seeds > 0
