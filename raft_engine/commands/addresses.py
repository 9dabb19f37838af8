"""Whether a node could listen where its file says, found out without listening: what a start would find out too late.

Source: public contract, section 1 (`check-config`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from raft_engine.errors import ConfigError
from raft_engine.transport.connection import split_address

_REASONS: Final[Mapping[int, tuple[str, str]]] = {
    errno.EADDRINUSE: ("is taken", "this node runs already, or another program listens there: see ss -ltnp"),
    errno.EADDRNOTAVAIL: (
        "is not an address of this machine",
        "listen on one of its own (ip addr lists them), and put the one that others reach under [advertise]",
    ),
    errno.EACCES: ("may not be listened on by this user", "take a port above 1023"),
}

_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 (recognised, not listened on)
"""Stands for every address of its family."""


def check_apart(file: Path, management: str, raft: str) -> None:
    """Check that a node's two listening addresses are two; a name that nobody knows is not judged here.

    Args:
        file: where they stand.
    Raises: ConfigError: they are one, whatever each of them calls it.
    """
    try:
        (family, (host, port)), (other_family, (other_host, other_port)) = _resolved(management), _resolved(raft)
    except (socket.gaierror, UnicodeError):
        return
    hosts = {host, other_host}
    if (family, port) == (other_family, other_port) and port != 0 and (len(hosts) == 1 or hosts & _ANY_HOST):
        raise ConfigError(
            f"{file}: listen.management ({management}) and listen.raft ({raft}) are the same address: give each a port of its own"
        )


def why_not(setting: str, address: str) -> str | None:
    """Return what keeps a process from listening there now and what to do about it, None: nothing.

    Args:
        setting: the address's name in the node's file.
        address: `host:port`.
    """
    try:
        family, place = _resolved(address)
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a start does
            tried.bind(place)
    except socket.gaierror as error:
        return f"{setting} {address}: the name is not known here ({error.strerror}); write it as an IP address"
    except UnicodeError as error:
        return f"{setting} {address}: that cannot be a name ({error}); write it as an IP address"
    except OSError as error:
        said, hint = _REASONS.get(error.errno or 0, (f"cannot be listened on ({error.strerror})", "choose another one"))
        return f"{setting} {address} {said}; {hint}"
    return None


def _resolved(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return where a start would listen: the first place that a name stands for."""
    host, port = split_address(address)
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, (str(place[0]), int(place[1]))
