"""Real clusters for the acceptance tests: processes, ports, signals, and only the doors that everybody has.

A `Cluster` starts `python -m raft_engine serve` once per node, speaks HTTP with it and runs `raftctl` beside it. Nothing here
imports the engine. Waiting means asking until it is so: `/v1/status` is a long poll, so an answer comes when something changed.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import httpx

from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
"""For anything that is awaited. Long, because it only matters when something is broken."""
RAFT = {"election_timeout_min_ms": 3000, "election_timeout_max_ms": 6000, "heartbeat_interval_ms": 100}
"""Far calmer than the defaults: most tests rely on the same node leading from one line to the next, on a busy machine too."""
QUICK = {"election_timeout_min_ms": 300, "election_timeout_max_ms": 600, "heartbeat_interval_ms": 60}
"""For tests in which leaders die: they have to be ready for one more election at any time."""
CALM = {"election_timeout_min_ms": 1000, "election_timeout_max_ms": 2000, "heartbeat_interval_ms": 60}
"""For tests in between: they wait for a leader to give up, and rely on one before."""
PASSING = {"one-leader", "others-healthy", "config-settled", "all-healthy", "target-caught-up", "target-reachable"}
"""Rules that a cluster fails for a moment when a disk stalls: raftctl refuses then, changes nothing, and may be asked again."""
LAST_LINES = 30
"""Of each log and each output, in the report of a test that failed."""
LAST_RUNS = 6

REFUSED, CONFLICT, NO_LEADER = 5, 6, 11

INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from raftctl.__main__ import main
main()
"""

Json = dict[str, Any]
T = TypeVar("T")


class NotSoError(AssertionError):
    """What a test waited for did not come to be."""


def wait_until(attempt: Callable[[], T], what: str) -> T:
    """Ask again and again until `attempt` returns something true; return that."""
    end = time.monotonic() + DEADLINE_S
    while True:
        result = attempt()
        if result:
            return result
        if time.monotonic() > end:
            raise NotSoError(f"not within {DEADLINE_S:g} s: {what}")
        time.sleep(0.02)


def last_of(text: str) -> str:
    """Return the last lines, none of them longer than a person reads."""
    lines = [line if len(line) <= 500 else f"{line[:500]}… ({len(line)} characters)" for line in text.splitlines()]
    return "\n".join([f"… ({len(lines) - LAST_LINES} lines before)"] * (len(lines) > LAST_LINES) + lines[-LAST_LINES:])


@dataclass
class Ran:
    """What a command did."""

    arguments: Sequence[str]
    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Json:
        return json.loads(self.stdout)

    @property
    def data(self) -> Any:
        return self.document["data"]

    @property
    def error(self) -> Json:
        """The JSON error: the last line of stderr, or all of it."""
        start = self.stderr.index("{")
        return json.loads(self.stderr[start:])

    @property
    def refused_by(self) -> set[str]:
        """The rules that refused it, if any did."""
        told = self.stderr.partition("nothing was changed: ")[2]
        in_short = re.match(r"([a-z, -]+) do(es)? not hold", told)
        if in_short:
            return set(re.split(r", | and ", in_short[1]))
        return set(re.findall(r"(?:^|\); )([a-z-]+): ", told))

    @property
    def is_refused_for_a_moment(self) -> bool:
        """Nothing was changed, because the cluster was not well, or an election came between the look at it and the request."""
        if self.code == REFUSED:
            return bool(self.refused_by) and self.refused_by <= PASSING
        return self.code == NO_LEADER or (self.code == CONFLICT and "expected " in self.stderr)

    @property
    def command(self) -> str:
        return shlex.join(["raftctl", *self.arguments])

    def told(self) -> str:
        outputs = [
            f"-- {name}\n{last_of(text)}" for name, text in (("stdout", self.stdout), ("stderr", self.stderr)) if text
        ]
        return "\n".join([f"$ {self.command}", f"exit status {self.code}", *outputs])


class Running(subprocess.Popen[str]):
    """A raftctl that runs; what it said is told with the others' when the test fails."""

    def __init__(self, cluster: Cluster, arguments: Sequence[str]) -> None:
        self._cluster = cluster
        self._arguments = arguments
        self._ran: Ran | None = None
        super().__init__(
            [sys.executable, "-c", INTERRUPTIBLE, *arguments],
            cwd=cluster.directory,
            env=cluster.environment(PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> Iterator[str]:
        """Yield what it says on stdout, until it ends; after a long while it is ended."""
        assert self.stdout is not None
        end = threading.Timer(DEADLINE_S, self.kill)
        end.start()
        try:
            yield from self.stdout
        finally:
            end.cancel()

    def is_refused_for_a_moment(self) -> bool:
        """See `Ran`; only of one that has ended."""
        if self.returncode in {REFUSED, CONFLICT, NO_LEADER}:
            self.communicate()
        return self._ran is not None and self._ran.is_refused_for_a_moment

    def communicate(self, *arguments: Any, **options: Any) -> tuple[str, str]:
        if self._ran is None:
            stdout, stderr = super().communicate(*arguments, **options)
            self._ran = Ran(self._arguments, self.returncode, stdout, stderr)
            self._cluster.ran.append(self._ran)
        return self._ran.stdout, self._ran.stderr


@dataclass
class Node:
    """One node: its files, its ports, and the process while there is one. `is_serviced`: others start and stop it too."""

    node_id: int
    directory: Path
    management_port: int
    raft_port: int
    extra: str = ""
    is_serviced: bool = False
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.client = httpx.Client(base_url=self.url, timeout=httpx.Timeout(60, connect=20), trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def raft_address(self) -> str:
        return f"127.0.0.1:{self.raft_port}"

    @property
    def config(self) -> Path:
        return self.directory / "node.toml"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "node.log"

    @property
    def alive(self) -> bool:
        return (self.process is not None and self.process.poll() is None) or (self.is_serviced and self.answers())

    # -- its process

    def start(self, *options: str, before: Sequence[str] = ()) -> None:
        """Start the process and wait until its endpoint answers (or it ended).

        Args:
            options: more options of `serve`.
            before: what stands before the command, such as a tracer.
        """
        self.launch(*options, before=before)
        self.until_up()

    def launch(self, *options: str, before: Sequence[str] = ()) -> None:
        """Start the process, and wait for nothing."""
        assert not self.alive
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "raft_engine", "serve", "--config", str(self.config), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )

    def until_up(self) -> None:
        wait_until(lambda: not self.alive or self.answers(), f"node {self.node_id} answers or ends\n{self.last_words()}")
        assert self.alive, f"node {self.node_id} ended at once:\n{self.last_words()}"

    def answers(self) -> bool:
        try:
            return self.client.get("/livez").status_code in {200, 503}
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def last_words(self) -> str:
        return last_of(self.log.read_text("utf-8", "replace")) if self.log.exists() else "(no log)"

    # -- its endpoint

    def status(self) -> Json:
        reply = self.client.get("/v1/status")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, body: Json | None = None, **params: str) -> httpx.Response:
        return self.client.post(path, json=body or {}, params=params)

    def wait(self, condition: Callable[[Json], Any], what: str) -> Json:
        """Long-poll the status until `condition` holds; return it."""
        etag = ""
        end = time.monotonic() + DEADLINE_S
        status: Json = {}
        while time.monotonic() < end:
            try:
                params = {"since": etag, "wait": "2s"} if etag else {}
                reply = self.client.get("/v1/status", params=params)
            except httpx.HTTPError as error:
                assert self.alive, f"node {self.node_id} is gone while waiting for: {what}\n{self.last_words()}"
                status = {"unreachable": str(error)}
                time.sleep(0.02)
                continue
            if reply.status_code == 304:
                continue
            assert reply.status_code == 200, reply.text
            etag = reply.headers["etag"]
            status = reply.json()
            if condition(status):
                return status
        raise NotSoError(
            f"node {self.node_id}, not within {DEADLINE_S:g} s: {what}\nlast status: {json.dumps(status, indent=1)}"
        )

    # -- its keys

    def put(self, key: str, value: bytes, **params: str) -> httpx.Response:
        return self.client.put(f"/v1/kv/{key}", content=value, params=params)

    def get(self, key: str, **params: str) -> httpx.Response:
        return self.client.get(f"/v1/kv/{key}", params=params)

    def read(self, key: str) -> bytes | None:
        """Return the value as a linearizable read has it, None if there is none; waits while there is no leader."""

        def found() -> httpx.Response | None:
            reply = self.get(key)
            return reply if reply.status_code not in {503, 504} else None

        reply = wait_until(found, f"node {self.node_id} reads {key}")
        assert reply.status_code in {200, 404}, reply.text
        return reply.content if reply.status_code == 200 else None


class Cluster:
    """Nodes 1 to n in one directory, and a raftctl whose context is this cluster.

    `made`: all of them since the test began, for its report. `ran`: what raftctl did last.
    """

    made: ClassVar[list[Cluster]] = []

    def __init__(self, directory: Path, count: int = 3, *, name: str = "demo", **raft: int | bool) -> None:
        self.made.append(self)
        self.ran: deque[Ran] = deque(maxlen=LAST_RUNS)
        self._running: list[Running] = []
        self.directory = directory
        self.name = name
        self.raft = {**RAFT, **raft}
        ports = free_ports(2 * count)
        self.nodes = {
            node_id: Node(node_id, directory / f"n{node_id}", ports[2 * node_id - 2], ports[2 * node_id - 1])
            for node_id in range(1, count + 1)
        }
        for node in self.nodes.values():
            self.write_config(node)
        self.write_context()

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def write_config(self, node: Node, data_dir: Path | None = None) -> None:
        raft = "\n".join(f"{key} = {json.dumps(value)}" for key, value in self.raft.items())
        node.config.write_text(
            f"""cluster = "{self.name}"
node_id = {node.node_id}
data_dir = "{data_dir or node.data}"

[listen]
management = "127.0.0.1:{node.management_port}"
raft = "{node.raft_address}"

[raft]
{raft}
{node.extra}""",
            "utf-8",
        )

    def write_context(self) -> None:
        endpoints = ", ".join(f'"{node.url}"' for node in self)
        self.config.write_text(
            f'current-context = "{self.name}"\n[contexts.{self.name}]\nendpoints = [{endpoints}]\n',
            "utf-8",
        )

    @property
    def config(self) -> Path:
        return self.directory / "raftctl.toml"

    @property
    def members(self) -> Json:
        return {str(node.node_id): {"raft": node.raft_address, "management": node.url} for node in self}

    # -- life and death

    def start(self) -> None:
        for node in self:
            node.launch()
        for node in self:
            node.until_up()

    def begin(self) -> None:
        """Start every process, initialise, and wait until there is a leader that everybody follows."""
        self.start()
        self.init(self.members)
        self.settled()

    def init(self, members: Json) -> None:
        """Give birth to the cluster; asked again while a member is too busy to answer in time, though it may have heard."""
        answers: list[str] = []

        def born() -> bool:
            reply = self[1].post("/v1/init", {"members": members}, wait="0")
            answers.append("born" if reply.is_success else reply.json()["code"])
            assert answers[0] != "already_initialized", reply.text
            assert answers[-1] in {"born", "already_initialized", "member_unreachable"}, reply.text
            return answers[-1] != "member_unreachable"

        wait_until(born, "the cluster is born")
        first = self[int(random.choice(list(members)))]  # which would come about an election timeout later, by chance

        def leads_or_follows() -> bool:
            return first.status()["leader"] is not None or first.post("/v1/trigger/elect", wait="1s").status_code == 200

        wait_until(leads_or_follows, "the first leader")

    def end(self) -> None:
        for node in self:
            if node.process is not None and node.alive:
                node.resume()
                node.kill()
            node.client.close()

    def remove_data(self) -> None:
        for node in self:
            shutil.rmtree(node.data, ignore_errors=True)

    # -- who leads

    def leader(self, among: Sequence[int] | None = None) -> Node:
        """Wait until one node leads and every other (of `among`, or that is alive) follows it in its term; return it."""

        def settled() -> Node | None:
            nodes = [self[node_id] for node_id in among] if among else [node for node in self if node.alive]
            try:
                views = [node.status() for node in nodes]
            except httpx.HTTPError:
                return None
            if len({(view["leader"], view["term"]) for view in views}) != 1 or views[0]["leader"] is None:
                return None
            leader = self[views[0]["leader"]]
            if leader not in nodes or leader.status()["state"] != "leader":
                return None
            # a leader serves only once an entry of its own term is committed
            committed = leader.status()["committed"]
            return leader if committed is not None and committed["term"] == views[0]["term"] else None

        return wait_until(settled, "one leader, followed by all")

    def followers(self) -> list[Node]:
        leader = self.leader()
        return [node for node in self if node is not leader and node.alive]

    def settled(self) -> None:
        """Wait until every node that is alive has applied all that the leader has, and the leader knows it."""

        def rests() -> bool:
            leader = self.leader().status()
            others = [node.status() for node in self if node.alive]
            told = leader["replication"] or {}
            return all(
                status["applied"] == leader["last_log"]
                and told.get(str(status["node_id"]), {"state": "replicate"})["state"] == "replicate"
                for status in others
            )

        wait_until(rests, "everything is applied by everybody")

    def until_leader(self, holds: Callable[[Json], Any], what: str, among: Sequence[int] | None = None) -> Json:
        """Wait until that holds for the status of whoever leads; return it."""

        def told() -> Json | None:
            status = self.leader(among).status()
            return status if holds(status) else None

        return wait_until(told, what)

    def ask_leader(self, path: str, body: Json, among: Sequence[int] | None = None) -> Json:
        """Post to whoever leads, again while that one says that it leads no more; the reply must be a success."""

        def answered() -> httpx.Response | None:
            reply = self.leader(among).post(path, body, wait="30s")
            return reply if reply.status_code not in {421, 503} else None

        reply = wait_until(answered, f"a leader answers to {path}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def put(self, key: str, value: bytes) -> None:
        """Have whoever leads write it, again until it is acknowledged: an election may come in between at any time."""

        def is_taken_by(node: Node) -> bool:
            try:
                return node.put(key, value, timeout="30s").status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(lambda: any(is_taken_by(node) for node in self if node.alive), f"{key} is written")

    # -- the programs

    def environment(self, **more: str) -> dict[str, str]:
        """What raftctl may see: its files are this test's, and no setting of the person who runs the tests."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAFTCTL_", "XDG_"))}
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        own = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "RAFTCTL_CONFIG": str(self.config),
            "RAFTCTL_STATE": str(home / "state" / "raftctl"),
            "RAFTCTL_DEV_DIR": str(home / "dev"),
            "RAFTCTL_REQUEST_TIMEOUT": "30s",  # no test is about how quick a busy machine is
            "RAFTCTL_TIMEOUT": f"{DEADLINE_S:g}s",
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }
        return {**kept, **own, **more}

    def raftctl(
        self, *arguments: str, code: int | None = 0, stdin: str | None = None, more: dict[str, str] | None = None
    ) -> Ran:
        """Run raftctl as a script does (no terminal), with `more` in its environment; it must exit with `code` (None: any).

        One that must succeed is asked again if it was refused for a moment.
        """
        end = time.monotonic() + DEADLINE_S
        ran = self._ran(arguments, stdin, more)
        while code == 0 and ran.is_refused_for_a_moment and time.monotonic() < end:
            ran = self._ran(arguments, stdin, more)
        if code is not None:
            assert ran.code == code, f"not {code}:\n{ran.told()}"
        return ran

    def _ran(self, arguments: Sequence[str], stdin: str | None, more: dict[str, str] | None) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "raftctl", *arguments],
            cwd=self.directory,
            env=self.environment(**more or {}),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=4 * DEADLINE_S,
            check=False,
        )
        ran = Ran(arguments, done.returncode, done.stdout, done.stderr)
        self.ran.append(ran)
        return ran

    def begin_raftctl(self, begun: Callable[[], bool], *arguments: str) -> Running:
        """Start raftctl, and return when that is so or the run is over; again if the cluster was not well for a moment."""
        running = self.start_raftctl(*arguments)
        end = time.monotonic() + DEADLINE_S
        while not begun():
            assert time.monotonic() < end, f"not begun: raftctl {shlex.join(arguments)}"
            if running.poll() is not None:
                if begun() or not running.is_refused_for_a_moment():
                    break
                running = self.start_raftctl(*arguments)
            time.sleep(0.001)  # a step may be over in a few milliseconds
        return running

    def last_run(self, **more: str) -> Json:
        """The run of a runbook that raftctl began last; one before it may have been refused for a moment."""
        items = self.raftctl("runs", "list", "-o", "json", more=more).data["items"]
        return max(items, key=lambda run: run["began"])

    def start_raftctl(self, *arguments: str) -> Running:
        """Start raftctl and return the process, for tests that interrupt it: also where whoever runs the tests ignores Ctrl-C."""
        self._running.append(Running(self, arguments))
        return self._running[-1]

    def last_words(self) -> list[tuple[str, str]]:
        """Return headings and texts: what raftctl did last, and the end of each node's log. Ends raftctls that still run."""
        for running in self._running:
            running.kill()
            with suppress(ValueError, subprocess.TimeoutExpired):  # the test has read and closed its output
                running.communicate(timeout=10)
        runs = [("what raftctl did", ran.told()) for ran in self.ran]
        logs = [node.log for node in self] + sorted((self.directory / "home" / "dev").glob("*/node.log"))
        return runs + [(f"the end of {log}", last_of(log.read_text("utf-8", "replace"))) for log in logs if log.exists()]


class Load:
    """Writers that follow the leader, each key once, and the record of what was acknowledged.

    A write whose outcome is unknown is asked again with the same key and value: whichever attempt took effect, the key has
    that value or, if nobody ever acknowledged it, may be missing.
    """

    def __init__(self, cluster: Cluster, prefix: str, writers: int = 2) -> None:
        self.cluster = cluster
        self.prefix = prefix
        self.acknowledged: dict[str, bytes] = {}
        self.unexpected: list[str] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(writer,), daemon=True) for writer in range(writers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        assert self.unexpected == []

    def more(self, count: int) -> None:
        """Wait until `count` more writes were acknowledged."""
        with self._changed:
            goal = len(self.acknowledged) + count
            reached = self._changed.wait_for(lambda: len(self.acknowledged) >= goal or self.unexpected, DEADLINE_S)
        assert self.unexpected == []
        assert reached, f"only {len(self.acknowledged)} of {goal} writes were acknowledged"

    def _write(self, writer: int) -> None:
        urls = [node.url for node in self.cluster]
        with httpx.Client(timeout=3, trust_env=False) as client:
            number = 0
            at = writer
            while not self._stop.is_set():
                key, value = f"{self.prefix}{writer}-{number:06}", b"%d:%d:" % (writer, number) + b"v" * 100
                try:
                    reply = client.put(f"{urls[at % len(urls)]}/v1/kv/{key}", content=value)
                except httpx.HTTPError:
                    at += 1
                    self._stop.wait(0.02)
                    continue
                if reply.status_code == 200:
                    number += 1
                    with self._changed:
                        self.acknowledged[key] = value
                        self._changed.notify_all()
                elif reply.status_code in {421, 503, 504} or reply.json().get("code") == "fatal":
                    leader = (reply.json().get("leader") or {}).get("management")
                    at = urls.index(leader) if leader in urls and reply.status_code == 421 else at + 1
                    self._stop.wait(0.02)
                else:
                    with self._changed:
                        self.unexpected.append(f"{key}: {reply.status_code} {reply.text}")
                        self._changed.notify_all()
                    return


def read_all(node: Node, prefix: str, consistency: str = "linearizable") -> dict[str, str]:
    """Return every key with the prefix and its value in base64, as `node` lists them."""
    found: dict[str, str] = {}
    after = ""
    while True:
        params = {"prefix": prefix, "limit": "500", "consistency": consistency} | ({"after": after} if after else {})
        reply = wait_until(partial(page, node, params), f"node {node.node_id} lists its keys")
        assert reply.status_code == 200, reply.text
        body = reply.json()
        found.update({item["key"]: item["value_base64"] for item in body["items"]})
        if body["next"] is None:
            return found
        after = body["next"]


def page(node: Node, params: Json) -> httpx.Response | None:
    """Return a page of the node's keys, None if there is no leader for a moment, or the node recovers: ask again."""
    reply = node.client.get("/v1/kv", params=params)
    return reply if reply.status_code not in {503, 504} else None


def missing(load: Load, node: Node) -> list[str]:
    """Return the writes acknowledged by now that `node` does not have, or has otherwise; writers may go on meanwhile."""
    acknowledged = dict(load.acknowledged)
    found = read_all(node, load.prefix)
    return [key for key, value in acknowledged.items() if found.get(key) != base64.b64encode(value).decode()]
