"""Ports for nodes of tests, each for one node only.

Whoever draws a port by lot and looks whether it is free has it taken by somebody who looks at the same moment, or while its
node is down. So each process that runs tests has blocks of ports of its own: a socket that listens on a block's first port
tells the others that it is taken, until the process ends. In its blocks it goes round, and comes to a port again only when
the nodes that had it are long gone.
"""

from __future__ import annotations

import atexit
import itertools
import random
import socket
from collections.abc import Iterator

BLOCK = 200
BLOCKS_EACH = 4
FIRST, BEHIND = 10_000, 32_000
"""Below the range from which the system takes the near ends of outgoing connections (from 32,768 on)."""
SANDBOX_PEERS_ABOVE = 100
"""How far a sandbox's peer ports are above its management ports."""
SANDBOX_NODES = 3


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody else gets."""
    free = (port for port in itertools.islice(_ports, BLOCK * BLOCKS_EACH) if is_free(port))
    found = list(itertools.islice(free, count))
    assert len(found) == count, f"no {count} free ports in the blocks of this process"
    return found


def free_sandbox_port() -> int:
    """Return a port from which on a sandbox finds those that it wants, for three nodes."""
    for base in itertools.islice(_sandboxes, SANDBOX_PEERS_ABOVE):
        numbers = range(base, base + SANDBOX_NODES)
        if all(is_free(number) and is_free(number + SANDBOX_PEERS_ABOVE) for number in numbers):
            return base
    raise AssertionError("no free ports for a sandbox")


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _own_block() -> int:
    """Take a block; return its first port, which is the one that tells others."""
    blocks = list(range(FIRST, BEHIND, BLOCK))
    for first in random.sample(blocks, len(blocks)):
        try:
            guard = socket.create_server(("127.0.0.1", first))
        except OSError:
            continue
        atexit.register(guard.close)
        return first
    raise AssertionError(f"all {len(blocks)} blocks of ports are taken by other processes that run tests")


def _round() -> Iterator[int]:
    """Yield the ports of the blocks, again and again; a block is taken when its turn comes first."""
    blocks: list[int] = []
    while len(blocks) < BLOCKS_EACH:
        blocks.append(_own_block())
        yield from range(blocks[-1] + 1, blocks[-1] + BLOCK)
    for block in itertools.cycle(blocks):
        yield from range(block + 1, block + BLOCK)


def _sandbox_round() -> Iterator[int]:
    block = _own_block()
    while True:
        yield from range(block + 1, block + SANDBOX_PEERS_ABOVE - SANDBOX_NODES, SANDBOX_NODES)


_ports = _round()
_sandboxes = _sandbox_round()
