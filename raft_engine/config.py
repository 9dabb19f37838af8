"""How an engine is tuned: validated once, then frozen.

Names, defaults and checks follow openraft `config/config.rs`; durations carry their unit in the name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from raft_engine.errors import ConfigError

LEADER_LEASE: Final = 0.8
"""Share of the shortest election timeout. Nobody campaigns by chance before that timeout is over, so a lease that
ends a little earlier protects a leader no worse; heartbeats of a third of it renew the lease twice."""

BUSY_POLL_US_MAX: Final = 10_000
"""A step of a lone write that takes longer than 10 ms is not sped up by looking for it."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one engine. Construct it with keywords or with `config_from_mapping`; both validate."""

    election_timeout_min_ms: int = 150
    """Paper 9.3."""
    election_timeout_max_ms: int = 300
    heartbeat_interval_ms: int = 50
    heartbeat_min_interval_ms: int = 0
    """The timer spares a target that answered anything within this time. 0: it spares nobody."""
    enable_pre_vote: bool = True
    """Timer elections ask first whether they could win (dissertation 9.6)."""
    max_payload_entries: int = 300
    """Entries in one append request."""
    max_payload_bytes: int = 1024 * 1024
    """Bytes of entries in one append request; a single larger entry still travels."""
    max_inflight_requests: int = 64
    """Append requests on their way to one target."""
    max_append_entries: int = 4096
    """Client writes taken into the log in one batch."""
    api_batch_linger_ms: float = 0
    """How long a write may wait for others to share its batch. 0: it waits for nobody but those that are there."""
    busy_poll_us: int = 100
    """While single writes follow each other, the event loop looks again at once for this long after each step instead of sleeping: such
    writes are a tenth faster, and take a fifth more processor time. 0: it always sleeps."""
    replication_lag_threshold: int = 5000
    snapshot_logs_since_last: int = 5000
    """Entries after which a snapshot is built; 0: never. Builds take at most about 5 % of the time, so a large state that is written
    fast is built less often."""
    """0: never by itself."""
    snapshot_max_chunk_size_bytes: int = 1024 * 1024
    install_snapshot_timeout_ms: int = 2000
    """Without an answer for a chunk in this time the transfer starts over from where the receiver is."""
    snapshot_send_bytes_per_s: int = 0
    """Bytes of snapshots sent to one target in a second, on average. 0: as fast as it takes them."""
    max_in_snapshot_log_to_keep: int = 1000
    purge_batch_size: int = 1
    api_channel_size: int = 65536
    """Requests waiting in the inbox; more are refused as overloaded."""
    state_machine_channel_size: int = 65536
    """Entries asked to be applied and not applied yet; the rest waits in the log, and a leader's writers with it."""
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    """Bytes of writes that wait to be appended, and of entries appended but not committed; more are refused as overloaded."""
    removed_leader_step_down_ms: int = 0
    """How long a leader that is no voter any more serves on once that is committed, before it hands over. -1: for good."""
    reconnect_backoff_min_ms: int = 20
    reconnect_backoff_max_ms: int = 1000
    enable_tick: bool = True
    enable_heartbeat: bool = True
    enable_elect: bool = True
    allow_log_reversion: bool = False
    """Every revert is allowed, always. For tests: it gives up what the permission protects."""
    on_unexpected_revert: Literal["fence", "panic"] = "fence"
    """A target lost what it acknowledged and nobody allowed that: it counts for nothing, or this leader ends (openraft)."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(Config):
            _check_kind(field.name, getattr(self, field.name), type(field.default))
        _check_bounds(self)
        if self.election_timeout_min_ms >= self.election_timeout_max_ms:
            raise ConfigError(
                f"raft.election_timeout_min_ms ({self.election_timeout_min_ms}) must be below "
                f"raft.election_timeout_max_ms ({self.election_timeout_max_ms})"
            )
        if self.heartbeat_interval_ms >= self.election_timeout_min_ms:
            raise ConfigError(
                f"raft.heartbeat_interval_ms ({self.heartbeat_interval_ms}) must be below "
                f"raft.election_timeout_min_ms ({self.election_timeout_min_ms}), or every heartbeat comes too late"
            )
        if self.heartbeat_min_interval_ms > self.heartbeat_interval_ms:
            raise ConfigError(
                f"raft.heartbeat_min_interval_ms ({self.heartbeat_min_interval_ms}) must not be above "
                f"raft.heartbeat_interval_ms ({self.heartbeat_interval_ms}), or leases run out between heartbeats"
            )
        if self.reconnect_backoff_min_ms > self.reconnect_backoff_max_ms:
            raise ConfigError("raft.reconnect_backoff_min_ms must not be above raft.reconnect_backoff_max_ms")
        if self.on_unexpected_revert not in {"fence", "panic"}:
            raise ConfigError(f"raft.on_unexpected_revert is {self.on_unexpected_revert!r}; it must be 'fence' or 'panic'")

    @property
    def leader_lease_ms(self) -> float:
        """For this long after hearing from a leader a node grants nobody, and the leader may serve reads by its lease.

        Shorter than any election timeout, so that a leader known to be dead is replaced before one who is only silent would be.
        """
        return self.election_timeout_min_ms * LEADER_LEASE

    @property
    def tick_interval_ms(self) -> float:
        """About a fifth of a heartbeat: openraft `Config::tick_interval`."""
        return max(1.0, self.heartbeat_interval_ms * 13 / 64)


_LEAST: Final[Mapping[str, int]] = {
    "election_timeout_min_ms": 1,
    "election_timeout_max_ms": 1,
    "heartbeat_interval_ms": 1,
    "heartbeat_min_interval_ms": 0,
    "max_payload_entries": 1,
    "max_payload_bytes": 1,
    "max_inflight_requests": 1,
    "max_append_entries": 1,
    "api_batch_linger_ms": 0,
    "busy_poll_us": 0,
    "replication_lag_threshold": 0,
    "snapshot_logs_since_last": 0,
    "snapshot_max_chunk_size_bytes": 1,
    "install_snapshot_timeout_ms": 1,
    "snapshot_send_bytes_per_s": 0,
    "max_in_snapshot_log_to_keep": 0,
    "purge_batch_size": 1,
    "api_channel_size": 1,
    "state_machine_channel_size": 1,
    "max_uncommitted_bytes": 1,
    "removed_leader_step_down_ms": -1,
    "reconnect_backoff_min_ms": 1,
    "reconnect_backoff_max_ms": 1,
}

_MOST: Final[Mapping[str, tuple[int, str]]] = {
    "busy_poll_us": (BUSY_POLL_US_MAX, "longer than the next step of a write takes, it only keeps a processor busy"),
}
"""With the reason."""
_FRACTIONS: Final = frozenset({"api_batch_linger_ms"})
"""Numbers that need not be whole."""


def _check_kind(name: str, value: object, kind: type) -> None:
    """Raises: ConfigError: the value is of another kind than the setting's default, saying what is allowed."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if name in _FRACTIONS:
        fits, allowed = is_number, "a number"
    elif kind is int:
        fits, allowed = is_number and isinstance(value, int), "a whole number"
    else:
        fits, allowed = isinstance(value, kind), "true or false" if kind is bool else "a string"
    if fits:
        return
    if name in _LEAST:
        allowed += f" from {_LEAST[name]} to {_MOST[name][0]}" if name in _MOST else f", at least {_LEAST[name]}"
    raise ConfigError(f"raft.{name} is {_in_toml(value)}; it must be {allowed}")


def _check_bounds(config: Config) -> None:
    """Raises: ConfigError: a number is out of its bounds."""
    for name, least in _LEAST.items():
        if getattr(config, name) < least:
            raise ConfigError(f"raft.{name} is {getattr(config, name)}; it must be at least {least}")
    for name, (most, why) in _MOST.items():
        if getattr(config, name) > most:
            raise ConfigError(f"raft.{name} is {getattr(config, name)}; it must be at most {most}: {why}")


def _in_toml(value: object) -> str:
    """Return a value as it stands in a file."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


OTHER_NAMES: Final[Mapping[str, str]] = {
    "cluster_name": "it stands at the top of node.toml, as cluster",
    "election_timeout_min": "durations carry their unit: raft.election_timeout_min_ms",
    "election_timeout_max": "durations carry their unit: raft.election_timeout_max_ms",
    "heartbeat_interval": "durations carry their unit: raft.heartbeat_interval_ms",
    "heartbeat_min_interval": "durations carry their unit: raft.heartbeat_min_interval_ms",
    "install_snapshot_timeout": "durations carry their unit: raft.install_snapshot_timeout_ms",
    "send_snapshot_timeout": "each chunk has its own time: raft.install_snapshot_timeout_ms",
    "snapshot_policy": "raft.snapshot_logs_since_last is the policy; 0 is never",
    "snapshot_max_chunk_size": "sizes carry their unit: raft.snapshot_max_chunk_size_bytes",
    "removed_leader_step_down": "durations carry their unit: raft.removed_leader_step_down_ms; -1 is never",
    "backoff": "raft.reconnect_backoff_min_ms doubles up to raft.reconnect_backoff_max_ms",
    "api_batch_capacity": "raft.max_append_entries bounds how many writes share a batch",
    "api_batch_linger": "durations carry their unit: raft.api_batch_linger_ms",
    "notification_channel_size": "what peers, disk and state machine report is read on the engine's own thread, so nothing gathers",
    "log_stage_capacity": "writes, syncs and answers are told apart by number, so there are no stages to size",
    "enable_leader_restore": "a restarted leader stands for election again: what it sent before it was durable may exist elsewhere",
}
"""openraft's fields that are called otherwise here, or have no meaning here, and why."""


def nearest(key: str, known: list[str]) -> str:
    """Return a hint naming the known key that looks most like `key`, or nothing."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def config_from_mapping(values: Mapping[str, object]) -> Config:
    """Return the config with these settings, the rest at their defaults.

    Raises: ConfigError: an unknown key (with the nearest known one), a wrong type, or a contradiction.
    """
    for key in values:
        if key not in Config.__struct_fields__:
            why = f": {OTHER_NAMES[key]}" if key in OTHER_NAMES else nearest(key, list(Config.__struct_fields__))
            raise ConfigError(f"raft.{key} is not a setting{why}")
    return Config(**values)  # type: ignore[arg-type]  # it looks at each value itself
