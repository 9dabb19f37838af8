"""What does a node say when its disk or its directory is not as it should be? What, where, and what to do next, in one sentence.

Each test starts the real program in that condition.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.cluster import QUICK, ROOT, Cluster, Node, wait_until
from tests.acceptance.conftest import ClusterMaker
from tests.acceptance.mounts import failing_calls, injected, make_larger, make_read_only, small_disk


def refused(node: Node, *before: str) -> str:
    """Start a node that must end with 4 and one sentence; return the sentence."""
    command = [*before, sys.executable, "-m", "raft_engine", "serve", "--config", str(node.config)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 4, ran.stderr
    assert "Traceback" not in ran.stderr
    [said] = [line for line in ran.stderr.splitlines() if line.startswith("raft-engine: error: ")]
    assert "hint: " in said
    return said.removeprefix("raft-engine: error: ")


def alone(make_cluster: ClusterMaker) -> Node:
    """One node that leads itself and has one key."""
    cluster = make_cluster(1, **QUICK)
    cluster.begin()
    cluster.put("key", b"value")
    return cluster[1]


def stopped(make_cluster: ClusterMaker) -> Node:
    node = alone(make_cluster)
    assert node.post("/v1/trigger/snapshot").status_code == 200
    assert node.terminate() == 0
    return node


def told(node: Node) -> str:
    """Wait until the running node says why its engine ended, in the same words at each of its doors."""
    fatal = node.wait(lambda status: status["fatal"], "the node says why it stopped")["fatal"]
    assert fatal in node.client.get("/readyz").json()["detail"]
    assert [alarm["detail"] for alarm in node.status()["alarms"] if alarm["code"] == "engine_failed"] in ([], [fatal])
    assert fatal in node.log.read_text("utf-8")
    return fatal


# -- the disk ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["4k", "16k", "64k"])
def test_a_disk_that_is_full_at_the_start(size, make_cluster):
    node = make_cluster(1)[1]
    with small_disk(node.data, size):
        said = refused(node)
        assert re.search(r"^(opening|saving) the .* failed with (ENOSPC|SQLITE_FULL): ", said)
        assert str(node.data) in said
        assert "hint: free space on this disk, then start the node again" in said


def test_a_disk_that_fills_up(make_cluster):
    cluster = make_cluster(1, **QUICK)
    node = cluster[1]
    with small_disk(node.data, "24m"):
        cluster.begin()
        acknowledged = 0
        while node.put(f"k{acknowledged}", b"x" * 900_000, timeout="30s").status_code == 200:
            acknowledged += 1
        said = told(node)
        assert re.search(
            r"failed with (ENOSPC|SQLITE_FULL): .*hint: free space on this disk, then start the node again", said
        )
        assert node.terminate() == 0
        make_larger(node.data, "80m")
        node.start()
        wait_until(lambda: node.status()["state"] == "leader", "it leads again")
        assert [node.get(f"k{number}").status_code for number in range(acknowledged)] == [200] * acknowledged
        assert acknowledged > 0
        cluster.end()


def test_a_disk_that_was_mounted_read_only(make_cluster):
    node = make_cluster(1)[1]
    with small_disk(node.data, "1m"):
        make_read_only(node.data)
        said = refused(node)
        assert said.startswith("opening the data directory failed with EROFS: Read-only file system")
        assert "check the kernel log, remount it, then start the node again" in said


@pytest.mark.parametrize("call", ["fdatasync", "fsync", "pwrite64", "rename"])
def test_a_disk_that_fails_at_the_start(call, make_cluster):
    node = stopped(make_cluster)
    said = refused(node, *failing_calls(f"{call}:error=EIO"))
    assert re.search(r"^(opening|saving) the (data directory|log|identity) failed with EIO: Input/output error \(", said)
    assert "check the kernel log, replace the disk, then rejoin the node" in said


@pytest.mark.parametrize(("error", "advice"), [("EIO", "check the kernel log"), ("ENOSPC", "free space on this disk")])
def test_a_sync_that_fails_is_final_and_what_was_acknowledged_is_there_again(error, advice, make_cluster):
    node = alone(make_cluster)
    assert node.process is not None
    with injected(node.process.pid, f"fdatasync:error={error}:when=1"):
        reply = node.put("late", b"1")
        assert reply.status_code in {500, 503, 504}, reply.text
        said = told(node)
        assert re.search(rf"^(log sync failed with {error}|writing the state machine failed with SQLITE_\w+): ", said)
        assert advice in said
    assert node.put("later", b"1").status_code == 500, "the disk works again, and the engine stays down"
    assert node.terminate() == 0
    node.start()
    wait_until(lambda: node.status()["state"] == "leader", "it leads again")
    assert node.get("key").content == b"value"


# -- the directory -------------------------------------------------------------------------------------------------------


def test_a_directory_that_vanishes_under_a_running_node(make_cluster):
    node = alone(make_cluster)
    node.data.rename(node.directory / "moved")
    said = told(node)
    assert said.startswith(f"the data directory was moved, removed or replaced while the node ran ({node.data})")
    assert "put the directory back and start the node" in said
    assert node.put("late", b"1").status_code == 500
    assert node.terminate() == 0
    assert not node.data.exists(), "nothing was put in its place"
    (node.directory / "moved").rename(node.data)
    node.start()
    wait_until(lambda: node.status()["state"] == "leader", "it leads again")
    assert node.get("key").content == b"value"


def test_directories_of_two_nodes_that_were_swapped(make_cluster):
    cluster = make_cluster(2)
    cluster.begin()
    for node in cluster:
        node.terminate()
    cluster[1].data.rename(cluster.directory / "aside")
    cluster[2].data.rename(cluster[1].data)
    (cluster.directory / "aside").rename(cluster[2].data)
    said = refused(cluster[1])
    assert said.startswith("this directory belongs to node 2 of cluster 'demo', not to node 1 of cluster 'demo'")
    assert "correct data_dir, node_id or cluster in node.toml" in said


def test_an_older_copy_of_a_directory_is_fenced_and_the_operator_is_told(cluster: Cluster):
    node = cluster.followers()[0]
    node.terminate()
    shutil.copytree(node.data, node.directory / "copy")
    node.start()
    for number in range(5):
        cluster.put(f"k{number}", b"v")
    cluster.settled()
    node.terminate()
    shutil.rmtree(node.data)
    (node.directory / "copy").rename(node.data)
    others = [other.node_id for other in cluster if other is not node]
    node.start()
    [alarm] = cluster.until_leader(lambda status: len(status["alarms"]) == 1, "the leader sees it", among=others)["alarms"]
    assert (alarm["code"], alarm["node"]) == ("node_reverted", node.node_id)
    assert "it runs on an older copy of its data directory; it is fenced and counts for nothing" in alarm["detail"]
    assert "raftctl" in alarm["hint"]
    [own] = node.wait(lambda status: status["alarms"], "the node has heard of it")["alarms"]
    assert own["code"] == "older_copy"
    assert "reverted" in cluster.raftctl("status", code=None).stdout


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_directory_that_others_can_read(mode, make_cluster):
    node = stopped(make_cluster)
    node.data.chmod(mode)
    assert refused(node) == (
        f"the data directory is open to others (mode {mode:04o}) ({node.data}); hint: chmod 700 {node.data}"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user(make_cluster):
    node = stopped(make_cluster)
    os.chown(node.data, 65534, -1)
    said = refused(node)
    assert said.startswith("the data directory belongs to user 65534, this process runs as user 0")
    assert f"chown -R 0 {node.data}" in said


def test_a_file_and_a_link_to_nowhere_in_place_of_the_directory(make_cluster):
    node = make_cluster(1)[1]
    node.data.write_text("")
    assert refused(node) == f"the data directory is not a directory ({node.data}); hint: correct data_dir"
    node.data.unlink()
    node.data.symlink_to("absent")
    said = refused(node)
    assert said.startswith("opening the data directory failed with ENOENT: ")
    assert "check data_dir, links and mounts" in said


# -- later formats -------------------------------------------------------------------------------------------------------


def later_slots(page: bytearray) -> None:
    for at in (0, 4096):
        page[at + 8] = 2
        value = page[at + 28 : at + 28 + int.from_bytes(page[at + 12 : at + 16], "little")]
        page[at + 24 : at + 28] = zlib.crc32(value, zlib.crc32(page[at : at + 24])).to_bytes(4, "little")


def later_header(page: bytearray) -> None:
    page[8] = 2


def later_segment(page: bytearray) -> None:
    page[8] = 3


def later_identity(page: bytearray) -> None:
    page[:] = page.replace(b'"format":1', b'"format":2')


def changed(file: Path, change: Callable[[bytearray], None]) -> None:
    page = bytearray(file.read_bytes())
    change(page)
    file.write_bytes(page)


def test_what_a_later_version_wrote_is_left_alone_and_said_to_be_so(make_cluster):
    node = stopped(make_cluster)
    cases = {
        "identity.json": later_identity,
        "hard_state": later_slots,
        "log/marks": later_slots,
        "log/*.seg": later_segment,
        "snapshots/*.snap": later_header,
    }
    for pattern, change in cases.items():
        [file] = node.data.glob(pattern)
        sound = file.read_bytes()
        changed(file, change)
        said = refused(node)
        numbers = re.search(r"format (\d)(?: of this file)? is newer than this program knows \((\d)\)", said)
        assert numbers is not None, pattern
        assert numbers.groups() == (("3", "2") if change is later_segment else ("2", "1")), pattern
        assert str(file) in said
        assert "run the version that wrote it, or a later one" in said
        assert file.read_bytes() != sound
        file.write_bytes(sound)
    node.start()


def test_a_state_machine_that_was_altered_names_the_file_and_the_way_to_make_it_anew(make_cluster):
    node = stopped(make_cluster)
    [file] = node.data.glob("sm/*.db")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE meta SET key_count = 99")
    database.close()
    said = refused(node)
    assert str(file) in said
    assert "with the node stopped, move its sm/ directory away, and the next start makes it anew" in said
    (node.data / "sm").rename(node.directory / "sm.bad")
    node.start()
    wait_until(lambda: node.status()["state"] == "leader", "it leads again")
    assert node.get("key").content == b"value"
