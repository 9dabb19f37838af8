"""raftctl dies at every point of a rejoin whose node it stops, wipes and starts as a process: by commands, or by a person."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from raftctl.errors import CtlError
from raftctl.output.render import Output
from raftctl.runbook.command_driver import CommandDriver
from raftctl.runbook.journal import read_runs
from tests.raftctl.killing import Killed, Killer
from tests.raftctl.rejoin_cluster import WELL, CommandError, RejoinCluster
from tests.raftctl.test_rejoin_killed import (
    assert_as_before,
    assert_rebuilt,
    begin,
    cluster,
    go_on,
    has_begun,
    killer,
    outcome,
)

__all__ = ["cluster", "killer"]  # the fixtures are the other module's

POINTS = 84
RESTORE = 'restore = "restore {retired}"'
NODE = """
[contexts.demo.nodes.3]
driver = "command"
stop = "stop"
wipe = "wipe {{recover_until}} {{expect_boot}}"
start = "start"
{restore}
"""


@pytest.fixture
def commands(cluster: RejoinCluster, killer: Killer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The site's commands act on the mocked cluster; return which ran."""
    ran: list[str] = []

    def run(driver: CommandDriver, verb: str, _template: str | None, more: Mapping[str, object] | None = None) -> str:
        def act() -> str:
            ran.append(verb)
            return cluster.command(verb, 3, more or {})

        try:
            return killer.around(verb, act)
        except CommandError as error:
            raise CtlError("command_failed", f"{verb} failed: {error}") from error

    monkeypatch.setattr(CommandDriver, "_run", run)
    return ran


def configure(raftctl, restore: str = RESTORE) -> None:
    raftctl.config.write_text(raftctl.config.read_text("utf-8") + NODE.format(restore=restore), "utf-8")


def test_the_points_cover_a_whole_run_by_commands(cluster, raftctl, killer, commands):
    configure(raftctl)
    assert not begin(raftctl, killer, None)
    assert ["stop", "wipe", "start"] == commands
    assert 50 < killer.count < POINTS


@pytest.mark.parametrize("point", range(POINTS))
def test_a_run_by_commands_that_died_is_finished(cluster: RejoinCluster, raftctl, killer: Killer, commands, point: int):
    configure(raftctl)
    died = begin(raftctl, killer, point)
    if not has_begun():
        return
    if died:
        go_on(raftctl, killer, "resume")
    assert "done" == outcome()
    assert_rebuilt(cluster)


@pytest.mark.parametrize(
    ("point", "restore"), [*((point, RESTORE) for point in range(POINTS)), *((point, "") for point in range(25, 65, 2))]
)
def test_a_run_by_commands_that_died_is_undone_while_there_is_a_way_back(
    cluster: RejoinCluster, raftctl, killer: Killer, commands, point: int, restore: str
):
    configure(raftctl, restore)
    died = begin(raftctl, killer, point)
    if not died or not has_begun() or "done" == outcome():
        return
    ended = go_on(raftctl, killer, "abort", code=None)
    if 0 == ended.code:
        assert "undone" == outcome()
        assert_as_before(cluster)
        return
    assert 9 == ended.code
    assert "nothing was undone" in ended.error["message"]
    assert cluster.wipes == 1
    assert 3 not in cluster.down
    go_on(raftctl, killer, "resume")
    assert_rebuilt(cluster)


def test_a_wipe_command_that_fails_is_undone_without_it(cluster: RejoinCluster, raftctl, killer, commands, monkeypatch):
    configure(raftctl)

    def fails(_node: int, _values: Mapping[str, object]) -> str:
        raise CommandError("permission denied")

    monkeypatch.setattr(cluster, "_wipe_process", fails)
    killer.again()
    error = raftctl("rejoin-node 3 --yes --confirm demo -o json", code=8).error
    assert "permission denied" in error["message"]
    assert_as_before(cluster)


def test_a_wipe_command_that_prints_nothing_is_gone_on_with(cluster: RejoinCluster, raftctl, killer, commands, monkeypatch):
    configure(raftctl)
    wipe = cluster._wipe_process
    monkeypatch.setattr(cluster, "_wipe_process", lambda node, values: wipe(node, values)[:0])
    killer.again()
    receipt = raftctl("rejoin-node 3 --yes --confirm demo -o json").data
    assert "" == receipt["retired_to"]
    assert_rebuilt(cluster)


# -- a person ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def person(cluster: RejoinCluster, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody who does at once what they are asked; return what that was."""
    asked: list[str] = []

    def act(_output: Output, text: str) -> None:
        if not text.startswith("please "):
            return
        asked.append(text.split(";", maxsplit=1)[0])
        words = text.removeprefix("please ")
        if words.startswith("stop"):
            cluster.command("stop", 3, {})
        elif words.startswith("wipe"):
            boot = int(text.split("--expect-boot ")[1].split(" ", maxsplit=1)[0])
            until = text.split("--recover-until ")[1].split(" ", maxsplit=1)[0]
            cluster.command("wipe", 3, {"recover_until": until, "expect_boot": boot})
            cluster.command("start", 3, {})
        elif words.startswith("give"):
            cluster.command("restore", 3, {"retired": next(iter(cluster.retired[3]))})
            cluster.command("start", 3, {})
        else:
            cluster.command("start", 3, {})

    monkeypatch.setattr(Output, "say", act)
    return asked


MANUAL = "rejoin-node 3 --driver manual --yes --confirm demo"


def test_a_person_rebuilds_a_node(cluster: RejoinCluster, raftctl, killer, person):
    killer.again()
    raftctl(MANUAL)
    assert ["please stop the process of node 3", "please wipe node 3"] == [text.split(",")[0] for text in person]
    assert_rebuilt(cluster)


@pytest.mark.parametrize("verb", ["resume", "abort"])
@pytest.mark.parametrize("point", range(0, POINTS, 3))
def test_a_run_by_a_person_that_died_is_gone_on_with(
    cluster: RejoinCluster, raftctl, killer: Killer, person, point: int, verb: str
):
    killer.again(point)
    try:
        raftctl(MANUAL, code=None)
        return
    except Killed:
        pass
    if not has_begun() or "done" == outcome():
        return
    ended = go_on(raftctl, killer, verb, code=None)
    if 0 == ended.code and verb == "abort":
        assert_as_before(cluster)
        return
    if 9 == ended.code:
        assert "nothing was undone" in ended.error["message"]
        go_on(raftctl, killer, "resume")
    assert "done" == outcome()
    assert WELL == cluster.picture(3)
    (run,) = read_runs()
    assert run.broken_at is None
