"""The management paths, one by one."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from raft_engine.errors import Damaged, InitializeError, Panicked, Stopped, refused, revert_refused
from raft_engine.kv.commands import encode_put
from raft_engine.management.routes import ENDPOINTS
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.entry import EntryKind
from raft_engine.types.hard_state import Recovery
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.metrics import (
    Alarm,
    ReplicationMetrics,
    ReplicationState,
    RestoringMetrics,
    RuntimeFlags,
    ServerState,
)
from raft_engine.types.outcomes import NOTHING_EXPECTED, Expectation, Refusal, RefusalCode, TriggerOutcome
from tests.management.fakes import INCARNATION, PEERS, leader_metrics, log_id

LOG_ID_12 = {"term": 7, "node_id": 1, "index": 12}
MEMBERS = {"1": {"raft": "127.0.0.1:9201", "management": "http://127.0.0.1:1"}}
MUTATIONS = [row for row in ENDPOINTS if row.mutates]
LOOKS = [row for row in ENDPOINTS if not row.mutates and row.path != "/v1/events"]


def at(row) -> str:
    return row.path.replace("{id}", "3")


def raising(node, refusal: Refusal) -> None:
    node.raft.trigger.outcome = refused(refusal)


# --- what every reply has ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/v1/status", "/v1/kv/none", "/nowhere", "/v1/trigger/elect", "/metrics"])
async def test_every_reply_says_how_the_node_stands(client, path):
    reply = await client.get(path)
    names = ("x-raft-node", "x-raft-term", "x-raft-leader", "x-raft-applied")
    assert [reply.headers[name] for name in names] == ["1", "7", "1", "12"]


async def test_without_a_known_leader_the_header_says_0(node, client):
    node.raft.change(leader=None)
    assert (await client.get("/v1/status")).headers["x-raft-leader"] == "0"


async def test_a_trigger_reply_has_the_term_after_the_trigger(node, client):
    node.raft.trigger.gate = asyncio.Event()
    asking = asyncio.create_task(client.post("/v1/trigger/elect"))
    await node.raft.trigger.called.wait()
    node.raft.change(term=9, leader=NodeId(2))
    node.raft.trigger.gate.set()
    reply = await asking
    assert (reply.headers["x-raft-term"], reply.headers["x-raft-leader"]) == ("9", "2")
    assert (reply.json()["term"], reply.json()["leader"]) == (9, 2)


# --- probes -----------------------------------------------------------------------------------------------------------


async def test_a_serving_node_is_alive_and_ready(client):
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("reason", "prepare"),
    [
        ("stopped", lambda node: setattr(node, "raft", None)),
        ("disk full", lambda node: setattr(node, "fatal", "disk full")),
        ("engine broke", lambda node: node.raft.change(fatal="engine broke", state=ServerState.SHUTDOWN)),
        ("not initialised", lambda node: setattr(node, "birth", BirthState.BLANK)),
        ("not initialised", lambda node: setattr(node, "birth", BirthState.PREPARED)),
        ("recovering", lambda node: node.raft.change(recovery=Recovery(log_id(20), "wiped"))),
        ("no leader", lambda node: node.raft.change(leader=None)),
    ],
)
async def test_a_node_that_cannot_serve_is_alive_but_not_ready_and_says_why(node, client, reason, prepare):
    prepare(node)
    reply = await client.get("/readyz")
    assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
    assert reason in reply.json()["detail"]
    assert (await client.get("/livez")).status_code == 200


# --- status -----------------------------------------------------------------------------------------------------------


async def test_status_tells_how_far_a_leaders_snapshot_is_restored(node, client):
    node.raft.change(restoring=RestoringMetrics(log_id(11), 10, 40))
    body = (await client.get("/v1/status")).json()
    told = {"snapshot": {"term": 7, "node_id": 1, "index": 11}, "restored_bytes": 10, "size_bytes": 40}
    assert told == body["restoring"]


async def test_status_of_a_leader_has_every_field_of_the_contract(node, client):
    target = ReplicationMetrics(
        PeerId(NodeId(2), PEERS[NodeId(2)]), log_id(11), 1, ReplicationState.REPLICATE, 12.34567, 5000.0, 10, 20
    )
    node.alarms = (Alarm("plaintext", "open to the network", "use TLS"),)
    node.raft.change(replication={NodeId(2): target}, alarms=(Alarm("node_reverted", "n3", "allow it", NodeId(3)),))
    body = (await client.get("/v1/status")).json()
    assert {
        "cluster": "demo",
        "cluster_id": "c" * 32,
        "node_id": 1,
        "incarnation": INCARNATION,
        "boot_count": 3,
        "engine_starts": 2,
        "version": "0.1.0",
        "advertised": {"raft": "127.0.0.1:9201", "management": "http://127.0.0.1:1"},
        "birth": "started",
        "state": "leader",
        "recovering": None,
        "term": 7,
        "vote": {"term": 7, "node_id": 1, "committed": True},
        "leader": 1,
        "last_log": LOG_ID_12,
        "committed": LOG_ID_12,
        "applied": LOG_ID_12,
        "snapshot": {"term": 7, "node_id": 1, "index": 10},
        "purged": {"term": 7, "node_id": 1, "index": 4},
        "membership": {
            "configs": [[1, 2, 3]],
            "learners": [],
            "nodes": {str(n): {"raft": f"127.0.0.1:{9200 + n}", "management": f"http://127.0.0.1:{n}"} for n in PEERS},
            "log_id": {"term": 1, "node_id": 1, "index": 1},
            "committed": True,
            "incarnations": {str(n): [incarnation] for n, incarnation in PEERS.items()},
        },
        "building_snapshot": False,
        "restoring": None,
        "transfer_to": None,
        "last_quorum_acked_ms_ago": 1.25,
        "election_timeout_max_ms": 300.0,
        "runtime_config": {"enable_tick": True, "enable_heartbeat": True, "enable_elect": True, "enable_pre_vote": True},
        "alarms": [
            {"code": "plaintext", "detail": "open to the network", "hint": "use TLS", "node": None},
            {"code": "node_reverted", "detail": "n3", "hint": "allow it", "node": 3},
        ],
        "fatal": None,
        "fatal_code": None,
        "free_bytes": 10**9,
        "kv": {"keys": 0, "bytes": 0},
        "replication": {
            "2": {
                "matching": {"term": 7, "node_id": 1, "index": 11},
                "lag": 1,
                "state": "replicate",
                "last_ack_ms_ago": 12.346,
                "revert_armed": True,
                "revert_armed_ms_left": 5000.0,
                "incarnation": PEERS[NodeId(2)],
                "snapshot_sent_bytes": 10,
                "snapshot_size_bytes": 20,
            }
        },
    } == body


async def test_only_a_leader_has_replication(node, client):
    node.raft.change(state=ServerState.FOLLOWER, replication=None)
    assert "replication" not in (await client.get("/v1/status")).json()


async def test_a_permission_without_an_end_is_armed_and_has_no_milliseconds_left(node, client):
    target = ReplicationMetrics(
        PeerId(NodeId(2), PEERS[NodeId(2)]), BEFORE_LOG, 12, ReplicationState.UNREACHABLE, None, float("inf")
    )
    node.raft.change(replication={NodeId(2): target})
    shown = (await client.get("/v1/status")).json()["replication"]["2"]
    assert (
        shown["revert_armed"],
        shown["revert_armed_ms_left"],
        shown["last_ack_ms_ago"],
        shown["matching"],
    ) == (True, None, None, None)


async def test_a_recovering_node_says_until_when_and_why(node, client):
    node.raft.change(recovery=Recovery(log_id(20), "rebuilt"))
    expected = {"until": {"term": 7, "node_id": 1, "index": 20}, "reason": "rebuilt"}
    assert expected == (await client.get("/v1/status")).json()["recovering"]


async def test_a_stopped_node_shows_its_last_picture_as_shutdown_and_knows_no_leader(client):
    await client.post("/v1/node/stop-raft")
    body = (await client.get("/v1/status")).json()
    assert (body["state"], body["leader"], body["applied"], body["term"]) == ("shutdown", None, LOG_ID_12, 7)
    assert "replication" not in body


async def test_a_node_whose_engine_never_ran_has_a_status(node, client):
    node.raft = None
    node.fatal = "the log is damaged"
    body = (await client.get("/v1/status")).json()
    assert (body["state"], body["fatal"], body["last_log"]) == ("shutdown", "the log is damaged", None)
    assert "engine_failed" == body["fatal_code"]


# --- long poll --------------------------------------------------------------------------------------------------------


async def test_a_status_that_did_not_change_is_304(client):
    etag = (await client.get("/v1/status")).headers["etag"]
    reply = await client.get("/v1/status", params={"since": etag.strip('"'), "wait": "20ms"})
    assert (304, b"", etag) == (reply.status_code, reply.content, reply.headers["etag"])
    assert (await client.get("/v1/status", headers={"if-none-match": etag})).status_code == 304


async def test_a_status_that_changed_already_is_answered_at_once(node, client):
    etag = (await client.get("/v1/status")).headers["etag"]
    node.raft.change(term=8)
    reply = await client.get("/v1/status", params={"since": etag, "wait": "10m"})
    assert (reply.status_code, reply.json()["term"]) == (200, 8)


@pytest.mark.parametrize(
    "happen",
    [
        lambda node: node.raft.change(term=8),
        lambda node: setattr(node, "raft", None),
        lambda node: setattr(node, "fatal", "disk full"),
    ],
    ids=["term", "stop", "fatal"],
)
async def test_a_waiting_status_is_answered_when_something_happens(node, app, client, happen):
    etag = (await client.get("/v1/status")).headers["etag"]
    asking = asyncio.create_task(client.get("/v1/status", params={"since": etag, "wait": "10m"}))
    await node.raft.watched.wait()
    assert not asking.done()
    happen(node)
    reply = await asking
    assert reply.status_code == 200
    assert reply.headers["etag"] != etag


async def test_a_waiting_status_of_a_stopped_node_is_answered_when_it_starts(node, client):
    await client.post("/v1/node/stop-raft")
    etag = (await client.get("/v1/status")).headers["etag"]
    asking = asyncio.create_task(client.get("/v1/status", params={"since": etag, "wait": "10m"}))
    await client.post("/v1/node/start-raft")
    assert (await asking).json()["state"] == "leader"


async def test_a_waiting_status_ends_when_the_endpoint_stops(app, client):
    etag = (await client.get("/v1/status")).headers["etag"]
    app.context.stopping = True
    assert (await client.get("/v1/status", params={"since": etag, "wait": "10m"})).status_code == 304


async def test_a_wait_without_since_is_refused(client):
    assert (await client.get("/v1/status", params={"wait": "5s"})).status_code == 400


# --- triggers ---------------------------------------------------------------------------------------------------------

TRIGGERS = [
    ("elect", {}, "elect", (True,), {"pre_vote": True}),
    ("elect", {"pre_vote": False}, "elect", (False,), {"pre_vote": False}),
    ("heartbeat", {}, "heartbeat", (), {}),
    ("snapshot", {}, "snapshot", (), {}),
    ("purge-log", {"upto": 1200}, "purge_log", (1200, False), {"upto": 1200}),
    ("purge-log", {"upto": 5, "strict": True}, "purge_log", (5, True), {"upto": 5, "strict": True}),
    ("transfer-leader", {"to": 2}, "transfer_leader", (2,), {"to": 2}),
]


@pytest.mark.parametrize(("path", "body", "name", "arguments", "requested"), TRIGGERS)
async def test_a_trigger_is_passed_on_and_answered_with_what_happened(node, client, path, body, name, arguments, requested):
    node.raft.trigger.outcome = TriggerOutcome(True, True, "snapshot ends at 1180", {"upto": 1180})
    reply = await client.post(f"/v1/trigger/{path}", json=body)
    assert [(name, arguments, {"wait_s": 5.0, "expect": NOTHING_EXPECTED})] == node.raft.trigger.calls
    assert reply.status_code == 200
    assert {
        "action": name,
        "node": 1,
        "requested": requested,
        "effective": {"upto": 1180},
        "changed": True,
        "observed": True,
        "detail": "snapshot ends at 1180",
        "leader": 1,
        "term": 7,
    } == reply.json()


async def test_the_revert_permission_is_passed_on_in_seconds(node, client):
    reply = await client.post("/v1/trigger/allow-next-revert", json={"to": 2, "allow": False, "ttl_ms": 600_000})
    assert node.raft.trigger.calls == [("allow_next_revert", (2, False, 600.0), {"expect": NOTHING_EXPECTED})]
    assert reply.json()["requested"] == {"to": 2, "allow": False, "ttl_ms": 600_000}


async def test_a_revert_for_a_node_nobody_knows_is_404(node, client):
    node.raft.trigger.outcome = revert_refused(Refusal(RefusalCode.NODE_NOT_FOUND, "node 9 is not a member"))
    reply = await client.post("/v1/trigger/allow-next-revert", json={"to": 9})
    assert (reply.status_code, reply.json()["code"]) == (404, "node_not_found")


async def test_what_was_accepted_but_not_seen_is_202(node, client):
    node.raft.trigger.outcome = TriggerOutcome(True, False, "asked")
    reply = await client.post("/v1/trigger/snapshot", params={"wait": "0"})
    assert (reply.status_code, reply.json()["observed"]) == (202, False)
    assert node.raft.trigger.calls[0][2]["wait_s"] == 0.0


async def test_what_already_held_is_a_success_without_change(node, client):
    node.raft.trigger.outcome = TriggerOutcome(False, True, "node 1 leads already")
    reply = await client.post("/v1/trigger/elect")
    assert (reply.status_code, reply.json()["changed"]) == (200, False)


async def test_the_wait_is_passed_on(node, client):
    await client.post("/v1/trigger/elect", params={"wait": "250ms"})
    assert node.raft.trigger.calls[0][2]["wait_s"] == 0.25


async def test_expectations_are_passed_on(node, client):
    expect = {"term": 7, "leader": 1, "membership_log_id": {"term": 1, "node_id": 1, "index": 1}}
    await client.post("/v1/trigger/elect", json={"expect": expect})
    assert Expectation(7, NodeId(1), log_id(1, term=1)) == node.raft.trigger.calls[0][2]["expect"]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Refusal(RefusalCode.NOT_LEADER, "node 2 leads", NodeId(2)), 421),
        (Refusal(RefusalCode.NO_LEADER, "nobody"), 503),
        (Refusal(RefusalCode.TARGET_LAGGING, "4000 behind", extra={"lag": 4000}), 409),
        (Refusal(RefusalCode.BEYOND_SNAPSHOT, "ends at 3"), 422),
        (Refusal(RefusalCode.PRECONDITION_FAILED, "term 8"), 412),
    ],
)
async def test_a_refusal_is_a_problem_document(node, client, refusal, status):
    raising(node, refusal)
    reply = await client.post("/v1/trigger/transfer-leader", json={"to": 2})
    body = reply.json()
    assert (status, "application/problem+json") == (reply.status_code, reply.headers["content-type"])
    assert (status, refusal.code.value, refusal.detail) == (body["status"], body["code"], body["detail"])
    assert {"type", "title", "term", "leader"} <= body.keys()


async def test_not_the_leader_names_the_leader_with_its_address(node, client):
    raising(node, Refusal(RefusalCode.NOT_LEADER, "node 2 leads", NodeId(2)))
    reply = await client.post("/v1/trigger/heartbeat")
    assert reply.json()["leader"] == {"id": 2, "management": "http://127.0.0.1:2"}


async def test_no_leader_says_when_to_try_again(node, client):
    raising(node, Refusal(RefusalCode.NO_LEADER, "nobody"))
    assert (await client.post("/v1/trigger/heartbeat")).headers["retry-after"] == "1"


async def test_a_redirect_comes_only_when_asked_for_and_keeps_path_and_query(node, client):
    raising(node, Refusal(RefusalCode.NOT_LEADER, "node 2 leads", NodeId(2)))
    reply = await client.post("/v1/trigger/heartbeat?forward=redirect&wait=1s")
    expected = "http://127.0.0.1:2/v1/trigger/heartbeat?forward=redirect&wait=1s"
    assert (307, 307, expected) == (reply.status_code, reply.json()["status"], reply.headers["location"])
    raising(node, Refusal(RefusalCode.NO_LEADER, "nobody"))
    assert (await client.post("/v1/trigger/heartbeat?forward=redirect")).status_code == 503


async def test_another_word_than_redirect_is_refused(client):
    assert (await client.post("/v1/trigger/heartbeat?forward=proxy")).status_code == 400


@pytest.mark.parametrize(
    "row", [row for row in MUTATIONS if "/node/" not in row.path and row.path != "/v1/shutdown"], ids=lambda row: row.path
)
async def test_a_stopped_engine_is_said_so_and_how_to_start_it(node, client, row):
    node.raft = None
    body = {"upto": 1, "to": 2, "enable_tick": True, "id": 4, "voters": [1], **MEMBERS["1"]}
    wanted = {name: body[name] for name in body if name in (row.request.__struct_fields__)}
    if row.path == "/v1/init":
        node.failure = Stopped("the engine is stopped")
        wanted = {"members": MEMBERS}
    reply = await client.request(row.method, at(row).replace("{id}", "3"), json=wanted)
    assert reply.status_code == 503
    assert reply.json()["code"] in {"raft_stopped", "shutting_down"}


async def test_a_failed_engine_is_a_500_that_says_why(node, client):
    node.fatal = "disk full"
    reply = await client.post("/v1/trigger/elect")
    assert (reply.status_code, reply.json()["code"], reply.json()["detail"]) == (500, "fatal", "disk full")


async def test_an_engine_that_fails_meanwhile_is_a_500_too(node, client):
    node.raft.trigger.outcome = Panicked("assertion")
    assert (await client.post("/v1/trigger/elect")).json()["code"] == "fatal"


async def test_a_bug_is_a_500_without_a_traceback(node, client, caplog):
    node.raft.trigger.outcome = ZeroDivisionError("inner detail")
    reply = await client.post("/v1/trigger/elect")
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")
    assert "inner detail" not in reply.text
    assert "inner detail" in caplog.text


# --- init, configuration, barrier ---------------------------------------------------------------------------------------


async def test_init_passes_the_members_and_is_observed_when_a_leader_is_known(node, client):
    reply = await client.post("/v1/init", json={"members": MEMBERS})
    [(name, members)] = node.calls
    assert (name, list(members), members[NodeId(1)].raft) == ("init", [1], "127.0.0.1:9201")
    assert (reply.status_code, reply.json()["observed"], reply.json()["effective"]) == (200, True, {"members": [1]})


async def test_init_without_a_leader_in_time_is_accepted_not_observed(node, client):
    node.raft.change(leader=None)
    reply = await client.post("/v1/init", params={"wait": "20ms"}, json={"members": MEMBERS})
    assert (reply.status_code, reply.json()["observed"], reply.json()["changed"]) == (202, False, True)


async def test_init_of_a_living_cluster_is_409(node, client):
    node.failure = InitializeError("already_initialized", "node 2 belongs to demo", "raftctl status")
    reply = await client.post("/v1/init", json={"members": MEMBERS})
    assert (
        reply.status_code,
        reply.json()["code"],
        reply.json()["hint"],
    ) == (409, "already_initialized", "raftctl status")


async def test_an_init_that_never_started_can_be_forgotten(node, client):
    reply = await client.post("/v1/init", json={"abort": True})
    assert (reply.status_code, node.calls) == (200, [("abort_init",)])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"members": {}},
        {"members": MEMBERS, "abort": True},
        {"members": {"x": MEMBERS["1"]}},
        {"members": {"0": MEMBERS["1"]}},
        {"members": {"1": {"raft": "nohost", "management": "http://h"}}},
        {"members": {"1": {"raft": "h:0", "management": "http://h"}}},
        {"members": {"1": {"raft": "h:99999", "management": "http://h"}}},
        {"members": {"1": {"raft": "h:1", "management": "h:2"}}},
        {"members": {"1": {"raft": "h:1", "management": "http://"}}},
        {"members": {"1": {"raft": "h:1", "management": "http://h\r\nx: y"}}},
        {"members": {"1": {"raft": "h:1"}}},
        {"members": {"1": {"raft": "h:1", "management": "http://h", "extra": 1}}},
    ],
)
async def test_members_that_make_no_sense_never_reach_the_node(node, client, body):
    assert (await client.post("/v1/init", json=body)).status_code == 400
    assert node.calls == []


async def test_runtime_config_changes_what_is_named_and_shows_all(node, client):
    reply = await client.patch("/v1/runtime-config", json={"enable_elect": False})
    assert RuntimeFlags(enable_elect=False) == node.raft.now.runtime_flags
    body = reply.json()
    assert (reply.status_code, body["changed"], body["observed"]) == (200, True, True)
    shown = {"enable_tick": True, "enable_heartbeat": True, "enable_elect": False, "enable_pre_vote": True}
    assert body["effective"] == shown


async def test_runtime_config_that_holds_already_changes_nothing(client):
    body = (await client.patch("/v1/runtime-config", json={"enable_elect": True})).json()
    assert (body["changed"], body["observed"]) == (False, True)


async def test_runtime_config_that_is_not_seen_in_time_is_202(node, client):
    node.raft.flags_stick = False
    reply = await client.patch("/v1/runtime-config", params={"wait": "20ms"}, json={"enable_tick": False})
    assert (reply.status_code, reply.json()["observed"]) == (202, False)


async def test_an_empty_runtime_config_is_refused(client):
    assert (await client.patch("/v1/runtime-config", json={})).status_code == 400


async def test_a_barrier_excludes_nodes_and_may_mark_a_digest(node, client):
    reply = await client.post("/v1/barrier", params={"wait": "2s"}, json={"exclude": [3], "digest": True})
    assert [(frozenset({3}), b"digest", 2.0, NOTHING_EXPECTED)] == node.raft.barriers
    assert reply.json() == {"log_id": {"term": 7, "node_id": 1, "index": 13}, "acked_by": [2, 3]}


async def test_a_barrier_without_words_excludes_nobody_and_marks_nothing(node, client):
    await client.post("/v1/barrier")
    assert [(frozenset(), b"", 5.0, NOTHING_EXPECTED)] == node.raft.barriers


async def test_a_barrier_that_nobody_holds_in_time_is_504(node, client):
    node.raft.barrier_answer = refused(Refusal(RefusalCode.TIMED_OUT, "held by 1 of 2", extra={"held_by": [1]}))
    reply = await client.post("/v1/barrier")
    assert (reply.status_code, reply.json()["measured"]) == (504, {"held_by": [1]})


# --- digests ------------------------------------------------------------------------------------------------------------


async def test_a_digest_of_now_names_the_index_it_is_of(node, client):
    node.raft.apply(encode_put(b"k", b"v"))
    body = (await client.get("/v1/digest")).json()
    assert (body["index"], len(body["digest"]), body["algorithm"]) == (13, 64, "sha256")


async def test_equal_stores_have_equal_digests_at_a_mark_whatever_came_after(node, client):
    node.raft.apply(b"digest", EntryKind.BLANK)
    marked = (await client.get("/v1/digest")).json()["digest"]
    node.raft.apply(encode_put(b"k", b"v"))
    assert (await client.get("/v1/digest", params={"at": "13"})).json() == {
        "index": 13,
        "digest": marked,
        "algorithm": "sha256",
    }
    assert (await client.get("/v1/digest")).json()["digest"] != marked


async def test_a_digest_waits_for_its_mark(node, client):
    asking = asyncio.create_task(client.get("/v1/digest", params={"at": "13"}))
    await node.raft.watched.wait()
    node.raft.apply(b"digest", EntryKind.BLANK)
    assert (await asking).json()["index"] == 13


class StoreThatIsAsked:
    """Notes the marks that somebody asks for."""

    def __init__(self, store):
        self._store = store
        self.asked = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def digest_at(self, index):
        self.asked.append(index)
        return self._store.digest_at(index)


async def test_a_mark_is_asked_for_before_it_is_applied_so_that_no_newer_one_takes_its_turn(node, client):
    node.store = StoreThatIsAsked(node.store)
    asking = asyncio.create_task(client.get("/v1/digest", params={"at": "13"}))
    await node.raft.watched.wait()
    assert node.store.asked == [13]
    node.raft.apply(b"digest", EntryKind.BLANK)
    assert (await asking).json()["index"] == 13


async def test_a_digest_that_is_not_reached_in_time_is_504(client):
    reply = await client.get("/v1/digest", params={"at": "13", "wait": "10ms"})
    assert (reply.status_code, reply.json()["detail"]) == (504, "applied up to 12, not yet 13")


async def test_a_digest_of_an_index_that_is_no_mark_is_409_and_says_what_to_do(node, client):
    node.raft.apply(encode_put(b"k", b"v"))
    reply = await client.get("/v1/digest", params={"at": "13"})
    assert (reply.status_code, reply.json()["code"]) == (409, "digest_not_available")
    assert "/v1/barrier" in reply.json()["hint"]


class StoreWithDigest:
    """A store whose digest is what the test says."""

    def __init__(self, store, value):
        self._store = store
        self.asked = SimpleNamespace(log_id=log_id(12), value=value)

    def __getattr__(self, name):
        return getattr(self._store, name)

    def digest_view(self):
        return self.asked


async def test_a_digest_that_was_given_up_is_409(node, client):
    value = Future()
    value.cancel()
    value.set_running_or_notify_cancel()
    node.store = StoreWithDigest(node.store, value)
    assert (await client.get("/v1/digest")).json()["code"] == "digest_not_available"


async def test_a_digest_that_takes_too_long_is_504_and_goes_on_for_others(node, client):
    node.store = StoreWithDigest(node.store, Future())
    assert (await client.get("/v1/digest", params={"wait": "10ms"})).status_code == 504
    assert not node.store.asked.value.cancelled()


@pytest.mark.parametrize("at", ["0", "-1", "x", "", "9" * 30])
async def test_a_digest_at_no_index_is_400(client, at):
    assert (await client.get("/v1/digest", params={"at": at})).status_code == 400


# --- this process -------------------------------------------------------------------------------------------------------


async def test_the_engine_stops_and_starts_while_the_endpoint_stays(node, client):
    stopped = await client.post("/v1/node/stop-raft")
    assert (stopped.status_code, stopped.json()["changed"], stopped.json()["observed"]) == (200, True, True)
    assert not (await client.post("/v1/node/stop-raft")).json()["changed"]
    started = await client.post("/v1/node/start-raft")
    assert (started.status_code, started.json()["changed"], started.json()["observed"]) == (200, True, True)
    assert not (await client.post("/v1/node/start-raft")).json()["changed"]


async def test_an_engine_that_cannot_start_says_what_is_wrong_with_the_data(node, client):
    node.failure = Damaged("checksum does not match", path="data/n1/log/7", offset=99)
    reply = await client.post("/v1/node/start-raft")
    assert (reply.status_code, reply.json()["code"]) == (500, "storage_failed")
    assert "data/n1/log/7, byte 99" in reply.json()["detail"]


WIPE = {"confirm_node": 1, "confirm_cluster": "demo", "recover_until": {"term": 7, "node_id": 1, "index": 13}}


async def test_a_stopped_node_is_wiped_and_says_where_the_old_data_is(node, client):
    node.raft = None
    reply = await client.post("/v1/node/wipe", json=WIPE | {"reason": "disk swap"})
    assert (reply.status_code, reply.json()) == (200, {"retired_to": "data/n1/retired-1"})
    assert [("wipe", log_id(13), "disk swap")] == node.calls


async def test_a_running_node_is_never_wiped(node, client):
    reply = await client.post("/v1/node/wipe", json=WIPE)
    assert (reply.status_code, reply.json()["code"], node.calls) == (409, "raft_running", [])


@pytest.mark.parametrize("wrong", [{"confirm_node": 2}, {"confirm_cluster": "prod"}])
async def test_a_wipe_meant_for_another_node_touches_nothing(node, client, wrong):
    node.raft = None
    reply = await client.post("/v1/node/wipe", json=WIPE | wrong)
    assert (reply.status_code, reply.json()["code"], node.calls) == (409, "confirmation_mismatch", [])


@pytest.mark.parametrize("missing", WIPE)
async def test_a_wipe_needs_every_word(node, client, missing):
    node.raft = None
    reply = await client.post("/v1/node/wipe", json={name: WIPE[name] for name in WIPE if name != missing})
    assert (reply.status_code, node.calls) == (400, [])


async def test_a_wipe_that_recovers_until_nothing_is_refused(node, client):
    node.raft = None
    reply = await client.post("/v1/node/wipe", json=WIPE | {"recover_until": {"term": 0, "node_id": 0, "index": 0}})
    assert (reply.status_code, node.calls) == (400, [])


LIFE = {"incarnation": "1" * 32, "boot_count": 3, "engine_starts": 2}


async def test_a_wipe_behind_the_barrier_of_the_run_that_was_stopped_is_done(node, client):
    node.raft = None
    assert (await client.post("/v1/node/wipe", json=WIPE | {"expect_life": LIFE})).status_code == 200


@pytest.mark.parametrize("ran_since", [{"boot_count": 2}, {"engine_starts": 1}, {"incarnation": "2" * 32}], ids=str)
async def test_a_node_that_ran_since_it_was_stopped_is_not_wiped(node, client, ran_since):
    node.raft = None
    reply = await client.post("/v1/node/wipe", json=WIPE | {"expect_life": LIFE | ran_since})
    assert (reply.status_code, reply.json()["code"], node.calls) == (412, "precondition_failed", [])
    assert "ran since" in reply.json()["detail"]


RESTORE = {"confirm_node": 1, "confirm_cluster": "demo", "retired": "retired-20261124T120000Z"}


async def test_a_wipe_is_taken_back_and_says_where_the_rest_is(node, client):
    node.raft = None
    reply = await client.post("/v1/node/restore", json=RESTORE)
    assert (reply.status_code, reply.json()) == (200, {"set_aside_to": "retired-20261124T120500Z"})
    assert [("restore", "retired-20261124T120000Z")] == node.calls


async def test_a_running_node_gets_nothing_back(node, client):
    reply = await client.post("/v1/node/restore", json=RESTORE)
    assert (reply.status_code, reply.json()["code"], node.calls) == (409, "raft_running", [])


@pytest.mark.parametrize("wrong", [{"confirm_node": 2}, {"confirm_cluster": "prod"}])
async def test_a_restore_meant_for_another_node_touches_nothing(node, client, wrong):
    node.raft = None
    reply = await client.post("/v1/node/restore", json=RESTORE | wrong)
    assert (reply.status_code, reply.json()["code"], node.calls) == (409, "confirmation_mismatch", [])


async def test_shutdown_is_accepted_before_it_happens(node, client):
    reply = await client.post("/v1/shutdown")
    assert (reply.status_code, reply.json()["observed"], node.calls) == (202, False, [("request_shutdown",)])


@pytest.mark.parametrize("path", ["/v1/node/stop-raft", "/v1/node/start-raft", "/v1/shutdown", "/v1/node/wipe", "/v1/init"])
@pytest.mark.parametrize(
    "expect", [{"term": 8}, {"leader": 2}, {"membership_log_id": {"term": 2, "node_id": 1, "index": 9}}], ids=str
)
async def test_an_expectation_that_does_not_hold_stops_what_the_engine_does_not_see(node, client, path, expect):
    if path == "/v1/node/wipe":
        node.last_metrics, node.raft = leader_metrics(), None
    words = {"/v1/node/wipe": WIPE, "/v1/init": {"members": MEMBERS}}.get(path, {})
    reply = await client.post(path, json=words | {"expect": expect})
    assert (reply.status_code, reply.json()["code"], node.calls) == (412, "precondition_failed", [])


async def test_an_expectation_that_holds_lets_it_happen(node, client):
    expect = {"term": 7, "leader": 1, "membership_log_id": {"term": 1, "node_id": 1, "index": 1}}
    assert (await client.post("/v1/node/stop-raft", json={"expect": expect})).status_code == 200
    assert node.calls == [("stop_raft",)]


# --- idempotency --------------------------------------------------------------------------------------------------------


async def test_a_repeated_request_gets_the_first_reply_and_happens_once(node, client):
    headers = {"idempotency-key": "k1"}
    first = await client.post("/v1/trigger/snapshot", headers=headers)
    second = await client.post("/v1/trigger/snapshot", headers=headers)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len(node.raft.trigger.calls) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/trigger/elect", {"pre_vote": False}), ("/v1/trigger/snapshot", {}), ("/v1/trigger/elect?wait=1s", {})],
)
async def test_the_same_key_for_another_request_is_422(client, path, body):
    headers = {"idempotency-key": "k1"}
    await client.post("/v1/trigger/elect", json={}, headers=headers)
    reply = await client.post(path, json=body, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_key_reused")


async def test_the_same_key_while_the_first_is_under_way_is_409(node, client):
    node.raft.trigger.gate = asyncio.Event()
    headers = {"idempotency-key": "k1"}
    first = asyncio.create_task(client.post("/v1/trigger/elect", headers=headers))
    await node.raft.trigger.called.wait()
    reply = await client.post("/v1/trigger/elect", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (409, "idempotency_key_in_use")
    node.raft.trigger.gate.set()
    assert (await first).status_code == 200


async def test_a_refused_request_may_be_tried_again_with_its_key(node, client):
    headers = {"idempotency-key": "k1"}
    raising(node, Refusal(RefusalCode.NO_LEADER, "nobody"))
    assert (await client.post("/v1/trigger/elect", headers=headers)).status_code == 503
    node.raft.trigger.outcome = TriggerOutcome(True, True)
    assert (await client.post("/v1/trigger/elect", headers=headers)).status_code == 200


async def test_the_memory_for_replies_is_bounded(app, client, monkeypatch):
    monkeypatch.setattr("raft_engine.management.idempotency.REPLIES_MAX", 3)
    for number in range(10):
        await client.post("/v1/trigger/elect", headers={"idempotency-key": f"k{number}"})
    assert len(app.context.replays._replies) == 3
    assert app.context.replays._running == {}


# --- what is wrong with a request -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", MUTATIONS, ids=lambda row: row.path)
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff\xfe",
        b'{"unheard_of": 1}',
        b'{"expect": 1}',
        b"[" * 100_000,
        b'{"\\ud800": 1}',
    ],
    ids=lambda body: repr(body[:16]),
)
async def test_a_body_that_is_not_understood_is_400_and_nothing_happens(node, client, row, body):
    reply = await client.request(row.method, at(row), content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed")
    assert (node.calls, node.raft.trigger.calls) == ([], [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("elect", {"pre_vote": "yes"}),
        ("elect", {"pre_vote": 1}),
        ("elect", {"pre_vote": None}),
        ("purge-log", {}),
        ("purge-log", {"upto": 0}),
        ("purge-log", {"upto": -1}),
        ("purge-log", {"upto": 1.5}),
        ("purge-log", {"upto": "7"}),
        ("purge-log", {"upto": 2**63}),
        ("purge-log", {"upto": 10**400}),
        ("transfer-leader", {}),
        ("transfer-leader", {"to": 0}),
        ("transfer-leader", {"to": [1]}),
        ("allow-next-revert", {"to": 2, "ttl_ms": -5}),
        ("heartbeat", {"expect": {"term": -1}}),
        ("heartbeat", {"expect": {"membership_log_id": {"term": 1}}}),
        ("heartbeat", {"expect": {"nobody": 1}}),
    ],
)
async def test_wrong_types_and_values_are_400(node, client, path, body):
    assert (await client.post(f"/v1/trigger/{path}", json=body)).status_code == 400
    assert node.raft.trigger.calls == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_a_body_that_does_not_say_it_is_json_is_415(node, client, content_type):
    reply = await client.post("/v1/trigger/elect", content=b"{}", headers={"content-type": content_type})
    assert (reply.status_code, node.raft.trigger.calls) == (415, [])


async def test_a_charset_behind_the_media_type_is_fine(client):
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await client.post("/v1/trigger/elect", content=b"{}", headers=headers)).status_code == 200


async def test_a_giant_body_is_413(node, client):
    body = b'{"x": "' + b"x" * 2_000_000 + b'"}'
    reply = await client.post("/v1/trigger/elect", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["code"], node.raft.trigger.calls) == (413, "too_large", [])


@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: row.path)
async def test_an_unknown_query_parameter_is_400_and_named(client, row):
    reply = await client.request(row.method, at(row), params={"unheard_of": "1"})
    assert (reply.status_code, reply.json()["code"]) == (400, "unknown_parameter")
    assert "unheard_of" in reply.json()["detail"]


@pytest.mark.parametrize(
    "row", [row for row in ENDPOINTS if "wait" in row.query and row.path != "/v1/status"], ids=lambda row: row.path
)
async def test_a_bad_wait_is_400_and_nothing_happens(node, client, row):
    body = {"upto": 1, "to": 2, "enable_tick": False, "members": MEMBERS, "id": 4, "voters": [1], **MEMBERS["1"]}
    wanted = {name: body[name] for name in body if row.request is not None and name in row.request.__struct_fields__}
    reply = await client.request(row.method, at(row), params={"wait": "5"}, json=wanted)
    assert (reply.status_code, node.calls, node.raft.trigger.calls) == (400, [], [])


@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: row.path)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_another_method_is_405_and_the_reply_names_the_right_one(node, client, row, method):
    if method == row.method:
        return
    reply = await client.request(method, at(row))
    assert (reply.status_code, reply.json()["code"]) == (405, "method_not_allowed")
    assert row.method in reply.headers["allow"].split(", ")
    assert (node.calls, node.raft.trigger.calls) == ([], [])


@pytest.mark.parametrize("row", LOOKS, ids=lambda row: row.path)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_never_changes_anything(node, client, method, row):
    before = node.raft.now
    await client.request(method, at(row), json={"abort": True}, headers={"idempotency-key": "k"})
    assert ([], [], []) == (node.calls, node.raft.trigger.calls, node.raft.barriers)
    assert before is node.raft.now


@pytest.mark.parametrize("row", LOOKS, ids=lambda row: row.path)
async def test_head_answers_like_get(client, row):
    assert (await client.head(at(row))).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/status/", "/v1/kvx", "/v1/statu%00s", "/v1/../etc", "//v1/status", "/%ff"]
)
async def test_an_unknown_path_is_a_404_problem(client, path):
    reply = await client.get(path)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
