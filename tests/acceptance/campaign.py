"""Three real processes whose disks fail in every way that can be had here, under writers whose every acknowledgement is checked.

A round is one fault, the end of it, and the repair that an operator would do: look into the directory with `raft-engine inspect`,
start the process again. After some rounds the writers pause, and everything they were ever told is held against every node.
Nothing here damages a file, so whatever inspect calls damage, and every start that is refused, is a failure of the engine.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.acceptance.cluster import QUICK, ROOT, Cluster, Node
from tests.acceptance.ledger import Ledger
from tests.acceptance.mounts import failing_calls, injected, may_inject, mounted

SETTINGS: Final[dict[str, int | bool]] = {
    **QUICK,
    "snapshot_logs_since_last": 1500,
    "max_in_snapshot_log_to_keep": 200,
}
"""Snapshots and purges happen all the time, so that they are interrupted as often as anything else."""
SMALL_DISK: Final = "160m"
"""Room for three log segments and the rest; what the node with the small disk has."""
EFFECT_S: Final = 12.0
"""How long a fault may take to show: a segment has to fill up, a snapshot to be due."""
CHECK_EVERY: Final = 4


@dataclass
class Figures:
    """What a campaign did and found. `faults`: how often each kind was done; `struck`: how often it ended an engine or process."""

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    kills: int = 0
    restarts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    inspections: int = 0
    torn_tails: int = 0
    checks: int = 0
    keys_checked: int = 0
    writes_acknowledged: int = 0
    writes_repeated: int = 0
    lost: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.altered or self.failures)

    def document(self) -> dict[str, Any]:
        found = {name: value for name, value in vars(self).items() if not isinstance(value, Counter)}
        return {**found, "faults": dict(sorted(self.faults.items())), "struck": dict(sorted(self.struck.items()))}


Fault = Callable[[Node], None]


class Campaign:
    """One run. `run` returns its figures."""

    def __init__(self, directory: Path, seed: int, say: Callable[[str], None] = lambda _: None) -> None:
        self.figures = Figures(seed)
        self._dice = random.Random(seed)
        self._say = say
        self._cluster = Cluster(directory, **SETTINGS)
        self._small = self._cluster[3]
        self._has_small_disk = False
        self._ledger = Ledger(self._cluster, seed)

    def run(
        self, *, seconds: float = float("inf"), rounds: int = sys.maxsize, kinds: Sequence[str] | None = None
    ) -> Figures:
        """Do `rounds` rounds, or as many as begin within `seconds`: each kind of fault once, then any.

        Args:
            kinds: only these, of those that can be done here.
        """
        figures, begun = self.figures, time.monotonic()
        try:
            self._run(begun + seconds, rounds, kinds)
        except (AssertionError, httpx.HTTPError) as error:
            figures.failures.append(f"a node does not do what it should: {error!r}")
        figures.seconds = round(time.monotonic() - begun, 1)
        figures.writes_acknowledged, figures.writes_repeated = self._ledger.writes, self._ledger.repeated
        figures.failures += self._ledger.unexpected
        return figures

    def _run(self, until: float, rounds: int, kinds: Sequence[str] | None) -> None:
        figures = self.figures
        with ExitStack() as undo:
            self._has_small_disk = undo.enter_context(mounted(self._small.data, SMALL_DISK))
            undo.callback(self._cluster.end)
            self._cluster.begin()
            undo.enter_context(self._ledger)
            faults = {name: fault for name, fault in self._faults().items() if kinds is None or name in kinds}
            for number in range(rounds):
                if time.monotonic() > until or not figures.is_clean:
                    break
                name = list(faults)[number] if number < len(faults) else self._dice.choice(list(faults))
                self._round(name, faults[name])
                figures.rounds += 1
                if number % CHECK_EVERY == CHECK_EVERY - 1:
                    self._check()
            self._ledger.__exit__()
            if figures.is_clean:
                self._check_every_node()
                self._check_directories()

    # -- one round -----------------------------------------------------------------------------------------------------

    def _round(self, name: str, fault: Fault) -> None:
        victim = self._small if name.startswith("full") else self._dice.choice(list(self._cluster))
        self.figures.faults[name] += 1
        self._ledger.more(self._dice.randint(20, 300), EFFECT_S)
        begun = time.monotonic()
        fault(victim)
        is_struck = any(not _works(node) for node in self._cluster)
        self.figures.struck[name] += is_struck
        self._mend()
        took_s = time.monotonic() - begun
        what = "struck" if is_struck else "went by"
        self._say(
            f"round {self.figures.rounds + 1}: {name} on node {victim.node_id} {what}, {took_s:.1f} s; {self._ledger.writes} writes"
        )

    def _mend(self) -> None:
        """Start again whatever ended, after a look into its directory, and wait until all is well."""
        broken = [node for node in self._cluster if not _works(node)]
        for node in broken:
            if node.alive and self._dice.random() < 0.5:
                node.terminate()
            else:
                self._kill(node)
            self._inspect(node)
        self._dice.shuffle(broken)
        for node in broken:
            self._start(node)
        if self.figures.is_clean:
            self._cluster.leader()

    def _start(self, node: Node) -> None:
        try:
            node.start()
        except AssertionError as error:
            self.figures.failures.append(f"node {node.node_id} does not start again: {error}")
        self.figures.restarts += 1

    def _kill(self, node: Node) -> None:
        if node.alive:
            self.figures.kills += 1
        node.kill()

    # -- the faults ----------------------------------------------------------------------------------------------------

    def _faults(self) -> dict[str, Fault]:
        """Return the kinds that can be done here; those that cannot are noted as skipped."""
        faults: dict[str, Fault] = {
            "kill": self._kill,
            "kill the leader": lambda _: self._kill(self._cluster.leader()),
            "kill all": lambda _: self._kill_all(),
            "kill while snapshot and purge run": self._kill_in_a_snapshot,
        }
        if may_inject():
            for call in ("fdatasync", "fsync", "pwrite64"):
                for error in ("EIO", "ENOSPC"):
                    faults[f"{call} {error}"] = self._failing(f"{call}:error={error}")
            for call in ("fdatasync", "pwrite64", "rename", "unlink"):
                faults[f"killed at {call}"] = self._failing(f"{call}:signal=SIGKILL")
            faults["slow fdatasync"] = self._slow
            faults["failing start"] = self._failing_start
        else:
            self.figures.skipped.append("failing system calls: this process may not trace others, or there is no strace")
        if self._has_small_disk:
            faults["full file system"] = self._fill
        else:
            self.figures.skipped.append("full file system: this process may not mount one")
        return faults

    def _kill_all(self) -> None:
        nodes = list(self._cluster)
        self._dice.shuffle(nodes)
        for node in nodes:
            self._kill(node)

    def _kill_in_a_snapshot(self, node: Node) -> None:
        with suppress(httpx.HTTPError):
            node.post("/v1/trigger/snapshot", wait="0")
            node.post("/v1/trigger/purge-log", {"upto": 10**12}, wait="0")
        time.sleep(self._dice.random() * 0.05)  # at any moment of it: the moment is what is being varied
        self._kill(node)

    def _failing(self, injection: str) -> Fault:
        """One system call of a running process fails, or is its last: the n-th one of a thread."""

        def fault(node: Node) -> None:
            assert node.process is not None
            which = self._dice.choice([1, 1, 2, 3, self._dice.randint(4, 40)])
            with injected(node.process.pid, f"{injection}:when={which}"):
                end = time.monotonic() + EFFECT_S
                while _works(node) and time.monotonic() < end:
                    if self._dice.random() < 0.2:  # what is called only now and then
                        with suppress(httpx.HTTPError):
                            node.post("/v1/trigger/snapshot", wait="0")
                    self._ledger.more(20, 1.0)
            self.figures.kills += "SIGKILL" in injection and not node.alive

        return fault

    def _slow(self, node: Node) -> None:
        assert node.process is not None
        delay_us = self._dice.choice([2_000, 20_000, 200_000])
        with injected(node.process.pid, f"fdatasync:delay_exit={delay_us}"):
            self._ledger.more(200, 3.0)

    def _failing_start(self, node: Node) -> None:
        """The process is killed, and its next start fails somewhere in what it does to its directory."""
        self._kill(node)
        call = self._dice.choice(["fdatasync", "fsync", "pwrite64", "rename", "ftruncate"])
        how = self._dice.choice(["error=EIO", "error=ENOSPC", "signal=SIGKILL"])
        injection = f"{call}:{how}:when={self._dice.randint(1, 12)}"
        with suppress(AssertionError):  # it ended at once
            node.start(before=failing_calls(injection))
            self._ledger.more(50, 2.0)
        assert node.process is not None
        with suppress(ProcessLookupError):
            os.killpg(node.process.pid, signal.SIGKILL)  # the tracer and the node
        node.kill()

    def _fill(self, node: Node) -> None:
        """Take all the room there is, until the node notices; then give it back."""
        filler = node.data / "filler"
        try:
            with filler.open("wb") as file:
                free = os.statvfs(node.data)
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
            end = time.monotonic() + 2 * EFFECT_S
            while _works(node) and time.monotonic() < end:
                self._ledger.more(50, 1.0)
        finally:
            filler.unlink()

    # -- the checks ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Every acknowledged write, as any of the nodes answers it to a linearizable read."""
        self._ledger.pause()
        try:
            self._hold_against(self._dice.choice(list(self._cluster)), "linearizable")
        finally:
            self._ledger.resume()

    def _check_every_node(self) -> None:
        """And as each node has it by itself, once it has applied everything."""
        self._mend()
        self._cluster.settled()
        for node in self._cluster:
            self._hold_against(node, "stale")

    def _hold_against(self, node: Node, consistency: str) -> None:
        verdict = self._ledger.check(node, consistency)
        self.figures.checks += 1
        self.figures.keys_checked += verdict.keys
        self.figures.lost += verdict.lost
        self.figures.altered += verdict.altered

    def _check_directories(self) -> None:
        for node in self._cluster:
            if node.terminate() != 0:
                self.figures.failures.append(f"node {node.node_id} did not end cleanly")
            self._inspect(node)

    def _inspect(self, node: Node) -> None:
        """Look into a directory whose process has ended: nothing in it may be damaged."""
        command: Sequence[str] = [sys.executable, "-m", "raft_engine", "inspect", str(node.data), "-o", "json"]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.figures.inspections += 1
        if ran.returncode not in {0, 14}:
            self.figures.failures.append(f"inspect of node {node.node_id} ended with {ran.returncode}: {ran.stderr}")
            return
        report = json.loads(ran.stdout)
        self.figures.torn_tails += any("was cut short" in note for note in report["notes"])
        self.figures.failures += [f"node {node.node_id}: {problem['message']}" for problem in report["problems"]]


def _works(node: Node) -> bool:
    """Whether the process is there and its engine has not ended."""
    if not node.alive:
        return False
    try:
        return node.status()["fatal"] is None
    except httpx.HTTPError:
        return node.alive
