"""Which settings of an engine contradict each other: raft_engine/config.py; openraft's ConfigError, case by case."""

from __future__ import annotations

import pytest

from raft_engine.config import OTHER_NAMES, Config, config_from_mapping
from raft_engine.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"election_timeout_min_ms": 300, "election_timeout_max_ms": 300}, "must be below raft.election_timeout_max_ms"),
        ({"max_payload_entries": 0}, "raft.max_payload_entries is 0; it must be at least 1"),
        ({"busy_poll_us": -1}, "raft.busy_poll_us is -1; it must be at least 0"),
        ({"busy_poll_us": 10_001}, "raft.busy_poll_us is 10001; it must be at most 10000"),
        ({"heartbeat_interval_ms": 150}, "must be below raft.election_timeout_min_ms"),
        ({"heartbeat_min_interval_ms": 51}, "must not be above raft.heartbeat_interval_ms"),
        ({"heartbeat_min_interval_ms": -1}, "it must be at least 0"),
        ({"snapshot_logs_since_last": -1}, "raft.snapshot_logs_since_last is -1; it must be at least 0"),
        ({"reconnect_backoff_min_ms": 0}, "it must be at least 1"),
        ({"reconnect_backoff_min_ms": 2000}, "must not be above raft.reconnect_backoff_max_ms"),
        ({"removed_leader_step_down_ms": -2}, "it must be at least -1"),
        ({"state_machine_channel_size": 0}, "it must be at least 1"),
        ({"api_channel_size": 0}, "it must be at least 1"),
        ({"snapshot_send_bytes_per_s": -1}, "it must be at least 0"),
        ({"purge_batch_size": 0}, "it must be at least 1"),
        ({"max_append_entries": 0}, "it must be at least 1"),
        ({"on_unexpected_revert": "shrug"}, "on_unexpected_revert"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_with_its_name_and_value(settings, words):
    with pytest.raises(ConfigError) as by_keyword:
        Config(**settings)
    with pytest.raises(ConfigError, match=next(iter(settings))):
        config_from_mapping(settings)
    assert words in str(by_keyword.value)


NUMBERS = [name for name in Config.__struct_fields__ if type(getattr(Config(), name)) is int]


@pytest.mark.parametrize("value", ["fast", 1.5, 50.0, None, True, [1], float("nan")])
@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "api_batch_linger_ms"])
def test_a_number_that_is_none_is_refused_with_its_name_what_was_found_and_what_is_allowed(name, value):
    with pytest.raises(ConfigError) as refused:
        config_from_mapping({name: value})
    found = "true" if value is True else repr(value)
    assert str(refused.value).startswith(f"raft.{name} is {found}; it must be a whole number")


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_too_small_is_refused_with_what_is_the_least(name):
    with pytest.raises(ConfigError, match=rf"raft\.{name} is -2; it must be at least"):
        config_from_mapping({name: -2})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("busy_poll_us", "x", "raft.busy_poll_us is 'x'; it must be a whole number from 0 to 10000"),
        ("heartbeat_interval_ms", "50", "raft.heartbeat_interval_ms is '50'; it must be a whole number, at least 1"),
        ("api_batch_linger_ms", "x", "raft.api_batch_linger_ms is 'x'; it must be a number, at least 0"),
        ("api_batch_linger_ms", float("nan"), "raft.api_batch_linger_ms is nan; it must be a number, at least 0"),
        ("enable_tick", 1, "raft.enable_tick is 1; it must be true or false"),
        ("on_unexpected_revert", 3, "raft.on_unexpected_revert is 3; it must be a string"),
    ],
)
def test_a_setting_of_another_kind_is_refused_in_words(name, value, allowed):
    with pytest.raises(ConfigError) as by_keyword:
        Config(**{name: value})
    assert allowed == str(by_keyword.value)
    with pytest.raises(ConfigError) as from_a_file:
        config_from_mapping({name: value})
    assert allowed == str(from_a_file.value)


def test_a_part_of_a_millisecond_may_be_waited_for():
    assert 0.5 == config_from_mapping({"api_batch_linger_ms": 0.5}).api_batch_linger_ms


def test_an_unknown_setting_is_refused_with_the_nearest_known_one():
    with pytest.raises(ConfigError, match="did you mean 'purge_batch_size'"):
        config_from_mapping({"purge_batch": 1})


@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_a_field_of_openraft_that_is_called_otherwise_or_has_no_meaning_is_refused_with_the_reason(name):
    with pytest.raises(ConfigError) as error:
        config_from_mapping({name: 1})
    assert f"raft.{name} is not a setting: {OTHER_NAMES[name]}" == str(error.value)
    assert name not in Config.__struct_fields__


def test_every_field_of_openrafts_config_is_a_setting_or_has_its_reason():
    theirs = (
        "cluster_name election_timeout_min election_timeout_max heartbeat_interval heartbeat_min_interval "
        "install_snapshot_timeout send_snapshot_timeout max_payload_entries max_append_entries replication_lag_threshold "
        "snapshot_policy snapshot_max_chunk_size max_in_snapshot_log_to_keep purge_batch_size api_channel_size "
        "notification_channel_size state_machine_channel_size api_batch_capacity api_batch_linger log_stage_capacity "
        "enable_tick enable_heartbeat enable_elect removed_leader_step_down enable_pre_vote backoff allow_log_reversion "
        "enable_leader_restore"
    )
    assert [] == [name for name in theirs.split() if name not in Config.__struct_fields__ and name not in OTHER_NAMES]
