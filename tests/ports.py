"""Ports for nodes of tests."""

from __future__ import annotations

import random
import socket


def free_ports(count: int) -> list[int]:
    """Return different ports that were free a moment ago.

    Below the range from which the system takes the near ends of outgoing connections: a node that is down for a while must
    find its port again.
    """
    found: list[int] = []
    for port in random.sample(range(10_000, 32_000), 1000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"no {count} free ports among 1000")
