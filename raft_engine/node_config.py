"""What stands in node.toml.

Everything is checked before a node starts, and an unknown key is an error that names the nearest known one: a setting that
is silently ignored is worse than one that is missing. Relative paths are relative to the file.
Source: public contract, sections 1 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import tomli

from raft_engine.config import Config, config_from_mapping, nearest
from raft_engine.errors import ConfigError
from raft_engine.management.access import Security, allowed_hosts, host_name, is_loopback, load_tokens
from raft_engine.types.ids import NodeId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.metrics import Alarm

T = TypeVar("T")

CLUSTER_NAME_CHARACTERS_MAX = 64
STATE_MACHINES = ("disk", "memory")
"""The first is the default."""
SNAPSHOTS_TO_KEEP_MAX = 1000
"""More copies than anybody has use for; a larger number is a slip of the key."""
NODE_ID_MAX = 2**63 - 1
"""Ids travel as unsigned 64-bit numbers and are shown by programs whose integers are signed."""


class NodeConfig(msgspec.Struct, frozen=True):
    """One node's settings, checked."""

    cluster: str
    node_id: NodeId
    data_dir: Path
    listen_management: str
    listen_raft: str
    advertise: NodeAddress
    bootstrap: dict[NodeId, NodeAddress] | None
    raft: Config
    state_machine: str
    """`disk` or `memory`: where the key-value store keeps its data."""
    snapshots_to_keep: int
    security: Security
    alarms: tuple[Alarm, ...]


def load_node_config(path: Path) -> NodeConfig:
    """Return the settings in the file.

    Raises: ConfigError: it cannot be read, or a setting is unknown, missing, of the wrong type or dangerous.
    """
    try:
        document = tomli.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a directory; name the file in it, such as {path / 'node.toml'}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except (tomli.TOMLDecodeError, RecursionError) as error:  # the latter: nested without end
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        return parse_node_config(document, path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_node_config(document: Mapping[str, object], base: Path) -> NodeConfig:
    """Return the settings in a parsed file that lies in directory `base`. Raises: ConfigError."""
    _only(
        document,
        "",
        [
            "cluster",
            "node_id",
            "data_dir",
            "listen",
            "advertise",
            "bootstrap",
            "raft",
            "storage",
            "state_machine",
            "security",
        ],
    )
    cluster = _cluster_name(_need(document, "cluster", str))
    node_id = _node_id(_need(document, "node_id", int), "node_id")
    data_dir = base / _directory_name(_need(document, "data_dir", str))
    listen = _table(document, "listen", ["management", "raft"])
    listen_management = _host_port(_need(listen, "listen.management", str), "listen.management")
    listen_raft = _host_port(_need(listen, "listen.raft", str), "listen.raft")
    advertise = _advertise(document, listen_management, listen_raft)
    security, alarms = _security(document, base, listen_management, listen_raft, advertise)
    return NodeConfig(
        cluster=cluster,
        node_id=node_id,
        data_dir=data_dir,
        listen_management=listen_management,
        listen_raft=listen_raft,
        advertise=advertise,
        bootstrap=_bootstrap(document, node_id),
        raft=config_from_mapping(_table(document, "raft")),
        state_machine=_state_machine(document),
        snapshots_to_keep=_snapshots_to_keep(document),
        security=security,
        alarms=alarms,
    )


def check_address(address: NodeAddress, where: str) -> NodeAddress:
    """Return `address` if others can be sent there. Raises: ConfigError naming `where`."""
    _host_port(address.raft, f"{where}.raft")
    _url(address.management, f"{where}.management")
    for key, host in (("raft", host_name(address.raft)), ("management", host_name(urlsplit(address.management).netloc))):
        if host in {"0.0.0.0", "::"}:  # noqa: S104 (that is what is refused)
            raise ConfigError(f"{where}.{key} is {host}, an address nobody can be sent to; name this machine's")
    return address


# -- sections ------------------------------------------------------------------------------------------------------------


def _advertise(document: Mapping[str, object], listen_management: str, listen_raft: str) -> NodeAddress:
    table = _table(document, "advertise", ["management", "raft"])
    management = _optional(table, "advertise.management", str) or f"http://{listen_management}"
    raft = _optional(table, "advertise.raft", str) or listen_raft
    return check_address(NodeAddress(raft, management.rstrip("/")), "advertise")


def _bootstrap(document: Mapping[str, object], node_id: NodeId) -> dict[NodeId, NodeAddress] | None:
    if "bootstrap" not in document:
        return None
    listed = _need(_table(document, "bootstrap", ["members"]), "bootstrap.members", dict)
    members: dict[NodeId, NodeAddress] = {}
    for key in listed:
        where = f"bootstrap.members.{key}"
        if not key.isdecimal():
            raise ConfigError(f"{where}: a member is named by its node_id, a positive integer")
        table = _table(listed, key, ["management", "raft"], where)
        address = NodeAddress(_need(table, f"{where}.raft", str), _need(table, f"{where}.management", str).rstrip("/"))
        members[_node_id(int(key), where)] = check_address(address, where)
    if node_id not in members:
        raise ConfigError(f"bootstrap.members does not name this node ({node_id})")
    return members


def _state_machine(document: Mapping[str, object]) -> str:
    table = _table(document, "state_machine", ["kind"])
    kind = _optional(table, "state_machine.kind", str) or STATE_MACHINES[0]
    if kind not in STATE_MACHINES:
        raise ConfigError(f"state_machine.kind must be {' or '.join(STATE_MACHINES)}, not {kind!r}")
    return kind


def _snapshots_to_keep(document: Mapping[str, object]) -> int:
    table = _table(document, "storage", ["snapshots_to_keep"])
    keep = _optional(table, "storage.snapshots_to_keep", int)
    if keep is None:
        return 1
    if not 1 <= keep <= SNAPSHOTS_TO_KEEP_MAX:
        raise ConfigError(f"storage.snapshots_to_keep must be 1 to {SNAPSHOTS_TO_KEEP_MAX}, not {keep}")
    return keep


def _security(
    document: Mapping[str, object], base: Path, listen_management: str, listen_raft: str, advertise: NodeAddress
) -> tuple[Security, tuple[Alarm, ...]]:
    table = _table(document, "security", ["tokens", "allowed_hosts", "insecure_allow_plaintext"])
    token_file = _optional(table, "security.tokens", str)
    hosts = _optional(table, "security.allowed_hosts", list) or []
    if not all(isinstance(host, str) for host in hosts):
        raise ConfigError("security.allowed_hosts must be a list of strings")
    accepts_plaintext = _optional(table, "security.insecure_allow_plaintext", bool)
    allowed = allowed_hosts(listen_management, advertise.management, hosts)
    security = Security(allowed, load_tokens(base / token_file) if token_file is not None else ())
    exposed = [
        f"listen.{key} ({address})"
        for key, address in (("management", listen_management), ("raft", listen_raft))
        if not is_loopback(host_name(address))
    ]
    if not exposed:
        return security, ()
    if not accepts_plaintext:
        raise ConfigError(
            f"{' and '.join(exposed)} can be reached from other machines, without encryption; listen on 127.0.0.1, "
            "or accept that anybody on the way can read and forge by setting security.insecure_allow_plaintext = true"
        )
    detail = f"{' and '.join(exposed)} can be reached from other machines, without encryption"
    if not security.tokens:
        detail += " and without tokens: whoever reaches it may do everything"
    return security, (Alarm("insecure_plaintext", detail, "listen on 127.0.0.1, or on a network only members reach"),)


# -- values --------------------------------------------------------------------------------------------------------------


def _only(table: Mapping[str, object], where: str, known: list[str]) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}{key} is not a setting{nearest(key, known)}")


def _table(
    document: Mapping[str, object], key: str, known: list[str] | None = None, where: str | None = None
) -> Mapping[str, object]:
    where = where or key
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table")
    if known is not None:
        _only(table, f"{where}.", known)
    return table


def _optional(table: Mapping[str, object], where: str, kind: type[T]) -> T | None:
    """Return the setting whose full name is `where`, or None if it is not there."""
    value = table.get(where.rpartition(".")[2])
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {_KINDS[kind]}, not {value!r}")
    return value


def _need(table: Mapping[str, object], where: str, kind: type[T]) -> T:
    value = _optional(table, where, kind)
    if value is None:
        raise ConfigError(f"{where} is missing")
    return value


_KINDS: dict[type, str] = {str: "a string", int: "an integer", bool: "true or false", list: "a list", dict: "a table"}


def _cluster_name(name: str) -> str:
    if not 1 <= len(name) <= CLUSTER_NAME_CHARACTERS_MAX or not name.isprintable() or name != name.strip():
        raise ConfigError(f"cluster must be 1 to {CLUSTER_NAME_CHARACTERS_MAX} printable characters, not {name!r}")
    return name


def _directory_name(name: str) -> str:
    if not name or "\0" in name:
        raise ConfigError(f"data_dir must name a directory that is this node's alone, not {name!r}")
    return name


def _node_id(value: int, where: str) -> NodeId:
    if not 1 <= value <= NODE_ID_MAX:
        raise ConfigError(f"{where}: a node_id is a positive integer, not {value}")
    return NodeId(value)


def _host_port(value: str, where: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535 or "/" in host or (":" in host and host[0] != "["):
        raise ConfigError(f"{where} must be host:port (an IPv6 host in brackets), not {value!r}")
    return value


def _url(value: str, where: str) -> None:
    try:
        parts = urlsplit(value)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.path in {"", "/"} and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "?" in value or "#" in value or "@" in value:
        raise ConfigError(f"{where} must be a URL such as http://127.0.0.1:9101, not {value!r}")
