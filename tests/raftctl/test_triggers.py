"""The six triggers: what is sent, what is asked first, what is believed, and the exit code."""

from __future__ import annotations

import io

import httpx
import pytest

from raftctl import deadline
from tests.raftctl.fake_cluster import log_id, problem, url
from tests.raftctl.killing import Clock

LINES = {
    "elect": "elect --node 2 --yes",
    "heartbeat": "heartbeat",
    "snapshot": "snapshot",
    "purge-log": "purge-log --upto 40 --yes",
    "transfer-leader": "transfer-leader --to 2 --yes",
    "allow-next-revert": "allow-next-revert --to 3 --yes --confirm demo",
}
SENT = {
    "elect": (2, {"pre_vote": True}),
    "heartbeat": (1, {}),
    "snapshot": (1, {}),
    "purge-log": (1, {"upto": 40, "strict": False}),
    "transfer-leader": (1, {"to": 2}),
    "allow-next-revert": (1, {"to": 3, "allow": True, "ttl_ms": 600000}),
}
ALL = sorted(LINES)


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("group", ["", "trigger "])
def test_a_trigger_sends_one_request_to_the_right_node(cluster, raftctl, name, group):
    raftctl(group + LINES[name])
    ((method, node, path, body),) = cluster.mutations
    body.pop("expect", None)
    assert ("POST", f"/v1/trigger/{name}", SENT[name]) == (method, path, (node, body))


@pytest.mark.parametrize("name", ["elect", "purge-log", "transfer-leader", "allow-next-revert"])
def test_a_dangerous_trigger_says_on_what_its_plan_rests(cluster, raftctl, name):
    raftctl(LINES[name])
    assert {"term": 2, "leader": 1} == cluster.mutations[0][3]["expect"]


@pytest.mark.parametrize("name", ALL)
def test_a_dry_run_only_reads(cluster, raftctl, name):
    result = raftctl(LINES[name].replace(" --yes", "") + " --dry-run -o json")
    assert [] == cluster.mutations
    assert result.document["kind"] == "plan"


@pytest.mark.parametrize("name", ALL)
def test_what_was_seen_is_one_json_document_and_nothing_else(cluster, raftctl, name):
    result = raftctl(LINES[name] + " -o json")
    assert (result.document["schema"], result.data["observed"], result.err) == ("raftctl/v1", True, "")


@pytest.mark.parametrize("name", ALL)
def test_what_is_accepted_and_never_seen_exits_with_7(cluster, raftctl, monkeypatch, name):
    monkeypatch.setattr(deadline, "time", Clock())
    cluster.answers(f"/v1/trigger/{name}", cluster.accepted(1, name))
    if name == "heartbeat":
        for target in (2, 3):
            cluster.target(target)["last_ack_ms_ago"] = None
    if name == "snapshot":
        cluster.nodes[1]["snapshot"] = None
    if name == "purge-log":
        cluster.nodes[1]["snapshot"] = log_id(100)
    error = raftctl(LINES[name] + " --timeout 9s -o json", code=7).error
    assert (error["code"], error["exit_code"]) == ("not_observed", 7)


@pytest.mark.parametrize("status", [None, 502])
@pytest.mark.parametrize("name", ["elect", "snapshot", "transfer-leader", "allow-next-revert"])
def test_a_lost_reply_is_looked_for_in_the_cluster_and_never_repeated(cluster, raftctl, name, status):
    """`status`: of a page that something on the way gives instead."""

    def done_and_lost(request: httpx.Request) -> httpx.Response:
        cluster._act(SENT[name][0], f"/v1/trigger/{name}", {**SENT[name][1]})
        if status is not None:
            return httpx.Response(status, html="<html>Bad Gateway</html>")
        raise httpx.ReadError("connection reset", request=request)

    cluster.answers(f"/v1/trigger/{name}", done_and_lost)
    raftctl(LINES[name])
    assert [f"/v1/trigger/{name}"] == cluster.paths


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "malformed", 2),
        (401, "unauthorized", 12),
        (403, "forbidden", 12),
        (404, "node_not_found", 13),
        (409, "target_unreachable", 5),
        (409, "recovering", 5),
        (412, "precondition_failed", 6),
        (503, "no_leader", 11),
        (503, "no_quorum", 11),
        (503, "overloaded", 4),
        (500, "fatal", 10),
        (500, "internal", 1),
        (409, "something_of_a_later_version", 5),
        (503, "another_of_those", 4),
    ],
)
def test_a_problem_has_its_exit_code_and_keeps_its_words(cluster, raftctl, status, code, exit_code):
    cluster.answers("/v1/trigger/heartbeat", problem(status, code, "told by the node", hint="do this"))
    error = raftctl("heartbeat -o json", code=exit_code).error
    assert (error["code"], error["message"], error["hint"]) == (code, "told by the node", "do this")


def test_a_421_is_followed_once_to_the_leader_it_names(cluster, raftctl):
    cluster.answers("/v1/trigger/heartbeat", problem(421, "not_leader", leader={"id": 2, "management": url(2)}), node=1)
    cluster.answers("/v1/trigger/heartbeat", cluster.done(2, "heartbeat", acked_by=[1, 3]), node=2)
    assert "acknowledged by node 1 and 3" in raftctl("heartbeat").out
    assert [1, 2] == [node for _, node, _, _ in cluster.mutations]


def test_a_421_that_names_a_stranger_is_not_followed(cluster, raftctl):
    stranger = {"id": 2, "management": "http://127.0.0.1:9166"}
    cluster.nodes[2]["membership"]["nodes"]["2"]["management"] = "http://127.0.0.1:9102"
    cluster.answers("/v1/trigger/heartbeat", problem(421, "not_leader", leader={**stranger, "id": 8}))
    raftctl("heartbeat", code=6)
    assert 66 not in {node for _, node, _, _ in cluster.requests}


@pytest.mark.parametrize("name", ["elect", "purge-log", "transfer-leader"])
def test_a_moderate_trigger_wants_a_yes_where_nobody_can_be_asked(cluster, raftctl, name):
    result = raftctl(LINES[name].replace(" --yes", ""), code=2)
    assert "--yes" in result.err
    assert [] == cluster.mutations


@pytest.mark.parametrize("options", ["", "--yes", "--confirm demo"])
def test_a_severe_trigger_wants_the_name_as_well(cluster, raftctl, options):
    assert "--confirm demo" in raftctl(f"allow-next-revert --to 3 {options}", code=2).err
    assert [] == cluster.mutations


def test_another_name_than_the_cluster_s_is_refused(cluster, raftctl):
    assert "'production'" in raftctl("allow-next-revert --to 3 --yes --confirm production", code=5).err
    assert [] == cluster.mutations


@pytest.mark.parametrize("line", ["heartbeat", "purge-log --upto 40 --yes", "snapshot --all", "explain elect --node 2"])
def test_a_name_that_is_given_is_checked_whatever_the_tier(cluster, raftctl, line):
    assert "'production'" in raftctl(f"{line} --confirm production", code=5).err
    assert [] == cluster.mutations


@pytest.mark.parametrize("line", ["purge-log --upto 40 --all", "transfer-leader --to 2", "elect --node 2 --quiet"])
def test_a_yes_that_is_missing_is_one_document_with_json_and_told_with_the_steps_without(cluster, raftctl, line):
    assert "confirmation_needed" == raftctl(f"{line} -o json", code=2).error["code"]
    assert raftctl(line, code=2).err.startswith("  ")


@pytest.mark.parametrize(("seen", "asked"), [(True, True), (False, False)])
def test_nobody_is_asked_who_does_not_see_the_question(cluster, raftctl, monkeypatch, seen, asked):
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: seen)
    told = raftctl("purge-log --upto 40 -o json", code=0 if asked else 2)
    assert asked == ("[y/N]" in told.err)
    assert asked == bool(cluster.mutations)


def test_an_election_without_asking_first_is_severe_while_a_leader_lives(cluster, raftctl):
    raftctl("elect --node 2 --no-pre-vote --yes", code=2)
    raftctl("elect --node 2 --no-pre-vote --yes --confirm demo")
    assert cluster.leader == 2


def test_an_election_without_asking_first_is_moderate_when_nobody_leads(cluster, raftctl):
    cluster.lead(None)
    raftctl("elect --node 2 --no-pre-vote --yes")


def test_elect_on_the_leader_changes_nothing_and_says_so(cluster, raftctl):
    assert "already" in raftctl("elect --node 1 --yes").out
    assert "node 1 leads term 2 already, and goes on" in raftctl("elect --node 1 --dry-run").out


def test_a_purge_says_what_was_asked_when_it_is_cut(cluster, raftctl):
    cluster.answers("/v1/trigger/purge-log", cluster.done(1, "purge_log", "purged up to 50 (asked for 70)"))
    assert "asked for 70" in raftctl("purge-log --upto 70 --yes").out


def test_a_purge_without_a_snapshot_is_refused_by_its_rule(cluster, raftctl):
    cluster.nodes[1]["snapshot"] = None
    error = raftctl("purge-log --upto 70 --yes -o json", code=5).error
    assert ["snapshot-covers"] == error["rule_ids"]
    assert "up to 70 is refused" in error["message"]
    assert error["measured"]["snapshot-covers"] == {"measured": "node 1 has no snapshot", "threshold": "a snapshot"}
    assert "raftctl snapshot --node 1" in error["hint"]
    assert [] == cluster.mutations


@pytest.mark.parametrize(
    ("upto", "hint"),
    [
        (70, "raftctl snapshot --node 1, then the same again; without --strict it would purge up to 50"),
        (1000, "node 1 has applied 100 entries: no snapshot covers more; leave out --strict"),
    ],
)
def test_a_strict_purge_beyond_the_snapshot_says_what_would_help(cluster, raftctl, upto, hint):
    assert hint == raftctl(f"purge-log --upto {upto} --strict --yes -o json", code=5).error["hint"]
    assert [] == cluster.mutations


def test_all_purges_every_node_that_answers(cluster, raftctl):
    raftctl("purge-log --upto 40 --all --yes")
    assert [1, 2, 3] == sorted(node for _, node, _, _ in cluster.mutations)


LATER = {"snapshot": "snapshot --node 3", "purge-log --upto 40 --yes": "purge-log --upto 40 --yes --node 3"}


@pytest.fixture(params=["dead", "stopped"])
def without_3(cluster, request):
    """Node 3 is a member and cannot be asked."""
    if request.param == "dead":
        cluster.down[3] = httpx.ConnectError("[Errno 111] Connection refused")
    else:
        cluster.nodes[3]["state"] = "shutdown"
    return cluster


@pytest.mark.parametrize("line", sorted(LATER))
def test_all_has_a_row_and_a_warning_for_a_node_that_cannot_be_asked_and_exits_with_10(without_3, raftctl, line):
    result = raftctl(f"{line} --all", code=10)
    assert ["node 1", "node 2", "node 3"] == [row.partition(":")[0] for row in result.out.splitlines()]
    assert "node 3: not done: node 3 " in result.out
    assert "(nothing to change)" not in result.out
    assert "warning: node 3 " in result.err
    assert f"raftctl {LATER[line]}" in result.err
    assert [1, 2] == sorted(node for _, node, _, _ in without_3.mutations)


@pytest.mark.parametrize("line", sorted(LATER))
def test_all_tells_a_script_too_which_node_was_left_out(without_3, raftctl, line):
    document = raftctl(f"{line} --all -o json", code=10).document
    assert [(1, True), (2, True), (3, False)] == [(row["node"], row["observed"]) for row in document["data"]["items"]]
    (warning,) = document["warnings"]
    assert LATER[line] in warning
    assert raftctl(f"{line} --all -o name", code=10).out.split() == ["1", "2"]


@pytest.mark.parametrize("line", sorted(LATER))
@pytest.mark.parametrize("reading", ["{} --dry-run", "explain {}"])
def test_a_plan_for_all_warns_of_the_node_that_would_be_left_out(without_3, raftctl, line, reading):
    result = raftctl(reading.format(f"{line} --all"))
    assert f"raftctl {LATER[line]}" in result.err
    assert [] == without_3.mutations


@pytest.mark.parametrize("line", sorted(LATER))
def test_one_chosen_node_is_done_whether_another_answers_or_not(without_3, raftctl, line):
    result = raftctl(f"{line} --node 2 -o json")
    assert (result.data["node"], result.document["warnings"]) == (2, [])


def test_a_removed_node_is_nobody_to_miss(without_3, raftctl):
    without_3.voters.remove(3)
    without_3.lead(1)
    assert [] == raftctl("snapshot --all -o json").document["warnings"]


@pytest.mark.parametrize("line", sorted(LATER))
def test_all_is_refused_where_every_engine_is_stopped(cluster, raftctl, line):
    for status in cluster.nodes.values():
        status["state"] = "shutdown"
    assert raftctl(f"{line} --all -o json", code=5).error["code"] == "raft_stopped"


@pytest.mark.parametrize(
    ("prepare", "rule"),
    [
        (lambda cluster: cluster.target(2).update(lag=9000), "target-caught-up"),
        (lambda cluster: cluster.target(2).update(state="unreachable"), "target-reachable"),
    ],
)
def test_a_transfer_to_a_node_that_lags_is_refused_with_the_number(cluster, raftctl, prepare, rule):
    prepare(cluster)
    error = raftctl("transfer-leader --to 2 --yes -o json", code=5).error
    assert [rule] == error["rule_ids"]
    assert [] == cluster.mutations


def test_a_transfer_to_a_node_that_does_not_answer_is_refused_for_that_and_not_for_its_lag(cluster, raftctl):
    cluster.down[2] = httpx.ReadTimeout("paused")
    cluster.target(2).update(lag=63, state="unreachable")
    error = raftctl("transfer-leader --to 2 --yes -o json", code=5).error
    assert ["target-reachable"] == error["rule_ids"]
    assert "node 2 does not answer: http://127.0.0.1:9102/v1/status: no answer in 5 s" in error["message"]
    assert "behind" not in error["message"]
    assert [] == cluster.mutations


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "shutdown"}, "the engine of node 2 is stopped"),
        ({"state": "shutdown", "fatal": "disk full"}, "the engine of node 2 failed: disk full"),
        ({"incarnation": "f" * 32}, "node 2 lost its directory"),
    ],
)
def test_a_transfer_to_a_node_that_takes_no_part_is_refused_for_what_keeps_it_from_it(cluster, raftctl, changes, words):
    cluster.nodes[2].update(changes)
    assert words in raftctl("transfer-leader --to 2 --yes", code=5).err


def test_a_target_that_only_we_do_not_reach_can_be_answered_for(cluster, raftctl):
    cluster.down[2] = httpx.ReadTimeout("paused")
    raftctl("transfer-leader --to 2 --yes --override target-reachable", code=None)
    assert ["/v1/trigger/transfer-leader"] == cluster.paths


def test_a_transfer_to_the_one_who_leads_is_refused_and_says_that_nothing_is_to_be_done(cluster, raftctl):
    error = raftctl("transfer-leader --to 1 --yes -o json", code=5).error
    assert "node 1 already leads term 2: nothing to do" == error["hint"]


@pytest.mark.parametrize("line", ["transfer-leader --to 9 --yes", "allow-next-revert --to 9 --yes --confirm demo"])
def test_who_names_a_stranger_is_told_who_there_is(cluster, raftctl, line):
    error = raftctl(f"{line} -o json", code=5).error
    assert "there is no member 9, known are 1, 2 and 3; see: raftctl nodes" == error["hint"]


def test_who_would_hand_over_to_a_learner_is_told_how_it_becomes_a_voter(cluster, raftctl):
    cluster.voters, cluster.learners = [1, 2], [3]
    cluster.lead(1)
    assert "raftctl member promote 3" in raftctl("transfer-leader --to 3 --yes -o json", code=5).error["hint"]


@pytest.mark.parametrize(("line", "rule"), [("--to 1", "target-not-leader"), ("--to 9", "target-voter")])
def test_a_transfer_to_the_leader_or_a_stranger_is_refused(cluster, raftctl, line, rule):
    assert rule in raftctl(f"transfer-leader {line} --yes -o json", code=5).error["rule_ids"]


def test_nobody_leads_is_11(cluster, raftctl):
    cluster.lead(None)
    for line in ("heartbeat", "transfer-leader --to 2 --yes", "allow-next-revert --to 3 --yes --confirm demo"):
        raftctl(line, code=11)
    assert [] == cluster.mutations


def test_a_node_that_is_not_there_is_13_and_one_that_is_silent_4(cluster, raftctl):
    raftctl("snapshot --node 9", code=13)
    cluster.down[3] = httpx.ConnectError("[Errno 111] Connection refused")
    assert "connection refused" in raftctl("snapshot --node 3", code=4).err


@pytest.mark.parametrize(
    "line", ["purge-log --yes", "purge-log --upto 0", "transfer-leader --to x", "elect --node -1", "nonsense"]
)
def test_a_wrong_command_line_is_2_and_nothing_is_sent(cluster, raftctl, line):
    raftctl(line, code=2)
    assert [] == cluster.requests


def test_an_unknown_rule_cannot_be_overridden(cluster, raftctl):
    assert "no such rule" in raftctl("transfer-leader --to 2 --yes --override gravity", code=2).err
    assert [] == cluster.mutations


@pytest.mark.parametrize("stopped", [True, False])
def test_a_purge_without_a_snapshot_sends_to_one_only_where_it_can_be_made(cluster, raftctl, stopped):
    cluster.nodes[2].update(snapshot=None, **({"state": "shutdown", "fatal": "ENOSPC"} if stopped else {}))
    hint = raftctl("purge-log --upto 5 --node 2 --yes -o json", code=5).error["hint"]
    assert ("raftctl snapshot --node 2" == hint) is not stopped
    assert ("raftctl doctor" in hint) is stopped


@pytest.mark.parametrize("line", ["elect", "elect --node 1 --no-pre-vote"])
def test_an_election_by_the_leader_changes_nothing_and_needs_no_yes(cluster, raftctl, line):
    assert raftctl(f"{line} -o json").data["changed"] is False


def test_a_heartbeat_says_who_did_not_acknowledge_it(cluster, raftctl):
    cluster.answers("/v1/trigger/heartbeat", cluster.done(1, "heartbeat", acked_by=[2], not_acked_by=[3]))
    assert "acknowledged by node 2, not by 3\n" == raftctl("heartbeat").out.partition(": ")[2]
