"""What needs no cluster: contexts, configuration, completion, version, the manual; and init and the runtime configuration."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftctl import manual
from raftctl.sandbox import Sandbox
from tests.ports import free_sandbox_port

HEAVY = ("httpx", "rich", "raft_engine", "asyncio", "ssl")


def test_version_loads_nothing_heavy():
    code = (
        "import sys; from raftctl.__main__ import run; run(['version']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_manual_is_up_to_date():
    assert manual.PAGE.read_text("utf-8") == manual.page()


def test_every_command_has_an_example():
    assert "raftctl rejoin-node 3 --dry-run" in manual.page()


def test_a_context_is_added_used_shown_and_removed(raftctl):
    raftctl("context add other -e http://10.0.0.1:9101 -e http://10.0.0.2:9101")
    raftctl("context use other")
    assert raftctl("context show -o json").data["endpoints"] == ["http://10.0.0.1:9101", "http://10.0.0.2:9101"]
    assert "endpoints: http://10.0.0.1:9101, http://10.0.0.2:9101\n" in raftctl("context show").out
    raftctl("context use demo")
    raftctl("context remove other --yes")
    assert "other" not in raftctl("context list -o name").out.split()


def test_an_output_that_is_none_is_told_in_one_plain_sentence(raftctl):
    told = "Invalid value for '--output' / '-o': 'yaml' is not one of 'table', 'wide', 'json', 'jsonl', 'name'."
    assert told in raftctl("status -o yaml", code=2).err


def test_a_context_that_is_not_there_is_3_and_the_known_ones_are_named(raftctl):
    assert "demo" in raftctl("-c nowhere status", code=3).err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_a_completion_script_is_printed(raftctl, shell):
    assert "raftctl" in raftctl(f"completion {shell}").out


def test_the_path_of_the_configuration_is_told(raftctl):
    assert raftctl("config path").out.strip() == str(raftctl.config)


def test_help_lists_every_command_under_its_heading(raftctl):
    out = raftctl("--help").out
    for word in ("Observe", "Trigger", "Change", "Runbooks", "Data", "Set-up", "rejoin-node", "member"):
        assert word in out


@pytest.mark.parametrize("group", ["runs", "trigger", "explain member"])
def test_a_group_without_a_command_is_one_document_with_json_and_its_help_without(raftctl, group):
    error = raftctl(f"-o json {group}", code=2).error
    assert ("usage", f"raftctl {group}: a command is missing") == (error["code"], error["message"])
    assert raftctl(group, code=2).err.startswith(f"Usage: raftctl {group} ")


def test_init_names_all_endpoints_as_members(cluster, raftctl):
    raftctl("init")
    ((_, _, path, body),) = cluster.mutations
    assert (path, sorted(body["members"])) == ("/v1/init", ["1", "2", "3"])


@pytest.mark.parametrize("options", ["", "--yes", "--dry-run"])
def test_init_of_another_cluster_than_the_one_named_is_refused(cluster, raftctl, options):
    for node, status in cluster.nodes.items():
        status |= {"birth": "blank", "leader": None, "state": "follower", "node_id": node}
    error = raftctl(f"init {options} --confirm wrong -o json", code=5).error
    assert ("confirmation_mismatch", True) == (error["code"], "this is cluster 'demo'" in error["message"])
    assert [] == cluster.mutations
    raftctl("init --yes --confirm demo")
    assert ["/v1/init"] == cluster.paths


def test_init_without_all_of_them_is_refused(cluster, raftctl):
    import httpx

    cluster.down[3] = httpx.ConnectError("[Errno 111] Connection refused")
    assert "http://127.0.0.1:9103" in raftctl("init", code=4).err
    assert [] == cluster.mutations


def test_a_timer_is_switched(cluster, raftctl):
    raftctl("runtime-config set enable_elect=off --node 2 --yes")
    assert cluster.nodes[2]["runtime_config"]["enable_elect"] is False
    raftctl("runtime-config set enable_elect=on --node 2")
    assert cluster.nodes[2]["runtime_config"]["enable_elect"] is True


def test_a_node_that_does_not_tell_what_its_timers_do_is_a_row_and_a_warning(cluster, raftctl):
    import httpx

    cluster.down[3] = httpx.ReadTimeout("paused")
    document = raftctl("runtime-config get -o json").document
    last = document["data"]["items"][-1]
    assert (3, None) == (last["node"], last["enable_tick"])
    assert "no answer in 1 s" in last["error"]
    assert ["node 3 does not tell: http://127.0.0.1:9103/v1/status: no answer in 1 s"] == document["warnings"]
    shown = raftctl("runtime-config get")
    assert [["3", "-", "-", "-", "-"]] == [row.split()[:5] for row in shown.out.splitlines() if row.startswith("   3")]
    assert "warning: node 3 does not tell" in shown.err


@pytest.mark.parametrize("word", ["enable_elect", "enable_elect=maybe", "gravity=off"])
def test_a_timer_that_there_is_not_is_2(cluster, raftctl, word):
    raftctl(f"runtime-config set {word} --yes", code=2)
    assert [] == cluster.mutations


def test_the_output_of_a_context_is_the_default_where_none_is_asked_for(raftctl):
    raftctl.config.write_text(raftctl.config.read_text("utf-8") + 'output = "json"\n', "utf-8")
    assert raftctl("version").document["kind"] == "version"
    assert raftctl("version -o table").out.startswith("raftctl ")


@pytest.mark.parametrize("line", ["--version", "--version status"])
def test_the_version_is_an_option_too(raftctl, line):
    assert raftctl("version").out == raftctl(line).out


def test_the_option_for_the_version_obeys_the_others(raftctl):
    assert "version" == raftctl("--version -o json").document["kind"]
    assert raftctl("-o name --version").out == raftctl("version -o name").out


# -- the sandbox, without its processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_place_where_no_sandbox_can_be_is_named(raftctl, tmp_path, where):
    (tmp_path / "file").write_text("not a directory")
    error = raftctl(f"dev up --base-port {free_sandbox_port()} -o json --dir", str(tmp_path / where), code=3).error
    assert error["message"].startswith(f"no sandbox can be made in {tmp_path / where}: ")
    assert error["hint"] == "choose another --dir"


@pytest.mark.parametrize(
    ("running", "told"),
    [
        (set(), "started 3 nodes in"),
        ({1}, "started node 2 and 3, the others ran already, in"),
        ({1, 2, 3}, "all nodes run already in"),
    ],
)
def test_dev_up_counts_what_it_started(cluster, raftctl, monkeypatch, tmp_path, running, told):
    from raftctl.commands import dev

    def start(_: Sandbox, number: int) -> bool:
        return number not in running

    monkeypatch.setattr(Sandbox, "check_ports", lambda *_: None)
    monkeypatch.setattr(Sandbox, "start", start)
    monkeypatch.setattr(dev, "_until_led", lambda session, _: session.client.cluster())
    assert told in raftctl("dev up --dir", str(tmp_path / "sandbox")).err


def test_dev_up_does_not_wait_for_a_failed_node_and_says_how_to_start_it_anew(cluster, raftctl, monkeypatch, tmp_path):
    from types import SimpleNamespace

    from raftctl.commands import dev
    from raftctl.deadline import Deadline
    from raftctl.errors import CtlError
    from raftctl.session import Session
    from raftctl.settings import Flags
    from tests.raftctl.fake_cluster import url

    cluster.nodes[2].update(state="shutdown", fatal="no space left")
    monkeypatch.setattr(Deadline, "again", lambda *_, **__: pytest.fail("it waits"))
    sandbox = SimpleNamespace(
        endpoints=[url(node) for node in (1, 2, 3)],
        check_alive=lambda: None,
        state=SimpleNamespace(nodes={1: 0, 2: 0, 3: 0}),
        log_path=lambda node: tmp_path / f"n{node}" / "node.log",
    )
    with pytest.raises(CtlError) as caught:
        dev._until_led(Session(Flags()), sandbox)
    assert f"{tmp_path}/n2/node.log; raftctl dev down, then raftctl dev up" in caught.value.hint
    cluster.nodes[2].update(state="follower", fatal=None, alarms=[{"code": "older_copy", "detail": "d"}])
    sandbox.directory = tmp_path
    monkeypatch.setattr(Deadline, "again", lambda *_, **__: False)
    with pytest.raises(CtlError) as caught:
        dev._until_led(Session(Flags()), sandbox)
    assert f"raftctl -e {url(1)} doctor says what mends it" in caught.value.hint


def test_a_sandbox_that_cannot_be_removed_wholly_says_what_remains_and_can_be_purged_again(raftctl, monkeypatch, tmp_path):
    directory = tmp_path / "dev"
    Sandbox.create(directory, 2, free_sandbox_port())
    mounted = directory / "n1" / "data"
    (mounted / "log").mkdir(parents=True)
    rmdir = Path.rmdir

    def busy(path: Path) -> None:
        if path == mounted:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        rmdir(path)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Path, "rmdir", busy)
        told = raftctl("dev down --purge", code=3).err
    assert f"error: {directory} is not wholly removed, no node of it runs: {mounted}: Device or resource busy\n" in told
    assert "hint: give that free" in told
    assert ["n1", "sandbox.json"] == sorted(path.name for path in directory.iterdir())
    raftctl("dev down --purge")
    assert not directory.exists()


@pytest.fixture
def sandbox(raftctl, monkeypatch, tmp_path):
    """Two nodes that look as if they ran."""
    monkeypatch.setattr(Sandbox, "check_ports", lambda *_: None)
    made = Sandbox.create(tmp_path / "sandbox", 2, 9101)
    monkeypatch.setattr(Sandbox, "running", lambda *_: True)
    return made


def test_a_dry_run_of_dev_down_says_what_it_would_remove(raftctl, sandbox):
    line = f"dev down --dir {sandbox.directory} --purge --dry-run"
    told = raftctl(line).out
    assert "would stop node 1 and 2\n" in told
    assert f"would remove {sandbox.directory} with all data of its nodes" in told
    assert ([1, 2], str(sandbox.directory)) == tuple(raftctl(f"{line} -o json").data[name] for name in ("stop", "remove"))
    assert sandbox.directory.exists()


def test_a_dry_run_of_dev_down_without_purge_speaks_of_no_removal(raftctl, sandbox):
    assert "remove" not in raftctl(f"dev down --dir {sandbox.directory} --dry-run").out


# -- times -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["version", "status", "health", "kv list", "heartbeat", "runs list"])
@pytest.mark.parametrize(
    ("option", "time"),
    [(option, time) for option in ("--timeout", "--request-timeout") for time in ("abc", "-1s", "1 day", "")]
    + [("--request-timeout", time) for time in ("0", "0ms", "0.0s")],
)
def test_a_time_that_is_none_is_2_whether_it_is_needed_or_not(cluster, raftctl, line, option, time):
    assert f"{option}" in raftctl(line, f"{option}={time}", code=2).err
    assert [] == cluster.requests


@pytest.mark.parametrize("line", ["status --watch --interval", "top --count 1 --interval", "watch --count 1 --for"])
def test_no_time_at_all_between_two_looks_or_for_watching_is_2(cluster, raftctl, monkeypatch, line):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it goes on"))
    assert "is no time at all" in raftctl(f"{line} 0s", code=2).err


@pytest.mark.parametrize("time", ["0", "0s"])
def test_no_time_for_an_effect_is_one_look(cluster, raftctl, monkeypatch, time):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    raftctl(f"health --wait --timeout {time}")


def test_a_time_in_the_environment_or_a_context_is_no_better(cluster, raftctl, monkeypatch):
    raftctl.config.write_text(raftctl.config.read_text("utf-8") + 'timeout = "1 day"\n', "utf-8")
    assert "'1 day' is not a duration" in raftctl("health --wait", code=2).err
    monkeypatch.setenv("RAFTCTL_TIMEOUT", "abc")
    assert "'abc' is not a duration" in raftctl("health --wait", code=2).err
