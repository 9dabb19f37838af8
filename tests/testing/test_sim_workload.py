"""Can somebody simulate a cluster with a state machine of their own, and are its mistakes found?"""

from __future__ import annotations

import pytest

from raft_engine.config import Config
from raft_engine.testing.failure_report import explain
from raft_engine.testing.minimising import Schedule
from raft_engine.testing.sim_failure import SimulationFailed
from raft_engine.testing.simulator import Faults, Simulation
from raft_engine.types.entry import EntryKind
from raft_engine.types.log_id import BEFORE_LOG, LogId

CONFIG = Config(snapshot_logs_since_last=40, max_in_snapshot_log_to_keep=5)
FAULTS = Faults(crashes_per_s=0.5, power_losses_per_s=0.3, triggers_per_s=2, writes_per_s=40)


class Adder:
    """A sum, in memory."""

    def __init__(self):
        self.total = 0
        self.last = BEFORE_LOG

    def applied(self):
        return BEFORE_LOG

    def apply(self, entries):
        results = []
        for entry in entries:
            if entry.kind == EntryKind.NORMAL:
                self.total += self.number(entry)
            self.last = entry.log_id
            results.append(self.total if entry.kind == EntryKind.NORMAL else None)
        return results

    def number(self, entry):
        return int(entry.data)

    def snapshot(self):
        return iter([str(self.total).encode()])

    def restore(self, chunks, last_log_id: LogId):
        self.total = int(b"".join(chunks))
        self.last = last_log_id


class Forgetful(Adder):
    """Its snapshot is not its state."""

    def snapshot(self):
        return iter([b"0"])


class Moody(Adder):
    """What it does depends on more than the entry."""

    moods = 0

    def __init__(self):
        super().__init__()
        Moody.moods += 1
        self.mood = Moody.moods

    def number(self, entry):
        return super().number(entry) + (self.mood > 6)


class Sums:
    def __init__(self, machine):
        self.new_machine = machine

    def command(self, number, chance):
        return b"%d" % (number + chance.randrange(9))

    def content(self, machine):
        return machine.total


def run(machine, seed=5, seconds=15.0, **more):
    simulation = Simulation(seed, config=CONFIG, faults=FAULTS, workload=Sums(machine), **more)
    simulation.run(seconds)
    return simulation


def test_a_state_machine_of_ones_own_lives_through_every_fault():
    simulation = run(Adder)
    assert len(simulation.acknowledged) > 50
    assert simulation.clients.reads > 0
    assert simulation.chaos.counts["crash"] > 0
    totals = {node.machine.inner.total for node in simulation.nodes.values()}
    assert 1 == len(totals)


def test_a_snapshot_that_is_not_the_state_is_found():
    with pytest.raises(SimulationFailed) as failed:
        run(Forgetful)
    assert "state machine safety" == failed.value.promise


def test_a_result_that_depends_on_more_than_the_entry_is_found_and_explained():
    def again(schedule, watch):
        Moody.moods = 0
        run(Moody, schedule.seed, schedule.seconds, watch=watch, without=schedule.without)

    report = explain(again, Schedule(5, 15.0), budget_s=5)
    assert "state machine safety" in str(report)
    assert "a client asks to write" in report.chart
    assert len(report.minimised.failure.serials) < len(report.first.serials)


def test_the_same_seed_is_the_same_run():
    assert run(Adder, seconds=5).trace_hash.digest() == run(Adder, seconds=5).trace_hash.digest()


@pytest.mark.parametrize("tampered", ["data", "term"])
def test_a_write_that_is_gone_is_noticed(tampered):
    simulation = run(Adder, seconds=5)
    number = max(simulation.acknowledged)
    if tampered == "data":
        simulation.clients._data[number] = b"something else"
    else:
        known = simulation.acknowledged[number]
        simulation.acknowledged[number] = LogId(known.term + 1, known.node_id, known.index)
    with pytest.raises(AssertionError, match="no lost write"):
        simulation.clients.check()
