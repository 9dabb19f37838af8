"""What the endpoint needs of a node: its engine, its store, its identity, and the levers that reach beyond the engine.

The node is above this room, so the room says here what it wants and `raft_engine.node.Node` fits it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from raft_engine.kv.store import KeyValueStore
from raft_engine.management.access import Security
from raft_engine.runtime.raft import Raft
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.ids import Incarnation, NodeId, PeerId
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.metrics import Alarm, RaftMetrics


class NodeControl(Protocol):
    """One node as the endpoint sees it. Every property may be read at any time, also while the engine is stopped."""

    @property
    def cluster(self) -> str:
        """Name of the cluster."""

    @property
    def cluster_id(self) -> str:
        """Drawn at the cluster's birth; empty on a node that belongs to none yet."""

    @property
    def node_id(self) -> NodeId: ...

    @property
    def incarnation(self) -> Incarnation: ...

    @property
    def boot_count(self) -> int: ...

    @property
    def engine_starts(self) -> int:
        """How often the engine was started since this process began: with the boot counter it names a run of the engine."""

    @property
    def version(self) -> str:
        """Version of the program."""

    @property
    def birth(self) -> BirthState:
        """BLANK and PREPARED: `init` has not come (or not come through) yet."""

    @property
    def advertised(self) -> NodeAddress:
        """Where others are told to reach this node."""

    @property
    def election_timeout_max_ms(self) -> float:
        """The longest a follower of these settings waits for its leader."""

    @property
    def security(self) -> Security: ...

    @property
    def raft(self) -> Raft | None:
        """The running engine; None while it is stopped or gone."""

    @property
    def last_metrics(self) -> RaftMetrics | None:
        """The engine's last picture, kept when it stopped."""

    @property
    def fatal(self) -> str | None:
        """Why the engine is gone, if it was not stopped on purpose."""

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The node's own alarms; the engine's are in its metrics."""

    @property
    def store(self) -> KeyValueStore:
        """The bundled state machine; another object after a wipe or a restart of the engine."""

    async def stop_raft(self) -> None:
        """Stop the engine, answer everybody who waits; nothing if it is stopped."""

    async def start_raft(self) -> None:
        """Start the engine again; nothing if it runs.

        Raises: RaftError: the data directory cannot be used.
        """

    async def wipe(self, recover_until: LogId, reason: str) -> str:
        """Retire log, snapshots and state machine, keep the vote; return where the old data is. Engine stopped only."""

    async def restore(self, retired: str) -> str:
        """Undo a wipe; return where what came since is now. Engine stopped only.

        Raises: StorageError: no such data, or the node has gone on since.
        """

    async def init(self, members: Mapping[NodeId, NodeAddress]) -> None:
        """Give birth to the cluster with these first members.

        Raises: InitializeError.
        """

    async def abort_init(self) -> None:
        """Forget a preparation that never started.

        Raises: InitializeError: it has started.
        """

    async def identify(self, node_id: NodeId, raft_address: str) -> PeerId:
        """Ask who answers at this raft address; return the node's present life.

        Raises: InitializeError: nobody, another node, or a member of another cluster.
        """

    def request_shutdown(self) -> None:
        """Begin to end the process; returns at once."""

    def free_bytes(self) -> int:
        """Free space in the data directory's file system."""
