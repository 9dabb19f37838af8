"""What the tests of raftctl share: a mocked cluster, and a way to run the program in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import respx

from raftctl import interrupts, plain_http
from raftctl.__main__ import run
from tests.raftctl.fake_cluster import FakeCluster, url


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def data(self) -> Any:
        return self.document["data"]

    @property
    def error(self) -> Any:
        return json.loads(self.err)


class Program:
    """raftctl with a context for the fake cluster."""

    def __init__(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        self._capsys = capsys
        self.config = config

    def __call__(self, line: str, *more: str, code: int | None = 0) -> Result:
        """Run one command line, split at spaces; the exit code must be `code` (None: any)."""
        self._capsys.readouterr()
        ended = run([*line.split(), *more])
        out, err = self._capsys.readouterr()
        if code is not None:
            assert ended == code, f"raftctl {line}: {ended}\n{out}\n{err}"
        return Result(ended, out, err)


@pytest.fixture(autouse=True)
def _interruptible():
    """A run that ends hears no Ctrl-C any more; the process of the tests does."""
    with interrupts.as_before():
        yield


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    with respx.mock(assert_all_called=False) as router:
        fake = FakeCluster(router)
        monkeypatch.setattr(plain_http, "ask", fake.ask)
        yield fake


@pytest.fixture
def raftctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    config = tmp_path / "config.toml"
    endpoints = json.dumps([url(node) for node in (1, 2, 3)])
    config.write_text(f'current-context = "demo"\n[contexts.demo]\nendpoints = {endpoints}\n', "utf-8")
    monkeypatch.setenv("RAFTCTL_CONFIG", str(config))
    monkeypatch.setenv("RAFTCTL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RAFTCTL_DEV_DIR", str(tmp_path / "dev"))
    for name in ("RAFTCTL_CONTEXT", "RAFTCTL_ENDPOINT", "RAFTCTL_TOKEN", "RAFTCTL_OUTPUT", "RAFTCTL_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    return Program(capsys, config)
