"""From damage found to a node that is whole again: inspect, serve --stopped, rejoin-node, wipe, all as an operator types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.acceptance.cluster import ROOT, Cluster, Load, Node, missing
from tests.acceptance.mounts import failing_calls


def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raft_engine", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def flip(path: Path, offset: int) -> None:
    """Alter one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def damaged_follower(cluster: Cluster) -> Node:
    """Write something, stop a follower, and damage its log."""
    with Load(cluster, "before/") as load:
        load.more(30)
    node = cluster.followers()[0]
    node.terminate()
    flip(min((node.data / "log").glob("*.seg")), 800)
    return node


def test_a_node_with_a_damaged_log_is_rebuilt_with_the_commands_that_inspect_names(cluster: Cluster):
    node = damaged_follower(cluster)
    ran = engine("inspect", str(node.data), "-o", "json")
    assert ran.returncode == 14
    report = json.loads(ran.stdout)
    assert [problem["kind"] for problem in report["problems"]] == ["lost_entries"]
    assert report["next"][-2:] == [
        "start the process with its engine stopped: raft-engine serve --stopped --config node.toml",
        f"raftctl rejoin-node {node.node_id}",
    ]
    refused = engine("serve", "--config", str(node.config))
    assert (refused.returncode, "Traceback" in refused.stderr) == (4, False)
    assert "raft-engine serve --stopped" in refused.stderr
    node.start("--stopped")
    assert node.status()["state"] == "shutdown"
    with Load(cluster, "while/") as load:
        load.more(10)
        cluster.raftctl("rejoin-node", str(node.node_id), "--yes", "--confirm", cluster.name)
        load.more(10)
    assert missing(load, node) == []
    assert node.terminate() == 0
    assert engine("inspect", str(node.data)).returncode == 0


def test_a_node_is_wiped_on_its_own_machine_behind_a_barrier(cluster: Cluster):
    with Load(cluster, "load/") as load:
        load.more(30)
        node = cluster.followers()[0]
        others = [each.node_id for each in cluster if each is not node]
        early = cluster.ask_leader("/v1/barrier", {"exclude": [node.node_id]}, others)["log_id"]
        load.more(10)
        running = engine("wipe", str(node.data), "--recover-until", text(early), "--confirm", cluster.name)
        assert running.returncode == 6
        node.terminate()
        unsafe = engine("wipe", str(node.data), "--recover-until", text(early), "--confirm", cluster.name)
        assert unsafe.returncode == 5, unsafe.stderr
        barrier = cluster.ask_leader("/v1/barrier", {"exclude": [node.node_id]}, others)["log_id"]
        cluster.raftctl("allow-next-revert", "--to", str(node.node_id), "--yes", "--confirm", cluster.name)
        wiped = engine("wipe", str(node.data), "--recover-until", text(barrier), "--confirm", cluster.name)
        assert wiped.returncode == 0, wiped.stderr
        assert (Path(wiped.stdout.strip()) / "log").is_dir()
        node.start()
        node.wait(lambda status: status["recovering"] is None, "it holds the barrier again")
        load.more(10)
    cluster.settled()
    assert missing(load, node) == []


def test_a_wipe_that_is_killed_is_finished_by_repeating_it_or_by_the_next_start(cluster: Cluster):
    with Load(cluster, "load/") as load:
        load.more(30)
        node = cluster.followers()[0]
        others = [each.node_id for each in cluster if each is not node]
        node.terminate()
        barrier = cluster.ask_leader("/v1/barrier", {"exclude": [node.node_id]}, others)["log_id"]
        cluster.raftctl("allow-next-revert", "--to", str(node.node_id), "--yes", "--confirm", cluster.name)
        wipe = ["wipe", str(node.data), "--recover-until", text(barrier), "--confirm", cluster.name]
        for number in (2, 3):  # rename 1 puts the plan in place, 2 and 3 move log and snapshots
            before = failing_calls(f"rename:signal=SIGKILL:when={number}")
            killed = subprocess.run(
                [*before, sys.executable, "-m", "raft_engine", *wipe], cwd=ROOT, capture_output=True, check=False
            )
            assert killed.returncode not in {0, 2}
            assert "a wipe or its undo was interrupted" in engine("inspect", str(node.data)).stdout
        assert (node.data / "wipe.json").exists()
        node.start()
        node.wait(lambda status: status["recovering"] is None, "it holds the barrier again")
        assert not (node.data / "wipe.json").exists()
        assert len(list(node.data.glob("retired-*"))) == 1
        load.more(10)
    cluster.settled()
    assert missing(load, node) == []


def text(log_id: dict) -> str:
    return f"T{log_id['term']}-N{log_id['node_id']}.{log_id['index']}"
