"""watch: events of all nodes as they happen, and the parser of their streams."""

from __future__ import annotations

import json
import threading

import httpx
import pytest

from raftctl import watching
from raftctl.events import RawEvent, parsed

REFUSED = httpx.ConnectError("[Errno 111] Connection refused")


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_test(monkeypatch):
    monkeypatch.setattr(watching, "RETRY_S", 0.01)
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("watch-"):
            thread.join(30)
            assert not thread.is_alive()


STREAM = b"".join(
    b"id: e-%d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), json.dumps(data).encode())
    for number, (kind, data) in enumerate(
        [
            ("status", {"state": "follower", "term": 2, "applied": {"term": 2, "node_id": 1, "index": 9}}),
            ("leader", {"leader": None, "term": 3, "state": "candidate"}),
            ("term", {"term": 3}),
            ("membership", {"configs": [[1, 2], [2, 3]], "learners": [4], "nodes": {}, "committed": False}),
            ("replication", {"node": 3, "state": "snapshot"}),
            ("snapshot", {"upto": {"term": 2, "node_id": 1, "index": 50}}),
            ("revert", {"node": 3, "armed": True}),
            ("alarm", {"raised": True, "code": "node_reverted", "detail": "less than it said", "hint": "raftctl x"}),
            ("alarm", {"raised": False, "code": "node_reverted"}),
        ]
    )
)


@pytest.mark.parametrize("step", [1, 5, 10000])
def test_a_stream_is_parsed_however_it_is_cut(step):
    text = b": nothing new\n\nid: 1\r\nevent: term\r\ndata: {\r\ndata: }\r\n\r\nretry: 3\n\ndata:x\n\n"
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    assert [RawEvent("1", "term", b"{\n}"), RawEvent("1", "message", b"x")] == list(parsed(pieces))


def stream(cluster, node, *answers):
    cluster.answers("/v1/events", *answers, method="GET", node=node)


def test_every_kind_of_event_is_a_sentence(cluster, raftctl):
    stream(cluster, 2, httpx.Response(200, content=STREAM))
    told = [line[14:] for line in raftctl("watch --node 2 --count 9").out.splitlines()]
    assert told == [
        "node 2  status       is follower in term 2, applied up to 9",
        "node 2  leader       knows no leader; is candidate",
        "node 2  term         term 3",
        "node 2  membership   voters {1,2} and {2,3}, learners 4, not committed yet",
        "node 2  replication  to node 3: snapshot",
        "node 2  snapshot     up to 50",
        "node 2  revert       node 3 may revert once",
        "node 2  alarm        node_reverted: less than it said (mend it with: raftctl x)",
        "node 2  alarm        over: node_reverted",
    ]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_events_are_one_document_a_line(cluster, raftctl, form):
    stream(cluster, 2, httpx.Response(200, content=STREAM))
    documents = [json.loads(line) for line in raftctl(f"watch --node 2 --count 3 -o {form}").out.splitlines()]
    assert ["status", "leader", "term"] == [document["data"]["event"] for document in documents]
    assert {("raftctl/v1", "event")} == {(document["schema"], document["kind"]) for document in documents}
    assert {"node": 2, "event": "term", "id": "e-2", "data": {"term": 3}} == documents[2]["data"]


def test_only_the_kinds_that_were_asked_for_are_shown(cluster, raftctl):
    stream(cluster, 2, httpx.Response(200, content=STREAM))
    assert ["alarm", "alarm"] == raftctl("watch --node 2 --kind alarm --count 2 -o name").out.split()


def test_a_node_that_goes_and_comes_back_is_told_and_asked_for_what_was_missed(cluster, raftctl):
    first, rest = STREAM.split(b"\n\n", 1)
    stream(cluster, 2, httpx.Response(200, content=first + b"\n\n"), REFUSED, httpx.Response(200, content=rest))
    events = [json.loads(line)["data"] for line in raftctl("watch --node 2 --count 4 -o jsonl").out.splitlines()]
    assert ["status", "connection", "connection", "leader"] == [event["event"] for event in events]
    assert [False, True] == [event["data"]["connected"] for event in events[1:3]]
    ids = [headers.get("last-event-id") for headers in cluster.headers if headers.get("accept") == "text/event-stream"]
    assert [None, "e-0", "e-0"] == ids[:3]


def test_all_nodes_are_followed(cluster, raftctl):
    for node in (1, 2, 3):
        stream(cluster, node, httpx.Response(200, content=STREAM.split(b"\n\n", 1)[0] + b"\n\n"))
    documents = [json.loads(line) for line in raftctl("watch --kind status --count 3 -o jsonl").out.splitlines()]
    assert {1, 2, 3} == {document["data"]["node"] for document in documents}


def test_it_ends_when_the_time_is_up(cluster, raftctl):
    raftctl("watch --for 10ms --kind alarm")


def test_what_a_node_says_cannot_steer_the_terminal(cluster, raftctl):
    bad = json.dumps({"raised": True, "code": "c", "detail": "\x1b[2Jgone", "hint": ""}).encode()
    stream(cluster, 2, httpx.Response(200, content=b"event: alarm\ndata: " + bad + b"\n\n"))
    assert "\x1b" not in raftctl("watch --node 2 --kind alarm --count 1").out


@pytest.mark.parametrize("line", ["watch --kind weather", "watch --node 9", "watch --count 0", "watch --for soon"])
def test_what_there_is_not_is_2(cluster, raftctl, line):
    raftctl(line, code=2)


def test_nobody_answers_is_4(cluster, raftctl):
    cluster.down |= dict.fromkeys((1, 2, 3), REFUSED)
    raftctl("watch --for 1s", code=4)
