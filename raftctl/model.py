"""What the cluster tells us, as far as this program reads it.

Tolerant: fields that are missing get a default, fields nobody here knows are kept in the raw document and shown by
`-o json`. The engine's own shapes are not imported: the two programs may be of different versions.
Source: contract sections 2 to 4.
"""

from __future__ import annotations

import msgspec


class LogId(msgspec.Struct, frozen=True, order=True):
    """Which entry: term, proposing leader, index. Ordered by term, then index."""

    term: int
    node_id: int
    index: int

    def __str__(self) -> str:
        return f"T{self.term}-N{self.node_id}.{self.index}"


class Vote(msgspec.Struct, frozen=True):
    term: int = 0
    node_id: int = 0
    committed: bool = False


class Address(msgspec.Struct, frozen=True):
    raft: str = ""
    management: str = ""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One voter set, or two while a change is under way."""

    configs: tuple[tuple[int, ...], ...] = ()
    learners: tuple[int, ...] = ()
    nodes: dict[int, Address] = {}
    log_id: LogId | None = None
    committed: bool = True
    incarnations: dict[int, tuple[str, ...]] = {}

    @property
    def voters(self) -> tuple[int, ...]:
        return tuple(sorted({node_id for config in self.configs for node_id in config}))


class Recovery(msgspec.Struct, frozen=True):
    until: LogId | None = None
    reason: str = ""


class Replication(msgspec.Struct, frozen=True, kw_only=True):
    """One target as its leader sees it."""

    matching: LogId | None = None
    lag: int = 0
    state: str = ""
    last_ack_ms_ago: float | None = None
    revert_armed: bool = False
    revert_armed_ms_left: float | None = None
    snapshot_sent_bytes: int = 0
    snapshot_size_bytes: int = 0


class Restoring(msgspec.Struct, frozen=True, kw_only=True):
    """A leader's snapshot that is becoming a node's state."""

    snapshot: LogId | None = None
    restored_bytes: int = 0
    size_bytes: int = 0


class Alarm(msgspec.Struct, frozen=True):
    code: str = ""
    detail: str = ""
    hint: str = ""
    node: int | None = None


class RuntimeConfig(msgspec.Struct, frozen=True):
    enable_tick: bool = True
    enable_heartbeat: bool = True
    enable_elect: bool = True
    enable_pre_vote: bool = True


class Life(msgspec.Struct, frozen=True):
    """One run of a node's engine: which life, which start of its process, which start of the engine in that process."""

    incarnation: str
    boot_count: int
    engine_starts: int


class KeyValueCounts(msgspec.Struct, frozen=True):
    keys: int = 0
    bytes: int = 0


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node's own word. `replication` is None on a node that does not lead."""

    cluster: str
    node_id: int
    cluster_id: str = ""
    incarnation: str = ""
    boot_count: int = 0
    engine_starts: int = 0
    version: str = ""
    advertised: Address = Address()
    birth: str = "started"
    state: str = ""
    recovering: Recovery | None = None
    term: int = 0
    vote: Vote = Vote()
    leader: int | None = None
    last_log: LogId | None = None
    committed: LogId | None = None
    applied: LogId | None = None
    snapshot: LogId | None = None
    purged: LogId | None = None
    membership: Membership = Membership()
    building_snapshot: bool = False
    restoring: Restoring | None = None
    last_quorum_acked_ms_ago: float | None = None
    runtime_config: RuntimeConfig = RuntimeConfig()
    alarms: tuple[Alarm, ...] = ()
    fatal: str | None = None
    fatal_code: str | None = None
    free_bytes: int | None = None
    kv: KeyValueCounts | None = None
    election_timeout_max_ms: float | None = None
    replication: dict[int, Replication] | None = None

    @property
    def data_bytes(self) -> int | None:
        """Bytes of the state machine's data, None if it does not tell."""
        return self.kv.bytes if self.kv is not None else None

    @property
    def leads(self) -> bool:
        return self.state == "leader"

    @property
    def stopped(self) -> bool:
        return self.state == "shutdown"

    @property
    def is_older_copy(self) -> bool:
        """Peers refuse it: they know a later run of it than the one its directory goes on from."""
        return any(alarm.code == "older_copy" for alarm in self.alarms)

    @property
    def directory_gone(self) -> bool:
        """Its data directory was taken away under it."""
        return self.fatal_code == "directory_gone"

    @property
    def life(self) -> Life:
        return Life(self.incarnation, self.boot_count, self.engine_starts)


def index_of(log_id: LogId | None) -> int:
    """0: before the log."""
    return 0 if log_id is None else log_id.index


class ActionReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a mutation did, as the node tells it."""

    action: str
    node: int
    requested: dict[str, object] = {}
    effective: dict[str, object] = {}
    changed: bool = False
    observed: bool = False
    detail: str = ""
    leader: int | None = None
    term: int = 0


class BarrierReply(msgspec.Struct, frozen=True):
    log_id: LogId
    acked_by: tuple[int, ...] = ()


class DigestReply(msgspec.Struct, frozen=True):
    index: int
    digest: str
    algorithm: str = "sha256"


class WipeReply(msgspec.Struct, frozen=True):
    retired_to: str


class RestoreReply(msgspec.Struct, frozen=True):
    """Where the data is that was there instead."""

    set_aside_to: str


class WriteReply(msgspec.Struct, frozen=True):
    log_id: LogId | None = None
    revision: int = 0
    duplicate: bool = False


class Value(msgspec.Struct, frozen=True):
    """A stored value and the revision that wrote it."""

    value: bytes
    revision: int


class Item(msgspec.Struct, frozen=True):
    """`key_base64`: the key's bytes, when they are not UTF-8 and `key` only resembles them."""

    key: str
    value_base64: bytes
    revision: int = 0
    key_base64: bytes | None = None

    @property
    def key_bytes(self) -> bytes:
        return self.key.encode() if self.key_base64 is None else self.key_base64


class ItemList(msgspec.Struct, frozen=True):
    items: tuple[Item, ...] = ()
    next: str | None = None
    next_base64: bytes | None = None


class ProblemLeader(msgspec.Struct, frozen=True):
    id: int
    management: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457, as far as it is read."""

    title: str = ""
    status: int = 0
    detail: str = ""
    code: str = ""
    leader: ProblemLeader | None = None
    hint: str | None = None
    rule_ids: tuple[str, ...] = ()
    measured: dict[str, object] = {}
    revision: int | None = None


class Expect(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the plan rests on; the node refuses when the world has moved."""

    term: int | None = None
    leader: int | None = None
    membership_log_id: LogId | None = None
