"""A voter loses what it stored: with every rule nothing is lost, and whichever rule is taken out, a story shows the loss."""

from __future__ import annotations

import pytest

from tests.builds import puts_a_bug_into_the_source
from tests.core.rejoin_traces import TRACES
from tests.simulation.mutants import GUARDS, fits, hunt

STORIES_OF_LOSS = [guard for guard in GUARDS if guard.by.startswith("trace ")]
MANY_IN_ONE = {"killed at every step"}
"""What it would find, the single stories find: no rule is taken out for it."""


@pytest.mark.parametrize("name", TRACES)
def test_with_every_rule_nothing_is_lost(name):
    TRACES[name]()


@puts_a_bug_into_the_source
@pytest.mark.parametrize("guard", STORIES_OF_LOSS, ids=lambda guard: guard.name)
def test_without_the_rule_the_loss_is_seen(guard):
    assert fits(guard) == ""
    took, seen = hunt(guard.name, guard.by)
    assert took == 0, seen


def test_every_story_can_end_badly():
    told = {guard.by.removeprefix("trace ").partition(" without ")[0] for guard in STORIES_OF_LOSS}
    assert set(TRACES) - told == MANY_IN_ONE
