"""Does `raftctl rejoin-node` rebuild a node whose process it stops, wipes and starts itself, or with the site's own commands?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.sandbox import _began
from tests.acceptance.cluster import Cluster
from tests.acceptance.test_rejoin import SURE, assert_whole, files, fill, rejoin

SERVICE = """
import os, signal, subprocess, sys, time
verb, name = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
folder = os.path.join(here, name)
pid = int(open(os.path.join(folder, "data", "lock")).read().split()[0])

def runs():
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

if verb == "stop" and runs():
    os.kill(pid, signal.SIGTERM)
    while runs():
        time.sleep(0.02)
if verb == "start-late" and not os.path.exists(os.path.join(here, "late")):
    open(os.path.join(here, "late"), "w").close()
    sys.exit("not yet")
if verb.startswith("start") and not runs():
    log = open(os.path.join(folder, "node.log"), "ab")
    command = [sys.executable, "-m", "raft_engine", "serve", "--config", os.path.join(folder, "node.toml")]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
print(verb, name, "done")
"""
"""What a service manager does, as far as these tests need it."""

NODE = """
[contexts.demo.nodes.{number}]
driver = "command"
stop = "{python} {service} stop n{{node}}"
start = "{python} {service} start n{{node}}"
wipe = "{engine} wipe --config n{{node}}/node.toml --recover-until {{recover_until}} --expect-boot {{expect_boot}} --reason '{{reason}}'"
restore = "{engine} restore --config n{{node}}/node.toml --retired {{retired}}"
"""


def service(cluster: Cluster) -> Path:
    return cluster.directory / "service.py"


@pytest.fixture
def commanded(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster whose context names commands for each node; at the end their processes are ended."""
    service(cluster).write_text(SERVICE, "utf-8")
    words = {"python": sys.executable, "service": service(cluster), "engine": f"{sys.executable} -m raft_engine"}
    nodes = [NODE.format(number=node.node_id, **words) for node in cluster]
    cluster.config.write_text(cluster.config.read_text("utf-8") + "".join(nodes), "utf-8")
    for node in cluster:
        node.is_serviced = True
    yield cluster
    for node in cluster:
        subprocess.run([sys.executable, str(service(cluster)), "stop", f"n{node.node_id}"], check=False, timeout=60)


def test_a_node_is_rebuilt_with_the_site_s_commands(commanded: Cluster):
    fill(commanded, 30)
    node = commanded.followers()[0]
    ran = commanded.raftctl("rejoin-node", str(node.node_id), *SURE)
    assert f"stop n{node.node_id} done" in ran.stderr
    assert f"start n{node.node_id} done" in ran.stderr
    assert len(list(node.data.glob("retired-*"))) == 1
    assert_whole(commanded, node)


def test_a_command_that_fails_after_the_wipe_has_it_undone(commanded: Cluster):
    fill(commanded, 30)
    node = commanded.followers()[0]
    text = commanded.config.read_text("utf-8")
    commanded.config.write_text(text.replace("service.py start ", "service.py start-late "), "utf-8")
    before = files(node)
    error = rejoin(commanded, node, code=8).error
    assert "exit status 1: not yet" in error["message"]
    assert_whole(commanded, node)
    assert [name for name in files(node) if "retired" not in name] == [name for name in before if "retired" not in name]


# -- the sandbox's own processes -----------------------------------------------------------------------------------------


def journal_says(tool: Cluster, event: str, step: str) -> bool:
    """Whether the only run's journal has that record; a line is there when it is whole."""
    journals = list((tool.directory / "home" / "state" / "raftctl" / "runs").glob("*.jsonl"))
    return any(
        f'"event":"{event}"' in line and f'"step":"{step}"' in line
        for path in journals
        for line in path.read_text("utf-8").splitlines()
    )


@pytest.mark.parametrize("step", ["wipe", "start"])
@pytest.mark.parametrize("verb", ["resume", "abort"])
def test_a_run_of_the_local_driver_whose_raftctl_was_killed_is_gone_on_with(sandbox: Cluster, step: str, verb: str):
    """Killed somewhere in that step: its process may be started and not yet noted."""
    for number in range(5):
        sandbox.raftctl("kv", "put", f"k{number}", "v")
    line = ("rejoin-node", "3", "--driver", "local", "--yes", "--confirm", "dev")
    running = sandbox.begin_raftctl(lambda: journal_says(sandbox, "step_begun", step), *line)
    running.kill()
    running.communicate(timeout=60)
    run = sandbox.last_run()
    ended = sandbox.raftctl("runs", verb, run["run"], code=None)
    if ended.code == 9:
        assert "nothing was undone" in ended.stderr
        sandbox.raftctl("runs", "resume", run["run"])
    run = sandbox.last_run()
    assert run["outcome"] == ("undone" if verb == "abort" and ended.code == 0 else "done")
    sandbox.raftctl("health", "--wait")
    assert sandbox.raftctl("kv", "get", "k4").stdout == "v"


def forget_process(sandbox: Cluster, node: str) -> int:
    """Leave the sandbox as a program does that dies after it started a process and before it noted it; return its pid."""
    state = sandbox.directory / "home" / "dev" / "sandbox.json"
    known = json.loads(state.read_text("utf-8"))
    pid: int = known["nodes"][node]["pid"]
    known["nodes"][node] |= {"pid": 0, "began": 0}
    state.write_text(json.dumps(known), "utf-8")
    return pid


def test_a_sandbox_s_process_that_nobody_noted_ends_with_it(sandbox: Cluster):
    pid = forget_process(sandbox, "3")
    assert [1, 2, 3] == sandbox.raftctl("dev", "down", "-o", "json").data["stopped"]
    assert _began(pid) is None


def test_a_sandbox_s_process_that_nobody_noted_is_found_by_its_lock(sandbox: Cluster):
    pid = forget_process(sandbox, "3")
    sandbox.raftctl("rejoin-node", "3", "--driver", "local", "--yes", "--confirm", "dev")
    after = {item["node"]: item["pid"] for item in sandbox.raftctl("dev", "status", "-o", "json").data["items"]}
    assert after[3] not in {None, pid}
