"""Are two clones compared round by round?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from benchmarks import pairs
from benchmarks.pairs import Turn, ratio, table


def a_turn(per_s: float, cpu_us: float = 10.0) -> Turn:
    return Turn(per_s, cpu_us, 0.5, 2.0)


def test_what_drifts_for_both_is_no_difference():
    rounds = [[a_turn(rate), a_turn(1.1 * rate)] for rate in (1000, 1500, 2000)]
    assert "1.100 ±0.000" in table(["before", "after"], {1: rounds})[-1]


def test_the_first_is_compared_with_itself():
    first = table(["before", "after"], {64: [[a_turn(1000), a_turn(900)], [a_turn(3000), a_turn(900)]]})[2]
    assert first.startswith("| 64 | before | 2,000 | 1.000 ±0.000 |")


def test_processor_time_has_a_ratio_of_its_own():
    assert "0.500 ±0.000" in table(["before", "after"], {1: [[a_turn(1, 8), a_turn(1, 4)]]})[-1]


def test_the_error_of_a_median_falls_with_the_root_of_the_rounds():
    few, many = ratio([0.9, 1.0, 1.1, 1.0]), ratio([0.9, 1.0, 1.1, 1.0] * 4)
    assert (few.median, many.median) == (1.0, 1.0)
    assert few.error == pytest.approx(2 * many.error)


def test_a_directory_that_is_no_clone_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pairs.py", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        pairs.main()
    assert end.value.code == 2
    assert "has no raft_engine/" in capsys.readouterr().err
