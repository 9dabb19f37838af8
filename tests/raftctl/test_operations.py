"""drain, rolling-restart, replace-node: what they do, what they refuse, and what becomes of a run whose process died."""

from __future__ import annotations

import json

import httpx
import pytest

from raftctl import deadline
from raftctl.runbook import lock, proof, replace_node
from raftctl.runbook.journal import read_runs
from tests.raftctl.fake_cluster import Json, log_id, problem
from tests.raftctl.killing import Clock, Killed, Killer
from tests.raftctl.operations_cluster import NEW, OperationsCluster, mocked

DRAIN = "drain 1 --yes"
RESTART = "rolling-restart --yes"
REPLACE = f"replace-node 3 --with {NEW} --yes --confirm demo"
POINTS = {DRAIN: 34, RESTART: 62, REPLACE: 54}
"""More than a run has; a test says so if they grow."""
EACH_POINT = [(line, point) for line, points in POINTS.items() for point in range(points)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake
        assert [] == fake.sins


@pytest.fixture(autouse=True)
def _time_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in (deadline, lock, proof, replace_node):
        monkeypatch.setattr(module, "time", clock)


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


# -- drain ---------------------------------------------------------------------------------------------------------------


def test_a_drained_leader_leads_no_more_and_does_not_campaign(cluster, raftctl):
    data = raftctl(f"{DRAIN} -o json").data
    assert (2, 2) == (data["handed_to"], cluster.leader)
    assert cluster.nodes[1]["runtime_config"]["enable_elect"] is False


def test_leadership_does_not_go_to_a_node_that_is_drained_already(cluster, raftctl):
    raftctl("drain 2 --yes")
    assert (3, 3) == (raftctl(f"{DRAIN} -o json").data["handed_to"], cluster.leader)


def test_leadership_goes_to_a_drained_node_when_there_is_no_other(cluster, raftctl):
    raftctl("drain 2 --yes")
    raftctl("drain 3 --yes")
    assert raftctl(f"{DRAIN} -o json").data["handed_to"] == cluster.leader != 1


def test_the_drain_of_a_silent_node_sends_to_a_doctor_that_can_be_called(cluster, raftctl):
    cluster.down[3] = httpx.ReadTimeout("paused")
    hint = raftctl("drain 3 --yes -o json", code=5).error["hint"]
    assert "restart it if it hangs; raftctl doctor says" in hint
    assert "doctor --node" not in hint


def test_a_drain_is_taken_back(cluster, raftctl):
    raftctl(DRAIN)
    assert "campaigns again" in raftctl("drain 1 --undo --yes").out
    assert cluster.nodes[1]["runtime_config"]["enable_elect"] is True


def test_a_node_that_cannot_hand_over_campaigns_again(cluster, raftctl):
    cluster.answers("/v1/trigger/transfer-leader", problem(409, "target_unreachable"))
    raftctl(DRAIN, code=8)
    assert cluster.nodes[1]["runtime_config"]["enable_elect"] is True


def test_a_node_without_which_there_is_no_quorum_is_not_drained(cluster, raftctl):
    cluster.down[2] = httpx.ConnectError("refused")
    ended = raftctl(f"{DRAIN} -o json", code=5)
    assert {"others-healthy", "quorum-without-target"} <= set(ended.error["rule_ids"])


def test_a_node_that_is_no_member_is_not_drained(cluster, raftctl):
    assert ["target-voter", "target-member"] == raftctl("drain 4 --yes -o json", code=5).error["rule_ids"]


# -- rolling-restart -----------------------------------------------------------------------------------------------------


def test_each_node_is_restarted_once_and_the_leader_last(cluster, raftctl):
    data = raftctl(f"{RESTART} -o json").data
    assert ([2, 3, 1], [2, 3, 1]) == (data["order"], data["restarted"])
    assert [2, 2, 2] == cluster.starts()


def test_a_run_of_no_single_node_is_listed_and_shown_without_one(cluster, raftctl):
    raftctl(RESTART)
    (run,) = read_runs()
    assert "None" not in raftctl("runs list").out
    assert raftctl(f"runs show {run.run_id}").out.startswith(f"{run.run_id}: rolling-restart, cluster demo: done\n")


def test_some_nodes_only(cluster, raftctl):
    assert [3] == raftctl("rolling-restart --only 3 --yes -o json").data["restarted"]
    assert [1, 1, 2] == cluster.starts()


def taken_while_it_led(cluster: OperationsCluster, looks: int, **then: Json) -> None:
    """Node 1 hands over with writes up to 103 in its log and 100 applied; after so many looks it is as `then` says."""

    def hand_over(request: httpx.Request) -> httpx.Response:
        reply = cluster._transfer_leader(1, json.loads(request.content))
        cluster.nodes[1] |= {"last_log": log_id(103), "applied": log_id(100)}
        cluster.answers("/v1/status", *[look] * looks, method="GET", node=1)
        return reply

    def look(_request: httpx.Request) -> httpx.Response:
        if not cluster.scripted[1, "GET", "/v1/status"]:
            cluster.nodes[1] |= then
        return httpx.Response(200, json=cluster.nodes[1])

    cluster.answers("/v1/trigger/transfer-leader", hand_over, node=1)


@pytest.mark.parametrize("then", [{"applied": log_id(103)}, {"last_log": log_id(101), "applied": log_id(101)}])
def test_a_former_leader_is_stopped_when_those_whose_writes_it_took_are_answered(cluster, raftctl, then: dict[str, Json]):
    taken_while_it_led(cluster, 12, **then)
    assert [2, 3, 1] == raftctl(f"{RESTART} -o json").data["restarted"]


def test_a_node_is_drained_when_those_whose_writes_it_took_are_answered(cluster, raftctl):
    taken_while_it_led(cluster, 12, applied=log_id(103))
    raftctl(DRAIN)
    assert cluster.nodes[1]["applied"] == log_id(103)


def test_a_former_leader_that_does_not_apply_what_it_took_is_not_stopped(cluster, raftctl):
    taken_while_it_led(cluster, 1)
    ended = raftctl(f"{RESTART} --timeout 5s", code=8)
    assert "node 1 has applied its log up to 100 only, and holds 103 entries" in ended.err
    assert [1, 2, 2] == cluster.starts()


def test_a_cluster_that_is_not_whole_is_not_restarted(cluster, raftctl):
    cluster.down[3] = httpx.ConnectError("refused")
    assert "all-healthy" in raftctl(f"{RESTART} -o json", code=5).error["rule_ids"]
    assert [1, 1, 1] == cluster.starts()


def test_a_node_that_does_not_come_back_holds_the_others_up(cluster, raftctl):
    cluster.target(3)["state"] = "probe"
    cluster.target(3)["lag"] = 5
    assert 5 == raftctl(RESTART, code=None).code
    cluster.target(3)["state"] = "replicate"

    def stays_behind(_request):
        cluster.target(2).update(state="probe", lag=9)
        return cluster._start_raft(2, {})

    cluster.answers("/v1/node/start-raft", stays_behind, node=2)
    ended = raftctl(f"{RESTART} --timeout 5s", code=8)
    assert "node 2 is 9 entries behind" in ended.err
    assert [1, 2, 1] == cluster.starts()
    assert cluster.all_run()


# -- replace-node --------------------------------------------------------------------------------------------------------


def test_a_voter_is_replaced_in_one_change(cluster, raftctl):
    data = raftctl(f"{REPLACE} -o json").data
    assert ([1, 2, 4], []) == (cluster.voters, cluster.learners)
    assert (3, 4) == (data["node"], data["new"])


def test_a_dead_voter_is_replaced(cluster, raftctl):
    cluster.down[3] = httpx.ConnectError("refused")
    raftctl(REPLACE)
    assert [1, 2, 4] == cluster.voters


def test_a_leader_hands_over_before_it_is_replaced(cluster, raftctl):
    raftctl(f"replace-node 1 --with {NEW} --yes --confirm demo")
    assert [2, 3, 4] == cluster.voters
    assert cluster.paths.index("/v1/trigger/transfer-leader") < cluster.paths.index("/v1/membership/voters")


def test_a_new_node_that_does_not_catch_up_is_taken_out_again(cluster, raftctl):
    def stays_behind(_request):
        reply = cluster._membership_learners(1, {"id": 4})
        cluster.target(4).update(state="probe", lag=100)
        return reply

    cluster.answers("/v1/membership/learners", stays_behind)
    ended = raftctl(f"{REPLACE} -o json", code=8)
    assert "node 4 has not caught up" in ended.error["message"]
    assert ([1, 2, 3], []) == (cluster.voters, cluster.learners)


def test_an_address_that_somebody_has_is_refused(cluster, raftctl):
    line = "replace-node 3 --with 4=127.0.0.1:9202,http://127.0.0.1:9104 --yes --confirm demo -o json"
    assert ["new-address"] == raftctl(line, code=5).error["rule_ids"]


def test_a_voter_is_no_new_node(cluster, raftctl):
    line = "replace-node 3 --with 2=127.0.0.1:9202,http://127.0.0.1:9102 --yes --confirm demo -o json"
    assert ["new-node"] == raftctl(line, code=5).error["rule_ids"]


# -- all of them ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", POINTS)
def test_a_dry_run_and_an_explanation_only_read(cluster, raftctl, line: str):
    raftctl(f"{line} --dry-run")
    raftctl(f"explain {line}")
    assert [] == cluster.mutations


@pytest.mark.parametrize("line", POINTS)
def test_the_points_cover_a_whole_run(cluster, raftctl, killer, line: str):
    assert not begin(raftctl, killer, line, None)
    assert POINTS[line] - 12 < killer.count < POINTS[line]


def begin(raftctl, killer: Killer, line: str, at: int | None) -> bool:
    """Begin a run that dies at a point; return whether it did."""
    killer.again(at)
    try:
        raftctl(line, code=None)
    except Killed:
        return True
    return False


def go_on(raftctl, killer: Killer, verb: str, code: int | None = 0):
    killer.again()
    (run,) = read_runs()
    return raftctl(f"runs {verb} {run.run_id} -o json", code=code)


def assert_done(cluster: OperationsCluster, line: str) -> None:
    (run,) = read_runs()
    assert "done" == run.outcome
    assert cluster.all_run()
    if line == DRAIN:
        assert cluster.leader != 1
        assert cluster.nodes[1]["runtime_config"]["enable_elect"] is False
    elif line == RESTART:
        assert [2, 2, 2] == cluster.starts()
    else:
        assert ([1, 2, 4], []) == (cluster.voters, cluster.learners)


@pytest.mark.parametrize(("line", "point"), EACH_POINT)
def test_a_run_that_died_is_finished_by_another_process(cluster, raftctl, killer, line: str, point: int):
    died = begin(raftctl, killer, line, point)
    if not any(run.records for run in read_runs()):
        assert died
        return
    if died:
        go_on(raftctl, killer, "resume")
    assert_done(cluster, line)


@pytest.mark.parametrize(("line", "point"), EACH_POINT)
def test_a_run_that_died_is_undone_while_there_is_a_way_back(cluster, raftctl, killer, line: str, point: int):
    died = begin(raftctl, killer, line, point)
    if not died or not any(run.records for run in read_runs()):
        return
    (run,) = read_runs()
    if run.outcome == "done":
        return
    ended = go_on(raftctl, killer, "abort", code=None)
    assert cluster.all_run()
    if ended.code != 0:
        assert (9, REPLACE) == (ended.code, line)
        assert [1, 2, 4] == cluster.voters
        return
    assert cluster.nodes[1]["runtime_config"]["enable_elect"] is True
    assert ([1, 2, 3], []) == (cluster.voters, cluster.learners)
