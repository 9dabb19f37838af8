"""Which number is which: one name per kind of identifier.

Source: dissertation 3.1; openraft `docs/data/`.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

NodeId = NewType("NodeId", int)
"""Operator-chosen, positive, unique in the cluster. 0 means "nobody"."""

Incarnation = NewType("Incarnation", str)
"""32 hex digits (128 random bits), drawn once when a data directory is created."""

Term = NewType("Term", int)
LogIndex = NewType("LogIndex", int)
"""1-based; 0 means "before the log"."""

Ticket = NewType("Ticket", int)
"""Number of a waiting caller. The core answers tickets, the runtime knows who holds them."""

IoId = NewType("IoId", int)
"""Number of a write handed to the log; completions come in this order."""

Millis = float
"""Milliseconds on the node's monotonic clock."""

NOBODY = NodeId(0)
UNKNOWN_INCARNATION = Incarnation("0" * 32)


class Boot(NamedTuple):
    """One run of a node's process: the how many-th start of its data directory, and the name drawn for it.

    A directory restored from an older copy counts the same starts again, under other names.
    """

    number: int
    name: str


class PeerId(NamedTuple):
    """One life of one node: a wiped node comes back as another peer with the same id."""

    node_id: NodeId
    incarnation: Incarnation

    def __str__(self) -> str:
        return f"n{self.node_id}.{self.incarnation[:6]}"
