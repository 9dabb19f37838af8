"""Who may do what: bearer tokens with roles, the hosts this endpoint answers for, and no browsers.

A loopback address is no authentication: every page in a browser of the same machine can send requests to it. Therefore the
Host header must name a host of the allow-list (a rebound DNS name does not) and a request with an Origin is refused.

A token file has one token a line, `role name sha256:HEX`; `#` begins a comment. Only hashes are kept: tokens are random
strings, so a fast hash is enough, and the file, logs and errors never hold one.
Source: contract section 6; OWASP DNS rebinding; etcd and Prometheus keep the same roles apart.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import msgspec

from raft_engine.errors import ConfigError

_DIGEST_PREFIX = "sha256:"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Role(enum.IntEnum):
    """What a token may do; a higher one may do everything a lower one may."""

    OPEN = 0
    """No token needed: probes."""
    READ = 1
    OPERATE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


class Token(msgspec.Struct, frozen=True):
    """The SHA-256 of one token, whose it is and what it may do."""

    role: Role
    name: str
    digest: bytes


class Security(msgspec.Struct, frozen=True):
    """`tokens` empty: everybody who reaches the endpoint may do everything (loopback). `hosts`: lower case, without port."""

    hosts: frozenset[str]
    tokens: tuple[Token, ...] = ()

    def role_of(self, token: bytes) -> Role | None:
        """Return what `token` may do, None if it is not known. Takes the same time whichever token it is."""
        digest = hashlib.sha256(token).digest()
        found: Role | None = None
        for known in self.tokens:
            if hmac.compare_digest(known.digest, digest):
                found = known.role
        return found

    def answers_for(self, host_header: str) -> bool:
        """Return whether a Host header (with or without port) names this endpoint."""
        return host_name(host_header) in self.hosts


@lru_cache(maxsize=64)
def host_name(authority: str) -> str:
    """Return the lower-case host of `host`, `host:port`, `[v6]` or `[v6]:port`."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower().rstrip(".")


def allowed_hosts(listen: str, advertised: str, extra: Iterable[str] = ()) -> frozenset[str]:
    """Return the hosts to answer for: the listening one, the advertised one, this machine's own names if it is loopback.

    Args:
        listen: host:port.
        advertised: http(s) URL.
        extra: further names from the node file.
    """
    hosts = {host_name(listen), host_name(advertised.partition("://")[2].partition("/")[0]), *map(host_name, extra)}
    if is_loopback(host_name(listen)):
        hosts.update(_LOOPBACK_NAMES)
    return frozenset(hosts - {"", "0.0.0.0", "::"})  # noqa: S104 (taken out: nobody is called that)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hash_token(token: str) -> str:
    """Return a token as a token file holds it."""
    return _DIGEST_PREFIX + hashlib.sha256(token.encode()).hexdigest()


def load_tokens(path: Path) -> tuple[Token, ...]:
    """Return the tokens of a file.

    Raises: ConfigError: it cannot be read, others may write it, or a line is not a token; never quotes a line.
    """
    try:
        if path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise ConfigError(f"security.tokens: others may write {path}; take that away with: chmod go-w {path}")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"security.tokens: {path} cannot be read: {error}") from error
    tokens = tuple(
        _parse_token(line.split(), f"security.tokens: {path} line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    if not tokens:
        raise ConfigError(f"security.tokens: {path} has no token; a line is `role name sha256:HEX`")
    return tokens


def _parse_token(words: list[str], where: str) -> Token:
    if len(words) != 3:
        raise ConfigError(f"{where}: {len(words)} words; a line is `role name sha256:HEX`")
    role, name, digest = words
    if role not in {"read", "operate", "admin"}:
        raise ConfigError(f"{where}: the role is none of read, operate, admin")
    if not digest.startswith(_DIGEST_PREFIX):
        raise ConfigError(f"{where}: the third word must be sha256: and 64 hex digits, not the token itself")
    try:
        raw = bytes.fromhex(digest.removeprefix(_DIGEST_PREFIX))
    except ValueError:
        raw = b""
    if len(raw) != hashlib.sha256().digest_size:
        raise ConfigError(f"{where}: the third word must be sha256: and 64 hex digits")
    return Token(Role[role.upper()], name, raw)
