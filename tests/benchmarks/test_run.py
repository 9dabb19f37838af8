"""Does a run of the benchmarks keep what it measured, and say what it could not measure or keep?"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from rows import Options, Row
from systems import BenchError

from benchmarks import run


def a_row(*samples: float, unit: str = "1/s") -> Row:
    return Row("appends", unit, {"bare": 0.9}, samples={"ours": list(samples), "bare": [100.0] * len(samples)})


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("surroundings.RESULTS", tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "plot", lambda *_: None)
    monkeypatch.setattr(run, "end_on_sigterm", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(run, "about", lambda: {"commit": "abc", "machine": "one", "crowding": 1.0})
    return tmp_path


def measuring(monkeypatch, *groups) -> None:
    monkeypatch.setattr(run, "GROUPS", {f"group-{number}": group for number, group in enumerate(groups, start=1)})


def fine(_how: Options) -> Iterator[Row]:
    """What can be measured."""
    yield a_row(90.0, 95.0, 100.0)


def test_nothing_is_measured_whose_results_could_not_be_kept(results, monkeypatch, capsys):
    def never(_how: Options) -> Iterator[Row]:
        """What must not begin."""
        raise AssertionError("measured")

    measuring(monkeypatch, never)
    with pytest.raises(SystemExit) as ended:
        run.main(["--name", "nodir/kept"])
    assert 2 == ended.value.code
    assert (
        f"the results could not be kept: [Errno 2] No such file or directory: '{results}/nodir/kept.trial'"
        in capsys.readouterr().err
    )


def test_what_was_measured_is_shown_although_the_disk_filled_up_meanwhile(results, monkeypatch, capsys):
    def full(_how: Options) -> Iterator[Row]:
        """What fills the disk."""
        (results / "kept.json").mkdir()
        yield a_row(90.0, 95.0, 100.0)

    measuring(monkeypatch, full)
    assert 1 == run.main(["--name", "kept"])
    shown = capsys.readouterr().out
    assert "| appends | 95.0 (90.0 to 100.0) 1/s | bare | 100.0 (100.0 to 100.0) | 0.95 | ≥ 0.9 |" in shown
    assert "not kept: the results: [Errno 21]" in shown


def test_a_group_that_fails_leaves_the_others_measured(results, monkeypatch, capsys):
    def ill(_how: Options) -> Iterator[Row]:
        """What cannot be measured."""
        raise BenchError("there is no etcd")

    measuring(monkeypatch, ill, fine)
    assert 1 == run.main(["--name", "kept"])
    assert ["appends"] == [row["name"] for row in json.loads((results / "kept.json").read_text("utf-8"))["rows"]]
    assert "group-1: there is no etcd" in capsys.readouterr().out


def test_an_interrupted_run_keeps_what_it_has_and_ends_with_130(results, monkeypatch, capsys):
    def long(_how: Options) -> Iterator[Row]:
        """What takes long."""
        yield a_row(90.0, 95.0, 100.0)
        raise KeyboardInterrupt

    measuring(monkeypatch, long, fine)
    assert 130 == run.main(["--name", "kept"])
    assert 1 == len(json.loads((results / "kept.json").read_text("utf-8"))["rows"])
    shown = capsys.readouterr().out
    assert "group-1: interrupted" in shown
    assert "group-2: interrupted" in shown


@pytest.mark.parametrize(
    ("row", "is_doubted"),
    [
        (a_row(90.0, 95.0, 100.0), False),
        (a_row(60.0, 95.0, 100.0), True),
        (a_row(60.0, 95.0, 100.0, unit="ms"), False),
    ],
)
def test_rates_that_jump_from_round_to_round_are_doubted(row, is_doubted):
    assert is_doubted == ("was something else running?" in run.as_text(row))


def test_the_table_says_how_many_rounds_its_rows_have():
    assert "title; 3 to 5 rounds a row." in run.as_markdown([a_row(1.0, 2.0, 3.0), a_row(1.0, 2.0, 3.0, 4.0, 5.0)], "title")
    assert "title; 1 rounds a row, too few to mean anything." in run.as_markdown([a_row(1.0)], "title")
