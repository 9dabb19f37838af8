"""What the management endpoint offers: one table of paths, and one short function for each.

The table is all there is: the server routes by it, the role a caller needs stands in it, `/openapi.json` is made from it.
Source: contract sections 2, 3 and 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from raft_engine.kv.digests import MARK_DATA
from raft_engine.management import schema
from raft_engine.management.access import Role
from raft_engine.management.cluster import look_around
from raft_engine.management.context import Context
from raft_engine.management.convert import (
    address_of,
    barrier_reply,
    expectation_of,
    log_id_of,
    picture,
    runtime_config_body,
    status_body,
)
from raft_engine.management.endpoint import ACTED, LEADER_ONLY, Call, Endpoint, acted, check_address
from raft_engine.management.exchange import (
    Reply,
    json_reply,
    parse_count,
    parse_text,
)
from raft_engine.management.membership_routes import MEMBERSHIP_ENDPOINTS
from raft_engine.management.problems import ProblemError, malformed
from raft_engine.management.prometheus import exposition
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.ids import LogIndex, NodeId
from raft_engine.types.metrics import RaftMetrics, RuntimeFlags
from raft_engine.types.outcomes import RefusalCode, TriggerOutcome

_INDEX_MAX: Final = 2**63 - 1


# --- probes ----------------------------------------------------------------------------------------------------------


async def livez(_call: Call) -> Reply:
    return json_reply(schema.ProbeReply("alive"))


async def readyz(call: Call) -> Reply:
    reason = why_not_ready(call.context)
    if reason is not None:
        raise ProblemError("not_ready", reason)
    return json_reply(schema.ProbeReply("ready"))


def why_not_ready(context: Context) -> str | None:
    """Return what keeps this node from serving, None if nothing does."""
    node = context.node
    metrics = picture(node)
    if node.fatal is not None or metrics.fatal is not None:
        return f"the Raft engine failed: {node.fatal or metrics.fatal}"
    if node.raft is None:
        return "the Raft engine is stopped"
    if node.birth is not BirthState.STARTED:
        return "the node is not initialised: it belongs to no cluster yet"
    if metrics.recovery is not None:
        return f"the node is recovering until its log holds {metrics.recovery.until}: {metrics.recovery.reason}"
    if metrics.leader is None:
        return "no leader is known"
    return None


async def metrics_text(call: Call) -> Reply:
    return Reply(200, exposition(call.context).encode(), b"text/plain; version=0.0.4; charset=utf-8")


# --- looking ---------------------------------------------------------------------------------------------------------


async def status(call: Call) -> Reply:
    context = call.context
    since = _known_etag(call)
    if since is not None:
        await context.wait_for_change(since, call.wait_s)
    elif "wait" in call.query:
        raise malformed("wait without since", "give since=ETAG of the reply you have")
    etag = context.etag()
    headers = ((b"etag", b'"%s"' % etag.encode()),)
    if etag == since:
        return Reply(304, headers=headers)
    return json_reply(status_body(context.node, picture(context.node)), headers=headers)


def _known_etag(call: Call) -> str | None:
    value = call.query.get("since", call.fields.if_none_match)
    return None if value is None else parse_text(value, "since").removeprefix("W/").strip('"')


async def cluster(call: Call) -> Reply:
    return json_reply(await look_around(call.context.node, call.members, call.fields.authorization))


async def events(call: Call) -> Reply:
    last = call.fields.last_event_id
    stream = call.events.listen(None if last is None else parse_text(last, "Last-Event-ID"))
    return Reply(200, content_type=b"text/event-stream", headers=((b"cache-control", b"no-cache"),), stream=stream)


# --- triggers --------------------------------------------------------------------------------------------------------


async def elect(call: Call) -> Reply:
    body: schema.ElectRequest = call.body
    trigger = call.context.raft().trigger
    outcome = await trigger.elect(body.pre_vote, wait_s=call.wait_s, expect=expectation_of(body.expect))
    return acted(call, "elect", {"pre_vote": body.pre_vote}, outcome)


async def heartbeat(call: Call) -> Reply:
    body: schema.Mutation = call.body
    outcome = await call.context.raft().trigger.heartbeat(wait_s=call.wait_s, expect=expectation_of(body.expect))
    return acted(call, "heartbeat", {}, outcome)


async def snapshot(call: Call) -> Reply:
    body: schema.Mutation = call.body
    outcome = await call.context.raft().trigger.snapshot(wait_s=call.wait_s, expect=expectation_of(body.expect))
    return acted(call, "snapshot", {}, outcome)


async def purge_log(call: Call) -> Reply:
    body: schema.PurgeLogRequest = call.body
    trigger = call.context.raft().trigger
    outcome = await trigger.purge_log(
        LogIndex(body.upto), body.strict, wait_s=call.wait_s, expect=expectation_of(body.expect)
    )
    requested: dict[str, object] = {"upto": body.upto, "strict": True} if body.strict else {"upto": body.upto}
    return acted(call, "purge_log", requested, outcome)


async def transfer_leader(call: Call) -> Reply:
    body: schema.TransferLeaderRequest = call.body
    trigger = call.context.raft().trigger
    outcome = await trigger.transfer_leader(NodeId(body.to), wait_s=call.wait_s, expect=expectation_of(body.expect))
    return acted(call, "transfer_leader", {"to": body.to}, outcome)


async def allow_next_revert(call: Call) -> Reply:
    body: schema.AllowNextRevertRequest = call.body
    trigger = call.context.raft().trigger
    outcome = await trigger.allow_next_revert(
        NodeId(body.to), body.allow, body.ttl_ms / 1000, expect=expectation_of(body.expect)
    )
    requested: dict[str, object] = {"to": body.to, "allow": body.allow, "ttl_ms": body.ttl_ms}
    return acted(call, "allow_next_revert", requested, outcome)


# --- configuration and proofs ------------------------------------------------------------------------------------------


async def init(call: Call) -> Reply:
    body: schema.InitRequest = call.body
    context = call.context
    if body.abort == bool(body.members):
        raise malformed("give either members, or abort: true")
    members = {NodeId(node_id): address_of(address) for node_id, address in body.members.items()}
    for node_id, address in members.items():
        check_address(f"members.{node_id}", address.raft, address.management)
    async with context.lever:
        context.check_expectation(body.expect)
        if body.abort:
            await context.node.abort_init()
            return acted(call, "init", {"abort": True}, TriggerOutcome(True, True, "the preparation is forgotten"))
        await context.node.init(members)
    led = await _wait_until(context, lambda metrics: metrics.leader is not None, call.wait_s)
    detail = "the cluster has a leader" if led else "the cluster is initialised; no leader is known yet"
    requested: dict[str, object] = {"members": sorted(members)}
    return acted(call, "init", requested, TriggerOutcome(True, led, detail, dict(requested)))


async def _wait_until(context: Context, predicate: Callable[[RaftMetrics], bool], wait_s: float) -> bool:
    """Return whether `predicate` came true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while not context.stopping:
        etag = context.etag()
        if predicate(picture(context.node)):
            return True
        left_s = deadline - loop.time()
        if left_s <= 0:
            break
        await context.wait_for_change(etag, left_s)
    return False


async def runtime_config(call: Call) -> Reply:
    body: schema.RuntimeConfigRequest = call.body
    context = call.context
    raft = context.raft()
    context.check_expectation(body.expect)
    before = raft.metrics().runtime_flags
    requested: dict[str, object] = {
        name: value for name in RuntimeFlags.__struct_fields__ if (value := getattr(body, name)) is not None
    }
    if not requested:
        raise malformed("nothing to change", f"give at least one of {', '.join(RuntimeFlags.__struct_fields__)}")
    wanted: RuntimeFlags = msgspec.structs.replace(before, **requested)
    if wanted != before:
        raft.set_runtime_flags(wanted)
    seen = await _wait_until(context, lambda metrics: metrics.runtime_flags == wanted, call.wait_s)
    effective: dict[str, object] = msgspec.structs.asdict(runtime_config_body(raft.metrics().runtime_flags))
    return acted(call, "runtime_config", requested, TriggerOutcome(wanted != before, seen, "", effective))


async def barrier(call: Call) -> Reply:
    body: schema.BarrierRequest = call.body
    outcome = await call.context.raft().barrier(
        frozenset(NodeId(node_id) for node_id in body.exclude),
        marker=MARK_DATA if body.digest else b"",
        wait_s=call.wait_s,
        expect=expectation_of(body.expect),
    )
    return json_reply(barrier_reply(outcome))


async def digest(call: Call) -> Reply:
    context = call.context
    store = context.node.store
    deadline = asyncio.get_running_loop().time() + call.wait_s
    if "at" not in call.query:
        asked = store.digest_view()
    else:
        index = LogIndex(parse_count(call.query["at"], "at", 1, _INDEX_MAX))
        store.digest_at(index)  # asked for before it is applied: no newer mark takes its turn then
        if not await _wait_until(context, lambda _: store.last_applied.index >= index, call.wait_s):
            detail = f"applied up to {store.last_applied.index}, not yet {index}"
            raise ProblemError(RefusalCode.TIMED_OUT.value, detail, hint="ask again, with a longer wait")
        marked = store.digest_at(index)
        if marked is None:
            raise _no_digest(index, "no mark was applied there, a snapshot jumped over it, or newer marks replaced it")
        asked = marked
    # Not awaited itself: the digest belongs to everybody who asks, and awaiting would cancel it with this request.
    value = asyncio.wrap_future(asked.value)
    await asyncio.wait((value,), timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
    if not value.done():
        raise ProblemError(RefusalCode.TIMED_OUT.value, "the digest is still being computed", hint="ask again")
    if value.cancelled():
        raise _no_digest(asked.log_id.index, "newer marks replaced it before its turn came, or the engine was stopped")
    return json_reply(schema.DigestReply(asked.log_id.index, value.result()))


def _no_digest(index: int, why: str) -> ProblemError:
    hint = 'mark another point: POST /v1/barrier {"digest": true}'
    return ProblemError("digest_not_available", f"no digest of index {index}: {why}", hint=hint)


# --- this process ----------------------------------------------------------------------------------------------------


async def stop_raft(call: Call) -> Reply:
    context = call.context
    async with context.lever:
        context.check_expectation(call.body.expect)
        running = context.node.raft is not None
        await context.node.stop_raft()
    detail = "the engine is stopped" if running else "the engine was stopped already"
    return acted(call, "stop_raft", {}, TriggerOutcome(running, context.node.raft is None, detail))


async def start_raft(call: Call) -> Reply:
    context = call.context
    async with context.lever:
        context.check_expectation(call.body.expect)
        stopped = context.node.raft is None
        await context.node.start_raft()
    detail = "the engine runs" if stopped else "the engine was running already"
    return acted(call, "start_raft", {}, TriggerOutcome(stopped, context.node.raft is not None, detail))


async def wipe(call: Call) -> Reply:
    body: schema.WipeRequest = call.body
    context = call.context
    node = context.node
    async with context.lever:
        _check_confirmation(context, body.confirm_node, body.confirm_cluster)
        _check_stopped(context, "wiped")
        context.check_expectation(body.expect)
        if body.recover_until.index == 0:
            raise malformed("recover_until.index is 0", "give the log id that POST /v1/barrier returned")
        _check_life(context, body.expect_life)
        return json_reply(schema.WipeReply(await node.wipe(log_id_of(body.recover_until), body.reason)))


async def restore(call: Call) -> Reply:
    body: schema.RestoreRequest = call.body
    context = call.context
    async with context.lever:
        _check_confirmation(context, body.confirm_node, body.confirm_cluster)
        _check_stopped(context, "given its retired data back")
        context.check_expectation(body.expect)
        return json_reply(schema.RestoreReply(await context.node.restore(body.retired)))


def _check_confirmation(context: Context, node_id: int, cluster_name: str) -> None:
    node = context.node
    if node_id != node.node_id or cluster_name != node.cluster:
        detail = f"this is node {node.node_id} of cluster {node.cluster!r}; nothing was touched"
        raise ProblemError("confirmation_mismatch", detail, hint="check to which node this request goes")


def _check_stopped(context: Context, what: str) -> None:
    if context.node.raft is not None:
        raise ProblemError("raft_running", f"only a stopped engine can be {what}", hint="POST /v1/node/stop-raft first")


def _check_life(context: Context, expected: schema.LifeBody | None) -> None:
    """A barrier covers what was acknowledged before it; an engine that ran afterwards may have acknowledged more."""
    node = context.node
    present = schema.LifeBody(node.incarnation, node.boot_count, node.engine_starts)
    if expected is not None and expected != present:
        detail = (
            f"expected boot {expected.boot_count}, engine start {expected.engine_starts} of incarnation "
            f"{expected.incarnation[:8]}; this is boot {present.boot_count}, engine start {present.engine_starts} of "
            f"{present.incarnation[:8]}: the node ran since"
        )
        raise ProblemError(
            RefusalCode.PRECONDITION_FAILED.value, detail, hint="stop it again, and wipe it behind a new barrier"
        )


async def shutdown(call: Call) -> Reply:
    call.context.check_expectation(call.body.expect)
    call.context.node.request_shutdown()
    return acted(call, "shutdown", {}, TriggerOutcome(True, False, "the process ends when its replies are sent"))


# --- the table -------------------------------------------------------------------------------------------------------

_TEXT: Final = "text/plain"
_ANY_NODE: Final = ("precondition_failed", "recovering", "blank", "raft_stopped", "shutting_down", "timed_out")

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/livez",
        role=Role.OPEN,
        summary="The process answers.",
        handle=livez,
        replies={200: schema.ProbeReply},
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        role=Role.OPEN,
        summary="The node can serve; 503 says what keeps it from that.",
        handle=readyz,
        replies={200: schema.ProbeReply},
        codes=("not_ready",),
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        role=Role.READ,
        summary="Numbers for Prometheus.",
        handle=metrics_text,
        replies={200: _TEXT},
    ),
    Endpoint(
        method="GET",
        path="/v1/status",
        role=Role.READ,
        summary="This node. With since and wait: answers when its status is another one, 304 if it stays the same.",
        handle=status,
        query=("since", "wait"),
        default_wait_s=0.0,
        replies={200: schema.Status, 304: ""},
    ),
    Endpoint(
        method="GET",
        path="/v1/cluster",
        role=Role.READ,
        summary="Every member's status or why it has none, and the arithmetic of the quorum.",
        handle=cluster,
        replies={200: schema.Cluster},
    ),
    Endpoint(
        method="GET",
        path="/v1/events",
        role=Role.READ,
        summary="Server-sent events: leader, term, membership, replication, snapshot, purge, revert, alarm; first the status.",
        handle=events,
        replies={200: "text/event-stream"},
    ),
    Endpoint(
        method="POST",
        path="/v1/trigger/elect",
        role=Role.OPERATE,
        summary="Campaign now.",
        handle=elect,
        request=schema.ElectRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("not_voter", "election_lost", "pre_vote_refused", "transfer_in_progress", *_ANY_NODE),
    ),
    Endpoint(
        method="POST",
        path="/v1/trigger/heartbeat",
        role=Role.OPERATE,
        summary="Send a heartbeat to every member now; effective.acked_by names who answered. Leader only.",
        handle=heartbeat,
        request=schema.Mutation,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("no_quorum", "leadership_lost", "timed_out", *LEADER_ONLY),
    ),
    Endpoint(
        method="POST",
        path="/v1/trigger/snapshot",
        role=Role.OPERATE,
        summary="Have a snapshot that covers what is applied now.",
        handle=snapshot,
        request=schema.Mutation,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("snapshot_deferred", *_ANY_NODE),
    ),
    Endpoint(
        method="POST",
        path="/v1/trigger/purge-log",
        role=Role.ADMIN,
        summary="Drop log entries up to `upto`, inclusive, as far as the snapshot covers them; effective.upto says how far.",
        handle=purge_log,
        request=schema.PurgeLogRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("no_snapshot", "beyond_snapshot", *_ANY_NODE),
    ),
    Endpoint(
        method="POST",
        path="/v1/trigger/transfer-leader",
        role=Role.OPERATE,
        summary="Hand leadership to another voter; the leader serves again if that one does not take over. Leader only.",
        handle=transfer_leader,
        request=schema.TransferLeaderRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=(
            "is_leader",
            "not_voter",
            "node_not_found",
            "target_lagging",
            "target_unreachable",
            "target_refused",
            "transfer_in_progress",
            "transfer_timed_out",
            "election_lost",
            *LEADER_ONLY,
        ),
    ),
    Endpoint(
        method="POST",
        path="/v1/trigger/allow-next-revert",
        role=Role.ADMIN,
        summary="Allow a member to come back once with less than it acknowledged, or take that back. Leader only.",
        handle=allow_next_revert,
        request=schema.AllowNextRevertRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("node_not_found", "is_leader", *LEADER_ONLY),
    ),
    Endpoint(
        method="POST",
        path="/v1/init",
        role=Role.ADMIN,
        summary="Give birth to the cluster with its first members; abort forgets a preparation that never started.",
        handle=init,
        request=schema.InitRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=(
            "already_initialized",
            "not_in_members",
            "prepared_for_another",
            "member_unreachable",
            "precondition_failed",
            "shutting_down",
        ),
    ),
    Endpoint(
        method="PATCH",
        path="/v1/runtime-config",
        role=Role.ADMIN,
        summary="Switch what the timers do by themselves.",
        handle=runtime_config,
        request=schema.RuntimeConfigRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("precondition_failed", "raft_stopped", "shutting_down"),
    ),
    Endpoint(
        method="POST",
        path="/v1/barrier",
        role=Role.OPERATE,
        summary="Append a no-op and wait until enough voters other than the excluded hold it. Leader only.",
        handle=barrier,
        request=schema.BarrierRequest,
        query=("wait", "forward"),
        replies={200: schema.BarrierReply},
        codes=(
            "no_quorum",
            "quorum_impossible",
            "node_not_found",
            "transfer_in_progress",
            "leadership_lost",
            "outcome_unknown",
            "timed_out",
            *LEADER_ONLY,
        ),
    ),
    Endpoint(
        method="GET",
        path="/v1/digest",
        role=Role.READ,
        summary="SHA-256 of the state machine: as of now, or at an index that a barrier with digest has marked.",
        handle=digest,
        query=("at", "wait"),
        replies={200: schema.DigestReply},
        codes=("digest_not_available", "timed_out"),
    ),
    Endpoint(
        method="POST",
        path="/v1/node/stop-raft",
        role=Role.ADMIN,
        summary="Stop the Raft engine; the endpoint stays up.",
        handle=stop_raft,
        request=schema.Mutation,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("precondition_failed",),
    ),
    Endpoint(
        method="POST",
        path="/v1/node/start-raft",
        role=Role.ADMIN,
        summary="Start the Raft engine again.",
        handle=start_raft,
        request=schema.Mutation,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("precondition_failed", "storage_failed", "start_failed", "fatal"),
    ),
    Endpoint(
        method="POST",
        path="/v1/node/wipe",
        role=Role.ADMIN,
        summary="Retire log, snapshots and state machine and keep the vote. Only while the engine is stopped.",
        handle=wipe,
        request=schema.WipeRequest,
        query=("forward",),
        replies={200: schema.WipeReply},
        codes=("raft_running", "confirmation_mismatch", "precondition_failed", "would_lose", "storage_failed"),
    ),
    Endpoint(
        method="POST",
        path="/v1/node/restore",
        role=Role.ADMIN,
        summary="Undo a wipe while nothing was acknowledged since: bring the retired data back. Only while the engine is stopped.",
        handle=restore,
        request=schema.RestoreRequest,
        query=("forward",),
        replies={200: schema.RestoreReply},
        codes=("raft_running", "confirmation_mismatch", "precondition_failed", "would_lose", "storage_failed"),
    ),
    Endpoint(
        method="POST",
        path="/v1/shutdown",
        role=Role.ADMIN,
        summary="End the process.",
        handle=shutdown,
        request=schema.Mutation,
        query=("wait", "forward"),
        replies={202: schema.ActionReply},
        codes=("precondition_failed",),
    ),
    *MEMBERSHIP_ENDPOINTS,
)
