"""A node that takes longer than a mere look waits is not taken for one that is gone: what is about it is done all the same."""

from __future__ import annotations

import httpx
import pytest

from raftctl import plain_http
from raftctl.plain_http import NoReplyError, no_answer
from tests.raftctl.fake_cluster import problem, url
from tests.raftctl.rejoin_cluster import mocked

TAKES_S = 1.5
"""More than the second of a look, less than the five of a request."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake


@pytest.fixture
def slow(cluster, monkeypatch):
    """The nodes that take so long for each answer."""
    nodes = set()

    def ask(where, headers, *, connect_timeout_s, timeout_s):
        if int(where.partition(":910")[2][0]) in nodes and timeout_s < TAKES_S:
            raise NoReplyError(no_answer(timeout_s))
        return cluster.ask(where, headers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)

    monkeypatch.setattr(plain_http, "ask", ask)
    return nodes


@pytest.mark.parametrize(
    "line",
    [
        "rejoin-node 3 --yes --confirm demo",
        "transfer-leader --to 3 --yes",
        "snapshot --node 3",
        "snapshot --all",
        "purge-log --node 3 --upto 40 --yes",
        "elect --node 3 --yes",
        "runtime-config get --node 3",
        "verify digest",
        "drain 3 --yes",
    ],
)
def test_what_is_about_a_slow_node_is_done(slow, raftctl, line):
    slow.add(3)
    raftctl(line)


@pytest.mark.parametrize("line", ["rejoin-node 3 --yes --confirm demo", "member demote 3 --yes --confirm demo"])
def test_nothing_is_refused_for_another_voter_that_is_slow(cluster, slow, raftctl, line):
    slow.add(2)
    raftctl(f"{line} --timeout 10s", code=None)
    assert cluster.mutations


def test_a_cluster_is_born_with_a_slow_node_that_no_configuration_names_yet(cluster, slow, raftctl):
    for node in cluster.nodes.values():
        node["membership"] = {}
    slow.add(3)
    raftctl("init", code=None)
    assert ["1", "2", "3"] == sorted(cluster.mutations[0][3]["members"])


def test_what_is_about_others_does_not_wait_for_a_slow_node(cluster, slow, raftctl):
    slow.add(3)
    raftctl("transfer-leader --to 2 --yes")
    assert [] == [path for _, node, path, _ in cluster.requests if node == 3]


def test_a_node_that_hangs_is_refused_for_that_after_all_the_patience_of_a_request(cluster, raftctl):
    cluster.down[3] = httpx.ReadTimeout("paused")
    error = raftctl("rejoin-node 3 --yes --confirm demo -o json", code=5).error
    assert f"node 3 does not answer: {url(3)}/v1/status: no answer in 5 s" in error["measured"]["identity"]["measured"]
    assert "restart it if it hangs" in error["hint"]


@pytest.mark.parametrize("line", ["kv put colour blue", "kv list"])
def test_keys_are_there_where_all_nodes_are_slow(slow, raftctl, line):
    slow |= {1, 2, 3}
    raftctl(f"{line} --timeout 0")


def test_a_slow_leader_that_an_endpoint_names_takes_the_write(cluster, slow, raftctl):
    cluster.lead(2)
    slow.add(2)
    named = problem(421, "not_leader", leader={"id": 2, "management": url(2)})
    cluster.answers("/v1/kv/colour", named, named, method="PUT", node=1)
    raftctl("kv put colour blue --timeout 0")
    assert 2 == cluster.mutations[-1][1]


def test_a_leader_that_hangs_is_not_waited_for_once_another_one_leads(cluster, raftctl, slow):
    cluster.lead(3)
    cluster.down[2] = httpx.ReadTimeout("paused")
    hangs = problem(421, "not_leader", leader={"id": 2, "management": url(2)})
    leads = problem(421, "not_leader", leader={"id": 3, "management": url(3)})
    cluster.answers("/v1/kv/colour", hangs, leads, method="PUT", node=1)
    raftctl("kv put colour blue --timeout 0")
    assert [1, 1, 3] == [node for _, node, _, _ in cluster.mutations]
    assert 1 == len([node for _, node, _, _ in cluster.requests if node == 2])
