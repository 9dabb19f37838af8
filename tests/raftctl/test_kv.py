"""Keys and values from the command line."""

from __future__ import annotations

import httpx
import pytest

from raftctl import deadline, plain_http
from raftctl.commands import kv
from raftctl.http import Http
from raftctl.http_client import HttpClusterClient
from tests.raftctl.fake_cluster import problem, url
from tests.raftctl.killing import Clock


def test_what_was_put_is_got(cluster, raftctl):
    raftctl("kv put colour blue")
    assert raftctl("kv get colour").out.rstrip("\n") == "blue"


def test_a_key_that_is_not_there_is_13(cluster, raftctl):
    assert "there is no key nothing" in raftctl("kv get nothing", code=13).err


def test_a_put_with_another_revision_is_6_and_changes_nothing(cluster, raftctl):
    raftctl("kv put colour blue")
    raftctl("kv put colour red --if-revision 1", code=6)
    assert cluster.keys[b"colour"][0] == b"blue"


@pytest.mark.parametrize("key", ["a/b", "..", "a b", "ü", "%2f", "?x=1"])
def test_a_key_is_never_a_path(cluster, raftctl, key):
    raftctl("kv put", key, "v")
    assert {key.encode()} == cluster.keys.keys()


def test_a_list_has_the_keys_that_begin_so(cluster, raftctl):
    for key in ("a/1", "a/2", "b/1"):
        raftctl(f"kv put {key} v")
    assert [item["key"] for item in raftctl("kv list a/ -o json").data["items"]] == ["a/1", "a/2"]


def test_deleted_is_gone(cluster, raftctl):
    raftctl("kv put colour blue")
    raftctl("kv delete colour")
    raftctl("kv get colour", code=13)


def test_deleting_what_is_not_there_says_so_and_writes_nothing(cluster, raftctl):
    assert "there is no key colour" in raftctl("kv delete colour").out
    assert raftctl("kv delete colour -o json").data["changed"] is False
    assert [] == cluster.mutations


def test_a_write_carries_a_number_that_makes_it_happen_once(cluster, raftctl):
    raftctl("kv put colour blue")
    assert len(cluster.headers[-1]["idempotency-key"]) >= 16


def test_a_write_follows_to_the_leader(cluster, raftctl):
    moved = problem(421, "not_leader", leader={"id": 2, "management": url(2)})
    cluster.answers("/v1/kv/colour", moved, method="PUT", node=1)
    raftctl("kv put colour blue")
    assert [1, 2] == [node for _, node, _, _ in cluster.mutations]


def test_a_node_that_knows_no_leader_is_passed_over(cluster, raftctl):
    cluster.keys[b"colour"] = (b"blue", 7)
    cluster.answers("/v1/kv/colour", problem(503, "no_leader"), method="GET", node=1)
    assert "blue" in raftctl("kv get colour").out


def test_a_write_whose_reply_was_lost_is_repeated_under_the_same_number(cluster, raftctl):
    cluster.answers("/v1/kv/colour", httpx.ReadTimeout("slow"), method="PUT")
    raftctl("kv put colour blue")
    assert len(cluster.mutations) == 2
    assert len({headers["idempotency-key"] for headers in cluster.headers if "idempotency-key" in headers}) == 1


@pytest.mark.parametrize(
    ("status", "code"), [(409, "raft_stopped"), (503, "recovering"), (503, "blank"), (503, "shutting_down")]
)
def test_a_node_that_does_not_take_part_is_passed_over(cluster, raftctl, status, code):
    raftctl("kv put colour blue")
    cluster.answers("/v1/kv/colour", problem(status, code), method="GET", node=1)
    assert raftctl("kv get colour").out.strip() == "blue"


def test_a_member_that_is_no_endpoint_is_asked_when_no_endpoint_takes_part(cluster, raftctl):
    cluster.keys[b"raftctl/lock"] = (b"x", 7)
    cluster.answers("/v1/kv/raftctl/lock", problem(409, "raft_stopped"), method="GET", node=3)
    assert "no-lock" in raftctl(f"rejoin-node 2 --dry-run -e {url(3)}", code=0).out
    asked = [node for method, node, path, _ in cluster.requests if method == "GET" and path == "/v1/kv/raftctl/lock"]
    assert [3, 1] == asked


def test_a_value_that_looks_like_a_refusal_is_a_value(cluster, raftctl):
    raftctl("kv put", "colour", '{"code": "no_leader"}')
    assert raftctl("kv get colour").out.strip() == '{"code": "no_leader"}'


def test_a_write_goes_to_another_node_when_one_does_not_answer(cluster, raftctl):
    cluster.down[1] = httpx.ReadTimeout("paused")
    cluster.lead(2)
    raftctl("kv put colour blue")
    assert [2] == [node for _, node, _, _ in cluster.mutations]


def test_a_write_is_not_sent_to_a_leader_that_does_not_answer(cluster, raftctl):
    cluster.lead(2)
    cluster.down[2] = httpx.ReadTimeout("paused")
    cluster.answers(
        "/v1/kv/colour", problem(421, "not_leader", leader={"id": 2, "management": url(2)}), method="PUT", node=1
    )
    raftctl("kv put colour blue")
    assert {1} == {node for _, node, _, _ in cluster.mutations}


def test_a_leader_that_an_endpoint_names_is_followed_without_asking_all_and_remembered(cluster):
    cluster.lead(2)
    cluster.answers(
        "/v1/kv/colour", problem(421, "not_leader", leader={"id": 2, "management": url(2)}), method="PUT", node=1
    )
    client = HttpClusterClient(Http(request_timeout_s=5.0), [url(1), url(2), url(3)])
    client.kv_put(b"colour", b"blue", revision=None, create=False, request_id="r")
    client.heartbeat(wait_s=0.0)
    client.close()
    assert [(1, "/v1/kv/colour"), (2, "/v1/kv/colour"), (2, "/v1/trigger/heartbeat")] == [
        (node, path) for _, node, path, _ in cluster.requests if path != "/livez"
    ]


def test_nodes_are_knocked_at_for_a_second_and_once_side_by_side_when_one_is_silent(cluster, raftctl, monkeypatch):
    knocked = []

    def ask(where, headers, *, connect_timeout_s, timeout_s):
        knocked.append((where, timeout_s))
        return cluster.ask(where, headers, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)

    monkeypatch.setattr(plain_http, "ask", ask)
    cluster.lead(2)
    cluster.down[1] = httpx.ReadTimeout("paused")
    raftctl("kv put colour blue")
    assert [(f"{url(node)}/livez", 1.0) for node in (1, 2, 3)] == sorted(knocked)


def test_who_waits_for_a_second_is_told_what_for(cluster, raftctl, monkeypatch):
    monkeypatch.setattr(kv, "_TELL_AFTER_S", 0.0)
    monkeypatch.setattr(deadline, "time", Clock())
    cluster.down |= dict.fromkeys((1, 2, 3), httpx.ConnectError("[Errno 111] Connection refused"))
    told = raftctl("kv get colour --timeout 5s", code=4).err
    assert told.startswith(f"no node answers: {url(1)}/livez: connection refused; {url(2)}/livez: ")
    assert 1 == told.count("connection refused; trying again, for 5 s in all\n")
    assert "trying again" not in raftctl("kv get colour --timeout 5s -q", code=4).err
    assert "unreachable" == raftctl("kv get colour --timeout 5s -o json", code=4).error["code"]


def test_a_write_that_is_never_answered_is_7(cluster, raftctl, monkeypatch):
    monkeypatch.setattr(deadline, "time", Clock())
    cluster.answers("/v1/kv/colour", *[httpx.ReadTimeout("slow")] * 1000, method="PUT")
    raftctl("kv put colour blue --timeout 5s", code=7)


def test_a_read_that_a_cut_off_node_could_not_have_confirmed_is_asked_of_another(cluster, raftctl):
    cluster.keys[b"colour"] = (b"blue", 7)
    cluster.answers("/v1/kv/colour", problem(504, "timed_out"), method="GET", node=1)
    assert raftctl("kv get colour").out.strip() == "blue"


def test_a_read_that_nobody_could_have_confirmed_is_7(cluster, raftctl):
    for node in (1, 2, 3):
        cluster.answers("/v1/kv/colour", *[problem(504, "timed_out")] * 9, method="GET", node=node)
    raftctl("kv get colour --timeout 0", code=7)


def test_a_write_whose_outcome_is_unknown_is_sent_to_no_other_node(cluster, raftctl):
    cluster.answers("/v1/kv/colour", problem(504, "outcome_unknown"), method="PUT", node=1)
    raftctl("kv put colour blue", code=None)
    assert {1} == {node for _, node, _, _ in cluster.mutations}


@pytest.mark.parametrize(
    ("key", "typed"),
    [("colour", "colour"), ("it's", """'it'"'"'s'"""), ("-a b", "-- '-a b'"), ("a\n'", "$'a\\x0a\\''"), ("ü", "'ü'")],
)
def test_after_a_lost_reply_the_hint_is_the_command_that_shows_the_key(cluster, raftctl, key, typed):
    cluster.answers(f"/v1/kv/{key}", *[httpx.ReadTimeout("slow")] * 9, method="PUT")
    hint = raftctl("kv put --timeout 0 -o json --", key, "blue", code=7).error["hint"]
    assert hint.startswith(
        f"it may have been carried out; look with: raftctl kv get {typed}; until --timeout is over it is repeated"
    )


@pytest.mark.parametrize(("line", "method"), [("kv put colour blue", "PUT"), ("kv delete colour", "DELETE")])
def test_an_unknown_outcome_speaks_of_nothing_that_a_user_of_this_program_cannot_do(cluster, raftctl, line, method):
    cluster.keys[b"colour"] = (b"red", 7)
    unknown = problem(504, "outcome_unknown", hint="read the key, or repeat with the same Idempotency-Key")
    cluster.answers("/v1/kv/colour", *[unknown] * 9, method=method)
    hint = raftctl(f"{line} --timeout 0 -o json", code=7).error["hint"]
    assert "raftctl kv get colour; until --timeout is over it is repeated, as one and the same write" in hint
    assert "Idempotency-Key" not in hint


@pytest.mark.parametrize("headers", [{}, {"etag": '"2aa6-5ee"'}, {"etag": '"7"'}])
def test_a_page_of_another_server_is_no_value(cluster, raftctl, headers):
    page = httpx.Response(200, html="<html>It works!</html>", headers=headers)
    cluster.answers("/v1/kv/colour", page, method="GET")
    got = raftctl("kv get colour", code=4)
    assert "" == got.out
    assert f"{url(1)} answers, but not as a management endpoint does: its reply lacks X-Raft-Node" in got.err
    assert "hint: check the endpoints: raftctl context list" in got.err


def test_a_proxy_that_drops_our_headers_is_no_other_server(cluster, raftctl):
    written = httpx.Response(200, json={"log_id": {"term": 2, "node_id": 1, "index": 9}, "revision": 9})
    cluster.answers("/v1/kv/colour", httpx.Response(200, content=b"red", headers={"etag": '"7"'}), method="GET")
    cluster.answers("/v1/kv/colour", written, method="PUT")
    cluster.answers("/v1/kv", httpx.Response(200, json={"items": [], "next": None}), method="GET")
    assert "red" in raftctl("kv get colour", code=0).out
    assert "9" in raftctl("kv put colour blue", code=0).out
    raftctl("kv list", code=0)


@pytest.mark.parametrize(("line", "method"), [("kv put colour blue", "PUT"), ("kv delete colour", "DELETE")])
def test_whether_another_server_has_handed_a_write_on_is_not_known(cluster, raftctl, line, method):
    cluster.keys[b"colour"] = (b"red", 7)
    cluster.answers("/v1/kv/colour", httpx.Response(200, text="<html>It works!</html>"), method=method)
    error = raftctl(f"{line} -o json", code=7).error
    assert f"{method} was answered with 200, and {url(1)} answers, but not as a management" in error["message"]
    assert "check the endpoints: raftctl context list; then look with: raftctl kv get colour" == error["hint"]
    assert 1 == len(cluster.mutations)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize(("line", "method"), [("kv put colour blue", "PUT"), ("kv delete colour", "DELETE")])
def test_a_write_that_a_proxy_gave_up_may_have_been_carried_out(cluster, raftctl, line, method, status):
    cluster.keys[b"colour"] = (b"red", 7)
    cluster.answers("/v1/kv/colour", httpx.Response(status, html="<html>Bad Gateway</html>"), method=method)
    error = raftctl(f"{line} -o json", code=7).error
    assert (
        f"{method} was answered by {url(1)} with {status} and no explanation; it may have been carried out"
        == error["message"]
    )
    assert "check the endpoints: raftctl context list; then look with: raftctl kv get colour" == error["hint"]
    assert 1 == len(cluster.mutations)


def test_a_read_that_nobody_answers_in_time_says_what_to_look_at(cluster, raftctl):
    cluster.answers("/v1/kv/colour", *[httpx.ReadTimeout("slow")] * 9, method="GET")
    error = raftctl(f"kv get colour -e {url(1)} --timeout 0 -o json", code=4).error
    assert "are the nodes running? see: raftctl status" == error["hint"]
