"""How a node is stopped, wiped and started: with the site's commands, by a person, by its process."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from raftctl.config_file import NodeEntry
from raftctl.errors import CtlError
from raftctl.http import Http
from raftctl.http_client import HttpClusterClient
from raftctl.model import Life, LogId
from raftctl.runbook.command_driver import CommandDriver, words_of
from raftctl.runbook.drivers import HttpDriver, WipeOrder
from raftctl.runbook.manual_driver import ManualDriver
from tests.raftctl.fake_cluster import url
from tests.raftctl.rejoin_cluster import mocked

ORDER = WipeOrder(recover_until=LogId(2, 1, 101), life=Life("3" * 32, 4, 1), reason="a reason; with 'quotes' and $HOME")


@pytest.fixture
def client(cluster):
    client = HttpClusterClient(Http(request_timeout_s=5.0), [url(node) for node in (1, 2, 3)])
    client.cluster()
    yield client
    client.close()


def polling(looks: int, before_each: Callable[[], object] = lambda: None):
    """A run's `poll` that has time for so many looks."""

    def poll(_seconds: float) -> Callable[[], bool]:
        left = [looks]

        def again() -> bool:
            left[0] -= 1
            before_each()
            return left[0] > 0

        return again

    return poll


class Site:
    """A directory with programs that write down how they were called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls = directory / "calls"
        self.program = directory / "lever.py"
        self.program.write_text(
            "import sys, pathlib\n"
            f"pathlib.Path({str(self.calls)!r}).open('a').write('|'.join(sys.argv[1:]) + chr(10))\n"
            "print('output of', sys.argv[1])\n"
            "print('data/retired-20260101T000000Z') if sys.argv[1] == 'wipe' else None\n"
        )

    def command(self, rest: str) -> str:
        return f"{sys.executable} {self.program} {rest}"

    def entry(self, **changes: str | None) -> NodeEntry:
        commands: dict[str, str | None] = {
            "stop": self.command("stop {node} {cluster}"),
            "wipe": self.command("wipe {recover_until} {expect_boot} {reason}"),
            "start": self.command("start 'two words' {{node}}"),
            "restore": self.command("restore {retired}"),
        }
        return NodeEntry(driver="command", **commands | changes)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def driver(client, entry: NodeEntry, told: list[str] | None = None, looks: int = 400) -> CommandDriver:
    return CommandDriver(client, 3, "demo", entry, polling(looks), ([] if told is None else told).append)


def test_words_are_split_as_by_a_shell_but_no_shell_runs_them(cluster, client, site: Site):
    told: list[str] = []
    lever = driver(client, site.entry(), told)
    cluster.nodes[3]["state"] = "shutdown"
    lever.stop()
    assert "data/retired-20260101T000000Z" == lever.wipe(ORDER)
    lever.restore("retired-x")
    cluster.nodes[3]["state"] = "follower"
    lever.start()
    calls = site.calls.read_text().splitlines()
    wiped = "wipe|T2-N1.101|4|a reason; with 'quotes' and $HOME"
    assert ["stop|3|demo", wiped, "restore|retired-x", "start|two words|{node}"] == calls
    assert "output of stop" in told


def test_an_exit_status_other_than_0_is_a_failure_with_the_last_lines(client, site: Site):
    bad = f"{sys.executable} -c \"import sys; print('disk is gone'); sys.exit(7)\""
    with pytest.raises(CtlError, match="exit status 7: disk is gone") as caught:
        driver(client, site.entry(wipe=bad)).wipe(ORDER)
    assert "command_failed" == caught.value.code


def test_a_command_that_cannot_be_started_is_a_failure(client, site: Site):
    with pytest.raises(CtlError, match="cannot be started"):
        driver(client, site.entry(stop="/never/was")).stop()


def test_a_command_that_takes_too_long_is_ended_with_its_children(client, site: Site):
    fifo = site.directory / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    child = f"import time; f = open({str(fifo)!r}, 'w'); f.write('here'); f.flush(); time.sleep(600)"
    parent = site.directory / "parent.py"
    parent.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n")
    ready = select.poll()
    ready.register(reading, select.POLLIN)

    def poll(_seconds: float) -> Callable[[], bool]:
        return lambda: not any(event & select.POLLIN for _, event in ready.poll(0))

    lever = CommandDriver(client, 3, "demo", site.entry(stop=f"{sys.executable} {parent}"), poll, lambda _line: None)
    with pytest.raises(CtlError, match="was ended after"):
        lever.stop()
    os.set_blocking(reading, True)
    assert b"here" == os.read(reading, 100)
    assert b"" == os.read(reading, 100)  # comes when the child is dead: it holds the other end
    os.close(reading)


def test_a_child_that_lives_on_with_the_output_open_is_not_waited_for(cluster, client, site: Site):
    pid_file = site.directory / "pid"
    parent = site.directory / "parent.py"
    parent.write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "print('started')\n"
    )
    told: list[str] = []
    try:
        driver(client, site.entry(start=f"{sys.executable} {parent}"), told).start()
    finally:
        os.kill(int(pid_file.read_text()), 9)
    assert "started" in told


def test_what_a_command_did_is_seen_at_the_node_and_not_believed(client, site: Site):
    with pytest.raises(CtlError, match="ended with 0, but node 3 is not stopped"):
        driver(client, site.entry(), looks=100).stop()


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("stop {nodes}", "{nodes} stands for nothing"),
        ("stop {node!r}", "stands for nothing"),
        ("stop {node.real}", "stands for nothing"),
        ("stop 'unclosed", "is not a command"),
        ("", "is empty"),
    ],
)
def test_a_template_that_is_wrong_is_found_before_anything_is_done(client, site: Site, template: str, why: str):
    with pytest.raises(CtlError, match=why) as caught:
        driver(client, site.entry(stop=template))
    assert 3 == caught.value.exit_code
    assert not site.calls.exists()


@pytest.mark.parametrize("verb", ["stop", "wipe", "start"])
def test_a_command_that_is_missing_is_named(client, site: Site, verb: str):
    with pytest.raises(CtlError, match=rf"nodes\.3\.{verb}"):
        driver(client, site.entry(**{verb: None}))


def test_without_a_restore_command_wipes_are_not_undone(client, site: Site):
    assert driver(client, site.entry()).undoes_wipes
    assert not driver(client, site.entry(restore=None)).undoes_wipes


def test_values_are_words_of_their_own_whatever_is_in_them():
    assert ["say", "a b;c", "-x"] == words_of("say {reason} -x", {"reason": "a b;c"}, "here")


# -- a person ------------------------------------------------------------------------------------------------------------


def person(client, told: list[str], act: Callable[[], object], looks: int = 20) -> ManualDriver:
    return ManualDriver(client, 3, polling(looks, act), told.append, 60.0)


def test_a_person_is_told_what_to_do_and_it_is_seen_that_it_was_done(cluster, client):
    told: list[str] = []
    person(client, told, lambda: cluster.nodes[3].update(state="shutdown")).stop()
    assert "stop the process of node 3" in told[0]
    until = {"term": 2, "node_id": 1, "index": 101}

    def wipes_and_starts() -> None:
        cluster.nodes[3] |= {"state": "follower", "recovering": {"until": until, "reason": "wiped"}}

    person(client, told, wipes_and_starts).wipe(ORDER)
    assert "raft-engine wipe --config NODE.toml --recover-until T2-N1.101 --expect-boot 4" in told[1]
    asked = len(told)
    person(client, told, lambda: None).start()
    assert asked == len(told)


def test_one_answer_that_is_lost_is_no_stop(cluster, client):
    import httpx

    lost = httpx.ConnectError("[Errno 111] Connection refused")
    cluster.answers("/v1/status", lost, lost, method="GET", node=3)
    with pytest.raises(CtlError, match="nobody was seen to stop"):
        person(client, [], lambda: None).stop()


def test_a_person_who_does_nothing_is_waited_for_and_then_it_failed(cluster, client):
    cluster.nodes[3]["state"] = "shutdown"
    with pytest.raises(CtlError, match="nobody was seen to start"):
        person(client, [], lambda: None).start()


def test_a_person_gives_the_data_back(cluster, client):
    told: list[str] = []
    cluster.nodes[3] |= {"recovering": {"until": None, "reason": "wiped"}}
    person(client, told, lambda: cluster.nodes[3].update(recovering=None)).restore("retired-x")
    assert "raft-engine restore" in told[0]


# -- http ------------------------------------------------------------------------------------------------------------------


def test_while_a_node_does_not_answer_it_is_said_once_what_is_waited_for(cluster, client):
    cluster.down[3] = httpx.ConnectError("[Errno 111] Connection refused")
    told: list[str] = []
    looks = []

    def one_more() -> None:
        looks.append(None)
        if len(looks) == 3:
            cluster.down.clear()

    HttpDriver(client, 3, "demo", polling(9, one_more), told.append).start()
    assert len(looks) >= 3
    [line] = told
    assert line.startswith("node 3: ")
    assert "asking again for up to 30 s" in line


@pytest.mark.parametrize("line", ["rejoin-node 3 --yes --confirm demo", "rolling-restart --only 3 --yes"])
def test_a_run_asks_a_node_again_for_no_longer_than_its_timeout(raftctl, monkeypatch, line):
    with mocked(monkeypatch) as cluster:
        cluster.answers("/v1/node/stop-raft", httpx.ReadError("reset"))
        assert "asking again for up to 7 s" in raftctl(f"{line} --timeout 7s").err
        cluster.answers("/v1/node/stop-raft", httpx.ReadError("reset"))
        assert "asking again for up to 30 s" in raftctl(f"{line} --timeout 1m").err
