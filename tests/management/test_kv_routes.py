"""The key-value API."""

from __future__ import annotations

import base64

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raft_engine.management import kv_routes
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.hard_state import Recovery
from raft_engine.types.ids import NodeId
from raft_engine.types.outcomes import Refusal, RefusalCode
from tests.management.fakes import log_id

MIB = 1024 * 1024


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def put(client, key: str, value: bytes = b"v", **headers) -> dict:
    reply = await client.put(f"/v1/kv/{key}", content=value, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert reply.status_code == 200, reply.text
    return reply.json()


# --- writing ----------------------------------------------------------------------------------------------------------


async def test_a_written_value_is_read_back_with_its_revision(client):
    written = await put(client, "k", b"\x00\xffbytes")
    assert written["log_id"] == {"term": 7, "node_id": 1, "index": 13}
    reply = await client.get("/v1/kv/k")
    assert (reply.status_code, reply.content) == (200, b"\x00\xffbytes")
    assert (reply.headers["etag"], reply.headers["content-type"]) == (f'"{written["revision"]}"', "application/octet-stream")


async def test_the_reply_to_a_write_has_applied_it(client):
    reply = await client.put("/v1/kv/k", content=b"v")
    assert int(reply.headers["x-raft-applied"]) >= reply.json()["log_id"]["index"]


async def test_an_empty_value_is_a_value(client):
    await put(client, "k", b"")
    reply = await client.get("/v1/kv/k")
    assert (reply.status_code, reply.content) == (200, b"")


async def test_an_absent_key_is_404(client):
    reply = await client.get("/v1/kv/none")
    assert (reply.status_code, reply.json()["code"]) == (404, "key_not_found")


async def test_a_deleted_key_is_gone_and_deleting_again_is_fine(client):
    await put(client, "k")
    assert (await client.delete("/v1/kv/k")).status_code == 200
    assert (await client.get("/v1/kv/k")).status_code == 404
    assert (await client.delete("/v1/kv/k")).status_code == 200


@pytest.mark.parametrize(
    "key", ["a/b", "a%2Fb", "%00", "%ff%fe", "a%20b", "+", "%25", "k" * 1024, "%41" * 1024, "%2e%2e", "a//b", "%C3%A9"]
)
async def test_keys_are_bytes_however_they_are_escaped(node, client, key):
    from urllib.parse import unquote_to_bytes

    await put(client, key)
    assert node.store.get(unquote_to_bytes(key))[0] == b"v"
    assert (await client.get(f"/v1/kv/{key}")).content == b"v"


@pytest.mark.parametrize("key", ["", "k" * 1025, "%41" * 1025, "%", "a%4", "%zz"])
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
async def test_a_key_that_is_none_is_400(node, client, method, key):
    reply = await client.request(method, f"/v1/kv/{key}")
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed")
    assert node.raft.now.applied.index == 12


async def test_a_value_of_a_mebibyte_is_taken_and_a_byte_more_is_413(client):
    assert (await client.put("/v1/kv/k", content=b"x" * MIB)).status_code == 200
    reply = await client.put("/v1/kv/k", content=b"x" * (MIB + 1))
    assert (reply.status_code, reply.json()["measured"]) == (413, {"bytes_max": MIB})


async def chunks(size):
    for _ in range(size // 65536):
        yield b"x" * 65536


async def test_an_undeclared_giant_value_is_413_too(client):
    assert (await client.put("/v1/kv/k", content=chunks(2 * MIB))).status_code == 413


# --- conditions -------------------------------------------------------------------------------------------------------


async def test_a_write_only_if_absent_happens_once(client):
    await put(client, "k", if_none_match="*")
    reply = await client.put("/v1/kv/k", content=b"w", headers={"if-none-match": "*"})
    assert (reply.status_code, reply.json()["code"], reply.json()["revision"]) == (412, "precondition_failed", 13)
    assert (reply.json()["key"], reply.headers["etag"]) == ("k", '"13"')
    assert (await client.get("/v1/kv/k")).content == b"v"


@pytest.mark.parametrize("form", ['"{}"', "{}", ' "{}" '])
async def test_a_write_at_a_revision_happens_only_there(client, form):
    revision = (await put(client, "k", b"1"))["revision"]
    second = await put(client, "k", b"2", if_match=form.format(revision))
    reply = await client.put("/v1/kv/k", content=b"3", headers={"if-match": form.format(revision)})
    assert (reply.status_code, reply.json()["revision"]) == (412, second["revision"])
    assert (await client.get("/v1/kv/k")).content == b"2"


async def test_a_write_at_a_revision_of_an_absent_key_says_that_it_is_absent(client):
    reply = await client.put("/v1/kv/k", content=b"3", headers={"if-match": "5"})
    assert (reply.status_code, reply.json()["revision"]) == (412, None)
    assert "etag" not in reply.headers


async def test_a_delete_may_have_a_revision_too(client):
    revision = (await put(client, "k"))["revision"]
    assert (await client.delete("/v1/kv/k", headers={"if-match": str(revision + 1)})).status_code == 412
    assert (await client.delete("/v1/kv/k", headers={"if-match": str(revision)})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": "*"},
        {"if-match": "x"},
        {"if-match": ""},
        {"if-match": "1, 2"},
        {"if-match": "-1"},
        {"if-match": 'W/"1"'},
        {"if-match": "9" * 40},
        {"if-none-match": "1"},
        {"if-none-match": ""},
        {"if-match": "1", "if-none-match": "*"},
    ],
)
async def test_a_condition_that_is_not_understood_is_400_and_nothing_is_written(node, client, headers):
    assert (await client.put("/v1/kv/k", content=b"v", headers=headers)).status_code == 400
    assert node.store.get(b"k") is None


async def test_a_read_that_has_it_already_is_304(client):
    revision = (await put(client, "k"))["revision"]
    reply = await client.get("/v1/kv/k", headers={"if-none-match": f'"{revision}"'})
    assert (reply.status_code, reply.content) == (304, b"")


# --- idempotency --------------------------------------------------------------------------------------------------------


async def test_a_repeated_write_is_applied_once_and_says_so(client):
    first = await put(client, "k", b"1", idempotency_key="a")
    await put(client, "k", b"2")
    again = await put(client, "k", b"1", idempotency_key="a")
    assert (again["revision"], again["duplicate"]) == (first["revision"], True)
    assert (await client.get("/v1/kv/k")).content == b"2"


async def test_a_key_that_was_used_for_another_write_is_422_and_writes_nothing(node, client):
    await put(client, "k", b"1", idempotency_key="a")
    reply = await client.put("/v1/kv/k", content=b"2", headers={"idempotency-key": "a"})
    assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_key_reused")
    assert node.store.get(b"k")[0] == b"1"


# --- several at once ----------------------------------------------------------------------------------------------------


async def test_several_operations_are_one_entry(node, client):
    await put(client, "old")
    ops = [
        {"op": "check", "key": "old", "revision": 13},
        {"op": "check", "key": "none", "revision": None},
        {"op": "put", "key": "é", "value_base64": b64(b"\x00")},
        {"op": "put", "key_base64": b64(b"\xff"), "value_base64": ""},
        {"op": "delete", "key": "old"},
    ]
    reply = await client.post("/v1/kv", json={"ops": ops})
    assert (reply.status_code, reply.json()["revision"]) == (200, 14)
    assert [node.store.get(key) for key in ("é".encode(), b"\xff", b"old")] == [(b"\x00", 14), (b"", 14), None]


async def test_a_check_that_fails_undoes_everything(node, client):
    ops = [{"op": "put", "key": "a", "value_base64": ""}, {"op": "check", "key": "b", "revision": 3}]
    reply = await client.post("/v1/kv", json={"ops": ops})
    assert (reply.status_code, reply.json()["key"], reply.json()["revision"]) == (412, "b", None)
    assert node.store.get(b"a") is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ops": []},
        {"ops": {}},
        {"ops": [{}]},
        {"ops": [{"op": "incr", "key": "a"}]},
        {"ops": [{"op": "put", "key": "a"}]},
        {"ops": [{"op": "put", "key": "a", "value_base64": "%"}]},
        {"ops": [{"op": "put", "key": "a", "value_base64": "", "x": 1}]},
        {"ops": [{"op": "put", "value_base64": ""}]},
        {"ops": [{"op": "put", "key": "", "value_base64": ""}]},
        {"ops": [{"op": "put", "key": "k" * 1025, "value_base64": ""}]},
        {"ops": [{"op": "put", "key": "a", "key_base64": "YQ==", "value_base64": ""}]},
        {"ops": [{"op": "check", "key": "a"}]},
        {"ops": [{"op": "check", "key": "a", "revision": 0}]},
        {"ops": [{"op": "check", "key": "a", "revision": "1"}]},
        {"ops": [{"op": "delete", "key": "a"}] * 4097},
    ],
    ids=lambda body: str(body)[:60],
)
async def test_operations_that_are_not_understood_are_400_and_nothing_is_written(node, client, body):
    reply = await client.post("/v1/kv", json=body)
    assert (reply.status_code, node.raft.now.applied.index) == (400, 12)


async def test_lone_surrogates_in_a_key_are_refused(client):
    body = b'{"ops":[{"op":"put","key":"\\ud800","value_base64":""}]}'
    reply = await client.post("/v1/kv", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400


async def test_a_value_too_long_among_operations_is_413(client):
    ops = [{"op": "put", "key": "a", "value_base64": b64(b"x" * (MIB + 1))}]
    assert (await client.post("/v1/kv", json={"ops": ops})).status_code == 413


async def test_operations_need_json_by_name(client):
    assert (await client.post("/v1/kv", content=b'{"ops":[]}')).status_code == 415


async def test_operations_with_an_unmet_expectation_write_nothing(node, client):
    ops = [{"op": "put", "key": "a", "value_base64": ""}]
    reply = await client.post("/v1/kv", json={"ops": ops, "expect": {"term": 6}})
    assert (reply.status_code, node.store.get(b"a")) == (412, None)


# --- lists --------------------------------------------------------------------------------------------------------------


async def test_a_list_is_in_order_of_bytes_and_goes_on_where_it_ended(client):
    for key in ("b/2", "a", "b/1", "b/3", "c"):
        await put(client, key, key.encode())
    first = (await client.get("/v1/kv", params={"prefix": "b/", "limit": "2"})).json()
    assert [(item["key"], item["value_base64"]) for item in first["items"]] == [("b/1", b64(b"b/1")), ("b/2", b64(b"b/2"))]
    second = (await client.get("/v1/kv", params={"prefix": "b/", "limit": "2", "after": first["next"]})).json()
    assert ([item["key"] for item in second["items"]], second["next"]) == (["b/3"], None)


async def test_a_list_of_nothing_is_empty(client):
    assert (await client.get("/v1/kv")).json()["items"] == []


async def test_keys_that_are_not_utf8_come_and_go_in_base64(client):
    for key in ("%f0%ff", "%f1", "%f2"):
        await put(client, key)
    first = (await client.get("/v1/kv", params={"limit": "1"})).json()
    assert first["items"][0]["key_base64"] == b64(b"\xf0\xff")
    second = (await client.get("/v1/kv", params={"after_base64": first["next_base64"]})).json()
    assert [item["key_base64"] for item in second["items"]] == [b64(b"\xf1"), b64(b"\xf2")]
    third = (await client.get("/v1/kv", params={"prefix_base64": b64(b"\xf2")})).json()
    assert [item["key_base64"] for item in third["items"]] == [b64(b"\xf2")]


async def test_a_page_is_bounded_in_bytes_and_says_how_to_go_on(client, monkeypatch):
    monkeypatch.setattr(kv_routes, "LIST_BYTES_MAX", 25)
    for key in "abc":
        await put(client, key, b"x" * 10)
    first = (await client.get("/v1/kv")).json()
    assert ([item["key"] for item in first["items"]], first["next"]) == (["a", "b"], "b")
    second = (await client.get("/v1/kv", params={"after": "b"})).json()
    assert ([item["key"] for item in second["items"]], second["next"]) == (["c"], None)


async def test_a_page_has_at_least_one_item(client, monkeypatch):
    monkeypatch.setattr(kv_routes, "LIST_BYTES_MAX", 5)
    await put(client, "a", b"x" * 10)
    assert len((await client.get("/v1/kv")).json()["items"]) == 1


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"limit": ""},
        {"prefix": "k" * 1025},
        {"after": "k" * 1025},
        {"after_base64": "%%%"},
        {"after_base64": "é"},
        {"after": "a", "after_base64": "YQ=="},
        {"consistency": "eventual"},
        {"unheard": "1"},
        {"timeout": "5"},
    ],
)
async def test_a_list_that_is_not_understood_is_400(client, params):
    assert (await client.get("/v1/kv", params=params)).status_code == 400


# --- refusals -----------------------------------------------------------------------------------------------------------


async def every_write(client, **more):
    ops = {"ops": [{"op": "delete", "key": "k"}]}
    return [
        await client.put("/v1/kv/k", content=b"v", **more),
        await client.delete("/v1/kv/k", **more),
        await client.post("/v1/kv", json=ops, **more),
    ]


async def test_a_write_on_a_node_that_does_not_lead_names_the_leader(node, client):
    node.raft.write_answer = Refusal(RefusalCode.NOT_LEADER, "node 2 leads", NodeId(2))
    for reply in await every_write(client):
        assert (reply.status_code, reply.json()["leader"]) == (421, {"id": 2, "management": "http://127.0.0.1:2"})


async def test_a_write_is_redirected_only_when_asked_for(node, client):
    node.raft.write_answer = Refusal(RefusalCode.NOT_LEADER, "node 2 leads", NodeId(2))
    replies = await every_write(client, params={"forward": "redirect"})
    assert {(reply.status_code, reply.headers["location"]) for reply in replies} == {
        (307, "http://127.0.0.1:2/v1/kv/k?forward=redirect"),
        (307, "http://127.0.0.1:2/v1/kv?forward=redirect"),
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (RefusalCode.NO_LEADER, 503),
        (RefusalCode.OVERLOADED, 503),
        (RefusalCode.NO_QUORUM, 503),
        (RefusalCode.OUTCOME_UNKNOWN, 504),
    ],
)
async def test_a_refused_write_says_why_and_when_to_try_again(node, client, code, status):
    node.raft.write_answer = Refusal(code, "because")
    for reply in await every_write(client):
        assert (reply.status_code, reply.json()["code"]) == (status, code.value)
        assert ("retry-after" in reply.headers) is (status == 503)


async def test_a_write_that_is_not_committed_in_time_has_an_unknown_outcome(node, client):
    node.raft.write_answer = "never"
    for number, reply in enumerate(await every_write(client, params={"timeout": "10ms"}), start=1):
        assert (reply.status_code, reply.json()["code"]) == (504, "outcome_unknown")
        assert number in node.raft.forgotten


async def test_a_stopped_engine_serves_no_keys(node, client):
    node.raft = None
    for reply in [*await every_write(client), await client.get("/v1/kv/k"), await client.get("/v1/kv?consistency=stale")]:
        assert (reply.status_code, reply.json()["code"]) == (503, "raft_stopped")


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "stale"])
async def test_every_consistency_reads_the_same_on_a_quiet_leader(client, consistency):
    await put(client, "k")
    assert (await client.get("/v1/kv/k", params={"consistency": consistency})).content == b"v"
    assert len((await client.get("/v1/kv", params={"consistency": consistency})).json()["items"]) == 1


async def test_only_a_stale_read_needs_no_leader(node, client):
    await put(client, "k")
    node.raft.read_answer = Refusal(RefusalCode.NO_LEADER, "nobody")
    assert (await client.get("/v1/kv/k")).status_code == 503
    assert (await client.get("/v1/kv/k?consistency=lease")).status_code == 503
    assert (await client.get("/v1/kv/k?consistency=stale")).status_code == 200


async def test_a_read_that_nobody_confirms_in_time_is_504(node, client):
    node.raft.read_answer = "never"
    reply = await client.get("/v1/kv/k", params={"timeout": "10ms"})
    assert (reply.status_code, reply.json()["code"]) == (504, "timed_out")
    assert node.raft.forgotten == [1]


@pytest.mark.parametrize("consistency", ["linearizable", "stale"])
async def test_a_recovering_node_serves_no_reads_at_all(node, client, consistency):
    node.raft.change(recovery=Recovery(log_id(20), "wiped"))
    node.raft.read_answer = Refusal(RefusalCode.RECOVERING, "until 20")
    reply = await client.get("/v1/kv/k", params={"consistency": consistency})
    assert (reply.status_code, reply.json()["code"]) == (503, "recovering")


@pytest.mark.parametrize("consistency", ["linearizable", "stale"])
async def test_a_blank_node_does_not_pretend_that_a_key_is_absent(node, client, consistency):
    node.birth = BirthState.BLANK
    node.raft.read_answer = Refusal(RefusalCode.BLANK, "no cluster")
    reply = await client.get("/v1/kv/k", params={"consistency": consistency})
    assert (reply.status_code, reply.json()["code"]) == (503, "blank")


@pytest.mark.parametrize(("path", "allow"), [("/v1/kv", "GET, HEAD, POST"), ("/v1/kv/k", "DELETE, GET, HEAD, PUT")])
@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_other_methods_are_405(client, method, path, allow):
    reply = await client.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("path", ["/v1/kv", "/v1/kv/k"])
async def test_head_is_like_get(client, path):
    await put(client, "k")
    assert (await client.head(path)).status_code == 200


@pytest.mark.parametrize("params", [{"timeout": "5"}, {"timeout": "1h"}, {"consistency": ""}, {"x": "1"}])
async def test_a_read_that_is_not_understood_is_400(client, params):
    assert (await client.get("/v1/kv/k", params=params)).status_code == 400


@pytest.mark.parametrize("params", [{"timeout": "5"}, {"timeout": "-1s"}, {"forward": "x"}, {"x": "1"}, {"wait": "5s"}])
async def test_a_write_that_is_not_understood_is_400_and_nothing_is_written(node, client, params):
    for reply in await every_write(client, params=params):
        assert reply.status_code == 400
    assert node.raft.now.applied.index == 12


async def test_a_state_machine_that_returns_nonsense_is_a_bug_of_ours(node, client, caplog, monkeypatch):
    monkeypatch.setattr(node.store, "apply", lambda entries: [object()])
    reply = await client.put("/v1/kv/k", content=b"v")
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")
    assert "state machine returned" in caplog.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.binary(min_size=1, max_size=40), value=st.binary(max_size=60))
async def test_any_key_and_value_come_back_as_they_went(client, key, value):
    path = "/v1/kv/" + "".join(f"%{byte:02x}" for byte in key)
    assert (await client.put(path, content=value)).status_code == 200
    assert (await client.get(path)).content == value
