"""Ctrl-C while the program loads and after its end is settled: no traceback, no death by a signal, no other exit code."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from threading import Event, Thread
from typing import ClassVar

import httpx
import msgspec
import pytest

from raftctl import door, http_client, interrupts
from raftctl.runbook.journal import read_runs
from raftctl.runbook.lock import ClusterLock
from raftctl.session import Session
from tests.raftctl.rejoin_cluster import WELL, mocked

LINE = "rejoin-node 3 --yes --confirm demo"
LOADING = """
import sys

class Interrupts:
    def find_spec(self, name, *_more):
        if name == "raftctl.output":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from raftctl.__main__ import main
main()
"""

ASKING = """
import signal, sys

class Interrupts:
    def find_spec(self, name, *_more):
        if name == "raftctl.http_client":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
from raftctl import http
from raftctl.__main__ import run

def waits(*_arguments, **_options):
    signal.pause()

http.Http.send = waits
print(run(["-e", "http://127.0.0.1:1", "status"]), "raftctl.http_client" in sys.modules)
"""


class Interrupting(msgspec.Struct):
    """Is interrupted while it is read."""

    read: ClassVar[list[str]] = []

    def __post_init__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        self.read.append("to its end")


def sends(number: int, and_then):
    def send(*arguments, **options):
        signal.raise_signal(number)
        return and_then(*arguments, **options)

    return send


@pytest.fixture
def rejoined(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake


def test_an_interrupt_at_the_very_first_import_is_130_in_one_line():
    ran = subprocess.run([sys.executable, "-c", LOADING, "version"], capture_output=True, text=True, check=False)
    assert (130, "error: interrupted\n") == (ran.returncode, ran.stderr)


def test_an_interrupt_while_a_module_is_loaded_comes_when_it_is_there():
    ran = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=False)
    assert ("130 True\n", "error: interrupted\n") == (ran.stdout, ran.stderr)


def test_an_interrupt_while_an_answer_is_read_waits_for_its_end():
    Interrupting.read.clear()
    with pytest.raises(KeyboardInterrupt):
        http_client._read({}, Interrupting, "node 1")
    assert ["to its end"] == Interrupting.read


@pytest.mark.parametrize("line", ["status", "status --help=no", "kv put a b"])
def test_an_interrupt_while_the_program_loads_waits_and_nothing_is_begun(cluster, raftctl, monkeypatch, line):
    monkeypatch.setattr(door, "read", sends(signal.SIGINT, door.read))
    ended = raftctl(line, code=None)
    assert ended.code == (2 if "help" in line else 130)
    assert ("Traceback" in ended.err, cluster.mutations) == (False, [])


def test_an_interrupt_is_an_error_document_with_json(cluster, raftctl, monkeypatch):
    monkeypatch.setattr(door, "read", sends(signal.SIGINT, door.read))
    assert "interrupted" == raftctl("status -o json", code=130).error["code"]


def test_an_interrupt_after_the_answer_changes_no_code(cluster, raftctl, monkeypatch):
    monkeypatch.setattr(Session, "close", sends(signal.SIGINT, Session.close))
    raftctl("status")
    raftctl("-c nowhere status", code=3)


def test_an_interrupt_while_it_is_told_what_was_done_changes_no_code(cluster, raftctl, monkeypatch):
    class Impatient(io.StringIO):
        def write(self, text: str) -> int:
            signal.raise_signal(signal.SIGINT)
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", Impatient())
    raftctl("heartbeat")
    raftctl("status", code=130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_a_run_has_ended_changes_no_code(rejoined, raftctl, monkeypatch, number):
    monkeypatch.setattr(ClusterLock, "release", sends(number, ClusterLock.release))
    raftctl(LINE)
    rejoined.answers("/v1/node/wipe", httpx.Response(500, json={"code": "internal", "title": "x", "detail": "x"}))
    raftctl(LINE, code=8)
    assert {"undone", "done"} == {each.outcome for each in read_runs()}


def test_a_terminal_that_is_gone_ends_no_run(rejoined, raftctl):
    def hang_up(request: httpx.Request) -> httpx.Response:
        signal.raise_signal(signal.SIGHUP)
        return rejoined._act(3, "/v1/node/stop-raft", {})

    rejoined.answers("/v1/node/stop-raft", hang_up)
    raftctl(LINE)
    assert ["done"] == [each.outcome for each in read_runs()]
    assert WELL == rejoined.picture(3)


def test_what_is_held_back_comes_afterwards_whichever_thread_took_it():
    go, gone = Event(), []
    another = Thread(target=lambda: (go.wait(), signal.raise_signal(signal.SIGINT)))
    another.start()

    def interrupted() -> None:
        with interrupts.held_back():
            go.set()
            another.join()
            gone.append("on")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ["on"] == gone


def test_an_interrupt_that_still_waits_when_the_end_is_settled_is_not_heard_any_more(cluster, raftctl, monkeypatch):
    real = interrupts.settled
    tried_again = []

    def settled() -> None:
        real()
        signal.raise_signal(signal.SIGALRM)
        tried_again.append(True)

    monkeypatch.setattr(interrupts, "settled", settled)
    raftctl("status")
    assert tried_again
