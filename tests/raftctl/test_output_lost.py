"""Output that cannot be written: a run goes on as if nobody watched, a listing says so, and the exit code is true."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import httpx
import pytest

from raftctl.runbook.journal import read_runs
from tests.raftctl.rejoin_cluster import WELL, mocked

LINE = "rejoin-node 3 --yes --confirm demo"
TROUBLES = [errno.EPIPE, errno.ENOSPC, errno.EIO]


class Broken(io.StringIO):
    """Takes so many lines, and then no more."""

    def __init__(self, trouble: int, lines: int = 0) -> None:
        super().__init__()
        self.trouble = trouble
        self.lines = lines
        self.refused = 0

    def write(self, text: str) -> int:
        if self.lines <= 0:
            self.refused += 1
            raise OSError(self.trouble, os.strerror(self.trouble))
        self.lines -= text.count("\n")
        return super().write(text)


class Terminal(Broken):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def rejoined(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake


def outcomes() -> list[str]:
    return [run.outcome for run in read_runs()]


# -- a run ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("lines", [0, 12, 30])
def test_a_run_whose_progress_cannot_be_written_goes_on_to_its_end(rejoined, raftctl, monkeypatch, trouble, lines):
    stream = Broken(trouble, lines)
    monkeypatch.setattr(sys, "stderr", stream)
    raftctl(LINE)
    assert 1 == stream.refused
    assert ["done"] == outcomes()
    assert WELL == rejoined.picture(3)


@pytest.mark.parametrize("lines", [0, 12, 32])
def test_a_run_whose_terminal_is_gone_goes_on_to_its_end(rejoined, raftctl, monkeypatch, lines):
    stream = Terminal(errno.EIO, lines)
    monkeypatch.setattr(sys, "stderr", stream)
    raftctl(LINE)
    assert 1 == stream.refused
    assert ["done"] == outcomes()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_run_whose_reader_left_is_undone_when_it_is_interrupted(rejoined, raftctl, monkeypatch, trouble):
    stream = Broken(trouble, 1000)

    def interrupt(_request: httpx.Request) -> httpx.Response:
        stream.lines = 0
        raise KeyboardInterrupt

    rejoined.answers("/v1/node/wipe", interrupt)
    monkeypatch.setattr(sys, "stderr", stream)
    raftctl(LINE, code=130)
    assert 1 == stream.refused
    assert ["interrupted"] == outcomes()
    assert WELL == rejoined.picture(3)


def test_a_run_that_fails_unseen_ends_with_its_own_code(rejoined, raftctl, monkeypatch):
    rejoined.answers("/v1/node/wipe", httpx.Response(500, json={"code": "internal", "title": "x", "detail": "x"}))
    monkeypatch.setattr(sys, "stderr", Broken(errno.EPIPE))
    raftctl(LINE, code=8)
    assert WELL == rejoined.picture(3)


def test_a_receipt_that_nobody_reads_is_no_other_end(rejoined, raftctl, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    assert "cannot be written" not in raftctl(LINE).err
    assert ["done"] == outcomes()


def test_a_receipt_that_cannot_be_written_is_warned_of_and_the_run_is_done(rejoined, raftctl, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    told = raftctl(LINE).err
    assert "warning: standard output cannot be written: No space left on device; what was done stands" in told
    assert ["done"] == outcomes()


# -- other commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["status", "status -o json", "kv list", "top --count 1", "--help", "kv --help"])
def test_an_answer_that_cannot_be_written_is_one_line_and_1(cluster, raftctl, monkeypatch, line):
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    told = raftctl(line, code=1).err
    assert "standard output cannot be written: No space left on device" in told
    assert "Traceback" not in told


def test_a_change_that_was_seen_is_done_though_it_cannot_be_told(cluster, raftctl, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    assert "what was done stands" in raftctl("heartbeat").err


def test_the_code_of_health_is_the_same_when_its_reader_has_left(cluster, raftctl, monkeypatch):
    cluster.down[3] = httpx.ConnectError("[Errno 111] Connection refused")
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    assert "" == raftctl("health", code=10).err


@pytest.mark.parametrize("line", ["status --watch --interval 1ms", "top --interval 50ms", "watch"])
def test_what_has_no_end_ends_quietly_when_its_reader_leaves(cluster, raftctl, monkeypatch, line):
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    assert "" == raftctl(line).err


# -- standard streams that were closed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "code", "told"),
    [
        ("2>&-", 0, ""),
        ("<&-", 0, ""),
        ("<&- 2>&-", 0, ""),
        (">&-", 1, "error: standard output cannot be written: Bad file descriptor\n"),
        (">/dev/full", 1, "error: standard output cannot be written: No space left on device\n"),
        (">/dev/full 2>/dev/full", 1, ""),
    ],
)
def test_a_program_without_one_of_its_streams_ends_as_it_should(closed, code, told):
    program = "from raftctl.__main__ import main; main()"
    command = ["/bin/sh", "-c", f'"$0" -c "$1" version {closed}', sys.executable, program]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (code, told) == (ran.returncode, ran.stderr)
