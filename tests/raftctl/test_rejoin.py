"""The runbook that rebuilds a node: rules, order, undo, journal. The real thing is in tests/acceptance/test_rejoin.py."""

from __future__ import annotations

import json

import httpx
import pytest

from raftctl import deadline
from raftctl.http import Http
from raftctl.http_client import HttpClusterClient
from raftctl.runbook import catch_up, conduct, rejoin_blank
from raftctl.runbook.journal import read_runs
from tests.raftctl.fake_cluster import DIGEST, log_id, problem, url
from tests.raftctl.killing import Clock
from tests.raftctl.rejoin_cluster import WELL, RejoinCluster, mocked

LINE = "rejoin-node 3 --yes --confirm demo"
ORDER = [
    "/v1/node/stop-raft",
    "/v1/barrier",
    "/v1/trigger/allow-next-revert",
    "/v1/node/wipe",
    "/v1/node/start-raft",
    "/v1/barrier",
]
REFUSED = httpx.ConnectError("[Errno 111] Connection refused")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake


def test_a_rebuild_goes_in_order_and_ends_with_equal_digests(cluster, raftctl):
    receipt = raftctl(f"{LINE} -o json").data
    assert ORDER == cluster.levers()
    assert WELL == cluster.picture(3)
    assert receipt["proof"]["digest"] == DIGEST
    (run,) = read_runs()
    assert (run.outcome, run.broken_at) == ("done", None)


def test_the_wipe_names_the_node_the_cluster_and_the_barrier(cluster, raftctl):
    raftctl(LINE)
    body = next(body for _, _, path, body in cluster.mutations if path == "/v1/node/wipe")
    assert (body["confirm_node"], body["confirm_cluster"], body["recover_until"]["index"]) == (3, "demo", 101)


@pytest.mark.parametrize(
    ("rule", "prepare"),
    [
        ("identity", lambda c: c.down.update({3: REFUSED})),
        ("identity", lambda c: c.nodes[3].update(incarnation="f" * 32)),
        ("one-leader", lambda c: c.nodes[2].update(leader=2, term=9)),
        ("config-settled", lambda c: c.nodes[1]["membership"].update(committed=False)),
        ("config-settled", lambda c: c.nodes[1]["membership"].update(configs=[[1, 2, 3], [1, 2]])),
        ("others-healthy", lambda c: c.target(2).update(lag=6000)),
        ("others-healthy", lambda c: c.target(2).update(last_ack_ms_ago=5000.0)),
        ("no-other-recovering", lambda c: c.nodes[2].update(recovering={"until": None, "reason": "wiped"})),
        ("no-other-recovering", lambda c: c.nodes[2].update(birth="blank")),
        ("no-other-recovering", lambda c: c.target(2).update(revert_armed=True)),
        ("holders-without-target", lambda c: c.down.update({2: REFUSED})),
        ("holders-without-target", lambda c: c.target(2).update(state="unreachable")),
        ("holders-without-target", lambda c: c.target(2).update(state="reverted")),
        ("snapshot-or-log", lambda c: c.nodes[1].update(purged={"term": 2, "node_id": 1, "index": 60})),
        ("space", lambda c: c.nodes[3].update(free_bytes=1000)),
        ("no-lock", lambda c: c.target(3).update(revert_armed=True)),
        ("no-lock", lambda c: c.nodes[3].update(recovering={"until": None, "reason": "wiped"})),
    ],
)
def test_a_rule_that_does_not_hold_refuses_with_its_numbers(cluster: RejoinCluster, raftctl, rule, prepare):
    prepare(cluster)
    error = raftctl(f"{LINE} -o json", code=5).error
    assert rule in error["rule_ids"]
    assert error["measured"][rule]["measured"]
    assert error["measured"][rule]["threshold"]
    assert [] == cluster.mutations
    assert [] == list(read_runs())


@pytest.mark.parametrize(
    ("ill", "well"),
    [
        ({"state": "probe", "lag": 41}, {"state": "replicate", "lag": 0}),
        ({"last_ack_ms_ago": 3000.0}, {"last_ack_ms_ago": 9.0}),
    ],
)
def test_what_is_so_for_a_moment_only_is_looked_at_again(cluster, raftctl, monkeypatch, ill, well):
    def poll(_seconds: float, every_s: float):
        return lambda: cluster.target(2).update(well) is None

    cluster.target(2).update(ill)
    monkeypatch.setattr(conduct, "poll", poll)
    raftctl(LINE)
    assert ORDER == cluster.levers()


@pytest.mark.parametrize("line", [LINE, "rejoin-node 3 --dry-run", "explain rejoin-node 3"])
def test_what_does_not_pass_by_itself_is_refused_at_once_and_so_is_a_dry_run(cluster, raftctl, monkeypatch, line):
    def poll(_seconds: float, every_s: float):
        def again() -> bool:
            raise AssertionError("looked again")

        return again

    cluster.target(2)["last_ack_ms_ago"] = 5000.0
    if line == LINE:
        cluster.nodes[3].update(free_bytes=1000)
    monkeypatch.setattr(conduct, "poll", poll)
    raftctl(line, code=0 if "explain" in line else 5)


def test_a_barrier_that_a_proxy_gave_up_is_not_sent_again_and_again(cluster, raftctl):
    cluster.answers("/v1/barrier", *[httpx.Response(503, html="<html>Bad Gateway</html>")] * 9)
    ended = raftctl(f"{LINE} -o json", code=8)
    assert "with 503 and no explanation; it may have been carried out" in ended.error["message"]
    assert 1 == cluster.levers().count("/v1/barrier")


def test_a_log_that_was_purged_to_its_end_is_told_as_none(cluster, raftctl):
    end = log_id(120)
    cluster.nodes[1].update(purged=end, snapshot=end, last_log=end)
    rules = {rule["rule"]: rule for rule in raftctl("rejoin-node 3 --dry-run -o json").data["rules"]}
    assert "snapshot up to 120, no log behind 120" == rules["snapshot-or-log"]["measured"]


def test_silence_is_held_against_a_node_by_the_election_timeout_that_the_leader_tells(cluster, raftctl):
    cluster.target(2)["last_ack_ms_ago"] = 5000.0
    cluster.nodes[1]["election_timeout_max_ms"] = 8000.0
    rules = {rule["rule"]: rule for rule in raftctl("rejoin-node 3 --dry-run -o json").data["rules"]}
    assert rules["others-healthy"]["verdict"] == "ok"
    assert "heard of within 8" in rules["others-healthy"]["threshold"]


def test_a_node_with_a_new_directory_is_sent_to_the_other_way_back(cluster, raftctl):
    cluster.nodes[3].update(incarnation="f" * 32, birth="blank")
    hint = raftctl(f"{LINE} -o json", code=5).error["hint"]
    assert "raftctl rejoin-node 3 --blank" in hint
    assert "allow-next-revert" not in hint


def test_a_node_whose_directory_was_taken_away_under_it_is_refused_for_that(cluster, raftctl):
    cluster.nodes[3].update(state="shutdown", fatal="whatever it says", fatal_code="directory_gone")
    error = raftctl(f"{LINE} -o json", code=5).error
    assert ["identity"] == error["rule_ids"]
    assert "its directory was moved, removed or replaced" in error["measured"]["identity"]["measured"]
    assert "raftctl rejoin-node 3 --blank" in error["hint"]
    assert [] == cluster.mutations


def test_a_node_that_does_not_answer_is_to_be_started_as_it_is_or_restarted(cluster, raftctl):
    cluster.down[3] = REFUSED
    hint = raftctl(f"{LINE} -o json", code=5).error["hint"]
    assert hint.startswith("it must answer first: start its process with the directory it had; only if that is lost")
    assert hint.endswith("restart it if it hangs")


def test_a_dry_run_only_reads_and_leaves_no_journal(cluster, raftctl):
    plan = raftctl("rejoin-node 3 --dry-run -o json").data
    assert len(plan["rules"]) == 10
    assert {"GET"} == {method for method, _, _, _ in cluster.requests}
    assert [] == list(read_runs())


@pytest.mark.parametrize(
    "line", ["rejoin-node 3", "rejoin-node 1", "rejoin-node 3 --blank", "rejoin-node 3 --driver manual"]
)
def test_a_dry_run_sends_nothing_but_questions(cluster, raftctl, monkeypatch, line):
    """The transport fails on anything but GET."""

    def forbidden(_client: object, method: str, url: str, *_: object, **__: object) -> None:
        raise AssertionError(f"{method} {url}")

    monkeypatch.setattr("raftctl.full_http.FullHttp.exchange", forbidden)
    if "blank" in line:
        cluster.lose(3)
    plan = raftctl(f"{line} --dry-run -o json").data
    assert all(rule["measured"] and rule["threshold"] for rule in plan["rules"])
    with pytest.raises(AssertionError, match="PUT"):
        raftctl(f"{line} --yes --confirm demo")


def test_a_dry_run_of_what_would_be_refused_is_5(cluster, raftctl):
    cluster.down[2] = REFUSED
    raftctl("rejoin-node 3 --dry-run", code=5)


def test_one_rule_is_overridden_by_its_name_and_only_by_that(cluster, raftctl):
    cluster.target(2)["last_ack_ms_ago"] = 5000.0
    raftctl(f"{LINE} --override space", code=5)
    raftctl(f"{LINE} --override others-healthy")


@pytest.mark.parametrize("rule", ["holders-without-target", "identity", "config-settled", "one-leader"])
def test_a_rule_that_keeps_data_safe_cannot_be_overridden(cluster, raftctl, rule):
    assert "cannot be overridden" in raftctl(f"{LINE} --override {rule}", code=2).err
    assert [] == cluster.mutations


@pytest.mark.parametrize(
    ("path", "code"), [("/v1/barrier", "quorum_impossible"), ("/v1/trigger/allow-next-revert", "node_not_found")]
)
def test_a_failure_before_the_wipe_is_undone(cluster, raftctl, path, code):
    cluster.answers(path, problem(409, code, "only one of three"))
    error = raftctl(f"{LINE} -o json", code=8).error
    assert "only one of three" in error["message"]
    assert "/v1/node/wipe" not in cluster.paths
    assert cluster.levers()[-1] == "/v1/node/start-raft"
    assert cluster.nodes[3]["state"] == "follower"
    (run,) = read_runs()
    assert run.outcome == "undone"


def test_a_permission_that_was_given_is_taken_back_by_the_undo(cluster, raftctl):
    cluster.answers("/v1/node/wipe", problem(412, "precondition_failed", "the world moved"))
    raftctl(LINE, code=8)
    asked = [body["allow"] for _, _, path, body in cluster.mutations if path == "/v1/trigger/allow-next-revert"]
    assert asked == [True, False]
    assert cluster.levers()[-1] == "/v1/node/start-raft"


def test_a_failure_after_the_wipe_gives_the_node_its_data_back(cluster, raftctl):
    cluster.answers("/v1/node/start-raft", problem(500, "start_failed", "no such directory"))
    error = raftctl(f"{LINE} -o json", code=8).error
    assert "no such directory" in error["message"]
    assert "undone: Start node 3; " in error["message"]
    assert WELL == cluster.picture(3)
    assert {} == cluster.retired[3]
    assert cluster.nodes[3]["last_log"]["index"] >= 100


def test_a_catch_up_that_was_undone_for_its_time_is_not_said_to_go_on(cluster, raftctl):
    def restored(request: httpx.Request) -> httpx.Response:
        cluster.restores_for.clear()
        return cluster._act(3, "/v1/node/restore", json.loads(request.content))

    cluster.restores_for[3] = 1000
    cluster.answers("/v1/node/restore", restored)
    error = raftctl(f"{LINE} --timeout 0 -o json", code=8).error
    assert "--timeout allows 0.0 s" in error["message"]
    assert error["hint"] is None


def test_an_undo_that_fails_asks_for_attention_and_can_be_repeated(cluster, raftctl):
    broken = problem(500, "start_failed", "no such directory")
    cluster.answers("/v1/node/start-raft", broken, broken)
    error = raftctl(f"{LINE} -o json", code=9).error
    assert "undoing 'Stop the engine of node 3" in error["message"]
    assert "runs abort" in error["hint"]
    (run,) = read_runs()
    assert run.outcome == "needs_attention"
    ended = raftctl(f"runs resume {run.run_id} -o json", code=8)
    assert ("undone", True) == (ended.error["code"], "no such directory" in ended.error["message"])
    assert "undone: Stop the engine of node 3" in ended.error["message"]
    assert "as asked" not in ended.error["message"]
    assert "" == ended.out
    assert WELL == cluster.picture(3)
    (run,) = read_runs()
    assert run.outcome == "undone"


def test_an_undo_that_was_asked_for_is_no_failure(cluster, raftctl):
    broken = problem(500, "start_failed", "no such directory")
    cluster.answers("/v1/node/start-raft", broken, broken)
    raftctl(LINE, code=9)
    (run,) = read_runs()
    told = raftctl(f"runs abort {run.run_id} -o json").data
    assert ("undone", True) == (told["outcome"], "as asked" in told["message"])
    assert WELL == cluster.picture(3)


def test_a_failure_when_the_node_holds_more_than_the_barrier_goes_forward(cluster, raftctl):
    def grows(_request: httpx.Request) -> httpx.Response:
        for _ in range(200):
            cluster._grow()
        return problem(500, "internal", "a bug of the leader")

    cluster.answers("/v1/barrier", lambda request: cluster._act(1, "/v1/barrier", json.loads(request.content)), grows)
    error = raftctl(f"{LINE} -o json", code=9).error
    assert "nothing was undone" in error["message"]
    (run,) = read_runs()
    assert run.outcome == "needs_attention"
    assert cluster.wipes == 1
    assert cluster.restores == 0
    assert f"once it answers, raftctl runs resume {run.run_id} goes on with 'Compare the state machines'; " in error["hint"]
    raftctl(f"runs resume {run.run_id}")
    assert WELL == cluster.picture(3)


@pytest.mark.parametrize("path", ORDER[:5])
def test_a_request_that_never_arrived_is_made_again(cluster, raftctl, path):
    cluster.answers(path, httpx.ReadError("reset"), httpx.ReadError("reset"))
    raftctl(LINE)
    assert WELL == cluster.picture(3)


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_a_wipe_whose_reply_was_lost_is_not_taken_for_undone(cluster, raftctl, carried_out, times):
    def lost(request: httpx.Request) -> httpx.Response:
        if carried_out:
            cluster._act(3, "/v1/node/wipe", json.loads(request.content))
        raise httpx.ReadError("reset")

    cluster.answers("/v1/node/wipe", *[lost] * times)
    raftctl(LINE)
    assert cluster.wipes == 1
    assert WELL == cluster.picture(3)


def test_a_permission_that_went_with_its_leader_is_planned_again_before_the_wipe(cluster, raftctl):
    def moves(request: httpx.Request) -> httpx.Response:
        reply = cluster._act(1, "/v1/trigger/allow-next-revert", json.loads(request.content))
        cluster.elect(2, 3)
        return reply

    cluster.answers("/v1/trigger/allow-next-revert", moves)
    raftctl(LINE)
    again = ["/v1/node/stop-raft", *["/v1/barrier", "/v1/trigger/allow-next-revert"] * 2, "/v1/node/wipe"]
    assert again == cluster.levers()[:6]
    assert cluster.barriers[1]["log_id"]["node_id"] == 2
    assert WELL == cluster.picture(3)


def test_a_permission_that_went_with_its_leader_is_given_again_while_the_node_is_fenced(cluster, raftctl):
    def moves(_request: httpx.Request) -> httpx.Response:
        cluster.elect(2, 3)
        return cluster._act(3, "/v1/node/start-raft", {})

    cluster.answers("/v1/node/start-raft", moves)
    raftctl(LINE)
    assert [path for path in cluster.levers() if path.endswith("revert")] == ["/v1/trigger/allow-next-revert"] * 2
    assert WELL == cluster.picture(3)


def test_a_node_that_ran_between_its_stop_and_its_wipe_is_not_wiped(cluster, raftctl):
    def restarted(request: httpx.Request) -> httpx.Response:
        cluster._act(3, "/v1/node/start-raft", {})
        cluster._act(3, "/v1/node/stop-raft", {})
        return cluster._act(3, "/v1/node/wipe", json.loads(request.content))

    cluster.answers("/v1/node/wipe", restarted)
    raftctl(LINE, code=8)
    assert cluster.wipes == 0
    assert WELL == cluster.picture(3)


def test_a_node_that_was_started_while_the_wipe_was_on_its_way_is_gone_on_with_and_proved(cluster, raftctl):
    def lost(_request: httpx.Request) -> httpx.Response:
        cluster._act(3, "/v1/node/start-raft", {})
        raise httpx.ReadError("reset")

    cluster.answers("/v1/node/wipe", lost)
    result = raftctl(LINE)
    assert "was wiped and has recovered, or was not wiped" in result.err
    assert cluster.wipes == 0
    assert WELL == cluster.picture(3)


def test_ctrl_c_undoes_at_every_step(cluster, raftctl):
    for path in ORDER[:5]:
        cluster.answers(path, interrupt)
        raftctl(LINE, code=130)
        assert WELL == cluster.picture(3)
        assert {} == cluster.retired[3]
    assert ["interrupted"] * 5 == [run.outcome for run in read_runs()]


def interrupt(_request: httpx.Request) -> httpx.Response:
    raise KeyboardInterrupt


@pytest.mark.parametrize("node", [1, 3])
def test_a_digest_that_takes_its_time_is_waited_for_at_the_same_mark(cluster, raftctl, node):
    late = problem(504, "timed_out", "the digest is still being computed")
    cluster.answers("/v1/digest", *[late] * 7, method="GET", node=node)
    assert DIGEST == raftctl(f"{LINE} -o json").data["proof"]["digest"]
    marks = [body for _, _, path, body in cluster.mutations if path == "/v1/barrier" and body.get("digest")]
    assert 1 == len(marks)


def test_unequal_digests_are_14_and_the_node_is_named(cluster, raftctl):
    other = {"index": 101, "digest": "cd" * 32, "algorithm": "sha256"}
    cluster.answers("/v1/digest", httpx.Response(200, json=other), method="GET", node=3)
    assert "3" in raftctl(LINE, code=14).err


def test_a_leader_hands_over_before_it_is_rebuilt(cluster, raftctl):
    raftctl("rejoin-node 1 --yes --confirm demo")
    assert cluster.levers()[0] == "/v1/trigger/transfer-leader"
    assert WELL == cluster.picture(1)


def test_a_number_that_nobody_has_is_13(cluster, raftctl):
    raftctl("rejoin-node 9 --yes --confirm demo", code=13)
    assert [] == cluster.mutations


# -- way B: the directory is lost ----------------------------------------------------------------------------------------

UNTIL = '"since":"2026-01-01T00:00:00Z","expires_at":"2999-01-01T00:00:00Z"'
LOCK = (f'{{"run":"r","command":"drain","operator":"o","host":"h","pid":1,"token":"t",{UNTIL}}}'.encode(), 5)
BLANK = "rejoin-node 3 --blank --yes --confirm demo"


def test_a_blank_node_is_let_in_as_a_new_life_and_nothing_is_wiped(cluster: RejoinCluster, raftctl):
    cluster.lose(3)
    receipt = raftctl(f"{BLANK} -o json").data
    assert WELL == cluster.picture(3)
    assert (["3" * 32], "b" * 32) == (receipt["old_lives"], receipt["incarnation"])
    assert ["b" * 32] == cluster.lives[3]
    assert ["/v1/trigger/allow-next-revert", "/v1/barrier"] == cluster.levers()


@pytest.mark.parametrize(
    ("rule", "prepare"),
    [
        ("blank-target", lambda c: c.down.update({3: REFUSED})),
        ("one-leader", lambda c: c.nodes[2].update(leader=2, term=9)),
        ("config-settled", lambda c: c.nodes[1]["membership"].update(committed=False)),
        ("others-healthy", lambda c: c.target(2).update(lag=6000)),
        ("no-other-recovering", lambda c: c.nodes[2].update(birth="blank")),
        ("quorum-without-target", lambda c: c.down.update({2: REFUSED})),
        ("quorum-without-target", lambda c: c.target(2).update(state="unreachable")),
        ("quorum-without-target", lambda c: c.target(2).update(state="reverted")),
        ("space", lambda c: c.nodes[3].update(free_bytes=1000)),
        ("no-lock", lambda c: c.keys.update({b"raftctl/lock": LOCK})),
    ],
)
def test_a_rule_of_way_b_that_does_not_hold_refuses_with_its_numbers(cluster: RejoinCluster, raftctl, rule, prepare):
    cluster.lose(3)
    prepare(cluster)
    error = raftctl(f"{BLANK} -o json --dry-run", code=5).error
    assert rule in error["rule_ids"]
    assert error["measured"][rule]["measured"]
    assert [] == cluster.mutations


def test_with_two_voters_way_b_is_refused_and_says_what_is_left(cluster: RejoinCluster, raftctl):
    cluster.voters = [1, 3]
    del cluster.nodes[2], cluster.lives[2]
    cluster.lead(1)
    cluster.lose(3)
    error = raftctl(f"{BLANK} -o json", code=5).error
    assert ["quorum-without-target"] == error["rule_ids"]
    assert "as it was when it stopped" in error["hint"]


@pytest.mark.parametrize("line", [LINE, BLANK])
@pytest.mark.parametrize(
    "copy",
    [
        lambda c: c.target(3).update(state="reverted"),
        lambda c: c.nodes[3].update(alarms=[{"code": "older_copy", "detail": "d", "hint": "h", "node": 3}]),
    ],
)
def test_an_older_copy_is_refused_either_way_and_sent_to_begin_afresh(cluster: RejoinCluster, raftctl, line, copy):
    copy(cluster)
    hint = raftctl(f"{line} -o json", code=5).error["hint"]
    assert hint.startswith(
        "stop node 3, move its data directory away, start it with an empty one, then raftctl rejoin-node 3"
    )
    assert [] == cluster.mutations


@pytest.mark.parametrize("line", [LINE, BLANK])
def test_an_older_copy_is_not_sent_to_begin_afresh_where_nobody_could_let_it_in(cluster: RejoinCluster, raftctl, line):
    cluster.nodes[3].update(alarms=[{"code": "older_copy", "detail": "d", "hint": "h", "node": 3}])
    cluster.down[2] = REFUSED
    hint = raftctl(f"{line} -o json", code=5).error["hint"]
    assert "stop node 3 and put back the directory it ran on last; only a quorum of the others could let it in" in hint
    assert "--blank" not in hint


def test_a_wiped_node_that_is_fenced_kept_its_vote_and_is_no_older_copy(cluster: RejoinCluster, raftctl):
    cluster.target(3).update(state="reverted")
    cluster.nodes[3].update(recovering={"until": log_id(90), "reason": "wiped"})
    assert ["no-lock"] == raftctl(f"{LINE} -o json", code=5).error["rule_ids"]


def test_a_directory_that_was_taken_away_is_not_said_to_be_there(cluster: RejoinCluster, raftctl):
    cluster.nodes[3].update(state="shutdown", fatal="whatever it says", fatal_code="directory_gone")
    hint = raftctl(f"{BLANK} -o json", code=5).error["hint"]
    assert hint.startswith("put the directory of node 3 back and restart its process; if it is lost")


@pytest.mark.parametrize("others", [(), (2,)])
def test_a_node_that_is_perhaps_only_stopped_is_not_told_to_give_its_directory_up(cluster: RejoinCluster, raftctl, others):
    cluster.down |= dict.fromkeys((3, *others), REFUSED)
    hint = raftctl(f"{BLANK} -o json", code=5).error["hint"]
    assert hint.startswith("start its process with the directory it had")
    assert ("--blank" in hint) is not bool(others)


def test_without_a_quorum_of_the_others_a_lost_directory_is_put_back(cluster: RejoinCluster, raftctl):
    cluster.lead(None)
    for node in (2, 3):
        cluster.nodes[node].update(incarnation="f" * 32, birth="blank")
    hint = raftctl(f"{BLANK} -o json", code=5).error["hint"]
    assert "put the directory of node 2 back as it was when it stopped" in hint


def test_a_node_that_has_its_data_is_not_let_in_as_a_new_life(cluster: RejoinCluster, raftctl):
    error = raftctl(f"{BLANK} -o json", code=5).error
    assert ["blank-target"] == error["rule_ids"]
    assert "raftctl rejoin-node 3" in error["hint"]


def test_a_permission_of_way_b_that_went_with_its_leader_is_planned_again(cluster: RejoinCluster, raftctl):
    cluster.lose(3)

    def moves(request: httpx.Request) -> httpx.Response:
        reply = cluster._act(1, "/v1/trigger/allow-next-revert", json.loads(request.content))
        cluster.elect(2, 3)
        cluster.target(3)["state"] = "reverted"
        return reply

    cluster.answers("/v1/trigger/allow-next-revert", moves)
    receipt = raftctl(f"{BLANK} -o json").data
    assert 1 == receipt["allowed_again"]
    assert WELL == cluster.picture(3)


def test_ctrl_c_before_it_is_let_in_takes_the_permission_back(cluster: RejoinCluster, raftctl):
    cluster.lose(3)

    def interrupted(request: httpx.Request) -> httpx.Response:
        cluster._act(1, "/v1/trigger/allow-next-revert", json.loads(request.content))
        raise KeyboardInterrupt

    cluster.answers("/v1/trigger/allow-next-revert", interrupted)
    cluster._let_in = lambda: None
    raftctl(BLANK, code=130)
    assert WELL | {"fenced": True} == cluster.picture(3)


def test_yet_another_life_is_not_let_in(cluster: RejoinCluster, raftctl, monkeypatch):
    monkeypatch.setattr(deadline, "time", Clock())
    cluster.lose(3)
    cluster._let_in = lambda: None

    def another(request: httpx.Request) -> httpx.Response:
        cluster.nodes[3]["incarnation"] = "d" * 32
        return cluster._act(1, "/v1/trigger/allow-next-revert", json.loads(request.content))

    cluster.answers("/v1/trigger/allow-next-revert", another)
    error = raftctl(f"{BLANK} -o json", code=8).error
    assert ["blank-target"] == error["rule_ids"]
    assert not cluster.target(3)["revert_armed"]


@pytest.mark.parametrize(("line", "loses"), [(LINE, False), (BLANK, True)])
def test_a_node_that_restores_a_large_snapshot_does_not_stand_still(
    cluster: RejoinCluster, raftctl, monkeypatch, line, loses
):
    clock = Clock()
    for module in (deadline, catch_up, rejoin_blank):
        monkeypatch.setattr(module, "time", clock)
    if loses:
        cluster.lose(3)
    cluster.restores_for[3] = 30
    moves = cluster._time_goes_by

    def takes_its_time() -> None:
        moves()
        clock.now += 7.0 if 0 < cluster.restores_for[3] < 30 else 0.0

    cluster._time_goes_by = takes_its_time
    raftctl(f"{line} -o json")
    assert WELL == cluster.picture(3)
    assert clock.now > 1000 + 2 * catch_up.STALL_S


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda c: c.down.update({3: REFUSED}), "it does not answer; by its leader's word: replicate, 0 entries behind"),
        (lambda c: c.nodes[3].update(state="shutdown"), "its engine is stopped; replicate, 0 entries behind"),
        (lambda c: c.target(3).update(lag=9), "replicate, 9 entries behind"),
        (lambda c: c.lead(None), "no leader tells of it"),
    ],
)
def test_where_a_node_is_that_does_not_catch_up_says_why_nobody_knows_better(cluster, prepare, told):
    prepare(cluster)
    client = HttpClusterClient(Http(request_timeout_s=5.0), [url(node) for node in (1, 2, 3)])
    assert told == catch_up.where(client.cluster(), 3)
    client.close()


@pytest.mark.parametrize(("verb", "code"), [("resume", 8), ("abort", 0)])
def test_after_an_undo_that_failed_the_hint_says_what_going_on_would_do(cluster, raftctl, verb, code):
    broken = problem(500, "start_failed", "no such directory")
    cluster.answers("/v1/node/start-raft", broken, broken, broken)
    raftctl(LINE, code=9)
    (run,) = read_runs()
    hint = raftctl(f"runs {verb} {run.run_id} -o json", code=9).error["hint"]
    resume, abort = f"raftctl runs resume {run.run_id}", f"raftctl runs abort {run.run_id}"
    assert f"once the cause is mended, {resume} finishes the undo, and so does {abort}" in hint
    raftctl(f"runs {verb} {run.run_id}", code=code)


# -- what a refusal says ---------------------------------------------------------------------------------------------------


def test_a_person_who_has_seen_the_table_is_not_told_its_numbers_again(cluster, raftctl):
    cluster.target(2).update(lag=6000)
    err = raftctl(LINE, code=5).err
    assert err.count("6000 behind") == 1
    assert "error: rejoin node 3 of cluster demo is refused, nothing was changed: others-healthy does not hold\n" in err


def test_that_a_rule_can_be_overridden_is_said_only_if_that_is_all_it_takes(cluster, raftctl):
    cluster.target(2).update(lag=6000)
    assert "--override others-healthy" in raftctl(f"{LINE} -o json", code=5).error["hint"]
    cluster.nodes[2].update(leader=2, term=9)
    assert "--override" not in (raftctl(f"{LINE} -o json", code=5).error["hint"] or "")


def test_a_stopped_engine_is_not_asked_who_leads(cluster, raftctl):
    cluster.nodes[2].update(state="shutdown", leader=None, term=1)
    rules = raftctl(f"{LINE} -o json", code=5).error["rule_ids"]
    assert "one-leader" not in rules
    assert "others-healthy" in rules


def test_a_node_that_is_left_alone_is_told_plainly(cluster, raftctl):
    cluster.lead(None)
    cluster.down |= {1: REFUSED, 2: REFUSED}
    measured = raftctl(f"{LINE} -o json", code=5).error["measured"]
    assert measured["one-leader"]["measured"].startswith("1 voter says: nobody leads")
    assert "nobody who is up was asked" in measured["config-settled"]["measured"]
