"""An engine for an application in one call: data directory, TCP transport and the first members' birth included.

    raft = await open_raft("data/1", node_id=1, members={1: "127.0.0.1:7001", …}, state_machine=Counter())

The members named are the cluster's first ones; each calls this with the same `members`, and it returns when all of them
have answered and the engine runs.
Source: own design.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raft_engine.config import Config
from raft_engine.runtime.member import Member
from raft_engine.runtime.raft import Raft
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.interface import StateMachine
from raft_engine.types.ids import NodeId
from raft_engine.types.membership import NodeAddress


async def open_raft(
    directory: str | Path,
    *,
    node_id: int,
    members: Mapping[int, str],
    state_machine: StateMachine,
    cluster: str = "raft",
    config: Config | None = None,
) -> Raft:
    """Open (or create) `directory` and return its running engine; `shutdown` closes everything.

    The first start of all waits, for as long as it takes, until every first member runs: start them side by side. What it
    waits for is logged by `raft_engine.node`. Later starts wait for nobody.

    Args:
        members: raft address (host:port) of each first member, this node among them.
    Raises: ValueError: this node is not among the members. StorageError, TransportError, Fatal.
    """
    if node_id not in members:
        raise ValueError(f"node {node_id} is not among the members {sorted(members)}")
    listen = members[node_id]
    addresses = {NodeId(member): NodeAddress(raft=address, management="") for member, address in members.items()}
    member = Member(
        DataDir(Path(directory), cluster, NodeId(node_id), open_stores=False),
        config or Config(),
        listen_raft=listen,
        address=addresses[NodeId(node_id)],
        make_state_machine=lambda: state_machine,
    )
    try:
        await member.start_raft()
        member.begin_bootstrap(addresses)
        await member.settled()
    except BaseException:
        await member.close()
        raise
    raft = member.raft
    assert raft is not None, member.failure
    raft.owns(member.data_dir.close)
    return raft
