"""What happens when the disk fails, is held by somebody else, or does not hold what it should?"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

from tests.acceptance.cluster import QUICK, ROOT, Cluster, Load, Node, missing
from tests.acceptance.conftest import ClusterMaker
from tests.ports import free_ports

MIB = 1024 * 1024


def no_more_than(node: Node, size_bytes: int) -> None:
    """From now on the node's process cannot write beyond this offset of any file: its disk is full."""
    assert node.process is not None
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raft_engine", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def test_a_follower_whose_disk_is_full_stops_with_a_reason_and_the_others_go_on(cluster: Cluster):
    follower = cluster.followers()[0]
    no_more_than(follower, MIB)
    others = [node.node_id for node in cluster if node is not follower]
    with Load(cluster, "load/") as load:
        for number in range(4):
            cluster.put(f"big/{number}", b"x" * MIB)
        told = follower.wait(lambda status: status["fatal"], "the node says why it stopped")
        load.more(20)
    assert told["state"] == "shutdown"
    assert "File too large" in told["fatal"] or "EFBIG" in told["fatal"]
    assert follower.client.get("/readyz").status_code == 503
    assert missing(load, cluster.leader(among=others)) == []


def test_a_leader_whose_disk_is_full_acknowledges_nothing_more_and_another_takes_over(make_cluster: ClusterMaker):
    cluster = make_cluster(**QUICK)
    cluster.begin()
    old = cluster.leader()
    others = [node.node_id for node in cluster if node is not old]
    no_more_than(old, MIB)
    with Load(cluster, "load/") as load:
        for number in range(4):
            reply = old.put(f"big/{number}", b"x" * MIB, timeout="20s")
            if reply.status_code != 200:
                break
        assert reply.status_code in {421, 500, 503, 504}, reply.text  # 421: others noticed before it did
        old.wait(lambda status: status["fatal"], "the node says why it stopped")
        assert old.put("after", b"1").status_code in {500, 503}
        new = cluster.leader(among=others)
        load.more(20)
    assert missing(load, new) == []
    assert [f"big/{earlier}" for earlier in range(number) if new.read(f"big/{earlier}") is None] == []


def test_a_node_whose_disk_was_full_comes_back_when_there_is_room_again(cluster: Cluster):
    follower = cluster.followers()[0]
    no_more_than(follower, MIB)
    with Load(cluster, "load/") as load:
        for number in range(4):
            cluster.put(f"big/{number}", b"x" * MIB)
        follower.wait(lambda status: status["fatal"], "the node says why it stopped")
        follower.terminate()
        follower.start()
        load.more(20)
    assert missing(load, follower) == []


def test_a_second_process_on_the_same_directory_is_told_who_holds_it(shared: Cluster):
    holder = shared[1]
    assert holder.process is not None
    twin = holder.directory / "twin.toml"
    management, raft = map(str, free_ports(2))
    text = holder.config.read_text("utf-8")
    twin.write_text(text.replace(str(holder.management_port), management).replace(str(holder.raft_port), raft), "utf-8")
    ran = engine("serve", "--config", str(twin))
    assert ran.returncode == 4
    assert str(holder.process.pid) in ran.stderr
    assert "Traceback" not in ran.stderr
    assert holder.status()["fatal"] is None


def test_a_port_that_is_taken_is_named_in_one_sentence(shared: Cluster):
    other = shared.directory / "other"
    other.mkdir()
    config = other / "node.toml"
    config.write_text(
        f'cluster = "demo"\nnode_id = 9\ndata_dir = "data"\n'
        f'[listen]\nmanagement = "127.0.0.1:{shared[1].management_port}"\nraft = "127.0.0.1:0"\n',
        "utf-8",
    )
    ran = engine("serve", "--config", str(config))
    assert ran.returncode == 3
    assert str(shared[1].management_port) in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_directory_of_another_node_is_refused(cluster: Cluster):
    follower = cluster.followers()[0]
    follower.kill()
    text = follower.config.read_text("utf-8")
    follower.config.write_text(text.replace(f"node_id = {follower.node_id}", "node_id = 77"), "utf-8")
    ran = engine("serve", "--config", str(follower.config))
    assert ran.returncode == 4
    assert "77" in ran.stderr
    assert str(follower.node_id) in ran.stderr


def test_inspect_verifies_a_directory_in_use_and_one_at_rest(cluster: Cluster):
    for number in range(30):
        cluster.put(f"k{number}", b"v")
    node = cluster.followers()[0]
    node.post("/v1/trigger/snapshot")
    used = engine("inspect", str(node.data), "-o", "json")
    assert used.returncode == 0, used.stdout + used.stderr
    node.terminate()
    rest = engine("inspect", str(node.data), "-o", "json")
    assert rest.returncode == 0, rest.stdout + rest.stderr
    report = json.loads(rest.stdout)
    assert report["problems"] == []
    assert engine("inspect", str(node.data)).returncode == 0


def test_inspect_and_start_both_notice_a_flipped_bit(cluster: Cluster):
    for number in range(30):
        cluster.put(f"k{number}", b"v" * 50)
    node = cluster.followers()[0]
    node.terminate()
    segment = min((node.data / "log").glob("*.seg"))
    with segment.open("r+b") as file:
        file.seek(600)
        byte = file.read(1)[0]
        file.seek(600)
        file.write(bytes([byte ^ 0x10]))
    ran = engine("inspect", str(node.data), "-o", "json")
    assert ran.returncode == 14
    assert json.loads(ran.stdout)["problems"] != []
    refused = engine("serve", "--config", str(node.config))
    assert refused.returncode == 4
    assert segment.name in refused.stderr
    assert "Traceback" not in refused.stderr
