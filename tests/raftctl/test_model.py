"""What nodes tell, as far as this program reads it."""

from __future__ import annotations


def test_the_size_of_the_store_counts_when_room_for_a_rejoin_is_judged(cluster, raftctl):
    cluster.nodes[1]["kv"] = {"keys": 1, "bytes": 10**12}
    error = raftctl("rejoin-node 3 --dry-run -o json", code=5).error
    assert (["space"], 5) == (error["rule_ids"], error["exit_code"])
    assert "931.4 GiB" in error["measured"]["space"]["threshold"]
