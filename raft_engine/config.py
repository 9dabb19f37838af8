"""How an engine is tuned: validated once, then frozen.

Names, defaults and checks follow openraft `config/config.rs`; durations carry their unit in the name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import msgspec

from raft_engine.errors import ConfigError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one engine. Construct it with keywords or with `config_from_mapping`; both validate."""

    election_timeout_min_ms: int = 150
    """Paper 9.3. Also the lease: for this long after hearing from a leader a node grants nobody."""
    election_timeout_max_ms: int = 300
    heartbeat_interval_ms: int = 50
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
    replication_lag_threshold: int = 5000
    snapshot_logs_since_last: int = 5000
    """0: never by itself."""
    snapshot_max_chunk_size_bytes: int = 1024 * 1024
    install_snapshot_timeout_ms: int = 2000
    """Without an answer for a chunk in this time the transfer starts over from where the receiver is."""
    max_in_snapshot_log_to_keep: int = 1000
    purge_batch_size: int = 1
    api_channel_size: int = 65536
    """Requests waiting in the inbox; more are refused as overloaded."""
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    """Bytes of entries appended but not committed on a leader; more are refused as overloaded."""
    reconnect_backoff_min_ms: int = 20
    reconnect_backoff_max_ms: int = 1000
    enable_tick: bool = True
    enable_heartbeat: bool = True
    enable_elect: bool = True
    allow_log_reversion: bool = False
    """Every revert is allowed, always. For tests: it gives up what the permission protects."""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ConfigError(f"raft.{name} is {getattr(self, name)}; it must be at least 1")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ConfigError(f"raft.{name} is {getattr(self, name)}; it must not be negative")
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
        if self.reconnect_backoff_min_ms > self.reconnect_backoff_max_ms:
            raise ConfigError("raft.reconnect_backoff_min_ms must not be above raft.reconnect_backoff_max_ms")

    @property
    def tick_interval_ms(self) -> float:
        """About a fifth of a heartbeat: openraft `Config::tick_interval`."""
        return max(1.0, self.heartbeat_interval_ms * 13 / 64)


_POSITIVE = (
    "election_timeout_min_ms",
    "heartbeat_interval_ms",
    "max_payload_entries",
    "max_payload_bytes",
    "max_inflight_requests",
    "max_append_entries",
    "snapshot_max_chunk_size_bytes",
    "install_snapshot_timeout_ms",
    "purge_batch_size",
    "api_channel_size",
    "max_uncommitted_bytes",
    "reconnect_backoff_min_ms",
)
_NOT_NEGATIVE = ("snapshot_logs_since_last", "max_in_snapshot_log_to_keep", "replication_lag_threshold")


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
            raise ConfigError(f"raft.{key} is not a setting{nearest(key, list(Config.__struct_fields__))}")
    try:
        return msgspec.convert(dict(values), Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"raft: {error}") from error
