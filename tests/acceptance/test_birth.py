"""Is a cluster born once, of exactly the members that were named, however often it is asked for?"""

from __future__ import annotations

import shutil

from tests.acceptance.cluster import QUICK, Cluster
from tests.acceptance.conftest import ClusterMaker


def bootstrap_section(cluster: Cluster) -> str:
    members = "\n".join(
        f'{node.node_id} = {{ management = "{node.url}", raft = "{node.raft_address}" }}' for node in cluster
    )
    return f"\n[bootstrap.members]\n{members}\n"


def test_a_node_without_init_is_up_but_not_ready_and_says_why(make_cluster: ClusterMaker):
    cluster = make_cluster(1)
    cluster.start()
    assert cluster[1].client.get("/livez").status_code == 200
    reply = cluster[1].client.get("/readyz")
    assert reply.status_code == 503
    assert "init" in reply.text
    assert cluster[1].put("a", b"1").status_code in {409, 503}


def test_a_second_init_is_refused_and_changes_nothing(shared: Cluster):
    leader = shared.leader()
    shared.settled()
    before = [node.status()["membership"] for node in shared]
    reply = leader.post("/v1/init", {"members": shared.members})
    assert (reply.status_code, reply.json()["code"]) == (409, "already_initialized")
    assert [node.status()["membership"] for node in shared] == before


def test_init_without_all_members_is_refused_and_can_be_repeated(make_cluster: ClusterMaker):
    cluster = make_cluster(**QUICK)
    cluster[1].start()
    cluster[2].start()
    reply = cluster[1].post("/v1/init", {"members": cluster.members})
    assert (reply.status_code, reply.json()["code"]) == (409, "member_unreachable")
    assert "3" in reply.json()["detail"]
    assert cluster[1].status()["term"] == 0
    cluster[3].start()
    reply = cluster[2].post("/v1/init", {"members": cluster.members}, wait="30s")
    assert (reply.status_code, reply.json()["changed"]) == (200, True), reply.text
    assert cluster.leader().status()["membership"]["configs"] == [[1, 2, 3]]


def test_init_by_a_node_that_is_not_a_member_is_refused(make_cluster: ClusterMaker):
    cluster = make_cluster(2)
    cluster.start()
    reply = cluster[1].post("/v1/init", {"members": {"2": cluster.members["2"]}})
    assert (reply.status_code, reply.json()["code"]) == (409, "not_in_members")
    assert [node.status()["birth"] for node in cluster] == ["blank", "blank"]


def test_init_with_members_under_each_others_ids_is_refused(make_cluster: ClusterMaker):
    cluster = make_cluster(2)
    cluster.start()
    swapped = {"1": cluster.members["2"], "2": cluster.members["1"]}
    reply = cluster[1].post("/v1/init", {"members": swapped})
    assert reply.status_code == 409, reply.text
    assert [node.status()["birth"] for node in cluster] == ["blank", "blank"]


def test_a_bootstrap_section_gives_birth_without_a_command(make_cluster: ClusterMaker):
    cluster = make_cluster(**QUICK)
    for node in cluster:
        node.extra = bootstrap_section(cluster)
        cluster.write_config(node)
    cluster.start()
    cluster.put("a", b"1")


def test_a_wiped_node_with_a_bootstrap_section_does_not_found_a_second_cluster(make_cluster: ClusterMaker):
    cluster = make_cluster(**QUICK)
    for node in cluster:
        node.extra = bootstrap_section(cluster)
        cluster.write_config(node)
    cluster.start()
    cluster_id = cluster.leader().status()["cluster_id"]
    first = cluster[1]  # the lowest id: the one that would initiate
    first.kill()
    shutil.rmtree(first.data)
    first.start()
    told = cluster.until_leader(lambda status: status["alarms"], "the loss is seen", among=[2, 3])
    cluster.put("a", b"1")
    assert (first.status()["term"], first.status()["birth"]) == (0, "blank")
    assert told["cluster_id"] == cluster_id
