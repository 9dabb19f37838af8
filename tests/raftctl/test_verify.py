"""verify digest and snapshot list: is what should be equal equal, and what has each node written down?"""

from __future__ import annotations

import httpx
import pytest

from tests.raftctl.fake_cluster import DIGEST, log_id, problem

REFUSED = httpx.ConnectError("[Errno 111] Connection refused")


def at(index, digest=DIGEST):
    return httpx.Response(200, json={"index": index, "digest": digest, "algorithm": "sha256"})


def test_equal_digests_of_nodes_that_rest_are_0_and_nothing_is_written(cluster, raftctl):
    data = raftctl("verify digest -o json").data
    assert (data["equal"], data["complete"], data["index"], data["marked"]) == (True, True, 101, False)
    assert [1, 2, 3] == [node["node"] for node in data["nodes"]]
    assert [] == cluster.mutations
    assert "equal on all 3 nodes at entry 101" in raftctl("verify digest").out


def test_another_digest_is_14_and_its_node_is_named_with_what_mends_it(cluster, raftctl):
    cluster.answers("/v1/digest", *[at(101, "cd" * 32)] * 2, method="GET", node=2)
    result = raftctl("verify digest -o json", code=14)
    assert ([2], False) == (result.data["differing"], result.data["equal"])
    assert "raftctl rejoin-node 2" in raftctl("verify digest", code=14).out


def test_while_writes_go_on_an_entry_is_marked(cluster, raftctl):
    cluster.answers("/v1/digest", *[at(100), at(103), at(105)], method="GET", node=3)
    data = raftctl("verify digest -o json").data
    assert (data["marked"], data["equal"]) == (True, True)
    ((_, node, path, body),) = cluster.mutations
    assert (node, path, body["digest"]) == (1, "/v1/barrier", True)


def test_a_mark_that_a_snapshot_jumped_over_is_made_again(cluster, raftctl):
    cluster.answers("/v1/digest", at(100), at(103), at(105), problem(409, "digest_not_available"), method="GET", node=3)
    assert raftctl("verify digest -o json").data["equal"]
    assert ["/v1/barrier"] * 2 == cluster.paths


def test_a_dry_run_marks_nothing(cluster, raftctl):
    cluster.answers("/v1/digest", *[at(100), at(103), at(105)], method="GET", node=3)
    assert "dry run" in raftctl("verify digest --dry-run", code=7).err
    assert [] == cluster.mutations


def test_without_a_leader_nothing_can_be_marked(cluster, raftctl):
    cluster.lead(None)
    assert raftctl("verify digest -o json").data["equal"]
    cluster.answers("/v1/digest", *[at(100), at(103), at(105)], method="GET", node=3)
    raftctl("verify digest", code=7)


def test_who_is_down_is_a_row_and_10(cluster, raftctl):
    cluster.down[3] = REFUSED
    data = raftctl("verify digest -o json", code=10).data
    assert (data["equal"], data["complete"], data["nodes"][2]["error"]["code"]) == (True, False, "unreachable")
    assert "nothing is known of node 3" in raftctl("verify digest", code=10).out


def test_an_entry_can_be_named(cluster, raftctl):
    assert raftctl("verify digest --at 101 -o json").data["index"] == 101
    cluster.answers("/v1/digest", problem(409, "digest_not_available"), method="GET", node=2)
    assert raftctl("verify digest --at 7 -o json", code=10).data["nodes"][1]["error"]["code"] == "digest_not_available"


def test_digests_by_name_are_the_different_ones(cluster, raftctl):
    assert [DIGEST] == raftctl("verify digest -o name").out.split()


def test_snapshots_are_listed_with_what_came_after_them(cluster, raftctl):
    cluster.nodes[2] |= {"snapshot": None, "purged": None, "building_snapshot": True, "kv": {"keys": 1, "bytes": 77}}
    cluster.nodes[1]["purged"] = log_id(40)
    cluster.down[3] = REFUSED
    items = raftctl("snapshot list -o json").data["items"]
    assert ("T2-N1.50", 50, 41) == (items[0]["last_log_id"], items[0]["entries_since"], items[0]["log_begins"])
    assert (None, 100, 1, 77, True) == tuple(
        items[1][name] for name in ("last_log_id", "entries_since", "log_begins", "state_bytes", "building")
    )
    assert "refused" in items[2]["error"]
    assert [["1", "T2-N1.50"], ["2", "-"], ["3", "-"]] == [
        line.split()[:2] for line in raftctl("snapshot list").out.splitlines()[1:]
    ]


@pytest.mark.parametrize("line", ["snapshot --node 2 list", "snapshot --all list"])
def test_an_option_of_the_trigger_does_not_go_with_the_list(cluster, raftctl, line):
    raftctl(line, code=2)
    assert [] == cluster.mutations


def test_snapshot_without_list_is_the_trigger(cluster, raftctl):
    raftctl("snapshot --node 2")
    assert ["/v1/trigger/snapshot"] == cluster.paths


def test_nobody_answers_is_4(cluster, raftctl):
    cluster.down |= dict.fromkeys((1, 2, 3), REFUSED)
    raftctl("snapshot list", code=4)
    raftctl("verify digest", code=4)
