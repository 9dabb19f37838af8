"""Whole clusters from seeds: every invariant holds, and the same seed is the same run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raft_engine.testing.simulate import simulate
from raft_engine.testing.simulator import MEMBERSHIP, Simulation

ROOT = Path(__file__).parents[2]
REGRESSIONS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "regressions.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
HASH = "from raft_engine.testing.simulator import Simulation; s = Simulation(7); s.run(5); print(s.trace_hash.hexdigest())"


@pytest.mark.parametrize("seed", range(12))
def test_nothing_impossible_happens_under_faults(seed):
    simulation = Simulation(seed, nodes=(3, 4, 5)[seed % 3])
    simulation.run(10)
    assert simulation.acknowledged


@pytest.mark.parametrize("seed", range(1040, 1046))
def test_nothing_impossible_happens_while_members_change_and_lose_their_disks(seed):
    simulation = Simulation(seed, nodes=3, faults=MEMBERSHIP, spares=2)
    simulation.run(10)
    assert simulation.acknowledged


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_once_failed_passes(seed):
    assert simulate(seed, 20.0).acknowledged


@pytest.mark.parametrize("seed", range(2000, 2040))
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
