"""One node out of its node.toml: data directory, engine, key-value store, peer transport and management endpoint.

The endpoint stays up while the engine is stopped, wiped or failed, so that an operator can see why and mend it.
Source: public contract, sections 1 and 3.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Mapping

from raft_engine import __version__, is_compiled
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.kv.store import KeyValueStore
from raft_engine.management.server import ManagementServer
from raft_engine.node_config import NodeConfig
from raft_engine.runtime.member import Member
from raft_engine.runtime.raft import Raft
from raft_engine.storage.data_dir import DataDir
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.ids import Incarnation, NodeId, PeerId
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.metrics import Alarm, RaftMetrics

logger = logging.getLogger("raft_engine.node")


def _collect_cycles() -> None:
    """Free what refers to itself, as a stopped engine with its caches does, also where `serve` has the collector look next to never."""
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if was_frozen:
        gc.freeze()


class Node:
    """A `NodeControl`. `await Node.open(config, ending)`, then `await node.run()`."""

    def __init__(self, config: NodeConfig, data_dir: DataDir, ending: asyncio.Event) -> None:
        self._config = config
        self._data_dir = data_dir
        self.security = config.security
        self.store: KeyValueStore = MemoryStore()
        """Empty, until the engine starts for the first time."""
        self._member = Member(
            data_dir,
            config.raft,
            listen_raft=config.listen_raft,
            address=config.advertise,
            make_state_machine=self._open_store,
            release_state_machine=self._close_store,
        )
        self._server = ManagementServer(self)
        self._ending = ending

    @classmethod
    async def open(cls, config: NodeConfig, ending: asyncio.Event, *, starts_engine: bool = True) -> Node:
        """Lock the data directory, start the engine and listen.

        Args:
            ending: set by whoever wants the node to end.
            starts_engine: without it only the endpoint is there, for wiping a node whose log cannot be opened.
        Raises: StorageError: the directory cannot be used. TransportError: an address cannot be listened on.
        """
        data_dir = DataDir(
            config.data_dir,
            config.cluster,
            config.node_id,
            open_stores=False,
            snapshots_to_keep=config.snapshots_to_keep,
        )
        node = cls(config, data_dir, ending)
        try:
            if starts_engine:
                await node._member.start_raft()
            else:
                await node._member.stay_stopped()
            host, _, port = config.listen_management.rpartition(":")
            await node._server.start(host.strip("[]"), int(port))
        except BaseException:
            await node._member.close()
            raise
        node._say_hello()
        if not starts_engine:
            logger.warning(
                "the engine is stopped, as was asked for: raftctl rejoin-node %d, or POST /v1/node/start-raft", node.node_id
            )
        elif config.bootstrap is not None:
            node._member.begin_bootstrap(config.bootstrap)
        return node

    async def run(self) -> None:
        """Return when the node has ended, after `ending` was set."""
        await self._ending.wait()
        logger.info("node %d shuts down", self.node_id)
        await self._member.stop_raft()  # everybody who waits is answered, so the endpoint has nothing left to wait for
        await self._server.stop()
        await self._member.close()

    def _say_hello(self) -> None:
        logger.info(
            "node %d of cluster %r (incarnation %s, boot %d, %s): management http://%s, peers %s, data %s%s",
            self.node_id,
            self.cluster,
            self.incarnation[:8],
            self.boot_count,
            self.birth,
            self._config.listen_management,
            self._config.listen_raft,
            self._config.data_dir,
            ", compiled build" if is_compiled() else "",
        )
        for alarm in self._config.alarms:
            logger.warning("%s: %s (hint: %s)", alarm.code, alarm.detail, alarm.hint)

    def _open_store(self) -> KeyValueStore:
        in_memory = self._config.state_machine == "memory"
        self.store = MemoryStore() if in_memory else DiskStore(self._data_dir.state_machine_path)
        return self.store

    def _close_store(self) -> None:
        self.store.close()

    # -- what the endpoint sees ----------------------------------------------------------------------------------------

    @property
    def cluster(self) -> str:
        return self._config.cluster

    @property
    def cluster_id(self) -> str:
        return self._data_dir.identity.cluster_id

    @property
    def node_id(self) -> NodeId:
        return self._config.node_id

    @property
    def incarnation(self) -> Incarnation:
        return self._data_dir.identity.incarnation

    @property
    def boot_count(self) -> int:
        return self._data_dir.identity.boot_count

    @property
    def engine_starts(self) -> int:
        return self._member.engine_starts

    @property
    def version(self) -> str:
        return __version__

    @property
    def birth(self) -> BirthState:
        return self._member.birth

    @property
    def advertised(self) -> NodeAddress:
        return self._config.advertise

    @property
    def election_timeout_max_ms(self) -> float:
        return self._config.raft.election_timeout_max_ms

    @property
    def raft(self) -> Raft | None:
        return self._member.raft

    @property
    def last_metrics(self) -> RaftMetrics | None:
        return self._member.last_metrics

    @property
    def fatal(self) -> str | None:
        raft = self._member.raft
        return raft.fatal if raft is not None else self._member.failure

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        return (*self._config.alarms, *self._member.alarms)

    # -- its levers ----------------------------------------------------------------------------------------------------

    async def stop_raft(self) -> None:
        await self._member.stop_raft()
        _collect_cycles()

    async def start_raft(self) -> None:
        await self._member.start_raft()

    async def wipe(self, recover_until: LogId, reason: str) -> str:
        return await self._member.wipe(recover_until, reason)

    async def restore(self, retired: str) -> str:
        return await self._member.restore(retired)

    async def init(self, members: Mapping[NodeId, NodeAddress]) -> None:
        await self._member.init(members)

    async def abort_init(self) -> None:
        await self._member.abort_init()

    async def identify(self, node_id: NodeId, raft_address: str) -> PeerId:
        return await self._member.identify(node_id, raft_address)

    def request_shutdown(self) -> None:
        self._ending.set()

    def free_bytes(self) -> int:
        return self._data_dir.free_bytes()
