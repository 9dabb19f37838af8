"""Changing members: the plan, its rules, and what is sent."""

from __future__ import annotations

import httpx
import pytest

from tests.raftctl.fake_cluster import FakeCluster

NEW = "4=127.0.0.1:9204,http://127.0.0.1:9104"
REFUSED = httpx.ConnectError("[Errno 111] Connection refused")


def with_learner(cluster: FakeCluster) -> None:
    cluster.learners = [4]
    cluster.nodes[4] = cluster._status(4)
    cluster.lead(1)


def test_a_learner_is_added(cluster, raftctl):
    raftctl(f"member add {NEW} --yes")
    ((_, node, path, body),) = cluster.mutations
    assert (node, path, body["id"], body["raft"]) == (1, "/v1/membership/learners", 4, "127.0.0.1:9204")
    assert body["expect"]["membership_log_id"] == {"term": 0, "node_id": 0, "index": 1}


def test_a_learner_that_caught_up_is_promoted(cluster, raftctl):
    with_learner(cluster)
    raftctl("member promote 4 --yes")
    assert [1, 2, 3, 4] == cluster.mutations[0][3]["voters"]


def test_a_learner_that_lags_is_not_promoted(cluster, raftctl):
    with_learner(cluster)
    cluster.target(4).update(lag=6000)
    error = raftctl("member promote 4 --yes -o json", code=5).error
    assert ["target-caught-up"] == error["rule_ids"]
    assert "6000" in error["measured"]["target-caught-up"]["measured"]


def test_a_voter_is_demoted_to_a_learner(cluster, raftctl):
    raftctl("member demote 3 --yes --confirm demo")
    body = cluster.mutations[0][3]
    assert ([1, 2], True) == (body["voters"], body["retain"])


@pytest.mark.parametrize("verb", ["demote", "remove"])
def test_what_lowers_the_tolerance_wants_the_cluster_s_name(cluster, raftctl, verb):
    assert "--confirm demo" in raftctl(f"member {verb} 3 --yes", code=2).err
    assert [] == cluster.mutations


@pytest.mark.parametrize(
    "prepare", [lambda c: c.down.update({2: REFUSED}), lambda c: c.target(2).update(state="unreachable")]
)
@pytest.mark.parametrize("verb", ["demote", "remove"])
def test_what_would_lose_the_quorum_is_refused(cluster, raftctl, verb, prepare):
    prepare(cluster)
    error = raftctl(f"member {verb} 3 --yes --confirm demo -o json", code=5).error
    assert ["quorum-after"] == error["rule_ids"]
    assert [] == cluster.mutations


def test_a_change_while_another_one_is_under_way_is_refused(cluster, raftctl):
    cluster.nodes[1]["membership"]["committed"] = False
    assert "config-settled" in raftctl("member remove 3 --yes --confirm demo -o json", code=5).error["rule_ids"]


def test_a_learner_is_removed_with_a_yes(cluster, raftctl):
    with_learner(cluster)

    def gone(_request: httpx.Request) -> httpx.Response:
        cluster.learners = []
        cluster.lead(1)
        return cluster.done(1, "remove_member", voters=[1, 2, 3], learners=[])

    cluster.answers("/v1/membership/4", gone, method="DELETE")
    assert "voters are 1, 2 and 3" in raftctl("member remove 4 --yes").out


def test_the_last_voter_stays(cluster, raftctl):
    cluster.voters = [1]
    del cluster.nodes[2], cluster.nodes[3]
    cluster.lead(1)
    error = raftctl("member remove 1 --yes --confirm demo -o json", code=5).error
    assert "quorum-after" in error["rule_ids"]
    assert error["measured"]["quorum-after"]["measured"] == "no voter is left"


@pytest.mark.parametrize("word", ["4", "4=", "4=x", "x=127.0.0.1:1,http://h:1", "0=127.0.0.1:1,http://h:1", "4=h:1,ftp:/h"])
def test_what_is_no_member_is_2(cluster, raftctl, word):
    raftctl(f"member add {word}", code=2)
    assert [] == cluster.mutations


def test_a_plan_shows_before_and_after(cluster, raftctl):
    plan = raftctl("member remove 3 --dry-run -o json").data
    assert ["before: 3 voters, 2 needed; 1 more may fail", "after:  2 voters, 2 needed; no more may fail"] == plan["steps"][
        :2
    ]
    assert [] == cluster.mutations
