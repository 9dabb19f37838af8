"""Whether a node could listen where its file says, tried without listening: what a start would find out too late.

Source: public contract, section 1 (`check-config`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Final

from raft_engine.transport.connection import split_address

_REASONS: Final[Mapping[int, tuple[str, str]]] = {
    errno.EADDRINUSE: ("is taken", "this node runs already, or another program listens there: see ss -ltnp"),
    errno.EADDRNOTAVAIL: (
        "is not an address of this machine",
        "listen on one of its own (ip addr lists them), and put the one that others reach under [advertise]",
    ),
    errno.EACCES: ("may not be listened on by this user", "take a port above 1023"),
}


def why_not(setting: str, address: str) -> str | None:
    """Return what keeps a process from listening there now and what to do about it, None: nothing.

    Args:
        setting: the address's name in the node's file.
        address: `host:port`.
    """
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
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
