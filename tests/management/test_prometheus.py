"""The numbers for Prometheus."""

from __future__ import annotations

import re
from typing import get_args

from raft_engine.management.prometheus import _MESSAGES
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.messages import AppendRequest, Message
from raft_engine.types.metrics import Alarm, ReplicationMetrics, ReplicationState, RestoringMetrics
from raft_engine.types.vote import Vote
from tests.management.fakes import PEERS, log_id

SAMPLE = re.compile(r'([a-z_]+)(\{([a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? -?[0-9.e+-]+')


async def scrape(client) -> dict[str, str]:
    reply = await client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return dict(line.rsplit(" ", 1) for line in reply.text.splitlines() if not line.startswith("#"))


async def test_a_leader_shows_term_state_indexes_and_replication(node, client):
    peer = PeerId(NodeId(2), PEERS[NodeId(2)])
    target = ReplicationMetrics(peer, log_id(9), 3, ReplicationState.REPLICATE, 1500.0, None)
    node.raft.change(replication={NodeId(2): target})
    samples = await scrape(client)
    expected = {
        "raft_term": "7",
        'raft_state{state="leader"}': "1",
        'raft_state{state="follower"}': "0",
        "raft_leader_id": "1",
        "raft_last_log_index": "12",
        "raft_applied_index": "12",
        "raft_snapshot_index": "10",
        "raft_purged_index": "4",
        "raft_voters": "3",
        'raft_replication_lag{target="2"}': "3",
        'raft_replication_matching_index{target="2"}': "9",
        'raft_replication_state{target="2",state="replicate"}': "1",
        'raft_replication_ack_seconds_ago{target="2"}': "1.5",
        'raft_revert_armed{target="2"}': "0",
        "raft_data_free_bytes": "1000000000",
    }
    assert {name: samples.get(name) for name in expected} == expected


async def test_requests_are_counted_by_route_and_never_by_path(client):
    for path in ("/v1/kv/a", "/v1/kv/b", "/nowhere/1", "/nowhere/2"):
        await client.get(path)
    await client.put("/v1/kv/a", content=b"v")
    samples = await scrape(client)
    assert samples['raft_http_requests_total{method="GET",route="/v1/kv/{key}",status="404"}'] == "2"
    assert samples['raft_http_requests_total{method="GET",route="none",status="404"}'] == "2"
    assert samples['raft_http_requests_total{method="PUT",route="/v1/kv/{key}",status="200"}'] == "1"


async def test_alarms_of_node_and_engine_are_shown_once_each(node, client):
    node.alarms = (Alarm("plaintext", "a"),)
    node.raft.change(alarms=(Alarm("node_reverted", "b", node=NodeId(3)), Alarm("node_reverted", "c", node=NodeId(3))))
    samples = await scrape(client)
    assert samples['raft_alarm{code="plaintext",node="0"}'] == "1"
    assert samples['raft_alarm{code="node_reverted",node="3"}'] == "1"


async def test_a_stopped_node_can_be_scraped(node, client):
    node.raft = None
    assert (await scrape(client))['raft_state{state="shutdown"}'] == "1"


async def test_every_line_is_in_the_text_format_whatever_the_cluster_is_called(node, client):
    node.cluster = 'a"b\\c\nd'
    reply = await client.get("/metrics")
    lines = reply.text.splitlines()
    assert all(line.startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(line) for line in lines)
    assert reply.text.endswith("\n")


async def test_vote_membership_and_what_is_under_way_are_shown(node, client):
    node.raft.change(vote=Vote(7, 1, True), building_snapshot=True, transfer_to=NodeId(3))
    node.raft.change(restoring=RestoringMetrics(node.raft.metrics().last_log, 1, 2))
    samples = await scrape(client)
    expected = {
        "raft_vote_term": "7",
        "raft_vote_for": "1",
        "raft_vote_committed": "1",
        "raft_membership_committed": "1",
        "raft_membership_joint": "0",
        "raft_building_snapshot": "1",
        "raft_restoring_snapshot": "1",
        "raft_transfer_to": "3",
    }
    assert {name: samples.get(name) for name in expected} == expected
    assert node.raft.metrics().membership.log_id.index == int(samples["raft_membership_log_index"])


async def test_what_the_engine_has_done_is_counted(node, client):
    counters = node.raft.counters
    counters.write_batches, counters.writes, counters.applied_entries = 2, 30, 31
    counters.messages[AppendRequest] += 5
    counters.reports["leader_elected"] += 1
    samples = await scrape(client)
    expected = {
        "raft_write_batches_total": "2",
        "raft_writes_total": "30",
        "raft_applied_entries_total": "31",
        "raft_appended_entries_total": "0",
        'raft_messages_sent_total{kind="heartbeat"}': "5",
        'raft_reports_total{event="leader_elected"}': "1",
    }
    assert {name: samples.get(name) for name in expected} == expected


def test_every_message_that_can_be_sent_has_a_name():
    assert set(get_args(Message)) == set(_MESSAGES)
    assert len(set(_MESSAGES.values())) == len(_MESSAGES)
