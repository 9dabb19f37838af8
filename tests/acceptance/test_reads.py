"""Does a read on any node see every write that was acknowledged before it began?"""

from __future__ import annotations

from tests.acceptance.cluster import QUICK, Cluster, wait_until
from tests.acceptance.conftest import ClusterMaker


def test_a_follower_serves_the_newest_value_at_once(shared: Cluster):
    for number in range(20):
        value = b"%d" % number
        shared.put("counter", value)
        assert [node.read("counter") for node in shared] == [value] * 3


def test_a_lease_read_is_served_by_the_leader_and_refused_by_a_follower(shared: Cluster):
    shared.put("leased", b"1")
    leader = shared.leader()
    reply = wait_until(
        lambda: (reply := leader.get("leased", consistency="lease")).status_code != 503 and reply, "a lease holds"
    )
    assert (reply.status_code, reply.content) == (200, b"1")
    assert shared.followers()[0].get("leased", consistency="lease").status_code == 421


def test_a_deposed_leader_does_not_serve_an_old_value(make_cluster: ClusterMaker):
    cluster = make_cluster(**QUICK)
    cluster.begin()
    cluster.put("x", b"old")
    old = cluster.leader()
    others = [node.node_id for node in cluster if node is not old]
    old.pause()
    wait_until(lambda: cluster.leader(among=others).put("x", b"new").status_code == 200, "the next leader writes")
    old.resume()
    for consistency in ("linearizable", "lease"):
        reply = old.get("x", consistency=consistency)
        assert reply.status_code != 200 or reply.content == b"new", consistency


def test_reading_a_key_that_is_not_there_is_not_an_error_of_the_cluster(shared: Cluster):
    assert [node.read("nothing") for node in shared] == [None] * 3
