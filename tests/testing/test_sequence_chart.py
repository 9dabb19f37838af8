"""Can somebody who knows Raft read what happened? The chart of a few seconds, with every kind of row."""

from __future__ import annotations

import pytest

from raft_engine.testing.sequence_chart import Recorder, chart
from raft_engine.testing.sim_faults import Faults
from raft_engine.testing.sim_words import plain
from raft_engine.testing.simulator import CALM, Simulation


def drawn(seconds, faults=CALM, nodes=3, rows=100_000):
    recorder = Recorder(rows)
    simulation = Simulation(3, nodes=nodes, faults=faults, watch=recorder.watch)
    simulation.run(seconds, heal=False)
    return chart(recorder, simulation.nodes, simulation.chaos.happened)


def test_an_election_and_a_write_can_be_followed_through_the_columns():
    lines = drawn(2).splitlines()
    steps = [
        "starts with",
        "stands for election in T",
        "grants the vote in T",
        "LEADS T",
        "append T",
        "committed is",
        "answers",
    ]
    at = 0
    for step in steps:
        at = next(number for number, line in enumerate(lines) if number >= at and step in line)
    assert "1       2       3" in lines[0]


def test_a_message_is_an_arrow_from_its_sender():
    line = next(line for line in drawn(2).splitlines() if "grants the vote" in line)
    columns = line[12:36]
    assert ">" in columns or "<" in columns
    assert "--" in columns
    arrow = columns.index(">") + 1 if ">" in columns else columns.index("<") - 1
    assert columns[arrow] in "LC"  # it arrives at the one who campaigns


def test_crashes_losses_and_cut_links_are_rows_of_their_own():
    text = drawn(6, Faults(crashes_per_s=2, partitions_per_s=2, drop=0.1))
    assert "its process is killed" in text
    assert "fault: a message is lost" in text
    assert "fault: one way partition: " in text
    assert "x" in next(line for line in text.splitlines() if "a message is lost" in line)[12:36]


@pytest.mark.parametrize("nodes", [1, 3, 5, 7])
def test_it_is_at_most_120_columns_wide(nodes):
    text = drawn(4, Faults(crashes_per_s=1, triggers_per_s=3), nodes)
    assert max(map(len, text.splitlines())) <= 120


def test_steps_that_changed_nothing_are_counted_instead_of_shown():
    text = drawn(3)
    assert "heartbeat" in text  # those that told of something committed
    count = int(text.splitlines()[-1].split()[0].strip("("))
    assert count > 100


def test_only_the_last_rows_are_kept():
    _nodes, *lines, _skipped = drawn(3, rows=10).splitlines()
    assert len([line for line in lines if line[:10].strip()]) == 10  # without a time it is the rest of a long row


def test_details_name_nodes_by_number():
    assert "node 3 to 1: 1->2, 2->1" == plain("n3.ab12cd to 1: [(1, 2), (2, 1)]")
