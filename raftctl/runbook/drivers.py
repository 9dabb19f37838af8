"""How a runbook stops, wipes and starts one node.

`http` asks the node's own endpoint, which stays up while its engine is stopped. `local` stops and starts the process that
`raftctl dev up` began on this machine, and wipes with `raft-engine wipe`.
Source: contract section 5 (drivers).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from raftctl.client import ClusterClient
from raftctl.errors import CtlError
from raftctl.model import LogId
from raftctl.session import poll

_LEVER_S: Final = 30.0
"""Stopping waits for running writes to be answered, starting replays a log."""


class Driver(Protocol):
    """All three may be repeated: what is so already stays so."""

    name: str

    def stop(self) -> None:
        """Return when the engine answers nothing any more."""

    def wipe(self, recover_until: LogId, reason: str) -> str:
        """Return where the old data is kept. Only after `stop`."""

    def start(self) -> None:
        """Return when the engine runs."""


class HttpDriver:
    """Over the node's endpoint."""

    name = "http"

    def __init__(self, client: ClusterClient, node: int, cluster: str) -> None:
        self._client = client
        self._node = node
        self._cluster = cluster

    def stop(self) -> None:
        _until(lambda: self._client.stop_raft(self._node), lambda: self._client.status(self._node).stopped, "stop")

    def wipe(self, recover_until: LogId, reason: str) -> str:
        return self._client.wipe(self._node, cluster=self._cluster, recover_until=recover_until, reason=reason).retired_to

    def start(self) -> None:
        _until(lambda: self._client.start_raft(self._node), lambda: not self._client.status(self._node).stopped, "start")


class LocalDriver:
    """A process of the sandbox, by its pid."""

    name = "local"

    def __init__(self, sandbox: Path, node: int) -> None:
        from raftctl.sandbox import Sandbox

        self._sandbox = Sandbox.load(sandbox)
        self._node = node
        self._sandbox.check_has(node)

    def stop(self) -> None:
        self._sandbox.stop(self._node)

    def wipe(self, recover_until: LogId, reason: str) -> str:
        return self._sandbox.wipe(self._node, recover_until, reason)

    def start(self) -> None:
        self._sandbox.start(self._node)


def _until(act: Callable[[], object], seen: Callable[[], bool], verb: str) -> None:
    """Act, and look until the effect is there; a lost reply is no reason to give up."""
    lost: CtlError | None = None
    try:
        act()
    except CtlError as error:
        if not error.outcome_unknown:
            raise
        lost = error
    again = poll(_LEVER_S)
    while not seen():
        if not again():
            raise lost or CtlError("not_observed", f"the engine did not {verb} within {_LEVER_S:g} s")
