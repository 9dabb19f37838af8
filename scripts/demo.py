"""The tour that `make demo` gives: every command is printed as one would type it, and then really run.

Three node processes, a writer that never stops, the six triggers, a leader killed with -9, a node rebuilt from the others,
and at the end each acknowledged write is looked for on each node. Whatever happens (a failure, Ctrl-C), the processes are
ended by their ids and nothing stays behind. Exit code 0 only if all of it worked.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
RAFTCTL = Path(sys.executable).parent / "raftctl"
PLACE = ROOT / ".demo" / "demo"
DEADLINE_S = 120.0
"""For anything that is awaited, on a busy machine too."""
ELECTIONS_MAX = 10
FIRST_PORT = 9101
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("RAFTCTL_")},
    "RAFTCTL_CONFIG": str(PLACE / "config.toml"),
    "RAFTCTL_STATE": str(PLACE / "state"),
    "RAFTCTL_DEV_DIR": str(PLACE / "nodes"),
    "RAFTCTL_TIMEOUT": f"{DEADLINE_S:g}s",
    "RAFTCTL_REQUEST_TIMEOUT": "30s",
}


class DemoError(Exception):
    """The tour cannot go on."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        tour()
    except DemoError as error:
        print(f"\nerror: the demo failed: {error}", file=sys.stderr)
        show_last_words()
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; taking everything down", file=sys.stderr)
        return 130
    finally:
        take_down()
    return 0


def tour() -> None:
    """The whole story, in order."""
    take_down()  # what an earlier demo could not: a power cut, kill -9
    say("Three nodes on this machine. Each is a process of its own, with its own data directory.")
    raftctl("dev up", *port_option())
    say("Some data by hand, and some more by a writer that puts one key after the other.")
    raftctl("kv put greeting hello")
    raftctl("kv get greeting", newline=True)
    acknowledged: dict[str, bytes] = {}
    with Writer(acknowledged) as writer:
        writer.more(200)
    say("What an operator looks at first.")
    raftctl("status")
    triggers()
    say("The writer starts again, and does not stop for anything that happens now.")
    with Writer(acknowledged) as writer:
        kill_the_leader(writer)
        rebuild_node_3(writer)
        writer.more(100)
    say(f"The writer stops. Each of its {len(acknowledged)} acknowledged writes is looked for on each node.")
    for url in urls():
        check(acknowledged, url)
    raftctl("status")
    say("Down again, with everything that was written.")
    raftctl("dev down --purge")


def triggers() -> None:
    """All six of them."""
    say("The six triggers. Each one exits with 0 only when its effect was seen.")
    raftctl("heartbeat")
    raftctl("snapshot --all")
    say("Asking to purge more than a snapshot covers: it is clamped, and says so.")
    raftctl("purge-log --upto 1000000 --all --yes")
    raftctl(f"transfer-leader --to {follower(but=3)} --yes")
    refused_election()
    say("Without asking first it is held all the same. That is why it wants the cluster's name.")
    raftctl(f"elect --node {follower(but=3)} --no-pre-vote --yes --confirm dev")
    say("Allowing a node to come back with less than it acknowledged, and taking that back.")
    node = follower()
    raftctl(f"allow-next-revert --to {node} --yes --confirm dev")
    raftctl(f"allow-next-revert --to {node} --no-allow --yes --confirm dev")


def refused_election() -> None:
    say("A living leader is not deposed by an election that could not be won: refused, exit code 5, nothing changed.")
    for _ in range(ELECTIONS_MAX):
        if raftctl(f"elect --node {follower(but=3)} --yes", code=(5, 0)) == 5:
            return
        say("The machine is so busy that the leader was not heard of for a moment, and so it could be won. Once more.")
    raise DemoError(f"{ELECTIONS_MAX} elections against a living leader were won")


def kill_the_leader(writer: Writer) -> None:
    writer.more(100)
    say("The leader dies without a word. The others elect another, and the writer goes on.")
    victim = present_leader()
    pid = next(node["pid"] for node in ask("dev status")["items"] if node["node"] == victim)
    typed(f"kill -9 {pid}")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (leader() or victim) != victim, "another leader")
    writer.more(100)
    present_leader()
    raftctl("health", code=10)
    say("It comes back with its directory as it was, and catches up.")
    raftctl("dev up", quiet=True)
    raftctl("health --wait")


def rebuild_node_3(writer: Writer) -> None:
    say("Node 3 is to be rebuilt from the others, under load, and with the old log gone so that only a snapshot can help.")
    raftctl("snapshot --all", quiet=True)
    raftctl("purge-log --upto 1000000 --all --yes", quiet=True)
    writer.more(100)
    raftctl("rejoin-node 3 --yes --confirm dev")
    raftctl("runs list")


# -- typing ------------------------------------------------------------------------------------------------------------


def say(caption: str) -> None:
    print(f"\n{style('2')}# {caption}{style('0')}", flush=True)


def typed(command: str) -> None:
    print(f"{style('1')}$ {command}{style('0')}", flush=True)


def style(code: str) -> str:
    return f"\x1b[{code}m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ""


def raftctl(line: str, *more: str, code: int | tuple[int, ...] = 0, newline: bool = False, quiet: bool = False) -> int:
    """Print the command and run it, its output going where ours goes. The exit code must be `code`; return it."""
    arguments = [*shlex.split(line), *more]
    if not quiet:
        typed(f"raftctl {shlex.join(arguments)}")
    ran = subprocess.run(
        [RAFTCTL, *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.DEVNULL if quiet else None,
        check=False,
    )
    if newline:
        print(flush=True)
    if ran.returncode not in (code if isinstance(code, tuple) else (code,)):
        raise DemoError(f"raftctl {shlex.join(arguments)} ended with {ran.returncode}, not {code}")
    return ran.returncode


def ask(line: str) -> Any:
    """Return the data of a command's JSON, unseen; None if it failed."""
    command = [RAFTCTL, *shlex.split(line), "-o", "json"]
    ran = subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return json.loads(ran.stdout)["data"] if ran.returncode == 0 else None


def leader() -> int | None:
    data = ask("status")
    return data["leader"] if data is not None else None


def present_leader() -> int:
    """Return who leads; waits for the end of an election."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [node for node in (leader(),) if node is not None]
        return bool(found)

    wait_until(is_there, "a leader")
    return found[0]


def follower(but: int | None = None) -> int:
    """Return a node that does not lead, the last one; `but`: not this one."""
    led = present_leader()
    return next(node for node in (3, 2, 1) if node not in {led, but})


def urls() -> list[str]:
    return [node["management"] for node in ask("dev status")["items"]]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise DemoError(f"waited {DEADLINE_S:g} s in vain for {what}")


# -- ports -------------------------------------------------------------------------------------------------------------


def port_option() -> list[str]:
    """Return nothing if the usual ports are free, else an option with others that are."""
    for base in range(FIRST_PORT, FIRST_PORT + 40_000, 1000):
        if all(is_free(base + offset + number) for offset in (0, 100) for number in range(3)):
            if base == FIRST_PORT:
                return []
            print(f"# (Ports from {FIRST_PORT} on are taken by another program; {base} is free.)")
            return ["--base-port", str(base)]
    raise DemoError("no six free ports were found on 127.0.0.1")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# -- the writer --------------------------------------------------------------------------------------------------------


class Writer:
    """Puts keys until told to stop, follows the leader, and remembers what was acknowledged."""

    def __init__(self, acknowledged: dict[str, bytes]) -> None:
        self.acknowledged = acknowledged
        self._urls = urls()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int) -> None:
        """Wait until `count` more writes were acknowledged."""
        with self._changed:
            goal = len(self.acknowledged) + count
            if not self._changed.wait_for(lambda: len(self.acknowledged) >= goal, DEADLINE_S):
                raise DemoError(f"the writer got only {len(self.acknowledged)} of {goal} writes acknowledged")

    def _write(self) -> None:
        at = 0
        while not self._stop.is_set():
            key, value = f"load/{len(self.acknowledged):06}", os.urandom(64)
            try:
                status, body = request("PUT", self._urls[at % len(self._urls)], f"/v1/kv/{key}", value)
            except (OSError, HTTPException):
                status, body = 0, b""
            if status == 200:
                with self._changed:
                    self.acknowledged[key] = value
                    self._changed.notify_all()
                continue
            named = (json.loads(body).get("leader") or {}).get("management") if status == 421 else None
            at = self._urls.index(named) if named in self._urls else at + 1
            self._stop.wait(0.02)


def request(method: str, url: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def check(acknowledged: dict[str, bytes], url: str) -> None:
    """Read everything from one node, linearizably, and compare."""
    found: dict[str, bytes] = {}
    after = "load/"
    while after:
        page = read_page(url, after)
        found |= {item["key"]: base64.b64decode(item["value_base64"]) for item in page["items"]}
        after = page["next"]
    missing = [key for key, value in acknowledged.items() if found.get(key) != value]
    if missing:
        raise DemoError(f"{len(missing)} acknowledged writes are not on {url}, the first is {missing[0]}")
    print(f"{url}: {len(acknowledged)} of {len(acknowledged)} are there", flush=True)


def read_page(url: str, after: str) -> Any:
    """Return a page of keys; asked again while nobody leads or the node is too busy to answer."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            status, body = request("GET", url, f"/v1/kv?prefix=load/&limit=500&after={after}")
        except (OSError, HTTPException) as error:
            status, body = 0, str(error).encode()
        if status == 200:
            return json.loads(body)
        if status not in {0, 503, 504} or time.monotonic() > end:
            raise DemoError(f"{url} answers {status}: {body.decode()}")
        time.sleep(0.1)


# -- the end -----------------------------------------------------------------------------------------------------------


def show_last_words() -> None:
    """What the nodes said last: the directory will be gone in a moment."""
    for log in sorted((PLACE / "nodes").glob("n*/node.log")):
        lines = log.read_text("utf-8", "replace").splitlines()[-5:]
        print(f"last lines of {log.relative_to(ROOT)}:", *lines, sep="\n  ", file=sys.stderr)


def take_down() -> None:
    """End the nodes, by process id, and remove the directory. Not to be interrupted."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if (PLACE / "nodes" / "sandbox.json").exists():
            command = [RAFTCTL, "dev", "down", "--purge"]
            subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        shutil.rmtree(PLACE, ignore_errors=True)
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
