"""Does a benchmark of one store keep what it measured?"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from benchmarks import stores


def test_what_was_measured_is_written_with_the_load_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "getloadavg", lambda: (1.25, 0.0, 0.0))
    monkeypatch.setattr("surroundings.RESULTS", tmp_path)
    monkeypatch.setattr("run.ROOT", tmp_path)
    monkeypatch.setattr("run.plot", lambda *_: None)
    row = stores.Row("appends", "1/s", {"bare": 0.9}, below=False, samples={"ours": [90.0], "bare": [100.0]})
    assert 0 == stores.main("Appending.", lambda _how: [row], 0.1, ["--quick", "--name", "kept"])
    kept = json.loads((tmp_path / "kept.json").read_text("utf-8"))
    assert 1.25 == kept["about"]["load_before"]
    assert "appends" == kept["rows"][0]["name"]
    assert "appends" in capsys.readouterr().out
