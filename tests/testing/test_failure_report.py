"""Does a failure explain itself? On real bugs put back into the code, and on a simulation of one's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from raft_engine.testing.failure_report import explain, numbers, parse_numbers
from raft_engine.testing.minimising import Schedule
from raft_engine.testing.sim_failure import PROMISES, SimulationFailed
from raft_engine.testing.simulate import main
from raft_engine.testing.simulator import Faults, Simulation
from tests.builds import puts_a_bug_into_the_source

ROOT = Path(__file__).parents[2]
MUTANTS = ROOT / "tests" / "simulation" / "mutants.py"


def campaign(name, options):
    command = [sys.executable, str(MUTANTS), name, "--run", options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@puts_a_bug_into_the_source
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("stale_append_truncates", 1),
        ("commits_what_the_leader_committed", 4),
        ("leader_counts_itself_before_its_flush", 1),
    ],
)
def test_a_real_bug_is_explained_by_a_shorter_schedule_that_still_fails(name, seed):
    said = campaign(name, f"--seed {seed} --seconds 10 --minimise 15")
    assert said.returncode == 1, said.stderr
    text = said.stdout
    broken = re.search(r"^broken promise  (.+)$", text, re.MULTILINE)[1]
    size = re.search(r"^schedule        (\d+) faults? in ([\d.]+) s.* \(at first (\d+) faults in 10 s", text, re.MULTILINE)
    assert broken in PROMISES or broken.startswith("AssertionError in core.")
    assert int(size[1]) < int(size[3])
    assert float(size[2]) < 10
    assert re.search(r"^seed \d+ FAILED, with (commit|raftctl) \S+", text)
    assert max(map(len, (line for line in text.splitlines() if "python -m" not in line))) <= 120
    options = text.rstrip().splitlines()[-1].partition("raft_engine.testing.simulate ")[2]
    assert f"--seed {seed} " in options
    again = campaign(name, options)
    assert again.returncode == 1, again.stderr
    assert f"broken promise  {broken}" in again.stdout
    assert last_steps(text) == last_steps(again.stdout)
    assert "passes" in run_here(options)


def last_steps(text):
    return text[text.index("last steps") : text.index("to run exactly")]


def run_here(options):
    """Run the same schedule on the code as it is."""
    command = [sys.executable, "-m", "raft_engine.testing.simulate", *options.split()]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


class Impatient(Simulation):
    """Somebody's own simulation, with a promise of their own: nobody is ever started more than twice."""

    def boot(self, node):
        super().boot(node)
        assert node.life < 3, f"started too often: {node.me}"


def run(schedule, watch):
    faults = Faults(crashes_per_s=1.0)
    simulation = Impatient(schedule.seed, nodes=3, faults=faults, watch=watch, without=schedule.without)
    simulation.run(schedule.seconds, heal=schedule.heal)


def test_a_simulation_of_ones_own_is_explained_by_the_faults_that_matter():
    report = explain(run, Schedule(1, 20.0), budget_s=20)
    crashes = [fault.kind for fault in report.minimised.failure.happened]
    assert ["crash"] == crashes
    assert "started too often: node" in str(report)
    assert "its process is killed" in report.chart


def test_the_documented_simulation_of_ones_own_runs():
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "simulation.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    names = {}
    exec(block, names)
    assert names["report"] is None


def test_what_passes_needs_no_explanation():
    assert explain(run, Schedule(1, 0.01), budget_s=1) is None


def test_without_a_budget_the_very_schedule_is_explained():
    with pytest.raises(SimulationFailed) as failed:
        run(Schedule(1, 20.0), None)
    report = explain(run, Schedule(1, 20.0), failed.value, budget_s=0)
    assert "no shorter one was looked for" in str(report)
    assert failed.value.at_ms == report.minimised.failure.at_ms


def test_serials_are_written_as_ranges():
    assert "3,7,10..12" == numbers([12, 3, 10, 7, 11, 3])
    assert frozenset([3, 7, 10, 11, 12]) == parse_numbers("3,7,10..12")
    assert frozenset() == parse_numbers("none")


def test_a_seed_that_passes_says_so(capsys):
    assert 0 == main(["--seed", "3", "--seconds", "2", "--without", "4000000..4000009"])
    assert "seed 3 passes\n" == capsys.readouterr().out
