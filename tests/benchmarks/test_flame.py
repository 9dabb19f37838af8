"""Does `make profile` say where its pictures are?"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest


class Spy:
    """py-spy, which writes what it was told to."""

    returncode = 0

    def __init__(self, words: list[str], **_options: object) -> None:
        Path(words[words.index("--output") + 1]).write_text("main (raft_engine/kv/store.py:1) 3\n")

    def communicate(self) -> tuple[str, str]:
        return "", ""


def test_a_profile_ends_with_the_paths_of_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    from benchmarks import flame

    monkeypatch.setattr(flame, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(flame, "wrk", lambda *_words: SimpleNamespace(per_s=1.0))
    monkeypatch.setattr(flame, "subprocess", SimpleNamespace(Popen=Spy, DEVNULL=None, PIPE=None))
    cluster = SimpleNamespace(leader=lambda: 0, processes=[SimpleNamespace(pid=pid) for pid in (1, 2, 3)])
    flame.watch(cluster, "py-spy", tmp_path, 64, 1)
    told = capsys.readouterr().out.splitlines()[-2:]
    paths = [Path(line.rpartition(": ")[2]) for line in told]
    assert [tmp_path / "results" / "flame-leader.svg", tmp_path / "results" / "flame-follower.svg"] == paths
    assert all(path.is_file() for path in paths)
