"""What stands in node.toml, and what is said when it is wrong: raft_engine/node_config.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_engine.errors import ConfigError
from raft_engine.management.access import Role, hash_token
from raft_engine.node_config import NodeConfig, load_node_config

GOOD = """
cluster = "demo"
node_id = 1
data_dir = "data/n1"
[listen]
management = "127.0.0.1:9101"
raft = "127.0.0.1:9201"
"""


def load(tmp_path: Path, text: str) -> NodeConfig:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return load_node_config(path)


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    return str(error.value)


def test_the_smallest_file_is_enough(tmp_path):
    config = load(tmp_path, GOOD)
    assert (config.cluster, config.node_id, config.data_dir) == ("demo", 1, tmp_path / "data/n1")
    assert (config.advertise.raft, config.advertise.management) == ("127.0.0.1:9201", "http://127.0.0.1:9101")
    assert config.bootstrap is None
    assert config.alarms == ()


def test_first_members_are_read_with_their_addresses(tmp_path):
    text = (
        GOOD
        + """
[bootstrap]
members = { 1 = { management = "http://127.0.0.1:9101", raft = "127.0.0.1:9201" }, 2 = { management = "http://h:1", raft = "h:2" } }
"""
    )
    assert load(tmp_path, text).bootstrap[2].raft == "h:2"


def test_engine_settings_are_taken_over(tmp_path):
    assert load(tmp_path, GOOD + "[raft]\nheartbeat_interval_ms = 20\n").raft.heartbeat_interval_ms == 20


def test_whether_plaintext_is_accepted_is_true_or_false_also_where_it_does_not_matter(tmp_path):
    said = complaint(tmp_path, GOOD + "[security]\ninsecure_allow_plaintext = 'yes'\n")
    assert "security.insecure_allow_plaintext must be true or false, not 'yes'" in said


def test_the_key_value_store_is_on_disk_unless_memory_is_asked_for(tmp_path):
    assert load(tmp_path, GOOD).snapshots_to_keep == 1
    assert load(tmp_path, GOOD + "[storage]\nsnapshots_to_keep = 3\n").snapshots_to_keep == 3
    assert load(tmp_path, GOOD).state_machine == "disk"
    assert load(tmp_path, GOOD + '[state_machine]\nkind = "memory"\n').state_machine == "memory"
    said = complaint(tmp_path, GOOD + '[state_machine]\nkind = "tape"\n')
    assert "state_machine.kind must be disk or memory, not 'tape'" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "[storage]\nsnapshots_to_keep = 0\n", ["storage.snapshots_to_keep must be 1 to 1000, not 0"]),
        (GOOD + "[state_machine]\nkinds = 'disk'\n", ["state_machine.kinds is not a setting", "'kind'"]),
        ("clutser = 'x'\n" + GOOD, ["clutser is not a setting", "'cluster'"]),
        (GOOD + "managment = 'x'\n", ["listen.managment is not a setting", "'management'"]),
        (GOOD + "[raft]\nheartbeat_intervall_ms = 1\n", ["raft.heartbeat_intervall_ms", "'heartbeat_interval_ms'"]),
        (GOOD + "[security]\ntoken = 'x'\n", ["security.token is not a setting", "'tokens'"]),
        (GOOD + "[bootstrap]\nmember = {}\n", ["bootstrap.member is not a setting", "'members'"]),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest_known_one(tmp_path, text, words):
    said = complaint(tmp_path, text)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('cluster = "demo"', "", "cluster is missing"),
        ('cluster = "demo"', "cluster = 5", "cluster must be a string"),
        ('cluster = "demo"', 'cluster = ""', "cluster must be 1 to 64"),
        ("node_id = 1", "node_id = 0", "positive integer"),
        ("node_id = 1", "node_id = true", "node_id must be an integer"),
        ("node_id = 1", 'node_id = "1"', "node_id must be an integer"),
        ('data_dir = "data/n1"', "", "data_dir is missing"),
        ('data_dir = "data/n1"', 'data_dir = ""', "data_dir must name a directory that is this node's alone, not ''"),
        ('data_dir = "data/n1"', 'data_dir = "a\\u0000b"', "data_dir must name a directory"),
        ('raft = "127.0.0.1:9201"', "", "listen.raft is missing"),
        ('raft = "127.0.0.1:9201"', 'raft = "127.0.0.1"', "listen.raft must be host:port"),
        ('raft = "127.0.0.1:9201"', 'raft = "127.0.0.1:99999"', "listen.raft must be host:port"),
        ('raft = "127.0.0.1:9201"', 'raft = "http://127.0.0.1:1"', "listen.raft must be host:port"),
        ("[listen]", "listen = 3\n[advertise]", "listen must be a table"),
        ("cluster", "= broken", "is not TOML"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, old, new, word):
    assert word in complaint(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ('[advertise]\nmanagement = "127.0.0.1:9101"', "advertise.management must be a URL"),
        ('[advertise]\nraft = "0.0.0.0:9201"', "an address nobody can be sent to"),
        ('[bootstrap]\nmembers = { 2 = { management = "http://h:1", raft = "h:2" } }', "does not name this node"),
        ('[bootstrap]\nmembers = { one = { management = "http://h:1", raft = "h:2" } }', "a positive integer"),
        ("[bootstrap]\nmembers = { 1 = { management = 'http://h:1' } }", "bootstrap.members.1.raft is missing"),
        ("[raft]\nelection_timeout_min_ms = 10\nheartbeat_interval_ms = 50", "must be below"),
        ("[raft]\nheartbeat_interval_ms = 'fast'", "heartbeat_interval_ms"),
        ("[security]\nallowed_hosts = [1]", "security.allowed_hosts"),
        ("[security]\ntokens = 'absent'", "absent cannot be read"),
    ],
)
def test_a_wrong_section_is_named(tmp_path, section, word):
    assert word in complaint(tmp_path, GOOD + section + "\n")


def test_endless_nesting_is_no_traceback(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text("cluster = " + "[" * 2000, "utf-8")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_node_config(path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_node_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("key", ["management", "raft"])
def test_an_address_others_can_reach_is_refused(tmp_path, key):
    text = GOOD.replace(f'{key} = "127.0.0.1', f'{key} = "192.0.2.1')
    said = complaint(tmp_path, text)
    assert f"listen.{key} (192.0.2.1:" in said
    assert "insecure_allow_plaintext" in said


def test_the_spelled_out_override_starts_with_an_alarm(tmp_path):
    text = GOOD.replace("127.0.0.1", "192.0.2.1") + "[security]\ninsecure_allow_plaintext = true\n"
    alarms = load(tmp_path, text).alarms
    assert [alarm.code for alarm in alarms] == ["insecure_plaintext"]
    assert "without tokens" in alarms[0].detail


def test_tokens_are_read_from_their_file_beside_the_node_file(tmp_path):
    (tmp_path / "tokens").write_text(f"operate bot {hash_token('secret')}\n")
    security = load(tmp_path, GOOD + '[security]\ntokens = "tokens"\n').security
    assert [(token.role, token.name) for token in security.tokens] == [(Role.OPERATE, "bot")]


def test_further_hosts_are_answered_for(tmp_path):
    security = load(tmp_path, GOOD + '[security]\nallowed_hosts = ["raft.example"]\n').security
    assert security.answers_for("raft.example:9101")
    assert not security.answers_for("evil.example:9101")
