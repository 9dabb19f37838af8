"""The shape of every JSON body: what may be sent and what comes back.

Requests refuse unknown fields, so that a misspelt option is an error and never silently the default. Replies may gain
fields. Log ids are `{term, node_id, index}` or null for "before the log". Imports nothing of ours: it can be read, and
copied into another client, alone.
Source: contract sections 2 to 4; RFC 9457 for problems.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

_INT64_MAX = 2**63 - 1
"""What a signed 64-bit reader in any language can hold."""

Id = Annotated[int, Meta(ge=1, le=_INT64_MAX, description="A node's id.")]
Index = Annotated[int, Meta(ge=0, le=_INT64_MAX, description="Index of a log entry.")]
FirstIndex = Annotated[int, Meta(ge=1, le=_INT64_MAX, description="Index of a log entry.")]
TermNumber = Annotated[int, Meta(ge=0, le=_INT64_MAX, description="A term.")]
Duration = Annotated[int, Meta(ge=0, le=_INT64_MAX, description="Milliseconds.")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Revision = Annotated[int, Meta(ge=1, le=_INT64_MAX, description="Log index of the entry that wrote a key.")]


# --- parts -----------------------------------------------------------------------------------------------------------


class LogIdBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which entry: term, proposing leader, index."""

    term: TermNumber
    node_id: Annotated[int, Meta(ge=0, le=_INT64_MAX)]
    index: Index


class VoteBody(msgspec.Struct, frozen=True):
    """`committed`: a quorum is known to have granted it."""

    term: int
    node_id: int
    committed: bool


class AddressBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a node listens: `raft` is host:port, `management` an http(s) URL."""

    raft: Name
    management: Name


class MembershipBody(msgspec.Struct, frozen=True):
    """One voter set, or two while a joint change is under way. `incarnations` names the lives that count, per id."""

    configs: list[list[int]]
    learners: list[int]
    nodes: dict[int, AddressBody]
    log_id: LogIdBody | None
    committed: bool
    incarnations: dict[int, list[str]]


class RecoveryBody(msgspec.Struct, frozen=True):
    until: LogIdBody | None
    reason: str


class ReplicationBody(msgspec.Struct, frozen=True):
    """One target as its leader sees it. `revert_armed_ms_left` is null when not armed, or armed without a time limit."""

    matching: LogIdBody | None
    lag: int
    state: str
    last_ack_ms_ago: float | None
    revert_armed: bool
    revert_armed_ms_left: float | None
    incarnation: str
    snapshot_sent_bytes: int
    snapshot_size_bytes: int


class RestoringBody(msgspec.Struct, frozen=True):
    """A leader's snapshot that is becoming the state machine's state: how many of its bytes were read."""

    snapshot: LogIdBody | None
    restored_bytes: int
    size_bytes: int


class AlarmBody(msgspec.Struct, frozen=True):
    code: str
    detail: str
    hint: str
    node: int | None


class KeyValueCounts(msgspec.Struct, frozen=True):
    """How much is in the store: keys, and the bytes of all keys and values."""

    keys: int
    bytes: int


class RuntimeConfigBody(msgspec.Struct, frozen=True):
    enable_tick: bool
    enable_heartbeat: bool
    enable_elect: bool
    enable_pre_vote: bool


class LeaderBody(msgspec.Struct, frozen=True):
    """Whom to ask instead. `management` is null when its address is not known here."""

    id: int
    management: str | None


class ExpectBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the caller believes; what is left out is not compared."""

    term: TermNumber | None = None
    leader: Id | None = None
    membership_log_id: LogIdBody | None = None
    last_log_id: LogIdBody | None = None


# --- requests --------------------------------------------------------------------------------------------------------


class Mutation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request with no words of its own."""

    expect: ExpectBody | None = None


class ElectRequest(Mutation, frozen=True, kw_only=True):
    pre_vote: bool = True


class PurgeLogRequest(Mutation, frozen=True, kw_only=True):
    """`upto` is inclusive. `strict`: refuse instead of clamping to the snapshot."""

    upto: FirstIndex
    strict: bool = False


class TransferLeaderRequest(Mutation, frozen=True, kw_only=True):
    to: Id


class AllowNextRevertRequest(Mutation, frozen=True, kw_only=True):
    """`ttl_ms` 0: until used, disarmed, or leadership is lost."""

    to: Id
    allow: bool = True
    ttl_ms: Duration = 0


class InitRequest(Mutation, frozen=True, kw_only=True):
    """`abort`: forget a preparation that never started, instead of beginning one."""

    members: dict[Id, AddressBody] = {}
    abort: bool = False


class LearnerRequest(Mutation, frozen=True, kw_only=True):
    """`blocking`: answer when the learner has caught up."""

    id: Id
    raft: Name
    management: Name
    blocking: bool = True


class VotersRequest(Mutation, frozen=True, kw_only=True):
    """The wanted voters, each a voter or a learner now; or who shall be added and removed, relative to those there are.

    `retain`: who goes stays as a learner.
    """

    voters: Annotated[list[Id], Meta(max_length=1024)] | None = None
    add: Annotated[list[Id], Meta(max_length=1024)] = []
    remove: Annotated[list[Id], Meta(max_length=1024)] = []
    retain: bool = False


class AddressRequest(Mutation, frozen=True, kw_only=True):
    """Where a member listens from now on."""

    id: Id
    raft: Name
    management: Name


class RuntimeConfigRequest(Mutation, frozen=True, kw_only=True):
    """What is left out stays as it is."""

    enable_tick: bool | None = None
    enable_heartbeat: bool | None = None
    enable_elect: bool | None = None
    enable_pre_vote: bool | None = None


class BarrierRequest(Mutation, frozen=True, kw_only=True):
    """`digest`: the entry also marks a point at which every node keeps a digest of its state machine."""

    exclude: Annotated[list[Id], Meta(max_length=1024)] = []
    digest: bool = False


class LifeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of a node's engine: which life, which start of its process, which start of the engine in that process."""

    incarnation: Name
    boot_count: Annotated[int, Meta(ge=0, le=_INT64_MAX)]
    engine_starts: Annotated[int, Meta(ge=0, le=_INT64_MAX)]


class WipeRequest(Mutation, frozen=True, kw_only=True):
    """`expect_life`: the run of the engine that was stopped before the barrier; another one has acknowledged more since."""

    confirm_node: Id
    confirm_cluster: Name
    recover_until: LogIdBody
    reason: Annotated[str, Meta(max_length=1024)] = "wiped over the management endpoint"
    expect_life: LifeBody | None = None


class RestoreRequest(Mutation, frozen=True, kw_only=True):
    """`retired`: what the wipe answered."""

    confirm_node: Id
    confirm_cluster: Name
    retired: Name


class PutOperation(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="put", forbid_unknown_fields=True):
    """`key_base64` instead of `key` for a key that is not UTF-8."""

    value_base64: bytes
    key: str | None = None
    key_base64: bytes | None = None


class DeleteOperation(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="delete", forbid_unknown_fields=True):
    key: str | None = None
    key_base64: bytes | None = None


class CheckOperation(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="check", forbid_unknown_fields=True):
    """The key must have this revision; null: it must be absent."""

    revision: Revision | None
    key: str | None = None
    key_base64: bytes | None = None


Operation = PutOperation | DeleteOperation | CheckOperation

OPERATIONS_MAX = 4096
"""Operations in one atomic entry: as many as an engine takes into its log in one batch."""


class OperationsRequest(Mutation, frozen=True, kw_only=True):
    """One entry: every check holds and everything is done, or nothing is."""

    ops: Annotated[list[Operation], Meta(min_length=1, max_length=OPERATIONS_MAX)]


# --- replies ---------------------------------------------------------------------------------------------------------


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `replication` is there on a leader only.

    `fatal_code`: what kind of failure `fatal` tells: `directory_gone` or `engine_failed`; null as `fatal` is.
    """

    cluster: str
    cluster_id: str
    node_id: int
    incarnation: str
    boot_count: int
    engine_starts: int
    version: str
    advertised: AddressBody
    birth: str
    state: str
    recovering: RecoveryBody | None
    term: int
    vote: VoteBody
    leader: int | None
    last_log: LogIdBody | None
    committed: LogIdBody | None
    applied: LogIdBody | None
    snapshot: LogIdBody | None
    purged: LogIdBody | None
    membership: MembershipBody
    building_snapshot: bool
    restoring: RestoringBody | None
    transfer_to: int | None
    last_quorum_acked_ms_ago: float | None
    election_timeout_max_ms: float
    runtime_config: RuntimeConfigBody
    alarms: list[AlarmBody]
    fatal: str | None
    fatal_code: str | None
    free_bytes: int
    kv: KeyValueCounts
    replication: dict[int, ReplicationBody] | UnsetType = UNSET


class MemberError(msgspec.Struct, frozen=True):
    code: str
    detail: str


class Member(msgspec.Struct, frozen=True):
    """One member as the asked node found it: `status` (as that member worded it) or `error` is null."""

    raft: str
    management: str
    voter: bool
    status: dict[str, Any] | None
    error: MemberError | None


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """`reachable` voters run the life of the node that the configuration names, are reached by their leader, do not recover and are not
    refused by the others as older copies; so many more may fail: `failure_tolerance`.

    While a joint change is under way the numbers are those of the voter set that is worse off.
    """

    cluster: str
    asked: int
    view: Status
    members: dict[int, Member]
    voters: int
    quorum: int
    reachable: int
    failure_tolerance: int
    has_quorum: bool


class ActionReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a mutation did. `changed` false: it already was so. `observed` false: accepted, not seen when the wait ended."""

    action: str
    node: int
    requested: dict[str, Any]
    effective: dict[str, Any]
    changed: bool
    observed: bool
    detail: str
    leader: int | None
    term: int


class BarrierReply(msgspec.Struct, frozen=True):
    log_id: LogIdBody
    acked_by: list[int]


class DigestReply(msgspec.Struct, frozen=True):
    """SHA-256 of everything replicated, after applying `index`."""

    index: int
    digest: str
    algorithm: str = "sha256"


class WipeReply(msgspec.Struct, frozen=True):
    retired_to: str


class RestoreReply(msgspec.Struct, frozen=True):
    """Where the data is that was there instead."""

    set_aside_to: str


class ProbeReply(msgspec.Struct, frozen=True):
    status: str


class WriteReply(msgspec.Struct, frozen=True):
    """`duplicate`: this Idempotency-Key was applied before, and this is what it did then."""

    log_id: LogIdBody
    revision: int
    duplicate: bool = False


class KeyValueItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """`key_base64` is there when the key is not UTF-8 and `key` only resembles it."""

    key: str
    value_base64: bytes
    revision: int
    key_base64: bytes | None = None


class KeyValueList(msgspec.Struct, frozen=True):
    """`next`: pass as `after` for what follows, null: that is all. `next_base64`: the same for keys that are not UTF-8."""

    items: list[KeyValueItem]
    next: str | None
    next_base64: bytes | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457, with a stable `code` for programs and a `hint` for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    leader: LeaderBody | None = None
    term: int | None = None
    hint: str | None = None
    rule_ids: list[str] | UnsetType = UNSET
    revision: int | UnsetType | None = UNSET
    key: str | UnsetType = UNSET
    measured: dict[str, Any] | UnsetType = UNSET
