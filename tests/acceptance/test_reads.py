"""Does a read on any node see every write that was acknowledged before it began?"""

from __future__ import annotations

from tests.acceptance.cluster import Cluster, wait_until


def put(cluster: Cluster, key: str, value: bytes) -> None:
    wait_until(lambda: cluster.leader().put(key, value).status_code == 200, f"{key} is written")


def test_a_follower_serves_the_newest_value_at_once(shared: Cluster):
    for number in range(20):
        value = b"%d" % number
        put(shared, "counter", value)
        assert [node.get("counter").content for node in shared] == [value] * 3


def test_a_lease_read_is_served_by_the_leader_and_refused_by_a_follower(shared: Cluster):
    put(shared, "leased", b"1")
    leader = shared.leader()
    assert leader.get("leased", consistency="lease").content == b"1"
    assert shared.followers()[0].get("leased", consistency="lease").status_code == 421


def test_a_deposed_leader_does_not_serve_an_old_value(cluster: Cluster):
    put(cluster, "x", b"old")
    old = cluster.leader()
    others = [node.node_id for node in cluster if node is not old]
    old.pause()
    new = cluster.leader(among=others)
    assert new.put("x", b"new").status_code == 200
    old.resume()
    for consistency in ("linearizable", "lease"):
        reply = old.get("x", consistency=consistency)
        assert reply.status_code != 200 or reply.content == b"new", consistency


def test_reading_a_key_that_is_not_there_is_not_an_error_of_the_cluster(shared: Cluster):
    assert [node.get("nothing").status_code for node in shared] == [404, 404, 404]
