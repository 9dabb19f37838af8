"""A command ends when its `--timeout` is over, whatever hangs; no test waits for that: the clock is the tests' own."""

from __future__ import annotations

import functools
import math
import re

import httpx
import pytest

from raftctl import deadline, plain_http
from raftctl.deadline import Deadline
from raftctl.errors import CtlError
from raftctl.http import Http
from raftctl.plain_http import NoReplyError, no_answer
from tests.raftctl.fake_cluster import FakeCluster, problem, url
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
        if int(where.partition(":910")[2][0]) in hanging:
            clock.sleep(timeout_s)
            raise NoReplyError(no_answer(timeout_s))
        return fake.ask(where, headers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)

    usual = FakeCluster._answer
    monkeypatch.setattr(FakeCluster, "_answer", answer)
    with mocked(monkeypatch) as fake:
        fake.never = never
        monkeypatch.setattr(plain_http, "ask", ask)
        monkeypatch.setattr("raftctl.http_client.at_once", functools.partial(_at_once, clock))
        yield fake


def _at_once(clock, ask, items):
    """Every one begins at the same moment; the time that passes is that of the slowest."""
    begun, ends, results = clock.now, [], []
    for item in items:
        clock.now = begun
        results.append(ask(item))
        ends.append(clock.now)
    clock.now = max(ends, default=begun)
    return results


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
    assert clock.now == pytest.approx(BEGUN + 1 + 1 + 5)


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
