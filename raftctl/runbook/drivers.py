"""How a runbook stops, wipes and starts one node.

    http      asks the node's own endpoint, which stays up while its engine is stopped
    local     stops and starts the process that `raftctl dev up`, or this program, began on this machine
    command   runs the site's own commands (`command_driver.py`)
    manual    says what to do, and waits until it sees that it was done (`manual_driver.py`)

Rules:
1. Every verb may be repeated: what is so already stays so. A wipe repeated with the same order does nothing more.
2. A verb returns when its effect is there. A lost reply is no reason to give up, and none to believe that nothing happened.
3. Waits go through the run's `poll`, which keeps the cluster's lock.
Source: contract section 5 (drivers).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from raftctl.client import ClusterClient
from raftctl.errors import CtlError
from raftctl.model import Life, LogId, NodeStatus
from raftctl.sandbox import Sandbox

T = TypeVar("T")
Poll = Callable[[float], Callable[[], bool]]
"""`poll(seconds)` returns a function that waits a moment and says whether there is time left to look again."""

LEVER_S: Final = 30.0
"""Stopping waits for running writes to be answered, starting replays a log."""


class WipeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """`life`: the run of the engine that was stopped before the barrier `recover_until`; another one is not wiped."""

    recover_until: LogId
    life: Life | None
    reason: str


class Driver(Protocol):
    """One node's levers.

    `undoes_wipes`: retired data can be brought back; `names_retired`: a wipe, also a repeated one, tells where the data is.
    """

    name: str
    undoes_wipes: bool
    names_retired: bool

    def stop(self) -> None:
        """Return when the engine answers nothing any more."""

    def wipe(self, order: WipeOrder) -> str:
        """Return where the old data is kept. Only after `stop`."""

    def restore(self, retired: str) -> None:
        """Bring retired data back. Only after `stop`; refused when the node has gone on since."""

    def start(self) -> None:
        """Return when the engine runs."""


class HttpDriver:
    """Over the node's endpoint."""

    name = "http"
    undoes_wipes = True
    names_retired = True

    def __init__(
        self,
        client: ClusterClient,
        node: int,
        cluster: str,
        poll: Poll,
        tell: Callable[[str], None],
        patience_s: float = LEVER_S,
    ) -> None:
        """
        Args:
            tell: shows what is waited for while the node does not answer.
            patience_s: how long it is asked again, and then looked at.
        """
        self._client = client
        self._node = node
        self._cluster = cluster
        self._poll = poll
        self._tell = tell
        self._patience_s = patience_s

    def stop(self) -> None:
        self._until(lambda: self._client.stop_raft(self._node), lambda status: status.stopped, "stop")

    def wipe(self, order: WipeOrder) -> str:
        def ask() -> str:
            reply = self._client.wipe(
                self._node,
                cluster=self._cluster,
                recover_until=order.recover_until,
                reason=order.reason,
                expect_life=order.life,
            )
            return reply.retired_to

        return self._answered(ask)

    def restore(self, retired: str) -> None:
        self._answered(lambda: self._client.restore(self._node, cluster=self._cluster, retired=_name(retired)))

    def start(self) -> None:
        self._until(lambda: self._client.start_raft(self._node), lambda status: not status.stopped, "start")

    def _until(self, act: Callable[[], object], seen: Callable[[NodeStatus], bool], verb: str) -> None:
        """Act, until there is an answer; then look until the effect is there."""
        self._answered(act)
        again = self._poll(self._patience_s)
        while not self._is(seen):
            if not again():
                raise CtlError("not_observed", f"the engine did not {verb} within {self._patience_s:g} s")

    def _is(self, seen: Callable[[NodeStatus], bool]) -> bool:
        try:
            return seen(self._client.status(self._node))
        except CtlError as error:
            if error.code != "unreachable":
                raise
            return False

    def _answered(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer. Raises: CtlError: `reply_lost` also for a refusal after a request whose answer was lost."""
        again = self._poll(self._patience_s)
        is_lost = is_told = False
        while True:
            try:
                return ask()
            except CtlError as error:
                if error.outcome_unknown or error.code == "unreachable":
                    if not is_told:
                        is_told = True
                        self._tell(f"node {self._node}: {error.message}; asking again for up to {self._patience_s:g} s")
                    is_lost = is_lost or error.outcome_unknown
                    if again():
                        continue
                    if not is_lost:
                        raise
                if not is_lost:
                    raise
                message = f"a request to node {self._node} was sent and its answer lost; now: {error.message}"
                raise CtlError("reply_lost", message, hint=error.hint) from error


class LocalDriver:
    """A process of the sandbox, by its pid."""

    name = "local"
    undoes_wipes = True
    names_retired = True

    def __init__(self, sandbox: Path, client: ClusterClient, node: int, poll: Poll) -> None:
        self._sandbox = Sandbox.load(sandbox)
        self._client = client
        self._node = node
        self._poll = poll
        self._sandbox.check_has(node)

    def stop(self) -> None:
        self._sandbox.stop(self._node)

    def wipe(self, order: WipeOrder) -> str:
        boot = order.life.boot_count if order.life is not None else None
        return self._sandbox.wipe(self._node, order.recover_until, order.reason, boot)

    def restore(self, retired: str) -> None:
        self._sandbox.restore(self._node, _name(retired))

    def start(self) -> None:
        self._sandbox.start(self._node)
        again = self._poll(LEVER_S)
        while (status := look(self._client, self._node)) is None or status.stopped:
            if not again():
                self._sandbox.check_alive([self._node])
                raise CtlError("not_observed", f"the process of node {self._node} was started, and does not answer")


def look(client: ClusterClient, node: int) -> NodeStatus | None:
    """Return the node's status, None if it does not answer."""
    try:
        return client.status(node)
    except CtlError as error:
        if error.code not in {"unreachable", "node_not_found", "shutting_down"}:
            raise
        return None


def _name(retired: str) -> str:
    """Return the directory's own name: a node may answer with its path."""
    return Path(retired).name
