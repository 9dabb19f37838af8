"""What if nobody uses the runbook: openraft's four steps by hand, and a directory that is wiped without asking?"""

from __future__ import annotations

import shutil

from tests.acceptance.cluster import Cluster, Json, Load, Node, missing
from tests.acceptance.test_rejoin import SURE, assert_whole, fill


def allow(cluster: Cluster, node: Node) -> None:
    cluster.raftctl("trigger", "allow-next-revert", "--to", str(node.node_id), "--allow", *SURE)


def empty(node: Node) -> None:
    """The third and the fourth step: the directory is removed, the process started."""
    shutil.rmtree(node.data)
    node.start()


def others(cluster: Cluster, node: Node) -> list[int]:
    return [each.node_id for each in cluster if each is not node]


def fenced(cluster: Cluster, node: Node) -> Json:
    """Wait until the leader's alarm says that this node has lost its data; return the alarm."""

    def alarm(status: Json) -> Json | None:
        return next((alarm for alarm in status["alarms"] if alarm["code"] == "node_reverted"), None)

    status = cluster.until_leader(alarm, "the loss is seen", among=others(cluster, node))
    found = alarm(status)
    assert found is not None
    assert found["node"] == node.node_id
    return found


def test_the_four_steps_of_openraft_s_documentation_end_well(cluster: Cluster):
    fill(cluster, 50)
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        load.more(20)
        assert node.terminate() == 0
        allow(cluster, node)
        leader = cluster.leader(among=others(cluster, node))
        told = cluster.raftctl("status", code=None).stdout
        assert f"by leader {leader.node_id} of term {leader.status()['term']}" in told
        empty(node)
        cluster.raftctl("health", "--wait")
        load.more(20)
    cluster.settled()
    assert [missing(load, each) for each in cluster] == [[], [], []]
    assert_whole(cluster, node)


def test_a_directory_wiped_without_asking_loses_nothing_and_the_alarm_names_what_mends_it(cluster: Cluster):
    fill(cluster, 50)
    node = cluster.followers()[0]
    with Load(cluster, "load/") as load:
        load.more(20)
        node.kill()
        empty(node)
        alarm = fenced(cluster, node)
        ill = cluster.raftctl("health", code=10)
        assert "node_reverted" in ill.stdout
        load.more(20)
        assert missing(load, cluster.leader(among=others(cluster, node))) == []
        words = alarm["hint"].split()
        assert words[0] == "raftctl"
        cluster.raftctl(*words[1:], *SURE)
        cluster.raftctl("health", "--wait")
        load.more(20)
    cluster.settled()
    assert [missing(load, each) for each in cluster] == [[], [], []]
    assert_whole(cluster, node)


def test_a_permission_serves_once(cluster: Cluster):
    fill(cluster, 50)
    node = cluster.followers()[0]
    node.terminate()
    allow(cluster, node)
    empty(node)
    cluster.raftctl("health", "--wait")
    node.kill()
    empty(node)
    fenced(cluster, node)
    cluster.raftctl("rejoin-node", str(node.node_id), "--blank", *SURE)
    assert_whole(cluster, node)


def test_a_permission_is_gone_with_the_leader_that_gave_it(cluster: Cluster):
    fill(cluster, 50)
    node, heir = cluster.followers()
    node.terminate()
    allow(cluster, node)
    cluster.raftctl("transfer-leader", "--to", str(heir.node_id), "--yes")
    empty(node)
    fenced(cluster, node)
    cluster.raftctl("rejoin-node", str(node.node_id), "--blank", *SURE)
    assert_whole(cluster, node)


def test_a_permission_that_was_taken_back_is_none(cluster: Cluster):
    fill(cluster, 50)
    node = cluster.followers()[0]
    node.terminate()
    allow(cluster, node)
    cluster.raftctl("trigger", "allow-next-revert", "--to", str(node.node_id), "--no-allow")
    empty(node)
    fenced(cluster, node)
    allow(cluster, node)
    cluster.raftctl("health", "--wait")
    assert_whole(cluster, node)
