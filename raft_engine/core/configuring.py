"""Which configuration is in force: the newest one in the log, committed or not.

It is adopted when its entry is appended and taken back when that entry is truncated.
Source: dissertation 4.1; openraft `membership/effective_membership.rs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from raft_engine.core.commands import SetPeers
from raft_engine.core.outbox import Outbox
from raft_engine.core.state import RaftState
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.membership import StoredMembership, decode_membership

_MEMBERSHIP: Final = int(EntryKind.MEMBERSHIP)
"""Every entry is looked at: comparing plain numbers takes half as long as asking the enumeration."""


def adopt(state: RaftState, entries: Sequence[Entry], out: Outbox) -> bool:
    """Put the configurations among freshly appended `entries` in force. Return whether there were any.

    Raises: ValueError: an entry of that kind does not hold a configuration.
    """
    found = False
    for entry in entries:
        if entry.kind == _MEMBERSHIP:
            try:
                membership = decode_membership(entry.data)
            except msgspec.MsgspecError as error:
                raise ValueError(f"entry {entry} does not hold a configuration: {error}") from error
            state.memberships.append(StoredMembership(entry.log_id, membership))
            found = True
    if found:
        set_peers(state, out)
    return found


def take_back(state: RaftState, after: int, out: Outbox) -> None:
    """The log was cut after `after`: configurations beyond it are no longer in force."""
    kept = [stored for stored in state.memberships if stored.log_id.index <= after]
    if len(kept) < len(state.memberships):
        state.memberships = kept or [StoredMembership()]
        set_peers(state, out)
        out.report("membership_taken_back", f"{state.effective.log_id} {state.membership} is in force again")


def forget_superseded(state: RaftState) -> None:
    """Drop configurations that a newer committed one has replaced."""
    while len(state.memberships) > 1 and state.memberships[1].log_id.index <= state.committed:
        del state.memberships[0]


def set_peers(state: RaftState, out: Outbox) -> None:
    """Have the transport keep connections to all other members."""
    membership = state.membership
    peers = {peer: membership.nodes[peer.node_id] for peer in sorted(membership.members()) if peer != state.me}
    out.push(SetPeers(peers))
