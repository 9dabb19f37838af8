"""explain: what an action would mean, from what the nodes say now; nothing is done."""

from __future__ import annotations

import httpx
import pytest

from tests.raftctl.fake_cluster import log_id

REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
LINES = {
    "elect": "elect --node 2",
    "heartbeat": "heartbeat",
    "snapshot": "snapshot --node 3",
    "purge_log": "purge-log --upto 40",
    "transfer_leader": "transfer-leader --to 2",
    "allow_next_revert": "allow-next-revert --to 3",
    "add_learner": "member add 4=127.0.0.1:9204,http://127.0.0.1:9104",
    "change_voters": "member demote 3",
    "remove_member": "member remove 3",
}
KEYS = {
    "action",
    "what",
    "cluster",
    "node",
    "requested",
    "tier",
    "effect",
    "quorum",
    "elections",
    "shipments",
    "undo",
    "rules",
    "refused",
}


@pytest.mark.parametrize("action", sorted(LINES))
def test_each_action_is_explained_in_one_document_and_nothing_is_done(cluster, raftctl, action):
    result = raftctl(f"explain {LINES[action]} -o json")
    assert (result.document["kind"], result.data["action"], set(result.data)) == ("explanation", action, KEYS)
    assert [] == cluster.mutations


@pytest.mark.parametrize("action", sorted(LINES))
def test_people_are_shown_quorum_elections_and_the_danger(cluster, raftctl, action):
    out = raftctl(f"explain {LINES[action]}").out
    for word in ("danger: ", "QUORUM", "NEXT ELECTION", "Nothing was done"):
        assert word in out


def quorum(data):
    return {
        case["when"]: (case["count"]["up"], case["count"]["needed"], case["count"]["tolerance"]) for case in data["quorum"]
    }


def winners(data, number=0):
    return {chance["node"]: chance["can_win"] for chance in data["elections"][number]["chances"]}


def test_the_arithmetic_counts_who_is_up_now_and_who_would_be_left(cluster, raftctl):
    data = raftctl("explain transfer-leader --to 2 -o json").data
    assert {"now": (3, 2, 1), "if node 2 fails as soon as it leads": (2, 2, 0)} == quorum(data)
    cluster.down[3] = REFUSED
    data = raftctl("explain transfer-leader --to 2 -o json").data
    assert {"now": (2, 2, 0), "if node 2 fails as soon as it leads": (1, 2, -1)} == quorum(data)


def test_that_writes_would_stop_is_said(cluster, raftctl):
    cluster.down[3] = REFUSED
    assert "WRITES STOP: 1 missing" in raftctl("explain elect --node 2").out


def test_a_shorter_log_cannot_win_the_next_election(cluster, raftctl):
    cluster.nodes[3]["last_log"] = log_id(60)
    data = raftctl("explain heartbeat -o json").data
    assert {1: True, 2: True, 3: False} == winners(data)
    assert "longer logs: node 1 and 2" in data["elections"][0]["chances"][2]["why"]


def test_a_shorter_log_wins_when_its_votes_are_enough(cluster, raftctl):
    cluster.nodes[2]["last_log"] = log_id(80)
    cluster.nodes[3]["last_log"] = log_id(80)
    data = raftctl("explain elect --node 1 -o json").data
    assert {1: True, 2: True, 3: True} == winners(data)
    cluster.down[3] = REFUSED
    assert {1: True, 2: False, 3: False} == winners(raftctl("explain elect --node 1 -o json").data)


def test_a_later_term_is_a_longer_log(cluster, raftctl):
    cluster.nodes[3]["last_log"] = log_id(60, term=3)
    assert winners(raftctl("explain heartbeat -o json").data)[3]


@pytest.mark.parametrize(
    ("state", "why"), [({"recovering": {"until": None, "reason": "wiped"}}, "recovers"), ({"state": "shutdown"}, "down")]
)
def test_who_recovers_or_stands_still_is_not_elected(cluster, raftctl, state, why):
    cluster.nodes[3] |= state
    data = raftctl("explain heartbeat -o json").data
    assert winners(data)[3] is False
    assert why in data["elections"][0]["chances"][2]["why"]


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda c: c.target(3).update(state="reverted"), "is fenced"),
        (lambda c: c.nodes[3].update(alarms=[{"code": "older_copy", "detail": "", "hint": "", "node": 3}]), "is fenced"),
        (lambda c: c.target(3).update(state="unreachable"), "is not reached by its leader"),
        (lambda c: c.nodes[3].update(incarnation="f" * 32), "is not admitted"),
    ],
)
def test_a_voter_that_cannot_vote_is_in_no_quorum_and_in_no_election(cluster, raftctl, prepare, why):
    prepare(cluster)
    data = raftctl("explain drain 2 -o json").data
    assert (1, 2, -1) == quorum(data)["while node 2 is away"]
    assert {1: False, 3: False} == winners(data, 1)
    assert why == data["elections"][0]["chances"][2]["why"]
    assert [1, 2] == data["elections"][0]["chances"][0]["votes"]
    (rule,) = [rule for rule in data["rules"] if rule["rule"] == "quorum-without-target"]
    assert ("fail", f"1 of 3 voters besides node 2 are up (node 3 {why})") == (rule["verdict"], rule["measured"])


def test_a_voter_that_recovers_votes_and_is_in_no_quorum(cluster, raftctl):
    cluster.nodes[3].update(recovering={"until": log_id(90), "reason": "wiped"})
    data = raftctl("explain drain 2 -o json").data
    assert (1, 2, -1) == quorum(data)["while node 2 is away"]
    assert [1, 3] == data["elections"][1]["chances"][0]["votes"]


def test_who_is_thought_away_takes_its_vote_along(cluster, raftctl):
    cluster.nodes[2]["last_log"] = log_id(90)
    data = raftctl("explain elect --node 1 -o json").data
    assert (data["elections"][1]["when"], winners(data, 1)) == ("without node 1", {2: False, 3: True})


def test_a_purge_says_who_would_be_sent_a_snapshot_and_how_large(cluster, raftctl):
    cluster.nodes[1]["kv"] = {"keys": 10, "bytes": 5000}
    cluster.target(3)["matching"] = log_id(20)
    data = raftctl("explain purge-log --upto 40 -o json").data
    assert [(3, 50, 5000)] == [(one["to"], one["entries"], one["bytes_min"]) for one in data["shipments"]]
    assert (2, 2, 0) == quorum(data)["if node 3 cannot be sent a snapshot"]


def test_a_purge_that_nobody_needs_ships_nothing(cluster, raftctl):
    assert [] == raftctl("explain purge-log --upto 40 -o json").data["shipments"]
    assert "to ship: nothing" in raftctl("explain purge-log --upto 40").out


def test_a_permission_to_revert_says_who_else_holds_what_is_committed(cluster, raftctl):
    assert "that is enough" in raftctl("explain allow-next-revert --to 3").out
    cluster.target(2)["matching"] = log_id(99)
    out = raftctl("explain allow-next-revert --to 3").out
    assert "entry 100, the last that is committed, is on the disks of node 1 besides node 3" in out
    assert "1 of the 2" in out


def test_a_change_of_voters_is_counted_while_both_sets_must_agree_and_afterwards(cluster, raftctl):
    cluster.learners = [4]
    cluster.nodes[4] = cluster._status(4)
    cluster.lead(1)
    data = raftctl("explain member promote 4 -o json").data
    cases = quorum(data)
    assert (4, 3, 1) == cases["afterwards"]
    assert (3, 3, 0) == cases["if node 1 fails afterwards"]
    assert {1: True, 2: True, 3: True, 4: True} == winners(data, 1)


def test_a_removal_of_the_leader_counts_the_failure_of_somebody_who_stays(cluster, raftctl):
    cases = quorum(raftctl("explain member remove 1 -o json").data)
    assert "if node 2 fails afterwards" in cases


def test_a_rejoin_is_explained_with_what_else_may_fail_and_what_goes_over_the_wire(cluster, raftctl):
    cluster.nodes[1]["kv"] = {"keys": 10, "bytes": 5000}
    result = raftctl("explain rejoin-node 3 -o json")
    assert (result.document["kind"], result.data["tier"], [] == cluster.mutations) == ("explanation", "severe", True)
    assert {"now": (3, 2, 1), "while node 3 is away": (2, 2, 0), "if node 1 fails meanwhile": (1, 2, -1)} == quorum(
        result.data
    )
    assert [(3, 50, 5000)] == [(one["to"], one["entries"], one["bytes_min"]) for one in result.data["shipments"]]
    assert "identity" in {rule["rule"] for rule in result.data["rules"]}


def test_what_would_be_refused_is_said_and_exits_with_0(cluster, raftctl):
    data = raftctl("explain transfer-leader --to 9 -o json").data
    assert (data["refused"], [rule["rule"] for rule in data["rules"] if rule["verdict"] == "fail"]) == (
        True,
        ["target-voter"],
    )
    assert "It would be refused." in raftctl("explain transfer-leader --to 9").out


def test_danger_is_that_of_the_action(cluster, raftctl):
    tiers = {
        line: raftctl(f"explain {line} -o json").data["tier"]
        for line in ("heartbeat", "elect --node 2", "elect --node 2 --no-pre-vote")
    }
    assert list(tiers.values()) == ["mild", "moderate", "severe"]


def test_several_nodes_are_several_explanations(cluster, raftctl):
    assert [1, 2, 3] == [one["node"] for one in raftctl("explain snapshot --all -o json").data["items"]]


def test_without_a_leader_the_arithmetic_is_told_all_the_same(cluster, raftctl):
    cluster.lead(None)
    data = raftctl("explain elect --node 2 -o json").data
    assert (3, 2, 1) == quorum(data)["now"]
    assert raftctl("explain transfer-leader --to 2 -o json").data["refused"]


def test_nobody_answers_is_4(cluster, raftctl):
    cluster.down |= dict.fromkeys((1, 2, 3), REFUSED)
    raftctl("explain heartbeat", code=4)
