"""The cluster's lock: one run at a time from any machine, an end of its own, and a loss that is noticed."""

from __future__ import annotations

import json

import httpx
import pytest

from raftctl.errors import CtlError
from raftctl.http import Http
from raftctl.http_client import HttpClusterClient
from raftctl.runbook import lock as lock_module
from raftctl.runbook.journal import Journal
from raftctl.runbook.lock import KEY, ClusterLock, holder_in_the_way, look
from tests.raftctl.fake_cluster import FakeCluster, problem, url
from tests.raftctl.killing import Clock

PATH = "/v1/kv/raftctl/lock"


@pytest.fixture
def client(cluster: FakeCluster):
    client = HttpClusterClient(Http(request_timeout_s=5.0), [url(node) for node in (1, 2, 3)])
    client.cluster()
    yield client
    client.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lock_module, "time", clock)
    return clock


def held_by(client, run: str) -> ClusterLock:
    lock = ClusterLock(client, run, "rejoin-node")
    lock.take()
    return lock


def rewrite(cluster: FakeCluster, **changes: object) -> None:
    """Change what the key says, as another program or another clock would."""
    value, revision = cluster.keys[KEY]
    cluster.keys[KEY] = (json.dumps(json.loads(value) | changes).encode(), revision + 1000)


def test_a_second_run_is_told_who_holds_it_where_since_when_and_until_when(cluster, client):
    held_by(client, "one")
    holder = look(client).holder
    with pytest.raises(CtlError) as caught:
        held_by(client, "two")
    assert (6, ("no-lock",)) == (caught.value.exit_code, caught.value.rule_ids)
    for word in ("run one", holder.operator, holder.host, holder.since, holder.expires_at):
        assert word in caught.value.message
    assert "--override no-lock" in caught.value.hint


def test_it_is_free_again_when_it_was_given_back(cluster, client):
    held_by(client, "one").release()
    assert {} == cluster.keys
    assert holder_in_the_way(client) is None
    held_by(client, "two")


@pytest.mark.parametrize("carried_out", [True, False])
def test_it_is_given_back_though_a_reply_was_lost(cluster, client, carried_out: bool):
    lock = held_by(client, "one")

    def lost(_request: httpx.Request) -> httpx.Response:
        if carried_out:
            cluster.keys.clear()
        raise httpx.ReadError("reset")

    cluster.answers(PATH, lost, method="DELETE")
    lock.release()
    assert {} == cluster.keys


@pytest.mark.parametrize("outcome", ["undone", "needs_attention"])
def test_what_a_run_of_this_machine_left_when_it_was_over_is_in_nobodys_way(
    cluster, client, tmp_path, monkeypatch: pytest.MonkeyPatch, outcome: str
):
    monkeypatch.setenv("RAFTCTL_STATE", str(tmp_path))
    run = Journal.begin("drain-1")
    held_by(client, run.run_id)
    run.write("run_begun", command="drain")
    assert holder_in_the_way(client) is not None
    run.write("run_ended", outcome=outcome)
    run.close()
    if outcome == "needs_attention":
        assert run.run_id in str(holder_in_the_way(client))
        return
    assert holder_in_the_way(client) is None
    held_by(client, "two")
    rewrite(cluster, run=run.run_id, host="another")
    assert holder_in_the_way(client) is not None


def test_it_ends_by_itself_some_time_after_its_holder_died(cluster, client):
    held_by(client, "one")
    rewrite(cluster, expires_at="2020-01-01T00:00:00Z")
    assert holder_in_the_way(client) is None
    held_by(client, "two")
    assert "two" == look(client).holder.run


def test_a_little_later_than_its_time_it_still_counts_because_clocks_differ(cluster, client):
    import datetime as dt

    held_by(client, "one")
    rewrite(cluster, expires_at=(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)).isoformat())
    assert "run one" in str(holder_in_the_way(client))


def test_of_two_who_take_it_at_once_one_fails(cluster, client):
    def other_is_first(request: httpx.Request) -> httpx.Response:
        cluster.keys[KEY] = (request.content.replace(b'"two"', b'"one"').replace(b'"token":"', b'"token":"x'), 7)
        return problem(412, "precondition_failed")

    cluster.answers(PATH, other_is_first, method="PUT")
    with pytest.raises(CtlError, match="run one"):
        held_by(client, "two")


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_lost_reply_is_looked_up(cluster, client, carried_out: bool):
    def lost(request: httpx.Request) -> httpx.Response:
        if carried_out:
            cluster.keys[KEY] = (request.content, 7)
        raise httpx.ReadError("reset")

    cluster.answers(PATH, lost, method="PUT")
    lock = held_by(client, "one")
    lock.renew()
    assert "one" == look(client).holder.run


def test_it_is_renewed_when_a_quarter_of_its_time_is_over(cluster, client, clock):
    lock = held_by(client, "one")
    writes = len(cluster.mutations)
    clock.sleep(20)
    lock.keep()
    assert writes == len(cluster.mutations)
    clock.sleep(20)
    lock.keep()
    assert writes + 1 == len(cluster.mutations)


@pytest.mark.parametrize("gone", [True, False])
def test_a_lost_lock_is_noticed_at_the_next_renewal(cluster, client, clock, gone: bool):
    lock = held_by(client, "one")
    if gone:
        cluster.keys.clear()
    else:
        rewrite(cluster, run="two", token="other")
    clock.sleep(60)
    with pytest.raises(CtlError) as caught:
        lock.keep()
    assert "lock_lost" == caught.value.code
    assert "runs resume one" in caught.value.hint
    lock.release()
    assert gone or "two" == look(client).holder.run


def test_without_a_quorum_it_is_neither_lost_nor_renewed(cluster, client, clock):
    lock = held_by(client, "one")
    cluster.lead(None)
    clock.sleep(600)
    lock.keep()
    cluster.lead(2, 3)
    clock.sleep(60)
    lock.keep()
    assert "one" == look(client).holder.run


def test_a_new_run_does_not_begin_without_a_quorum(cluster, client):
    cluster.lead(None)
    with pytest.raises(CtlError):
        held_by(client, "one")


def test_a_run_that_goes_on_does_and_takes_it_when_there_is_a_quorum_again(cluster, client, clock):
    held_by(client, "one")
    cluster.lead(None)
    again = ClusterLock(client, "one", "rejoin-node")
    again.take(resuming=True)
    cluster.lead(2, 3)
    again.keep()
    clock.sleep(60)
    again.keep()
    again.release()
    assert {} == cluster.keys


def test_a_run_goes_on_though_a_leader_alone_cannot_have_a_read_confirmed(cluster, client):
    held_by(client, "one")
    for node in (1, 2, 3):
        cluster.answers(PATH, problem(504, "timed_out"), method="GET", node=node)
    ClusterLock(client, "one", "rejoin-node").take(resuming=True)


def test_nobody_is_blamed_for_a_lock_that_a_proxy_may_have_taken(cluster, client):
    cluster.answers(PATH, *[httpx.Response(502, html="<html>Bad Gateway</html>")] * 9, method="PUT")
    with pytest.raises(CtlError) as caught:
        ClusterLock(client, "one", "rejoin-node").take()
    assert (caught.value.code, int(caught.value.exit_code)) == ("unclear_answer", 7)
    assert f"PUT was answered by {url(1)} with 502 and no explanation; it may have been carried out" in caught.value.message
    assert "the taking of the cluster's lock, which then ends within 120 s" in caught.value.message


def test_a_run_takes_over_what_its_dead_process_left_on_this_machine(cluster, client):
    held_by(client, "one")
    ClusterLock(client, "one", "rejoin-node").take(resuming=True)


def test_but_not_what_a_process_on_another_machine_holds(cluster, client):
    held_by(client, "one")
    rewrite(cluster, host="elsewhere")
    with pytest.raises(CtlError, match="on elsewhere"):
        ClusterLock(client, "one", "rejoin-node").take(resuming=True)


def test_it_can_be_taken_by_force_and_the_former_holder_notices(cluster, client, clock):
    first = held_by(client, "one")
    ClusterLock(client, "two", "rejoin-node").take(force=True)
    clock.sleep(60)
    with pytest.raises(CtlError, match="run two"):
        first.keep()


def test_a_key_that_is_not_ours_counts_as_expired(cluster, client):
    cluster.keys[KEY] = (b"somebody's value", 5)
    held_by(client, "one")
