"""Is what the simulator does what the specification allows? The whole of it is `make traces`; here a few runs, where Java is."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace

import pytest

from raft_engine.testing.sim_trace import Line, TraceRecorder
from raft_engine.testing.simulator import CALM, Simulation
from tests.simulation.known_bugs import KNOWN_BUGS
from tests.simulation.traces import ALTERATIONS, BUGS, accepted, altered, module, record, why_rejected

SEEDS = (2, 4)
"""Crashes in one, membership changes and pre-votes in the other."""
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="TLC needs Java")


@pytest.fixture(scope="module")
def runs():
    return [record(seed, 300) for seed in SEEDS]


def test_every_event_that_changes_a_node_is_a_step_that_is_known(runs):
    assert not [line for run in runs for line in run.lines if line.step == "Nothing"]


def test_the_same_seed_gives_the_same_trace(runs):
    assert runs[0] == record(SEEDS[0], 300)


def test_recording_ends_at_its_limit():
    recorder = TraceRecorder(25)
    Simulation(3, faults=CALM, watch=recorder.watch).run(2, heal=False)
    assert recorder.is_over
    assert 25 <= len(recorder.lines) < 30


def test_lives_of_a_node_have_names_of_their_own(runs):
    assert all(name[:-1] in {f"n{number}" for number in range(1, 8)} for run in runs for name in run.names)


@pytest.mark.parametrize("how", ALTERATIONS)
def test_an_alteration_alters(runs, how: str):
    chance = random.Random(how)
    found = [run for run in (altered(run, how, chance) for run in runs) if run is not None]
    assert found
    assert all(run.lines not in {one.lines for one in runs} for run in found)


def test_the_bugs_whose_traces_are_hunted_are_known():
    assert set(BUGS) <= {bug.name for bug in KNOWN_BUGS}


@needs_java
def test_runs_are_accepted_and_altered_ones_are_not(runs):
    chance = random.Random(1)
    wrong = [altered(runs[0], how, chance) for how in ("drop Flush", "early Commit", "after committed")]
    found, _ = accepted([*runs, *(run for run in wrong if run is not None)])
    assert {0, 1} == found


@needs_java
def test_a_rejected_run_is_shown_with_the_line_where_it_stops(runs):
    lines = list(runs[0].lines)
    lines[7] = Line("Nothing", lines[7].server)
    said = why_rejected(replace(runs[0], lines=tuple(lines)))
    assert "line 8 of" in said


def test_a_written_trace_names_every_server(runs):
    text = module(runs)
    assert all(f'"{name}"' in text for run in runs for name in run.names)
