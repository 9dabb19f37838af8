"""A cluster of real nodes on this machine to try things on: processes with their own directory, ports and logs.

Only processes that this program started are ever ended: a pid counts only together with the moment its process began, as the
system tells it.
Source: contract section 5 (`dev`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final

import msgspec

from raftctl.deadline import poll
from raftctl.errors import CtlError, usage
from raftctl.model import LogId

CLUSTER: Final = "dev"
BASE_PORT: Final = 9101
NODES_MAX: Final = 9
_RAFT_OFFSET: Final = 100
"""Management ports begin at the base port, peer ports this much above: 9101 and 9201 as in the documentation."""
_STOP_S: Final = 15.0
_STATE_FILE: Final = "sandbox.json"


class NodeProcess(msgspec.Struct):
    """One node. `pid` 0: not started; `began`: the start time of that process in clock ticks since boot."""

    management: str
    raft: str
    pid: int = 0
    began: int = 0


class State(msgspec.Struct):
    cluster: str
    nodes: dict[int, NodeProcess]


class Sandbox:
    """The nodes in one directory."""

    def __init__(self, directory: Path, state: State) -> None:
        self.directory = directory
        self.state = state

    # -- coming and going ----------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, directory: Path) -> Sandbox:
        """Return the sandbox of a directory, with every process of it that runs. Raises: CtlError: there is none."""
        path = directory / _STATE_FILE
        try:
            sandbox = cls(directory, msgspec.json.decode(path.read_bytes(), type=State, strict=False))
        except FileNotFoundError:
            raise CtlError(
                "not_found_here", f"there is no sandbox in {directory}", hint="raftctl dev up makes one"
            ) from None
        except (OSError, msgspec.MsgspecError) as error:
            raise CtlError("config", f"{path} cannot be read: {error}", hint=f"remove {directory} by hand") from error
        for number in sandbox.state.nodes:
            if not sandbox.running(number):
                sandbox._adopted(number)
        return sandbox

    @classmethod
    def create(cls, directory: Path, count: int, base_port: int) -> Sandbox:
        """Write the nodes' settings. Raises: CtlError: ports or directory cannot be used."""
        if not 1 <= base_port <= 65535 - _RAFT_OFFSET - count:
            raise usage(f"--base-port {base_port} leaves no room", f"choose one below {65535 - _RAFT_OFFSET - count}")
        nodes = {
            number: NodeProcess(f"127.0.0.1:{base_port + number - 1}", f"127.0.0.1:{base_port + _RAFT_OFFSET + number - 1}")
            for number in range(1, count + 1)
        }
        sandbox = cls(directory, State(CLUSTER, nodes))
        sandbox.check_ports(nodes)
        try:
            if directory.exists() and any(directory.iterdir()):
                raise CtlError("config", f"{directory} is not empty and holds no sandbox", hint="choose another --dir")
            for number in nodes:
                sandbox._node_dir(number).mkdir(parents=True, exist_ok=True, mode=0o700)
                sandbox._config(number).write_text(sandbox._node_toml(number), "utf-8")
            sandbox._save()
        except OSError as error:
            raise CtlError(
                "config", f"no sandbox can be made in {directory}: {error}", hint="choose another --dir"
            ) from error
        return sandbox

    def check_ports(self, numbers: Container[int]) -> None:
        """Raises: CtlError: naming the first port that is taken."""
        for number, node in self.state.nodes.items():
            if number not in numbers:
                continue
            for address in (node.management, node.raft):
                if not _is_free(address):
                    port = address.rpartition(":")[2]
                    raise CtlError(
                        "port_taken", f"port {port} is taken by another program", hint="choose another --base-port"
                    )

    def purge(self) -> None:
        """Remove the directory with everything the nodes wrote. Only when none of them runs.

        What says that it is a sandbox goes last: until all the rest is gone, this can be done again.
        Raises: CtlError: something cannot be removed; all else is.
        """
        state = self.directory / _STATE_FILE
        left = [told for path in sorted(self.directory.iterdir()) if path != state for told in _remove(path)]
        if not left:
            state.unlink(missing_ok=True)
            left = _remove(self.directory)
        if left:
            raise CtlError(
                "config",
                f"{self.directory} is not wholly removed, no node of it runs: {'; '.join(left)}",
                hint="give that free (is something mounted there?), then again: raftctl dev down --purge",
            )

    # -- processes -----------------------------------------------------------------------------------------------------

    def running(self, number: int) -> bool:
        node = self.state.nodes[number]
        return node.pid != 0 and _began(node.pid) == node.began

    def start(self, number: int) -> bool:
        """Start a node's process unless it runs, and return whether that was needed; it outlives this program."""
        if self.running(number) or self._adopted(number):
            return False
        self.check_ports([number])
        with self.log_path(number).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 (this very Python, our own module)
                [sys.executable, "-m", "raft_engine", "serve", "--config", str(self._config(number))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        node = self.state.nodes[number]
        node.pid, node.began = process.pid, _began(process.pid) or 0
        self._save()
        return True

    def _adopted(self, number: int) -> bool:
        """Take in a process that a program started which died before it could note the pid; return whether there is one.

        The node's own lock names its pid; it is ours if its arguments name our settings file.
        """
        try:
            pid = int((self._node_dir(number) / "data" / "lock").read_text("ascii").split()[0])
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            return False
        if os.fsencode(self._config(number)) not in arguments:
            return False
        node = self.state.nodes[number]
        node.pid, node.began = pid, _began(pid) or 0
        self._save()
        return self.running(number)

    def stop(self, number: int) -> None:
        """End a node's process: asked first, then killed; return when it is gone."""
        node = self.state.nodes[number]
        if not self.running(number):
            self._adopted(number)
        for how in (signal.SIGTERM, signal.SIGKILL):
            again = poll(_STOP_S, every_s=0.05)
            if self.running(number):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(node.pid, how)
            while self.running(number) and again():
                pass
        if self.running(number):
            raise CtlError("not_observed", f"process {node.pid} of node {number} does not end")
        node.pid = node.began = 0
        self._save()

    def wipe(self, number: int, recover_until: LogId, reason: str, expect_boot: int | None = None) -> str:
        """Retire the node's data, keeping its vote; return where it went. Only while it is stopped.

        Args:
            expect_boot: refuse when the node was started since, None: do not look.
        """
        life = [] if expect_boot is None else ["--expect-boot", str(expect_boot)]
        return self._raft_engine(number, "wipe", "--recover-until", str(recover_until), "--reason", reason, *life)

    def restore(self, number: int, retired: str) -> None:
        """Bring retired data back; nothing if it is back already. Only while the node is stopped."""
        if (self._node_dir(number) / "data" / retired).exists():
            self._raft_engine(number, "restore", "--retired", retired)

    def _raft_engine(self, number: int, verb: str, *options: str) -> str:
        """Run the engine's own program on a node's directory and return what it prints."""
        done = subprocess.run(  # noqa: S603 (this very Python, our own module)
            [sys.executable, "-m", "raft_engine", verb, "--config", str(self._config(number)), *options],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            why = done.stderr.strip() or f"exit status {done.returncode}"
            raise CtlError("command_failed", f"raft-engine {verb} failed: {why}")
        return done.stdout.strip()

    def check_alive(self, numbers: Iterable[int] | None = None) -> None:
        """Raises: CtlError: one of the processes (None: of all) is gone, with the end of its log."""
        for number in self.state.nodes if numbers is None else numbers:
            if not self.running(number) and not self._adopted(number):
                tail = self.log_path(number).read_text("utf-8", "replace").strip().splitlines()[-3:]
                raise CtlError(
                    "unreachable", f"node {number} ended: {' | '.join(tail)}", hint=f"its log is {self.log_path(number)}"
                )

    def check_has(self, number: int) -> None:
        if number not in self.state.nodes:
            raise CtlError("node_not_found", f"the sandbox in {self.directory} has no node {number}")

    # -- where things are ----------------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> list[str]:
        return [f"http://{node.management}" for node in self.state.nodes.values()]

    def log_path(self, number: int) -> Path:
        return self._node_dir(number) / "node.log"

    def _node_dir(self, number: int) -> Path:
        return self.directory / f"n{number}"

    def _config(self, number: int) -> Path:
        return self._node_dir(number) / "node.toml"

    def _node_toml(self, number: int) -> str:
        node = self.state.nodes[number]
        members = "\n".join(
            f'{other} = {{ management = "http://{peer.management}", raft = "{peer.raft}" }}'
            for other, peer in self.state.nodes.items()
        )
        return (
            f'cluster = "{self.state.cluster}"\nnode_id = {number}\ndata_dir = "data"\n\n'
            f'[listen]\nmanagement = "{node.management}"\nraft = "{node.raft}"\n\n[bootstrap.members]\n{members}\n'
        )

    def _save(self) -> None:
        path = self.directory / _STATE_FILE
        path.with_suffix(".new").write_bytes(msgspec.json.format(msgspec.json.encode(self.state)))
        path.with_suffix(".new").replace(path)


def _began(pid: int) -> int | None:
    """Return when a process began, None if there is none (or only what is left of one). Source: proc(5), fields 3 and 22."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:  # noqa: PTH123 (not a path of ours)
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _remove(path: Path) -> list[str]:
    """Remove it with all that is in it; return what could not be removed, and why."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return []
        left = [told for inside in sorted(path.iterdir()) for told in _remove(inside)]
        if not left:
            path.rmdir()
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return left


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True
