"""status, nodes and health: every node is a row, with or without a leader."""

from __future__ import annotations

import json

import httpx
import pytest

from raftctl import deadline, plain_http
from tests.raftctl.fake_cluster import log_id
from tests.raftctl.killing import Clock

REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
PAUSED = httpx.ReadTimeout("paused")


@pytest.fixture
def patience(cluster, monkeypatch):
    """How many seconds each node was given for each answer."""
    given = {1: [], 2: [], 3: []}

    def ask(url, headers, *, connect_timeout_s, timeout_s):
        given[int(url.partition(":910")[2][0])].append(timeout_s)
        return cluster.ask(url, headers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)

    monkeypatch.setattr(plain_http, "ask", ask)
    return given


def test_a_node_that_is_merely_looked_at_is_waited_for_a_second(cluster, raftctl, patience):
    cluster.down[3] = PAUSED
    assert "http://127.0.0.1:9103/v1/status: no answer in 1 s" in raftctl("status").out
    assert {1: [1.0], 2: [1.0], 3: [1.0]} == patience


def test_a_request_timeout_that_was_named_holds_for_looking_too(cluster, raftctl, patience):
    cluster.down[3] = PAUSED
    raftctl("status --request-timeout 7s")
    assert [7.0] == patience[3]


def test_the_leader_is_waited_for_as_long_as_others_say_that_it_leads(cluster, raftctl, patience):
    cluster.down[1] = PAUSED
    cluster.lead(1)
    raftctl("status")
    assert {1: [1.0, 5.0], 2: [1.0, 1.0], 3: [1.0, 1.0]} == patience


def test_a_silent_leader_is_not_waited_for_once_another_one_leads(cluster, raftctl, patience):
    def elected(_request):
        cluster.lead(2, term=3)
        return httpx.Response(200, json=old)

    old = dict(cluster.nodes[2])
    cluster.answers("/v1/status", elected, method="GET", node=2)
    cluster.answers("/v1/status", httpx.Response(200, json=dict(cluster.nodes[3])), method="GET", node=3)
    cluster.down[1] = PAUSED
    assert "node 2 leads term 3" in raftctl("status").out
    assert [1.0] == patience[1]


def test_a_request_timeout_that_was_named_is_waited_for_once(cluster, raftctl, patience):
    cluster.down |= dict.fromkeys((1, 2, 3), PAUSED)
    raftctl("status --request-timeout 7s", code=4)
    assert {1: [7.0], 2: [7.0], 3: [7.0]} == patience


def test_where_nobody_answers_all_are_waited_for(cluster, raftctl, patience):
    cluster.down |= dict.fromkeys((1, 2, 3), PAUSED)
    raftctl("status", code=4)
    assert {1: [1.0, 5.0], 2: [1.0, 5.0], 3: [1.0, 5.0]} == patience


def test_status_has_a_row_for_each_node(cluster, raftctl):
    rows = raftctl("status").out.splitlines()
    assert rows[0] == "Cluster demo: node 1 leads term 2; 3 of 3 voters up, 2 needed; 1 more may fail"
    assert [row.split()[0] for row in rows[3:6]] == ["1", "2", "3"]


def test_a_silent_node_is_a_row_with_its_reason(cluster, raftctl):
    cluster.down[3] = REFUSED
    nodes = raftctl("status -o json").data["nodes"]
    assert ["connection refused" in (node["error"] or {}).get("detail", "") for node in nodes] == [False, False, True]


def test_a_node_whose_engine_is_stopped_is_not_called_unreachable(cluster, raftctl):
    cluster.nodes[3]["state"] = "shutdown"
    cluster.target(3)["state"] = "unreachable"
    [row] = [row for row in raftctl("status").out.splitlines() if row.split()[:1] == ["3"]]
    assert "its engine is stopped" in row
    assert "unreachable" not in row


@pytest.mark.parametrize("width", [60, 66, 70, 76, 80, 100])
def test_no_number_and_no_word_of_status_is_broken_on_a_narrow_terminal(cluster, raftctl, monkeypatch, width):
    ends = dict.fromkeys(("last_log", "committed", "applied", "snapshot"), log_id(4139))
    for status in cluster.nodes.values():
        status.update(ends, purged=log_id(4065))
    cluster.down[3] = httpx.ReadTimeout("paused")
    words = set(raftctl("status").out.split())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    shown = raftctl("status").out
    assert max(map(len, shown.splitlines())) <= width
    told = {"node", "3:", "(no", "room", "for", "and"}
    assert {word.strip(",)") for word in shown.split()} - told <= {word.strip(",)") for word in words}
    assert {"NODE", "STATE", "LAG", "4139", "unreachable"} <= set(shown.split())


def test_status_needs_no_leader(cluster, raftctl):
    cluster.lead(None)
    assert "no leader" in raftctl("status").out.lower()


def test_nobody_answers_is_4(cluster, raftctl):
    cluster.down |= dict.fromkeys((1, 2, 3), REFUSED)
    raftctl("status", code=4)
    raftctl("health", code=4)
    raftctl("heartbeat", code=4)


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda cluster: None, 0),
        (lambda cluster: cluster.down.update({3: REFUSED}), 10),
        (lambda cluster: cluster.down.update({2: REFUSED, 3: REFUSED}), 11),
        (lambda cluster: cluster.lead(None), 11),
        (lambda cluster: cluster.nodes[3].update(recovering={"until": None, "reason": "wiped"}), 10),
        (lambda cluster: cluster.nodes[3].update(state="shutdown", fatal="disk full"), 10),
        (lambda cluster: cluster.target(3).update(lag=100000), 10),
        (
            lambda cluster: cluster.nodes[1].update(
                alarms=[{"code": "node_reverted", "detail": "node 3", "hint": "allow it", "node": 3}]
            ),
            10,
        ),
    ],
)
def test_health_says_how_it_is_by_its_exit_code(cluster, raftctl, prepare, code):
    prepare(cluster)
    raftctl("health", code=code)
    assert [] == cluster.mutations


@pytest.mark.parametrize(
    ("prepare", "measured"),
    [
        (lambda _cluster: None, "at most 0 entries behind"),
        (lambda cluster: cluster.lead(None), "not known: no node leads"),
        (lambda cluster: cluster.down.update({3: REFUSED}), "node 3 not reached; the others at most 0 entries behind"),
        (lambda cluster: cluster.down.update({2: REFUSED, 3: REFUSED}), "node 2 not reached and node 3 not reached"),
        (
            lambda cluster: cluster.target(3).update(state="unreachable"),
            "node 3 not reached; the others at most 0 entries behind",
        ),
        (lambda cluster: cluster.target(3).update(lag=9000), "node 3 9000 behind; the others at most 0 entries behind"),
    ],
)
def test_health_counts_only_nodes_that_are_reached_and_names_the_others(cluster, raftctl, prepare, measured):
    prepare(cluster)
    checks = {check["name"]: check for check in raftctl("health -o json", code=None).data["checks"]}
    assert measured == checks["replication"]["measured"]
    assert ("ok" == checks["replication"]["condition"]) is (measured == "at most 0 entries behind")


OLDER_COPY = {"code": "older_copy", "detail": "runs on an older copy", "hint": "", "node": 3}
WIPED = {"recovering": {"until": log_id(120), "reason": "wiped"}, "state": "learner"}


def admitted(cluster):
    """Node 3 begins anew: its new life learns, while the voter is still its old one."""
    for status in cluster.nodes.values():
        lives = status["membership"]["incarnations"] | {"3": ["3" * 32, "f" * 32]}
        status["membership"] = status["membership"] | {"learners": [3], "incarnations": lives}
    cluster.nodes[3]["incarnation"] = "f" * 32


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda cluster: cluster.target(3).update(state="unreachable", lag=3), "is not reached by its leader"),
        (lambda cluster: cluster.target(3).update(state="reverted"), "is fenced"),
        (lambda cluster: cluster.nodes[3].update(alarms=[OLDER_COPY]), "is fenced"),
        (lambda cluster: cluster.nodes[3].update(WIPED), "is recovering"),
        (lambda cluster: cluster.nodes[3].update(incarnation="f" * 32, birth="blank"), "is not admitted"),
        (admitted, "is not admitted"),
        (lambda cluster: cluster.down.update({3: REFUSED}), "is down"),
    ],
)
def test_a_voter_on_which_the_next_write_cannot_count_is_not_up_whatever_it_answers(cluster, raftctl, prepare, why):
    prepare(cluster)
    assert "2 of 3 voters up, 2 needed; none more may fail" in raftctl("status", code=None).out
    checks = {check["name"]: check["measured"] for check in raftctl("health -o json", code=10).data["checks"]}
    assert f"node 3 {why}; none more may fail" == checks["members"]
    assert "2 of 3 voters up, 2 needed" == checks["quorum"]
    cluster.down[2] = REFUSED
    assert "NO QUORUM" in raftctl("status").out
    members = next(check for check in raftctl("health -o json", code=11).data["checks"] if check["name"] == "members")
    assert f"node 2 is down and node 3 {why}; too few for writes" == members["measured"]


@pytest.mark.parametrize("state", ["probe", "replicate", "snapshot"])
def test_a_voter_that_is_slow_or_far_behind_is_up_while_its_leader_reaches_it(cluster, raftctl, state):
    cluster.target(3).update(state=state, lag=9000, last_ack_ms_ago=4000.0)
    assert "3 of 3 voters up" in raftctl("status").out


def test_without_a_leader_who_answers_counts(cluster, raftctl):
    cluster.lead(None)
    cluster.down[2] = REFUSED
    cluster.nodes[3]["advertised"] = {"raft": "127.0.0.1:9999", "management": ""}
    assert "2 of 3 voters up" in raftctl("status").out
    cluster.nodes[3].update(WIPED)
    assert "1 of 3 voters up, 2 needed; NO QUORUM" in raftctl("status").out


@pytest.mark.parametrize("command", ["status", "nodes"])
def test_a_wiped_voter_that_takes_itself_for_a_learner_is_a_voter_that_recovers(cluster, raftctl, command):
    cluster.nodes[3].update(WIPED)
    [row] = [row for row in raftctl(command).out.splitlines() if row.split()[:1] == ["3"]]
    assert ["voter", "recovering"] == row.split()[1:3]
    node = raftctl(f"{command} -o json").data["nodes"][2]
    assert ("voter", "recovering", "learner") == (node["role"], node["state"], node["status"]["state"])


def test_health_waits_until_all_is_well(cluster, raftctl):
    cluster.answers("/v1/status", REFUSED, REFUSED, method="GET", node=3)
    raftctl("health --wait --timeout 30s")


def test_nodes_by_name_are_one_number_a_line(cluster, raftctl):
    assert raftctl("nodes -o name").out.split() == ["1", "2", "3"]


def test_jsonl_is_one_document_a_line(cluster, raftctl):
    lines = raftctl("nodes -o jsonl").out.splitlines()
    assert [json.loads(line)["schema"] for line in lines] == ["raftctl/v1"] * 3


def test_nothing_is_coloured_or_cut_when_piped(cluster, raftctl):
    cluster.nodes[2]["alarms"] = [{"code": "c", "detail": "long " * 60, "hint": "", "node": None}]
    out = raftctl("status -o wide").out
    assert "\x1b" not in out
    assert "…" not in out


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"{}", b"\xff\xfe", b'{"cluster": 3}'])
def test_something_else_that_answers_is_said_to_be_no_endpoint(cluster, raftctl, body):
    cluster.answers("/v1/status", httpx.Response(200, content=body), method="GET", node=2)
    nodes = raftctl("status -o json").data["nodes"]
    told = [node["error"]["code"] for node in nodes if node["error"]]
    assert told == ["not_an_endpoint"]


def test_what_a_node_says_cannot_steer_the_terminal(cluster, raftctl):
    cluster.nodes[1]["alarms"] = [{"code": "c", "detail": "\x1b[2Jgone\x07", "hint": "", "node": None}]
    for form in ("table", "wide", "json"):
        assert "\x1b" not in raftctl(f"status -o {form}").out


def test_a_token_goes_with_every_request(cluster, raftctl, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    raftctl("status", "--token-file", str(token))
    assert {"Bearer secret"} == {headers["authorization"] for headers in cluster.headers}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("current-context = 3", 3),
        ("[contexts.demo]\nendpoints = []", 3),
        ("[contexts.demo]\nendpoint = ['http://127.0.0.1:9101']", 3),
        ("this is not toml", 3),
        ("current-context = 'gone'", 3),
    ],
)
def test_a_broken_configuration_is_3_and_names_the_file(cluster, raftctl, text, code):
    raftctl.config.write_text(text, "utf-8")
    result = raftctl("status", code=code)
    assert str(raftctl.config) in result.err or "context" in result.err
    assert [] == cluster.requests


def test_a_flag_weighs_more_than_the_environment_and_that_more_than_the_context(cluster, raftctl, monkeypatch):
    monkeypatch.setenv("RAFTCTL_ENDPOINT", "http://127.0.0.1:9102")
    raftctl("status")
    assert cluster.requests[0][1] == 2
    cluster.requests.clear()
    raftctl("-e http://127.0.0.1:9103 status")
    assert cluster.requests[0][1] == 3


@pytest.mark.parametrize("is_down", [True, False])
def test_a_permission_is_shown_with_target_leader_term_and_what_is_left_of_it(cluster, raftctl, is_down):
    cluster.target(3).update(revert_armed=True, revert_armed_ms_left=90_000)
    if is_down:
        cluster.down[3] = httpx.ConnectError("[Errno 111] Connection refused")
    row = next(line for line in raftctl("status", code=None).out.splitlines() if line.split()[:1] == ["3"])
    assert "may revert once for 1 m 30 s, by leader 1 of term 2" in row


def test_who_did_not_wait_is_not_told_how_long(cluster, raftctl, monkeypatch):
    monkeypatch.setattr(deadline, "time", Clock())
    cluster.down[3] = REFUSED
    assert raftctl("health --wait --timeout 0", code=10).err.endswith("not well; looked at once only: --timeout 0\n")
    assert raftctl("health --wait --timeout 9s", code=10).err.endswith("not well within 9 s\n")


@pytest.mark.parametrize("line", ["member list", "explain member list"])
def test_a_command_that_has_another_name_here_is_pointed_to(raftctl, line):
    hint = raftctl(f"{line} -o json", code=2).error["hint"]
    assert ("listed by raftctl nodes" in hint) is (line == "member list")
