"""Saying what a person has to do with a node, and waiting until it is seen that it was done.

For sites where nothing may be started from here. The wipe cannot be seen while the process is down, so wiping and starting are
one request: done when the node answers and says that it recovers until this run's barrier.
Source: contract section 5 (drivers).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Final

from raftctl.client import ClusterClient
from raftctl.errors import CtlError
from raftctl.output.text import human_seconds
from raftctl.runbook.command_driver import is_down, is_up
from raftctl.runbook.drivers import Poll, WipeOrder, look

LOOKS_DOWN: Final = 3
"""So often in a row a node must not answer: one lost answer is no stop."""


class ManualDriver:
    """`tell` shows a person what to do."""

    name = "manual"
    undoes_wipes = True
    names_retired = False

    def __init__(self, client: ClusterClient, node: int, poll: Poll, tell: Callable[[str], None], limit_s: float) -> None:
        self._client = client
        self._node = node
        self._poll = poll
        self._tell = tell
        self._limit_s = limit_s

    def stop(self) -> None:
        down = is_down(self._client, self._node)
        looks = 0

        def seen() -> bool:
            nonlocal looks
            looks = looks + 1 if down() else 0
            return looks >= LOOKS_DOWN

        self._ask(f"stop the process of node {self._node}", seen, is_so=down())

    def wipe(self, order: WipeOrder) -> str:
        boot = f" --expect-boot {order.life.boot_count}" if order.life is not None else ""
        command = (
            f"raft-engine wipe --config NODE.toml --recover-until {order.recover_until}{boot} "
            f"--reason {shlex.quote(order.reason)}"
        )

        def seen() -> bool:
            status = look(self._client, self._node)
            if status is None or status.stopped:
                return False
            recovering = status.recovering
            if recovering is not None and recovering.until is not None:
                return recovering.until >= order.recover_until
            return order.life is not None and status.boot_count > order.life.boot_count

        self._ask(f"wipe node {self._node}, then start it: {command}", seen, is_so=seen())
        status = look(self._client, self._node)
        if status is None or status.recovering is None:
            self._tell(
                f"node {self._node} was started, and recovers no more: it was either quick or not wiped; its log tells which"
            )
        return "retired-… in its data directory, as raft-engine wipe printed"

    def restore(self, retired: str) -> None:
        def seen() -> bool:
            status = look(self._client, self._node)
            return status is not None and not status.stopped and status.recovering is None

        command = "raft-engine restore --config NODE.toml --retired NAME"
        self._ask(f"give node {self._node} its data back ({retired}), then start it: {command}", seen)

    def start(self) -> None:
        up = is_up(self._client, self._node)
        self._ask(f"start the process of node {self._node}", up, is_so=up())

    def _ask(self, what: str, seen: Callable[[], bool], *, is_so: bool = False) -> None:
        if not is_so:
            self._tell(f"please {what}; waiting until it is seen (at most {human_seconds(self._limit_s)})")
        again = self._poll(self._limit_s)
        while not seen():
            if not again():
                raise CtlError("not_observed", f"nobody was seen to {what} within {human_seconds(self._limit_s)}")
