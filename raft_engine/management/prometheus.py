"""The node's numbers as Prometheus reads them.

Written by hand: the text format is a dozen lines, every number here is read at the moment of the scrape, and
prometheus_client would bring a registry, locks and process globals that two nodes in one process would share.
Source: Prometheus exposition format 0.0.4; naming after etcd and the Prometheus guide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from raft_engine.management.convert import picture
from raft_engine.types.ids import NOBODY, Millis
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TransferRequest,
    TransferResponse,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.metrics import ServerState

if TYPE_CHECKING:
    from raft_engine.management.context import Context
    from raft_engine.types.counters import Counters

Sample = tuple[Mapping[str, object], float]


def exposition(context: Context) -> str:
    """Return everything, as text."""
    node = context.node
    metrics = picture(node)
    lines: list[str] = []

    def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {kind}")
        lines.extend(f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples)

    def gauge(name: str, text: str, value: float) -> None:
        family(name, "gauge", text, [({}, value)])

    info = {
        "cluster": node.cluster,
        "node_id": node.node_id,
        "incarnation": node.incarnation,
        "version": node.version,
    }
    family("raft_node_info", "gauge", "Who this is.", [(info, 1)])
    family("raft_state", "gauge", "1 for the present role.", [({"state": s.value}, s is metrics.state) for s in ServerState])
    gauge("raft_term", "Current term.", metrics.term)
    gauge("raft_leader_id", "The known leader, 0: none.", metrics.leader or NOBODY)
    gauge("raft_fatal", "1: the engine failed.", (node.fatal or metrics.fatal) is not None)
    gauge("raft_recovering", "1: wiped, and not caught up yet.", metrics.recovery is not None)
    for pointer in ("last_log", "committed", "applied", "snapshot", "purged"):
        gauge(f"raft_{pointer}_index", f"Index of the {pointer.replace('_', ' ')} entry.", getattr(metrics, pointer).index)
    gauge("raft_boot_count", "Starts of this data directory.", node.boot_count)
    gauge("raft_voters", "Voters of the effective membership.", len(metrics.membership.membership.voter_ids()))
    gauge("raft_learners", "Learners of the effective membership.", len(metrics.membership.membership.learners))
    gauge("raft_data_free_bytes", "Free space where the data is.", node.free_bytes())
    gauge("raft_kv_keys", "Keys in the store.", node.store.key_count)
    gauge("raft_kv_bytes", "Bytes of all keys and values.", node.store.data_bytes)
    gauge("raft_kv_idempotency_keys", "Idempotency keys that are remembered.", node.store.remembered_count)
    gauge("raft_kv_views", "Snapshots and digests that are being made.", node.store.view_count)
    gauge("raft_vote_term", "Term of the vote.", metrics.vote.term)
    gauge("raft_vote_for", "Whom the vote went to, 0: nobody yet.", metrics.vote.node_id)
    gauge("raft_vote_committed", "1: that one is known to lead the term.", metrics.vote.committed)
    gauge(
        "raft_membership_log_index", "Index of the entry that set the effective membership.", metrics.membership.log_id.index
    )
    gauge("raft_membership_committed", "1: that entry is committed.", metrics.membership == metrics.committed_membership)
    gauge("raft_membership_joint", "1: voters are being changed.", metrics.membership.membership.is_joint)
    gauge("raft_building_snapshot", "1: a snapshot is being built.", metrics.building_snapshot)
    gauge(
        "raft_restoring_snapshot", "1: a leader's snapshot becomes the state machine's state.", metrics.restoring is not None
    )
    gauge("raft_transfer_to", "Whom leadership is being handed to, 0: nobody.", metrics.transfer_to or NOBODY)
    if node.raft is not None:
        _counters(node.raft.counters, family)
    if metrics.last_quorum_acked_ms_ago is not None:
        gauge(
            "raft_quorum_acked_seconds_ago", "Since a quorum answered the leader.", metrics.last_quorum_acked_ms_ago / 1000
        )
    targets = [({"target": node_id}, target) for node_id, target in sorted((metrics.replication or {}).items())]
    family("raft_replication_lag", "gauge", "Entries a target lacks.", [(which, target.lag) for which, target in targets])
    family(
        "raft_replication_matching_index",
        "gauge",
        "Last entry a target is known to hold.",
        [(which, target.matching.index) for which, target in targets],
    )
    family(
        "raft_replication_state",
        "gauge",
        "1 for how the leader is getting on with a target.",
        [({**which, "state": target.state.value}, 1) for which, target in targets],
    )
    family(
        "raft_replication_ack_seconds_ago",
        "gauge",
        "Since a target answered.",
        [(which, _seconds(target.last_ack_ms_ago)) for which, target in targets if target.last_ack_ms_ago is not None],
    )
    family(
        "raft_revert_armed",
        "gauge",
        "1: the target may come back once with less than it acknowledged.",
        [(which, target.revert_armed_ms is not None) for which, target in targets],
    )
    alarms = {(alarm.code, alarm.node or NOBODY) for alarm in (*node.alarms, *metrics.alarms)}
    family("raft_alarm", "gauge", "1 for each alarm.", [({"code": code, "node": who}, 1) for code, who in sorted(alarms)])
    family(
        "raft_http_requests_total",
        "counter",
        "Replies sent.",
        [
            ({"method": method, "route": route, "status": status}, count)
            for (method, route, status), count in sorted(context.requests.items())
        ],
    )
    return "\n".join(lines) + "\n"


def _counters(counters: Counters, family: Callable[[str, str, str, Iterable[Sample]], None]) -> None:
    """What the engine has done since it was started; one that is started anew begins at zero, as Prometheus expects."""

    def counter(name: str, text: str, value: int) -> None:
        family(f"raft_{name}_total", "counter", text, [({}, value)])

    counter("write_batches", "Batches of client writes.", counters.write_batches)
    counter("writes", "Client writes, taken in or refused.", counters.writes)
    counter("append_batches", "Batches handed to the log.", counters.append_batches)
    counter("appended_entries", "Entries handed to the log.", counters.appended_entries)
    counter("replicate_requests", "Requests with entries sent.", counters.replicate_requests)
    counter("replicated_entries", "Entries sent.", counters.replicated_entries)
    counter("apply_batches", "Batches applied.", counters.apply_batches)
    counter("applied_entries", "Entries applied.", counters.applied_entries)
    counter("snapshot_sent_bytes", "Bytes of snapshots sent.", counters.snapshot_bytes_sent)
    sent = sorted((_MESSAGES[kind], count) for kind, count in counters.messages.items())
    family("raft_messages_sent_total", "counter", "Messages without entries sent.", [({"kind": k}, n) for k, n in sent])
    reports = sorted(counters.reports.items())
    family("raft_reports_total", "counter", "What happened, as in the log.", [({"event": e}, n) for e, n in reports])


_MESSAGES: Mapping[type, str] = {
    AppendRequest: "heartbeat",
    AppendResponse: "append_answer",
    VoteRequest: "vote",
    VoteResponse: "vote_answer",
    SnapshotChunk: "snapshot_chunk",
    SnapshotChunkResponse: "snapshot_answer",
    TransferRequest: "transfer",
    TransferResponse: "transfer_answer",
    ReadIndexRequest: "read_index",
    ReadIndexResponse: "read_index_answer",
}


def _labels(labels: Mapping[str, object]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _seconds(millis: Millis | None) -> float:
    return 0.0 if millis is None else millis / 1000
