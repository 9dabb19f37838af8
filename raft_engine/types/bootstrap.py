"""How a cluster is born: the initiator asks, has every first member prepare, then tells all to start.

Blank nodes do not vote and incarnations are random, so the first configuration cannot be guessed: it is collected. A node
that belongs to a started cluster ends the attempt. These messages go between raft addresses, before any engine runs.
Source: own protocol, argued in docs/decisions.
"""

from __future__ import annotations

import enum

import msgspec

from raft_engine.types.ids import Incarnation, NodeId
from raft_engine.types.membership import Membership


class BirthState(enum.StrEnum):
    """How far a data directory has come."""

    BLANK = "blank"
    PREPARED = "prepared"
    STARTED = "started"


class BootstrapQuery(msgspec.Struct, frozen=True, tag="query"):
    """Who are you, and are you blank?"""

    cluster: str


class BootstrapPrepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Keep this first configuration, durably. Refused by a node that is prepared for another one or started."""

    cluster: str
    cluster_id: str
    membership: Membership


class BootstrapStart(msgspec.Struct, frozen=True, tag="start"):
    """All have prepared: begin."""

    cluster: str
    cluster_id: str


class BootstrapAbort(msgspec.Struct, frozen=True, tag="abort"):
    """Forget a preparation that never started."""

    cluster: str
    cluster_id: str


BootstrapRequest = BootstrapQuery | BootstrapPrepare | BootstrapStart | BootstrapAbort


class BootstrapReply(msgspec.Struct, frozen=True):
    """The answering node as it is after the request. `error` empty: done."""

    node_id: NodeId
    incarnation: Incarnation
    state: BirthState
    cluster_id: str = ""
    membership: Membership | None = None
    error: str = ""
