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
from raftctl.changes import Changes
from raftctl.errors import CtlError
from raftctl.runbook.journal import read_runs
from raftctl.runbook.lock import ClusterLock
from raftctl.session import Session
from tests.raftctl.fake_cluster import problem, url
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


def interrupted(_request: httpx.Request) -> httpx.Response:
    signal.raise_signal(signal.SIGINT)
    return httpx.Response(500)


@pytest.mark.parametrize(
    ("line", "sent", "look"),
    [
        ("kv put colour blue", f"PUT {url(1)}/v1/kv/colour", "raftctl kv get colour"),
        ("kv delete colour", f"DELETE {url(1)}/v1/kv/colour", "raftctl kv get colour"),
        ("transfer-leader --to 2 --yes", f"POST {url(1)}/v1/trigger/transfer-leader?wait=5000ms", "raftctl status"),
    ],
)
def test_a_change_that_was_sent_when_the_interrupt_came_may_have_been_carried_out(cluster, raftctl, line, sent, look):
    cluster.keys[b"colour"] = (b"red", 7)
    method, _, where = sent.partition(" ")
    path = where.removeprefix(url(1)).partition("?")[0]
    cluster.answers(path, interrupted, interrupted, method=method)
    told = f"interrupted; {sent} was sent and may have been carried out"
    assert f"error: {told}\nhint: look with: {look}\n" == raftctl(line, code=130).err
    error = raftctl(f"{line} -o json", code=130).error
    assert ("interrupted", told, f"look with: {look}") == (error["code"], error["message"], error["hint"])


@pytest.mark.parametrize("line", ["status", "kv get colour", "kv list"])
def test_an_interrupted_question_says_no_more_than_that(cluster, raftctl, line):
    for path in ("/v1/status", "/v1/kv/colour", "/v1/kv"):
        cluster.answers(path, interrupted, method="GET")
    assert "error: interrupted\n" == raftctl(line, code=130).err


def test_a_write_whose_reply_was_lost_is_not_forgotten_when_its_repetition_is_interrupted(cluster, raftctl):
    lost, refused = httpx.ReadTimeout("slow"), problem(503, "no_leader")
    cluster.answers("/v1/kv/colour", lost, *[refused] * 9, method="PUT", node=1)
    cluster.answers("/v1/kv/colour", refused, interrupted, method="PUT", node=2)
    cluster.answers("/v1/kv/colour", *[refused] * 9, method="PUT", node=3)
    told = f"interrupted; PUT {url(1)}/v1/kv/colour and PUT {url(2)}/v1/kv/colour were sent and may have been carried out\n"
    assert told in raftctl("kv put colour blue", code=130).err


def test_a_change_that_was_accepted_may_be_carried_out_when_the_look_for_it_is_interrupted(cluster, raftctl):
    def accepted(_request: httpx.Request) -> httpx.Response:
        cluster.answers("/v1/status", interrupted, method="GET", node=1)
        return cluster.accepted(1, "snapshot")

    cluster.answers("/v1/trigger/snapshot", accepted, node=1)
    assert "/v1/trigger/snapshot?wait=5000ms was sent and may have" in raftctl("snapshot", code=130).err


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_change_that_a_proxy_gave_up_may_be_carried_out_when_the_look_for_it_is_interrupted(cluster, raftctl, status):
    def given_up(_request: httpx.Request) -> httpx.Response:
        cluster.answers("/v1/status", interrupted, method="GET", node=1)
        return httpx.Response(status, html="<html>Bad Gateway</html>")

    cluster.answers("/v1/trigger/snapshot", given_up, node=1)
    assert "/v1/trigger/snapshot?wait=5000ms was sent and may have" in raftctl("snapshot", code=130).err


def test_a_change_that_was_refused_or_never_arrived_is_none():
    changes = Changes()
    for outcome in (CtlError("unreachable", "connection refused"), CtlError("refused", "no")):
        with pytest.raises(CtlError), changes.under_way("PUT", url(1)):
            raise outcome
    with changes.under_way("PUT", url(1)) as answered:
        answered(409)
    with changes.under_way("PUT", url(1)) as answered:
        answered(200)
    assert "interrupted" == changes.interrupted().message


def test_of_several_changes_all_are_named_whose_outcome_is_not_known():
    changes = Changes()
    for node, status in ((1, 202), (2, 200), (3, 202)):
        with changes.under_way("POST", url(node)) as answered:
            answered(status)
    assert f"interrupted; POST {url(1)} and POST {url(3)} were sent and may have" in changes.interrupted().message
    with changes.under_way("POST", url(1)) as answered:  # what is refused now may have been done before
        answered(503)
    assert f"POST {url(1)} and " in changes.interrupted().message
    changes.seen()
    assert "interrupted" == changes.interrupted().message


def test_going_on_with_a_run_says_what_was_sent_when_it_is_interrupted_before_it_began(rejoined, raftctl):
    broken = problem(500, "start_failed", "no such directory")
    rejoined.answers("/v1/node/start-raft", broken, broken)
    raftctl(LINE, code=9)
    (run,) = read_runs()
    rejoined.answers("/v1/kv/raftctl/lock", interrupted, method="PUT")
    error = raftctl(f"runs resume {run.run_id} -o json", code=130).error
    assert f"look with: raftctl runs show {run.run_id}" == error["hint"]


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
