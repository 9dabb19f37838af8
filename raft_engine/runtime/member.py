"""One member of a cluster on one data directory: its birth, and starting, stopping and wiping its engine.

An engine is started anew when the node is born (the log then has its first entry), after a wipe, and when an operator asks.
The directory stays locked all the while. A blank member's engine runs mute: it answers the questions of a birth and takes
in a leader that admits it, and does nothing by itself.
Source: docs/decisions (first start of a cluster; ways back of a wiped node).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from raft_engine.config import Config
from raft_engine.errors import InitializeError, RaftError
from raft_engine.runtime import bootstrap
from raft_engine.runtime.bootstrap import BirthKeeper, birth_of
from raft_engine.runtime.raft import Raft
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.identity import Identity
from raft_engine.storage.interface import StateMachine
from raft_engine.transport.boots import Boots
from raft_engine.transport.bootstrap import bootstrap_call
from raft_engine.transport.tcp import TcpTransport
from raft_engine.types.bootstrap import BirthState, BootstrapQuery, BootstrapReply, BootstrapRequest
from raft_engine.types.hard_state import Recovery
from raft_engine.types.ids import Boot, NodeId, PeerId
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import NodeAddress, StoredMembership
from raft_engine.types.metrics import Alarm, RaftMetrics, ServerState

logger = logging.getLogger("raft_engine.node")

ASK_TIMEOUT_S = 2.0
RETRY_S = 0.25
"""Between two attempts at a birth: members are usually started within a second of each other."""
LATER_S = 2.0
"""Between two looks whether a cluster that went on without this node has taken it in."""
DIRECTORY_LOOK_S = 1.0
"""Between two looks whether the data directory is still there: how long a node may go on acknowledging without it."""
OLDER_COPY_HINT = (
    "stop this node and put back the directory it ran on last (whoever fenced it goes on doing so while it leads: raftctl "
    "transfer-leader); if that is lost, bring up a quorum of the other voters, move this data directory away, start it with an "
    "empty one, then raftctl rejoin-node {node} --blank"
)
"""Only a quorum of the others can let a new life in, and a node does not know whether there is one."""
ANSWER_LEAVES_S = 0.05
"""The answer to "start" goes out over the transport that is closed for starting; nothing else waits for it."""


class Member:
    """Owns an open `DataDir`; `start_raft` first, `close` at the end."""

    def __init__(
        self,
        data_dir: DataDir,
        config: Config,
        *,
        listen_raft: str,
        address: NodeAddress,
        make_state_machine: Callable[[], StateMachine],
        release_state_machine: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            make_state_machine: called each time the engine starts.
            release_state_machine: called, in a thread, when that engine has ended or could not start.
        """
        self.raft: Raft | None = None
        self.last_metrics: RaftMetrics | None = None
        """The engine's last picture, kept when it stopped."""
        self.failure: str | None = None
        """Why the engine ended by itself."""
        self.engine_starts = 0
        """How often the engine was started since this process began."""
        self.data_dir = data_dir
        self._config = config
        self._listen_raft = listen_raft
        self._address = address
        self._make_state_machine = make_state_machine
        self._release_state_machine = release_state_machine
        self._lever = asyncio.Lock()
        self._keeper = BirthKeeper(lambda: data_dir.identity, data_dir.save_identity, self._told_to_start)
        self._tasks: set[asyncio.Task[None]] = set()
        self._birth: asyncio.Task[None] | None = None
        self._rebirth: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self._settled = asyncio.Event()
        self._birth_alarm: Alarm | None = None
        known = {PeerId(item.node_id, item.incarnation): item.boot for item in self.identity.known}
        self._boots = Boots(lambda: self.identity.boots, known, self._keep_known_boots)
        self._is_boot_named = False
        self._keeping: asyncio.Task[None] | None = None
        self._cluster_ids: dict[NodeId, str] = {}
        """Of the peers that said hello while this node knew none."""

    @property
    def identity(self) -> Identity:
        return self.data_dir.identity

    @property
    def me(self) -> PeerId:
        return PeerId(self.identity.node_id, self.identity.incarnation)

    @property
    def birth(self) -> BirthState:
        return birth_of(self.identity)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        birth = (self._birth_alarm,) if self._birth_alarm is not None else ()
        hint = OLDER_COPY_HINT.format(node=self.me.node_id)
        return (*birth, *(Alarm("older_copy", said, hint, self.me.node_id) for said in self._refusals()))

    def _refusals(self) -> list[str]:
        """Return what the first of those says who refuse this node as it runs on an older copy of its directory."""
        return [said for _, said in sorted(self._boots.refused_by.items())][:1]

    # -- the engine ----------------------------------------------------------------------------------------------------

    async def start_raft(self) -> None:
        """Start the engine; nothing if it runs. Raises: RaftError: the directory or the address cannot be used."""
        async with self._lever:
            await self._start()

    async def stay_stopped(self) -> None:
        """Show of a member whose engine is not started what its hard state says; instead of `start_raft`.

        Raises: Damaged, NewerFormat, StorageFailed.
        """
        stored = await asyncio.to_thread(self.data_dir.stored_hard_state)
        self.last_metrics = RaftMetrics(
            self.me, ServerState.SHUTDOWN, stored.vote.term, stored.vote, recovery=stored.recovery
        )

    async def stop_raft(self) -> None:
        """Stop the engine; everybody who waits is answered. Nothing if it is stopped."""
        async with self._lever:
            await self._stop("the engine was stopped")

    async def wipe(self, recover_until: LogId, reason: str) -> str:
        """Retire log, snapshots and state machine, keep the vote; return the name of the directory they are in.

        Raises: WouldLose: the barrier cannot have been made after the engine was stopped; StorageFailed.
        """
        async with self._lever:
            assert self.raft is None, "only a stopped engine can be wiped"
            await asyncio.to_thread(self.data_dir.check_in_place)
            await asyncio.to_thread(self.data_dir.check_barrier, recover_until)
            retired_to = await asyncio.to_thread(self.data_dir.wipe, recover_until, reason)
        if self.last_metrics is not None:
            self.last_metrics = msgspec.structs.replace(
                self.last_metrics,
                recovery=await self._stored_recovery(),
                last_log=BEFORE_LOG,
                committed=BEFORE_LOG,
                applied=BEFORE_LOG,
                snapshot=BEFORE_LOG,
                purged=BEFORE_LOG,
                membership=StoredMembership(),
                committed_membership=StoredMembership(),
            )
        return retired_to

    async def restore(self, retired: str) -> str:
        """Undo a wipe; return the name of the directory in which what came since is now."""
        async with self._lever:
            assert self.raft is None, "only a stopped engine's data can be restored"
            await asyncio.to_thread(self.data_dir.check_in_place)
            aside = await asyncio.to_thread(self.data_dir.restore_retired, retired)
        if self.last_metrics is not None:
            self.last_metrics = msgspec.structs.replace(self.last_metrics, recovery=await self._stored_recovery())
        return aside

    async def _stored_recovery(self) -> Recovery | None:
        """What the node waits for when it is started: the latest of the barriers of all its wipes."""
        return (await asyncio.to_thread(self.data_dir.stored_hard_state)).recovery

    async def close(self) -> None:
        """Stop everything and give the directory back."""
        if self._birth is not None:
            self._birth.cancel()
        await self._reborn()
        async with self._lever:
            await self._stop("the node was shut down")
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.data_dir.close()

    async def _start(self) -> None:
        if self.raft is not None:
            return
        if not self._is_boot_named:
            await asyncio.to_thread(self.data_dir.name_boot, secrets.token_hex(8))
            self._is_boot_named = True
        await asyncio.to_thread(self._open_stores)
        transport = TcpTransport(
            self.identity.cluster,
            lambda: self.identity.cluster_id,
            self.me,
            self._listen_raft,
            bootstrap=self._keeper.answer,
            on_hello=self._heard_of,
            boots=self._boots,
            backoff_min_ms=self._config.reconnect_backoff_min_ms,
            backoff_max_ms=self._config.reconnect_backoff_max_ms,
        )
        try:
            raft = await Raft.start(
                self._config,
                self.me,
                log=self.data_dir.log,
                snapshots=self.data_dir.snapshots,
                state_machine=self._make_state_machine(),
                transport=transport,
            )
        except BaseException:
            await asyncio.to_thread(self._close_stores)
            raise
        raft.owns(self._close_stores)
        self.raft = raft
        self.engine_starts += 1
        self.failure = None
        self._run(self._watch(raft))
        self._run(self._watch_directory(raft))
        if not self.identity.cluster_id:
            self._run(self._join(raft))

    def _open_stores(self) -> None:
        self.data_dir.check_in_place()
        self.data_dir.open_stores()
        try:
            self.data_dir.ensure_first_entry()
        except BaseException:
            self.data_dir.close_stores()
            raise

    def _close_stores(self) -> None:
        self._release_state_machine()
        self.data_dir.close_stores()

    async def _stop(self, reason: str) -> None:
        raft = self.raft
        if raft is None:
            return
        await raft.shutdown(reason)
        self.last_metrics = raft.metrics()
        self.failure = raft.fatal
        self.raft = None

    async def _watch(self, raft: Raft) -> None:
        """When the engine ends by itself, keep why, and release what it held."""
        await raft.wait_over()
        async with self._lever:
            if self.raft is raft and raft.fatal is not None:
                await self._stop(raft.fatal)

    async def _watch_directory(self, raft: Raft) -> None:
        """End the engine when its directory is gone: the files it has open would take in what nobody finds again."""
        over = asyncio.create_task(raft.wait_over())
        try:
            while not (await asyncio.wait([over], timeout=DIRECTORY_LOOK_S))[0]:
                await asyncio.to_thread(self.data_dir.check_in_place)
        except RaftError as error:
            raft.fail(error)
        finally:
            over.cancel()

    # -- joining -------------------------------------------------------------------------------------------------------

    def _heard_of(self, peer: PeerId, cluster_id: str) -> None:
        if cluster_id and not self.identity.cluster_id:
            self._cluster_ids[peer.node_id] = cluster_id

    async def _join(self, raft: Raft) -> None:
        """Take on the id of the cluster whose leader admitted this node, which took no part in the birth."""
        with contextlib.suppress(RaftError):
            while self.raft is raft and not self.identity.cluster_id:
                version, seen = raft.version, raft.metrics()
                cluster_id = self._cluster_ids.get(seen.leader) if seen.leader is not None else None
                if cluster_id and seen.membership.membership.is_member(self.me):
                    async with self._lever:
                        joined = msgspec.structs.replace(self.identity, cluster_id=cluster_id)
                        await asyncio.to_thread(self.data_dir.save_identity, joined)
                    return
                await raft.wait_change(version, LATER_S)

    def _keep_known_boots(self) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = self._run(self._save_known_boots())

    async def _save_known_boots(self) -> None:
        """Write down which starts of peers were heard of, until nothing new was heard meanwhile."""
        known: dict[PeerId, Boot] = {}
        while known != self._boots.known:
            known = self._boots.known
            try:
                await asyncio.to_thread(self.data_dir.keep_known_boots, known)
            except RaftError as error:
                logger.warning("which starts of its peers this node knows could not be written down: %s", error)
                return

    # -- birth ---------------------------------------------------------------------------------------------------------

    async def init(self, members: Mapping[NodeId, NodeAddress]) -> None:
        """Give birth to the cluster with these first members. Raises: InitializeError."""
        await bootstrap.initialise(self.identity.cluster, self.me.node_id, members, self._ask)
        await self._reborn()

    async def abort_init(self) -> None:
        """Forget a preparation that never started. Raises: InitializeError: it has started."""
        await bootstrap.abort(self.identity.cluster, self.identity, self._ask)

    async def identify(self, node_id: NodeId, address: str) -> PeerId:
        """Return the life of the node that answers at this raft address. Raises: InitializeError."""
        return await bootstrap.identify(self.identity.cluster, self.identity.cluster_id, node_id, address, self._ask)

    def begin_bootstrap(self, members: Mapping[NodeId, NodeAddress]) -> None:
        """Take part in a birth with exactly these members, unless this node has been born; the lowest id initiates it."""
        if self.birth is BirthState.STARTED:
            self._settled.set()
        else:
            self._birth = self._run(self._be_born(dict(members)))

    async def settled(self) -> None:
        """Return when the birth that was begun is over, or the cluster is found to have gone on without this node."""
        await self._settled.wait()

    async def _be_born(self, members: dict[NodeId, NodeAddress]) -> None:
        said = ""
        while self.birth is not BirthState.STARTED:
            problem = await self._try_birth(members)
            if problem is not None and str(problem) != said:
                said = str(problem)
                logger.info("waiting for the cluster's birth: %s", problem)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LATER_S if self._birth_alarm is not None else RETRY_S):
                    await self._told.wait()
        self._birth_alarm = None
        await self._reborn()
        self._settled.set()

    async def _try_birth(self, members: dict[NodeId, NodeAddress]) -> InitializeError | None:
        """Initiate the birth, or look how far its initiator is; return what stands in the way."""
        if self.me.node_id == min(members):
            try:
                await self.init(members)
            except InitializeError as error:
                if error.code == "already_initialized":
                    self._go_on_mute(error.detail)
                return error
        else:
            started = await self._started_without_me(members)
            if started:
                self._go_on_mute(f"{bootstrap.names(started)} already in a started cluster")
        return None

    async def _started_without_me(self, members: dict[NodeId, NodeAddress]) -> list[NodeId]:
        """Return which members belong to a cluster whose first configuration does not name this life of this node."""
        request = BootstrapQuery(self.identity.cluster)
        replies = await asyncio.gather(
            *(self._ask(address.raft, request) for address in members.values()), return_exceptions=True
        )
        known = {
            node_id: reply for node_id, reply in zip(members, replies, strict=True) if isinstance(reply, BootstrapReply)
        }
        return bootstrap.started_without(self._keeper.answer(request), known)

    def _go_on_mute(self, why: str) -> None:
        """The cluster has started without this life of the node: it waits, mute, to be admitted."""
        detail = f"this node is blank and was not admitted: {why}; it does not vote and waits"
        hint = f"raftctl rejoin-node {self.me.node_id} --blank"
        if self._birth_alarm is None:
            logger.warning("%s (hint: %s)", detail, hint)
        self._birth_alarm = Alarm("not_admitted", detail, hint, self.me.node_id)
        self._settled.set()

    async def _ask(self, address: str, request: BootstrapRequest) -> BootstrapReply:
        if address == self._address.raft:
            return self._keeper.answer(request)
        return await bootstrap_call(address, self.identity.cluster, request, ASK_TIMEOUT_S)

    def _told_to_start(self) -> None:
        self._rebirth = self._run(self._start_anew())
        self._told.set()

    async def _start_anew(self) -> None:
        await asyncio.sleep(ANSWER_LEAVES_S)
        async with self._lever:
            if self.raft is None:
                return
            await self._stop("the cluster is born: the engine starts anew")
            try:
                await self._start()
            except (RaftError, OSError) as error:
                self.failure = str(error)
                logger.critical("the engine could not start after the cluster's birth: %s", error)

    async def _reborn(self) -> None:
        """Return when the engine runs with the first configuration."""
        if self._rebirth is not None:
            await asyncio.shield(self._rebirth)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
