"""A command ends when its `--timeout` is over, whatever hangs; no test waits for that: the clock is the tests' own."""

from __future__ import annotations

import functools
import heapq
import math
import re

import httpx
import pytest

from raftctl import deadline, plain_http
from raftctl.deadline import Deadline
from raftctl.errors import CtlError
from raftctl.http import Http
from raftctl.http_client import HttpClusterClient
from raftctl.http_values import host_and_port
from raftctl.knocking import ALONE_S
from raftctl.plain_http import NoReplyError, no_answer
from raftctl.session import nobody_answers
from tests.raftctl.fake_cluster import FakeCluster, log_id, problem, url
from tests.raftctl.rejoin_cluster import mocked

pytestmark = pytest.mark.usefixtures("cluster")


class Clock:
    """What stands for the module `time`: only waiting makes it go on."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    mine = Clock()
    monkeypatch.setattr(deadline, "time", mine)
    return mine


@pytest.fixture
def hanging():
    """The nodes that take requests and never answer."""
    return set()


@pytest.fixture
def cluster(clock, hanging, monkeypatch):
    """Whoever waits for a node that hangs waits as long as it said it would; `never` is an answer that does not come."""

    def never(request):
        clock.sleep(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("paused", request=request)

    def answer(self, request):
        return never(request) if (request.url.port or 0) - 9100 in hanging else usual(self, request)

    def ask(where, headers, *, connect_timeout_s, timeout_s):
        if host_and_port(where)[1] - 9100 in hanging:
            clock.sleep(timeout_s)
            raise NoReplyError(no_answer(timeout_s))
        return fake.ask(where, headers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)

    usual = FakeCluster._answer
    monkeypatch.setattr(FakeCluster, "_answer", answer)
    with mocked(monkeypatch) as fake:
        fake.never = never
        monkeypatch.setattr(plain_http, "ask", ask)
        for module in ("http_client", "knocking", "parallel"):
            monkeypatch.setattr(f"raftctl.{module}.Asking", functools.partial(Asking, clock))
        yield fake


class Asking:
    """What stands for the threads: those that are added together begin at the same moment; who is first to end comes first."""

    def __init__(self, clock, ask):
        self.clock = clock
        self.ask = ask
        self.came = []
        self.count = 0

    def add(self, items):
        begun = self.clock.now
        for item in items:
            self.clock.now, self.count = begun, self.count + 1
            result = self.ask(item)
            heapq.heappush(self.came, (self.clock.now, self.count, item, result))
        self.clock.now = begun

    def next(self, within_s=None):
        if not self.came:
            return None
        if within_s is not None and self.came[0][0] > self.clock.now + within_s:
            self.clock.now += within_s
            return None
        at, _count, item, result = heapq.heappop(self.came)
        self.clock.now = max(self.clock.now, at)
        return item, result


BEGUN = 1000.0
LINES = [
    "status",
    "nodes",
    "health --wait",
    "doctor",
    "verify digest",
    "snapshot list",
    "elect --node 2 --yes",
    "heartbeat",
    "snapshot --all",
    "purge-log --upto 40 --yes",
    "transfer-leader --to 2 --yes",
    "allow-next-revert --to 2 --yes --confirm demo",
    "explain transfer-leader --to 2",
    "init",
    "member add 4=127.0.0.1:9204,http://127.0.0.1:9104 --yes",
    "member remove 3 --yes --confirm demo",
    "runtime-config get",
    "runtime-config set enable_elect=off --node 2 --yes",
    "rejoin-node 3 --yes --confirm demo",
    "rejoin-node 3 --blank --yes --confirm demo",
    "replace-node 3 --with 4=127.0.0.1:9204,http://127.0.0.1:9104 --yes --confirm demo",
    "rolling-restart --yes",
    "drain 3 --yes",
    "kv put colour blue",
    "kv get colour",
    "kv delete colour",
    "kv list",
]


@pytest.mark.parametrize("silent", [{2, 3}, {1}, {1, 2, 3}], ids=["followers", "leader", "all"])
@pytest.mark.parametrize("line", LINES)
def test_no_command_takes_longer_than_its_timeout_beside_nodes_that_hang(raftctl, clock, hanging, line, silent):
    hanging |= silent
    raftctl(f"{line} --timeout 3s", code=None)
    assert clock.now <= BEGUN + 3.000001


@pytest.mark.parametrize("line", ["kv put colour blue", "kv delete colour"])
def test_a_write_under_way_when_the_time_is_over_may_have_been_carried_out(cluster, raftctl, clock, hanging, line):
    cluster.keys[b"colour"] = (b"red", 1)
    hanging |= {2, 3}
    for method in ("PUT", "DELETE"):
        cluster.answers("/v1/kv/colour", *[cluster.never] * 9, method=method)
    error = raftctl(f"{line} --timeout 3s -o json", code=7).error
    assert "was sent, but no reply came" in error["message"]
    assert error["message"].endswith("given up after 3 s (--timeout)")
    assert "may have been carried out" in error["hint"]
    assert clock.now <= BEGUN + 3.000001


def test_a_write_that_may_have_been_carried_out_is_not_forgotten_over_a_later_answer(cluster, raftctl, clock, hanging):
    cluster.answers("/v1/kv/colour", cluster.never, *[problem(503, "no_leader", "nobody leads")] * 999, method="PUT")
    error = raftctl("kv put colour blue --timeout 20s --request-timeout 1s -o json", code=7).error
    assert "reply_lost" == error["code"]
    assert "no reply came: no answer in 1 s; then: nobody leads; given up" in error["message"]


def test_an_effect_that_is_not_seen_in_time_is_told_with_what_was_seen_last(cluster, raftctl, clock, hanging):
    hanging.add(3)
    cluster.answers("/v1/trigger/transfer-leader", cluster.never)
    error = raftctl("transfer-leader --to 2 --yes --timeout 3s -o json", code=7).error
    assert "transfer of leadership of cluster demo to node 2: sent, but not seen to be done within 3 s" in error["message"]
    assert "; last seen: node 1 leads term 2; 2 of 3 voters up" not in error["message"]
    cluster.answers("/v1/trigger/transfer-leader", cluster.accepted(1, "transfer-leader"))
    hanging.clear()
    error = raftctl("transfer-leader --to 2 --yes --timeout 3s -o json", code=7).error
    assert "; last seen: node 1 leads term 2; 3 of 3 voters up, 2 needed; 1 more may fail" in error["message"]


def test_there_is_time_left_to_act_after_a_look_at_nodes_that_hang(cluster, raftctl, clock, hanging):
    hanging.add(3)
    done = raftctl("snapshot --all --timeout 3s -o json", code=10)
    assert [True, True, False] == [item["observed"] for item in done.data["items"]]
    assert ["/v1/trigger/snapshot"] * 2 == cluster.paths
    assert clock.now <= BEGUN + 3.000001


def test_a_leader_that_hangs_is_not_waited_for_so_long_that_its_successor_is_not_heard_of(cluster, raftctl, clock, hanging):
    def elected_meanwhile(_request):
        answer = httpx.Response(200, json=cluster.nodes[3])
        cluster.lead(2, 3)
        return answer

    hanging.add(1)
    cluster.answers("/v1/status", elected_meanwhile, method="GET", node=3)
    raftctl("member remove 1 --yes --confirm demo --timeout 3s", code=None)
    assert [2] == [node for _, node, _, _ in cluster.mutations]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(5.0, "5"), (1.9971, "2"), (0.4998, "0.5"), (0.0012, "0.0012"), (300.0, "300")]
)
def test_what_was_waited_for_is_told_to_three_digits(seconds, shown):
    assert f"no answer in {shown} s" == no_answer(seconds)


def test_a_change_is_not_sent_when_the_time_is_over_and_a_question_is_not_asked(cluster, clock):
    http = Http(request_timeout_s=5.0, deadline=Deadline(2.0))
    clock.sleep(2.0)
    with pytest.raises(CtlError, match=r"was not sent: the 2 s of --timeout are over") as change:
        http.send("POST", f"{url(1)}/v1/trigger/heartbeat")
    assert (7, False) == (change.value.exit_code, change.value.outcome_unknown)
    with pytest.raises(CtlError, match="not asked: the 2 s of --timeout are over") as question:
        http.send("GET", f"{url(1)}/v1/status")
    assert "unreachable" == question.value.code
    assert [] == cluster.requests


def test_a_run_that_has_begun_is_not_cut_short(cluster, raftctl, clock, monkeypatch):
    def ask(*words, **more):
        clock.sleep(1.0)
        return cluster.ask(*words, **more)

    monkeypatch.setattr(plain_http, "ask", ask)
    raftctl("rejoin-node 3 --yes --confirm demo --timeout 10s")
    assert clock.now > BEGUN + 10


def test_a_refusal_of_a_run_waits_for_all_silent_nodes_at_once(raftctl, clock, hanging):
    hanging |= {2, 3}
    raftctl("rejoin-node 3 --yes --confirm demo", code=5)
    assert clock.now == pytest.approx(BEGUN + 1 + 5)


def test_keys_are_not_waited_for_at_one_silent_node_after_the_other(raftctl, clock, hanging):
    hanging |= {1, 2, 3}
    raftctl("kv put colour blue --timeout 0", code=4)
    assert clock.now == pytest.approx(BEGUN + ALONE_S + 1 + 5)


@pytest.mark.parametrize("line", ["kv put colour blue", "kv get colour", "kv delete colour", "kv list"])
@pytest.mark.parametrize("silent", [{1}, {2}, {3}, {1, 3}])
def test_keys_are_there_at_once_beside_nodes_that_hang(cluster, raftctl, clock, hanging, line, silent):
    cluster.keys[b"colour"] = (b"red", 1)
    hanging |= silent
    raftctl(line)
    assert clock.now <= BEGUN + ALONE_S


def test_a_key_is_read_beside_an_endpoint_that_hangs_however_little_time_there_is(cluster, raftctl, clock, hanging):
    cluster.keys[b"colour"] = (b"red", 1)
    hanging.add(8)
    raftctl(f"kv get colour -e {url(8)} -e {url(1)} --timeout 500ms")
    assert clock.now <= BEGUN + ALONE_S


def test_a_leader_that_is_no_endpoint_is_found_without_waiting_for_an_endpoint_that_hangs(cluster, raftctl, clock, hanging):
    cluster.lead(2)
    hanging.add(8)
    moved = problem(421, "not_leader", leader={"id": 2, "management": url(2)})
    cluster.answers("/v1/kv/colour", moved, method="PUT", node=1)
    raftctl(f"kv put colour blue -e {url(8)} -e {url(1)}")
    assert [1, 2] == [node for _, node, _, _ in cluster.mutations]
    assert clock.now <= BEGUN + ALONE_S


def test_members_are_asked_as_soon_as_one_endpoint_names_them(cluster, raftctl, clock, hanging, monkeypatch):
    def ask(where, *words, **more):
        asked.append((where, clock.now))
        return usual(where, *words, **more)

    usual, asked = plain_http.ask, []
    monkeypatch.setattr(plain_http, "ask", ask)
    hanging.add(8)
    told = raftctl(f"status -e {url(8)} -e {url(1)} --timeout 2s").out
    assert [(f"{url(node)}/v1/status", BEGUN) for node in (8, 1, 2, 3)] == asked
    assert "3 of 3 voters up, 2 needed; 1 more may fail" in told


def test_a_member_that_answers_at_an_endpoint_of_another_name_is_not_waited_for_at_its_own(cluster, raftctl, clock, hanging):
    for status in cluster.nodes.values():
        for node, address in status["membership"]["nodes"].items():
            address["management"] = url(int(node) + 10)
    hanging |= {11, 12, 13}
    assert [url(node) for node in (1, 2, 3)] == [row["management"] for row in raftctl("nodes -o json").data["nodes"]]
    assert clock.now == BEGUN


@pytest.fixture
def late(cluster, clock, monkeypatch):
    """Node 1 answers when all the time of the command is over: the others cannot be asked any more."""

    def ask(where, *words, **more):
        clock.sleep(3.0)
        return cluster.ask(where, *words, **more)

    monkeypatch.setattr(plain_http, "ask", ask)


@pytest.mark.usefixtures("late")
def test_who_was_not_asked_for_lack_of_time_is_not_down_and_no_verdict_rests_on_it(cluster, raftctl):
    health = raftctl(f"health -e {url(1)} --timeout 3s", code=10).out
    assert "1 of 3 voters up, 2 needed; 2 not asked for lack of time, too few to know whether writes are possible" in health
    assert "NO QUORUM" not in health
    assert "is down" not in health
    assert "node 2 was not asked for lack of time" in health
    data = raftctl(f"status -o json -e {url(1)} --timeout 3s").data
    assert (None, ["leader", "unknown", "unknown"]) == (data["has_quorum"], [node["state"] for node in data["nodes"]])
    assert {"no_time"} == {node["error"]["code"] for node in data["nodes"][1:]}


@pytest.mark.usefixtures("late")
def test_no_election_is_said_to_be_needed_when_the_leader_may_be_one_of_those_that_were_not_asked(cluster, raftctl):
    cluster.lead(None)
    assert "no node that was asked leads" in raftctl(f"health -e {url(1)} --timeout 3s", code=10).out
    found = raftctl(f"doctor -o json -e {url(1)} --timeout 3s", code=10).data["findings"]
    assert {("answers", "allow more time: --timeout")} == {(one["rule"], one["fix"]) for one in found}


def test_nobody_asked_in_time_is_nobody_who_answers(clock):
    http = Http(request_timeout_s=5.0, deadline=Deadline(2.0))
    clock.sleep(2.0)
    survey = HttpClusterClient(http, [url(1), url(2)]).cluster()
    assert [True, True] == [node.is_unknown for node in survey.nodes]
    assert ("unreachable", 4) == (nobody_answers(survey).code, nobody_answers(survey).exit_code)


@pytest.mark.parametrize("seconds", ["1s", "500ms"])
def test_a_doctor_without_time_for_a_second_look_keeps_the_first(raftctl, clock, hanging, seconds):
    hanging.add(3)
    result = raftctl(f"doctor -o json --timeout {seconds}", code=10)
    assert {("answers", 3), ("tolerance", None)} == {(one["rule"], one["node"]) for one in result.data["findings"]}
    (warning,) = result.document["warnings"]
    assert "there was time for one look only" in warning
    assert clock.now <= BEGUN + 1.000001


@pytest.mark.parametrize("line", ["snapshot --all", "purge-log --all --upto 40 --yes"])
@pytest.mark.parametrize("silent", [{1}, {2}, {3}])
def test_who_answers_is_served_beside_a_node_that_hangs(cluster, raftctl, clock, hanging, line, silent):
    hanging |= silent
    done = raftctl(f"{line} --timeout 2s -o json", code=10)
    assert [node not in silent for node in (1, 2, 3)] == [item["observed"] for item in done.data["items"]]
    assert clock.now <= BEGUN + 2.000001


def test_whoever_takes_long_to_do_his_part_does_not_keep_the_next_from_being_told(cluster, raftctl, clock):
    cluster.nodes[1]["snapshot"] = log_id(50)
    cluster.answers("/v1/trigger/snapshot", cluster.accepted(1, "snapshot"), node=1)
    result = raftctl("snapshot --all --timeout 3s -o json", code=7)
    assert [2, 3] == [item["node"] for item in result.data["items"]]
    assert "a snapshot of node 1 of cluster demo: accepted, but not seen to be done within 3 s" in result.error["message"]


@pytest.mark.parametrize("silent", [{1}, {2}, {3}])
def test_digests_of_those_that_answer_are_compared_beside_a_node_that_hangs(cluster, raftctl, clock, hanging, silent):
    hanging |= silent
    data = raftctl("verify digest --timeout 2s -o json", code=10).data
    assert (True, list(silent)) == (data["equal"], [row["node"] for row in data["nodes"] if row["error"]])
    assert clock.now <= BEGUN + 2.000001


def test_watch_ends_when_its_time_is_up_though_nobody_answers(raftctl, clock, hanging):
    hanging |= {1, 2, 3}
    assert "no node answers" in raftctl("watch --for 3s", code=4).err
    assert clock.now <= BEGUN + 3.000001


def test_a_person_may_think_as_long_as_they_like(clock):
    mine = Deadline(5.0)
    with mine.paused():
        clock.sleep(60.0)
    assert 5.0 == mine.left_s


def test_without_a_time_there_is_no_deadline_and_no_second_try(clock):
    once = Deadline(0.0)
    assert (math.inf, False, 0.0) == (once.left_s, once.again(), once.for_a_node_s(5.0))
    assert BEGUN == clock.now


@pytest.mark.parametrize(("left_s", "waits_s"), [(30.0, 5.0), (6.0, 3.0), (1.0, 0.5)])
def test_a_node_answers_while_there_is_time_to_hear_it(clock, left_s, waits_s):
    assert waits_s == Deadline(left_s).for_a_node_s(5.0)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("transfer-leader", "in all; default 30s, 0: once"),
        ("status", "in all; default 30s, 0: once"),
        ("kv put", "in all; default 10s"),
        ("verify digest", "in all; default 5m"),
        ("rejoin-node", "each wait of the run, may take; default 15m"),
        ("explain rejoin-node", "default 15m"),
        ("rolling-restart", "default 2m"),
        ("runbook run", "default 2m"),
        ("watch", "Has no effect here"),
    ],
)
def test_help_says_how_long_this_command_takes(raftctl, line, told):
    assert told in " ".join(raftctl(f"{line} --help").out.split())


def test_every_request_is_shown_whatever_came_of_it(cluster, raftctl, clock, hanging):
    hanging.add(3)
    cluster.down[2] = httpx.ConnectError("[Errno 111] Connection refused")
    lines = raftctl("status -v").err.splitlines()
    assert any(re.fullmatch(rf"GET {url(1)}/v1/status -> 200 in \d+ ms", line) for line in lines)
    assert any(re.fullmatch(rf"GET {url(2)}/v1/status -> .*onnection refused, after \d+ ms", line) for line in lines)
    assert any(re.fullmatch(rf"GET {url(3)}/v1/status -> no answer in 1 s, after \d+ ms", line) for line in lines)


def test_a_change_that_was_not_answered_is_shown(cluster, raftctl, clock, hanging):
    cluster.answers("/v1/kv/colour", cluster.never, method="PUT")
    shown = raftctl("kv put colour blue -v --request-timeout 2s").err
    assert f"PUT {url(1)}/v1/kv/colour -> no answer in 2 s, after " in shown


# -- who leads ------------------------------------------------------------------------------------------------------------

FOR_THE_LEADER = [
    "heartbeat",
    "snapshot",
    "purge-log --upto 40 --yes",
    "transfer-leader --to 3 --yes",
    "allow-next-revert --to 3 --yes --confirm demo",
    "member add 4=127.0.0.1:9204,http://127.0.0.1:9104 --yes",
    "member remove 1 --yes --confirm demo",
    "runtime-config set enable_elect=off --yes",
]


@pytest.mark.parametrize("line", FOR_THE_LEADER)
def test_the_leader_is_looked_for_again_while_the_others_elect_one(cluster, raftctl, hanging, line):
    hanging.add(1)
    before = {node: httpx.Response(200, json=cluster.nodes[node] | {}) for node in (2, 3)}
    cluster.lead(2, 3)
    for node, told in before.items():
        cluster.answers("/v1/status", told, told, method="GET", node=node)  # one look asks them twice
    raftctl(f"{line} --timeout 20s", code=None)
    assert 2 == cluster.mutations[0][1]


@pytest.mark.parametrize("line", FOR_THE_LEADER)
def test_nobody_looks_longer_for_a_leader_than_a_few_elections_take(cluster, raftctl, clock, line):
    cluster.lead(None)
    error = raftctl(f"{line} -o json", code=11).error
    assert 3 <= clock.now - BEGUN < 4
    assert ("no_leader", []) == (error["code"], cluster.mutations)


def test_a_leader_that_only_its_followers_reach_is_named(cluster, raftctl, hanging):
    hanging.add(1)
    error = raftctl("heartbeat -o json", code=11).error
    assert "no node that answers leads; the others name node 1, which does not answer" == error["message"]


@pytest.mark.parametrize("more", ["", " --dry-run"])
@pytest.mark.parametrize(
    "line", ["heartbeat", "transfer-leader --to 2 --yes", "member add 4=127.0.0.1:9204,http://127.0.0.1:9104 --yes"]
)
def test_without_a_quorum_the_hint_is_to_bring_voters_back(cluster, raftctl, hanging, line, more):
    cluster.lead(None)
    hanging |= {2, 3}
    error = raftctl(f"{line}{more} -o json", code=5 if more else 11).error
    assert "no node leads: 1 of 3 voters up, 2 needed" in error["message"]
    assert "bring voters back, no election can be won before: start node 2 and 3 with " in error["hint"]
    assert "raftctl doctor" in error["hint"]
    assert "elect --node" not in error["hint"]
