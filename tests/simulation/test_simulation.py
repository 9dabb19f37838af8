"""Whole clusters from seeds: every invariant holds, and the same seed is the same run.

A few quick ones; `make simulate-slice` is what each change must pass, `make simulate HOURS=…` goes on for as long as you like.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from raft_engine.testing.sim_faults import KINDS, PAIRS
from raft_engine.testing.sim_weather import simulate, weather_of
from raft_engine.testing.simulate import main
from raft_engine.testing.simulator import CALM, MEMBERSHIP, Simulation

ROOT = Path(__file__).parents[2]
REGRESSIONS = [
    line.split()[0]
    for line in (Path(__file__).parent / "regressions.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
HASH = "from raft_engine.testing.sim_weather import simulate; print(*(simulate(s, 5).trace_hash.hexdigest() for s in (7, 8, 9)))"


@pytest.mark.parametrize("seed", range(6))
def test_nothing_impossible_happens_under_faults(seed):
    simulation = Simulation(seed, nodes=(3, 4, 5)[seed % 3])
    simulation.run(10)
    assert simulation.acknowledged


@pytest.mark.parametrize("seed", range(1040, 1044))
def test_nothing_impossible_happens_while_members_change_and_lose_their_disks(seed):
    simulation = Simulation(seed, nodes=3, faults=MEMBERSHIP, spares=2)
    simulation.run(10)
    assert simulation.acknowledged


@pytest.mark.parametrize("seed", range(3, 7))
def test_a_leader_whose_connections_end_again_and_again_goes_on_and_no_read_is_stale(seed):
    """Between two heartbeats nobody's lease is over, so nobody campaigns for it; the checkers see to the reads."""
    simulation = Simulation(seed, faults=replace(CALM, resets_per_s=10.0))
    simulation.run(10)
    assert simulation.chaos.counts["reset"] > 50
    assert simulation.acknowledged
    assert {1} == {node.engine.state.term for node in simulation.nodes.values() if node.engine is not None}


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_once_failed_passes(seed):
    number, _, weather = seed.partition(":")
    assert simulate(int(number), 57.0, weather=weather or "any").acknowledged


@pytest.mark.parametrize("seed", range(2000, 2030))
def test_nothing_impossible_happens_in_any_weather(seed):
    simulate(seed, 20.0)


def test_the_same_seed_is_the_same_run_whatever_the_hash_seed():
    hashes = {
        subprocess.run(
            [sys.executable, "-c", HASH],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(hashes) == 1


def test_a_calm_cluster_has_no_fault_at_all():
    simulation = Simulation(1, faults=CALM)
    simulation.run(5)
    assert [] == simulation.chaos.happened
    assert 0 == sum(simulation.chaos.counts.values())


def test_a_fault_that_is_left_out_leaves_the_serials_of_the_others_as_they_are():
    before = simulate(3, 5.0).chaos.happened
    first = next(fault for fault in before if fault.kind not in {"drop", "duplicate", "reorder"})
    after = simulate(3, 5.0, without=frozenset({first.serial})).chaos.happened
    assert first.serial not in {fault.serial for fault in after}
    earlier = [fault for fault in before if fault.at < first.at]
    assert earlier == after[: len(earlier)]


def test_a_watcher_sees_every_event_with_what_came_of_it():
    seen = []
    simulate(5, 3.0, watch=lambda node, event, commands, now: seen.append((type(event).__name__, now)))
    assert {"Booted", "MadeDurable", "MessageReceived", "Applied"} <= {name for name, _now in seen}
    assert [now for _name, now in seen] == sorted(now for _name, now in seen)


def test_the_weathers_together_have_every_kind_of_fault():
    rates = [weather_of(seed).faults for seed in range(60)]
    for name in ("rot_per_s", "rollbacks_per_s", "disk_errors_per_s", "jumps_per_s", "losses_per_s", "changes_per_s"):
        assert any(getattr(faults, name) > 0 for faults in rates), name


def test_a_campaign_says_what_was_not_met(capsys):
    assert 1 == main(["--seeds", "1..1", "--seconds", "1", "--every-kind", "--virtual-hours", "1"])
    said = capsys.readouterr()
    assert "virtual cluster hours were lived through, not 1" in said.err
    assert f"of {len(PAIRS)} pairs" in said.out
    assert all(kind in said.out for kind in KINDS)


def test_clusters_have_three_to_seven_nodes():
    assert {3, 4, 5, 6, 7} == {weather_of(seed).nodes for seed in range(1, 60)}
