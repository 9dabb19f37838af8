"""A mocked cluster that keeps the rules of a rejoin: what a node's directory holds, what its leader counts, who may revert.

It answers like the endpoint, and it is strict: whatever a runbook does that could lose data is written into `sins`. Time goes
by with requests: each look at the cluster moves a node that catches up one step further.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import respx

from raftctl import plain_http
from raftctl.runbook import conduct
from tests.raftctl.fake_cluster import DIGEST, FakeCluster, Json, log_id, problem

BROKEN = "ee" * 32


@contextmanager
def mocked(monkeypatch: pytest.MonkeyPatch, count: int = 3) -> Iterator[RejoinCluster]:
    """A cluster of so many voters that raftctl finds wherever it looks."""
    with respx.mock(assert_all_called=False) as router:
        fake = RejoinCluster(router, range(1, count + 1))
        monkeypatch.setattr(plain_http, "ask", fake.ask)
        monkeypatch.setattr(conduct, "PASSES_S", 0.0)  # nothing passes here by itself
        yield fake


class CommandError(Exception):
    """A command of the site ended with another exit status than 0."""


def _text(log_id: Json) -> str:
    return f"T{log_id['term']}-N{log_id['node_id']}.{log_id['index']}"


class RejoinCluster(FakeCluster):
    """Nodes 1 to 3; node 1 leads term 2; everything up to entry 100 is applied everywhere."""

    def __init__(self, router: respx.MockRouter, ids: Iterable[int] = (1, 2, 3)) -> None:
        self.lives: dict[int, list[str]] = {}
        """The lives that the configuration names, per node."""
        super().__init__(router, ids)
        self.end = 100
        self.retired: dict[int, dict[str, Json]] = {node: {} for node in self.nodes}
        """Per node: directory to what it held (`last_log`, and the wipe's `until`)."""
        self.wipes = 0
        self.restores = 0
        self.sins: list[str] = []
        self.barriers: list[Json] = []
        self.lives = {node: [str(node) * 32] for node in self.nodes}
        self._configure()
        self._catching_up: set[int] = set()
        self.restores_for: dict[int, int] = {}
        """Per node: how many more looks find it restoring a snapshot before anything else moves."""
        self._stopped_at: dict[int, int] = {}

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/status":
            self._time_goes_by()
        return super()._answer(request)

    def membership(self) -> Json:
        return super().membership() | {"incarnations": {str(node): lives for node, lives in self.lives.items()}}

    def lose(self, node: int) -> None:
        """The node comes back with an empty directory: another life, blank, fenced."""
        nothing = dict.fromkeys(("last_log", "applied", "committed", "snapshot"))
        self.nodes[node] |= {
            "birth": "blank",
            "incarnation": "b" * 32,
            "term": 0,
            "leader": None,
            "engine_starts": 1,
        } | nothing
        self.target(node)["state"] = "reverted"

    def _configure(self) -> None:
        for status in self.nodes.values():
            status["membership"] = self.membership()

    def _let_in(self) -> None:
        """What the leader does by itself with a node that is blank, once it may."""
        for node, status in self.nodes.items():
            if self.leader is None or node == self.leader or status["incarnation"] in self.lives[node]:
                continue
            target = self.target(node)
            if target["revert_armed"]:
                target |= {"revert_armed": False, "state": "replicate", "matching": None}
                self.lives[node] = [*self.lives[node], status["incarnation"]]
                self.learners.append(node)
                status |= {"birth": "started", "term": self.nodes[self.leader]["term"], "leader": self.leader}
                self._catching_up.add(node)
                self._configure()

    def _replace_life(self, node: int) -> None:
        self.lives[node] = self.lives[node][-1:]
        self.learners.remove(node)
        self._configure()

    def _time_goes_by(self) -> None:
        self._let_in()
        for node in sorted(self._catching_up):
            status = self.nodes[node]
            if self.leader is None or status["state"] == "shutdown":
                continue
            target = self.target(node)
            if target["state"] == "reverted":
                if not target["revert_armed"]:
                    continue
                target |= {"state": "replicate", "revert_armed": False, "matching": None}
            left = self.restores_for.get(node, 0)
            if left:
                self.restores_for[node] = left - 1
                target |= {"state": "snapshot", "snapshot_sent_bytes": 1000, "snapshot_size_bytes": 1000}
                status["restoring"] = {"snapshot": log_id(50), "restored_bytes": 1000 // left, "size_bytes": 1000}
                continue
            status["restoring"] = None
            have = (status["last_log"] or {"index": 0})["index"]
            now = log_id(min(self.end, have + 60), status["term"], self.leader)
            status |= {"last_log": now, "applied": now, "committed": now}
            target |= {"matching": now, "lag": self.end - now["index"], "state": "replicate"}
            recovering = status["recovering"]
            if recovering is not None and now["index"] >= recovering["until"]["index"]:
                status["recovering"] = None
            if now["index"] == self.end:
                self._catching_up.discard(node)
                if node in self.learners:
                    self._replace_life(node)

    def elect(self, leader: int, term: int) -> None:
        """Another leader; engines that are stopped stay so."""
        stopped = [node for node, status in self.nodes.items() if status["state"] == "shutdown"]
        self.lead(leader, term)
        for node in stopped:
            self.nodes[node]["state"] = "shutdown"

    def _has_quorum(self) -> bool:
        up = [node for node in self.voters if node not in self.down and self.nodes[node]["state"] != "shutdown"]
        return len(up) > len(self.voters) // 2

    def _key_value(self, request: httpx.Request) -> httpx.Response:
        if self.nodes[(request.url.port or 0) - 9100]["state"] == "shutdown":
            return problem(409, "raft_stopped")
        return super()._key_value(request) if self._has_quorum() else problem(503, "no_leader")

    def _grow(self) -> Json:
        self.end += 1
        return log_id(self.end, self.nodes[self.leader or 1]["term"], self.leader or 1)

    # -- levers ------------------------------------------------------------------------------------------------------------

    def _stop_raft(self, node: int, _body: Json) -> httpx.Response:
        running = self.nodes[node]["state"] != "shutdown"
        self.nodes[node]["state"] = "shutdown"
        if running:
            self._stopped_at[node] = self.end
        return self.done(node, "stop_raft", "the engine is stopped", changed=running)

    def _start_raft(self, node: int, _body: Json) -> httpx.Response:
        status = self.nodes[node]
        if status["state"] != "shutdown":
            return self.done(node, "start_raft", "the engine was running already", changed=False)
        status |= {"state": "follower", "engine_starts": status["engine_starts"] + 1}
        self._stopped_at.pop(node, None)
        target = self.target(node)
        have = (status["last_log"] or {"index": 0})["index"]
        if have == 0 or (target["matching"] or {"index": 0})["index"] > have:
            if target["revert_armed"]:
                target |= {"revert_armed": False, "matching": None}
            else:
                target |= {"state": "reverted"}
        self._catching_up.add(node)
        return self.done(node, "start_raft", "the engine runs")

    def _life(self, node: int) -> Json:
        return {name: self.nodes[node][name] for name in ("incarnation", "boot_count", "engine_starts")}

    def _wipe(self, node: int, body: Json) -> httpx.Response:
        status = self.nodes[node]
        if status["state"] != "shutdown":
            return problem(409, "raft_running")
        if body.get("expect_life", self._life(node)) != self._life(node):
            return problem(412, "precondition_failed", "the node ran since")
        until = body["recover_until"]
        for name, held in self.retired[node].items():
            if held["until"] == until and status["last_log"] is None:
                return httpx.Response(200, json={"retired_to": name})
        if not any(barrier["log_id"] == until and node not in barrier["acked_by"] for barrier in self.barriers):
            self.sins.append(f"node {node} was wiped until {until}, which is no barrier without it")
        elif until["index"] <= self._stopped_at[node]:
            self.sins.append(f"node {node} was wiped behind a barrier from before its stop")
        if status["last_log"] is None:
            self.sins.append(f"node {node} was wiped again while it was empty")
        self.wipes += 1
        name = f"retired-20260101T00000{self.wipes}Z"
        self.retired[node][name] = {"last_log": status["last_log"], "until": until}
        status |= {"last_log": None, "applied": None, "committed": None, "recovering": {"until": until, "reason": "wiped"}}
        return httpx.Response(200, json={"retired_to": name})

    def _restore(self, node: int, body: Json) -> httpx.Response:
        status = self.nodes[node]
        if status["state"] != "shutdown":
            return problem(409, "raft_running")
        held = self.retired[node].get(body["retired"])
        if held is None:
            return problem(409, "storage_failed", f"{body['retired']!r} is not a directory with retired data")
        last = (status["last_log"] or {"index": 0})["index"]
        if status["recovering"] is None or last > held["until"]["index"]:
            return problem(409, "storage_failed", "the node has gone on since it was wiped")
        self.restores += 1
        del self.retired[node][body["retired"]]
        status |= {"last_log": held["last_log"], "applied": held["last_log"], "recovering": None}
        return httpx.Response(200, json={"set_aside_to": "retired-aside"})

    # -- its process, for drivers that do not ask the endpoint ---------------------------------------------------------------

    def command(self, verb: str, node: int, values: Mapping[str, object]) -> str:
        """What a site's commands do to the process of a node; return what they print.

        Raises: CommandError: the exit status is not 0.
        """
        return str(getattr(self, f"_{verb}_process")(node, values))

    def _stop_process(self, node: int, _values: Mapping[str, object]) -> str:
        self._stop_raft(node, {})
        self.down[node] = httpx.ConnectError("[Errno 111] Connection refused")
        return ""

    def _start_process(self, node: int, _values: Mapping[str, object]) -> str:
        if node in self.down:
            del self.down[node]
            self.nodes[node] |= {"boot_count": self.nodes[node]["boot_count"] + 1, "engine_starts": 0}
            self._start_raft(node, {})
        return ""

    def _wipe_process(self, node: int, values: Mapping[str, object]) -> str:
        until = next(
            barrier["log_id"] for barrier in self.barriers if _text(barrier["log_id"]) == str(values["recover_until"])
        )
        if node not in self.down:
            raise CommandError("the directory is in use")
        if values["expect_boot"] != self.nodes[node]["boot_count"]:
            raise CommandError("the node ran since it was stopped; nothing was wiped")
        return f"data/{json.loads(self._wipe(node, {'recover_until': until}).content)['retired_to']}"

    def _restore_process(self, node: int, values: Mapping[str, object]) -> str:
        if node not in self.down:
            raise CommandError("the directory is in use")
        reply = self._restore(node, {"retired": str(values["retired"]).rpartition("/")[2]})
        if reply.status_code != 200:
            raise CommandError(json.loads(reply.content)["detail"])
        return "data/retired-aside"

    # -- the leader --------------------------------------------------------------------------------------------------------

    def _barrier(self, node: int, body: Json) -> httpx.Response:
        for excluded in body["exclude"]:
            if self.nodes[excluded]["state"] != "shutdown":
                self.sins.append(f"a barrier without node {excluded} while that runs")
        new = self._grow()
        up = [voter for voter in self.voters if self.nodes[voter]["state"] != "shutdown"]
        acked = [voter for voter in up if voter not in body["exclude"]]
        for voter in acked:
            if voter not in self._catching_up:
                self.nodes[voter] |= {"last_log": new, "applied": new, "committed": new}
        for voter, target in self.nodes[node]["replication"].items():
            if int(voter) in acked and int(voter) not in self._catching_up:
                target["matching"] = new
        self.barriers.append({"log_id": new, "acked_by": acked})
        return httpx.Response(200, json=self.barriers[-1])

    def _allow_next_revert(self, node: int, body: Json) -> httpx.Response:
        target = self.target(body["to"])
        target["revert_armed"] = body["allow"]
        if body["allow"]:
            target["matching"] = None
        return self.done(node, "allow_next_revert", f"node {body['to']} may revert once")

    def _digest(self, node: int, _body: Json) -> httpx.Response:
        whole = self.nodes[node]["last_log"] is not None and self.nodes[node]["recovering"] is None
        return httpx.Response(200, json={"index": self.end, "digest": DIGEST if whole else BROKEN, "algorithm": "sha256"})

    # -- how it looks ------------------------------------------------------------------------------------------------------

    def levers(self) -> list[str]:
        """The mutations without those of the lock."""
        return [path for path in self.paths if not path.startswith("/v1/kv/")]

    def picture(self, node: int) -> dict[str, Any]:
        """What must be so when a run is over."""
        status, target = self.nodes[node], self.target(node)
        return {
            "state": status["state"],
            "recovering": status["recovering"],
            "fenced": target["state"] == "reverted",
            "armed": target["revert_armed"],
            "locked": self.keys != {},
            "sins": self.sins,
        }


WELL = {"state": "follower", "recovering": None, "fenced": False, "armed": False, "locked": False, "sins": []}
"""The picture of a node that follows, with nothing left behind."""
