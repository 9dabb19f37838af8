"""The first entry of a cluster whose members bring stores of their own.

    if initialize(log, me, members):
        print("a new cluster")
    raft = await Raft.start(config, me, log=log, …)

Every first member does this with the same members before its engine starts for the first time, and none of them ever again with
others: what makes that so is the application's. (`open_raft` and `raft-engine serve` ask all members first, and remember it.)
Source: openraft `raft/api/management.rs` (`initialize`); docs/decisions (first start of a cluster).
"""

from __future__ import annotations

from collections.abc import Mapping

from raft_engine.errors import NotAllowed, NotInMembers
from raft_engine.storage.interface import LogStorage
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import NOBODY, LogIndex, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import NodeAddress, encode_membership, uniform


def initialize(log: LogStorage, me: PeerId, members: Mapping[PeerId, NodeAddress]) -> bool:
    """Write the cluster's first configuration into a blank log, durably; return whether it had to be done.

    Args:
        members: the same on each of them, addresses included.
    Raises: NotInMembers. NotAllowed: this node has voted, or holds other entries. StorageError.
    """
    if me not in members:
        raise NotInMembers(f"node {me} is not among the members {', '.join(map(str, sorted(members)))}")
    data = encode_membership(uniform(members, {peer.node_id: address for peer, address in members.items()}))
    entry = make_entry(Term(0), NOBODY, LogIndex(1), EntryKind.MEMBERSHIP, data)
    state = log.state()
    if state.last == BEFORE_LOG:
        if log.hard_state() != HardState():
            raise NotAllowed(f"node {me} has voted ({log.hard_state().vote}), so it belongs to a cluster already")
        log.append([entry])
        log.sync()
        return True
    if state.purged == BEFORE_LOG and log.read(LogIndex(0), LogIndex(1), len(entry.record)) != [entry]:
        raise NotAllowed(f"the log of node {me} begins with other members and ends with {state.last}")
    return False
