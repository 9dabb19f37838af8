"""The engine's values as JSON bodies, and JSON bodies as the engine's values.

Source: contract sections 2 and 3.
"""

from __future__ import annotations

import math

from msgspec import UNSET

from raft_engine.management import schema
from raft_engine.management.control import NodeControl
from raft_engine.storage.hints import DIRECTORY_GONE
from raft_engine.types.ids import NOBODY, Incarnation, LogIndex, Millis, NodeId, PeerId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import Membership, NodeAddress
from raft_engine.types.metrics import Alarm, RaftMetrics, ReplicationMetrics, RuntimeFlags, ServerState
from raft_engine.types.outcomes import NOTHING_EXPECTED, BarrierOutcome, Expectation, TriggerOutcome


def picture(node: NodeControl) -> RaftMetrics:
    """Return the engine's metrics; while it is stopped its last ones, as those of a node that is shut down."""
    if node.raft is not None:
        return node.raft.metrics()
    last = node.last_metrics
    if last is None:
        return RaftMetrics(me=PeerId(node.node_id, node.incarnation), state=ServerState.SHUTDOWN, fatal=node.fatal)
    return RaftMetrics(
        me=last.me,
        state=ServerState.SHUTDOWN,
        term=last.term,
        vote=last.vote,
        last_log=last.last_log,
        committed=last.committed,
        applied=last.applied,
        snapshot=last.snapshot,
        purged=last.purged,
        membership=last.membership,
        committed_membership=last.committed_membership,
        recovery=last.recovery,
        alarms=last.alarms,
        runtime_flags=last.runtime_flags,
        fatal=node.fatal,
    )


def log_id_body(log_id: LogId) -> schema.LogIdBody | None:
    return schema.LogIdBody(log_id.term, log_id.node_id, log_id.index) if log_id.index else None


def log_id_of(body: schema.LogIdBody) -> LogId:
    return LogId(Term(body.term), NodeId(body.node_id), LogIndex(body.index))


def address_of(body: schema.AddressBody) -> NodeAddress:
    return NodeAddress(raft=body.raft, management=body.management)


def expectation_of(body: schema.ExpectBody | None) -> Expectation:
    if body is None:
        return NOTHING_EXPECTED
    return Expectation(
        term=body.term,
        leader=None if body.leader is None else NodeId(body.leader),
        membership_log_id=None if body.membership_log_id is None else log_id_of(body.membership_log_id),
        last_log_id=None if body.last_log_id is None else log_id_of(body.last_log_id),
    )


def unmet_expectation(expect: Expectation, metrics: RaftMetrics) -> str | None:
    """Return what is otherwise than expected, None if nothing is. For what the engine itself does not decide."""
    if expect.term is not None and expect.term != metrics.term:
        return f"expected term {expect.term}, the term is {metrics.term}"
    if expect.leader is not None and expect.leader != metrics.leader:
        return f"expected leader {expect.leader}, the leader is {metrics.leader or 'not known'}"
    if expect.membership_log_id is not None and expect.membership_log_id != metrics.membership.log_id:
        return f"expected the membership of {expect.membership_log_id}, the effective one is {metrics.membership.log_id}"
    if expect.last_log_id is not None and expect.last_log_id != metrics.last_log:
        return f"expected the log to end with {expect.last_log_id}, it ends with {metrics.last_log}"
    return None


def leader_body(metrics: RaftMetrics, leader: NodeId | None) -> schema.LeaderBody | None:
    """Return whom to ask, with the management address if the membership names one."""
    if leader is None or leader == NOBODY:
        return None
    address = metrics.membership.membership.nodes.get(leader)
    return schema.LeaderBody(leader, address.management if address else None)


def status_body(node: NodeControl, metrics: RaftMetrics) -> schema.Status:
    """Return `/v1/status`."""
    return schema.Status(
        cluster=node.cluster,
        cluster_id=node.cluster_id,
        node_id=node.node_id,
        incarnation=node.incarnation,
        boot_count=node.boot_count,
        engine_starts=node.engine_starts,
        version=node.version,
        advertised=_address_body(node.advertised),
        birth=node.birth.value,
        state=metrics.state.value,
        recovering=_recovery_body(metrics),
        term=metrics.term,
        vote=schema.VoteBody(metrics.vote.term, metrics.vote.node_id, metrics.vote.committed),
        leader=metrics.leader,
        last_log=log_id_body(metrics.last_log),
        committed=log_id_body(metrics.committed),
        applied=log_id_body(metrics.applied),
        snapshot=log_id_body(metrics.snapshot),
        purged=log_id_body(metrics.purged),
        membership=_membership_body(metrics),
        building_snapshot=metrics.building_snapshot,
        restoring=_restoring_body(metrics),
        transfer_to=metrics.transfer_to,
        last_quorum_acked_ms_ago=_rounded(metrics.last_quorum_acked_ms_ago),
        election_timeout_max_ms=node.election_timeout_max_ms,
        runtime_config=runtime_config_body(metrics.runtime_flags),
        alarms=[_alarm_body(alarm) for alarm in (*node.alarms, *metrics.alarms)],
        fatal=node.fatal or metrics.fatal,
        fatal_code=_fatal_code(node.fatal or metrics.fatal),
        free_bytes=node.free_bytes(),
        kv=schema.KeyValueCounts(node.store.key_count, node.store.data_bytes),
        replication=UNSET
        if metrics.replication is None
        else {node_id: _replication_body(target) for node_id, target in sorted(metrics.replication.items())},
    )


def _fatal_code(fatal: str | None) -> str | None:
    if fatal is None:
        return None
    return "directory_gone" if DIRECTORY_GONE in fatal else "engine_failed"


def runtime_config_body(flags: RuntimeFlags) -> schema.RuntimeConfigBody:
    return schema.RuntimeConfigBody(flags.enable_tick, flags.enable_heartbeat, flags.enable_elect, flags.enable_pre_vote)


def action_reply(
    node: NodeControl, action: str, requested: dict[str, object], outcome: TriggerOutcome, metrics: RaftMetrics
) -> schema.ActionReply:
    """Return the truth about a mutation, with the leader and term as they are after it."""
    return schema.ActionReply(
        action=action,
        node=node.node_id,
        requested=requested,
        effective={name: _plain(value) for name, value in outcome.effective.items()},
        changed=outcome.changed,
        observed=outcome.observed,
        detail=outcome.detail,
        leader=metrics.leader,
        term=metrics.term,
    )


def barrier_reply(outcome: BarrierOutcome) -> schema.BarrierReply:
    log_id = outcome.log_id
    return schema.BarrierReply(
        schema.LogIdBody(log_id.term, log_id.node_id, log_id.index), sorted(int(node_id) for node_id in outcome.acked_by)
    )


def _plain(value: object) -> object:
    """Log ids inside an outcome's free fields look like log ids everywhere."""
    return log_id_body(value) if isinstance(value, LogId) else value


def _address_body(address: NodeAddress) -> schema.AddressBody:
    return schema.AddressBody(raft=address.raft, management=address.management)


def _recovery_body(metrics: RaftMetrics) -> schema.RecoveryBody | None:
    recovery = metrics.recovery
    return None if recovery is None else schema.RecoveryBody(log_id_body(recovery.until), recovery.reason)


def _restoring_body(metrics: RaftMetrics) -> schema.RestoringBody | None:
    restoring = metrics.restoring
    if restoring is None:
        return None
    return schema.RestoringBody(log_id_body(restoring.snapshot), restoring.restored_bytes, restoring.size_bytes)


def _membership_body(metrics: RaftMetrics) -> schema.MembershipBody:
    stored = metrics.membership
    membership = stored.membership
    return schema.MembershipBody(
        configs=[sorted(config) for config in membership.configs],
        learners=sorted(membership.learners),
        nodes={node_id: _address_body(address) for node_id, address in sorted(membership.nodes.items())},
        log_id=log_id_body(stored.log_id),
        committed=stored.log_id == metrics.committed_membership.log_id,
        incarnations=_incarnations(membership),
    )


def _incarnations(membership: Membership) -> dict[int, list[str]]:
    """Return per id the lives that some configuration names; two while a joint change replaces one by the other."""
    lives: dict[int, list[str]] = {}
    named: list[dict[NodeId, Incarnation]] = [*membership.configs, membership.learners]
    for config in named:
        for node_id, incarnation in sorted(config.items()):
            known = lives.setdefault(node_id, [])
            if incarnation not in known:
                known.append(incarnation)
    return lives


def _replication_body(target: ReplicationMetrics) -> schema.ReplicationBody:
    return schema.ReplicationBody(
        matching=log_id_body(target.matching),
        lag=target.lag,
        state=target.state.value,
        last_ack_ms_ago=_rounded(target.last_ack_ms_ago),
        revert_armed=target.revert_armed_ms is not None,
        revert_armed_ms_left=_rounded(target.revert_armed_ms),
        incarnation=target.peer.incarnation,
        snapshot_sent_bytes=target.snapshot_sent_bytes,
        snapshot_size_bytes=target.snapshot_size_bytes,
    )


def _alarm_body(alarm: Alarm) -> schema.AlarmBody:
    return schema.AlarmBody(alarm.code, alarm.detail, alarm.hint, alarm.node)


def _rounded(millis: Millis | None) -> float | None:
    """Microseconds are enough for people; "without end" is null."""
    return None if millis is None or math.isinf(millis) else round(millis, 3)
