"""A cluster of three that lives in a mocked transport: it keeps a state, answers as the endpoint does, and remembers every request.

A test changes `nodes[n]` before the command runs, or puts into `scripted` what a path answers instead: a reply, an exception
of httpx, or a function of the request.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import respx

from raftctl.plain_http import NoReplyError, NotSentError

Json = dict[str, Any]
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
DIGEST = "ab" * 32


def url(node: int) -> str:
    return f"http://127.0.0.1:{9100 + node}"


def log_id(index: int, term: int = 2, node: int = 1) -> Json:
    return {"term": term, "node_id": node, "index": index}


def problem(status: int, code: str, detail: str = "because", **more: Any) -> httpx.Response:
    body = {
        "type": f"urn:raft-engine:problem:{code}",
        "title": code,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


@dataclass
class PlainAnswer:
    status: int
    headers: dict[str, str]
    content: bytes

    def body(self) -> Iterator[bytes]:
        yield self.content

    def close(self) -> None:
        """There is no connection."""


class FakeCluster:
    """Nodes 1 to 3 of cluster `demo`; node 1 leads term 2, everything up to entry 100 is applied everywhere."""

    def __init__(self, router: respx.MockRouter, ids: Iterable[int] = (1, 2, 3)) -> None:
        self.requests: list[tuple[str, int, str, Json]] = []
        """(method, node, path without query, body)"""
        self.headers: list[httpx.Headers] = []
        self.scripted: dict[tuple[int | None, str, str], deque[Answer]] = {}
        self.down: dict[int, Exception] = {}
        self.keys: dict[bytes, tuple[bytes, int]] = {}
        self.voters = list(ids)
        self.learners: list[int] = []
        self.nodes = {node: self._status(node) for node in self.voters}
        self.lead(1)
        router.route(host="127.0.0.1").mock(side_effect=self._answer)

    # -- state ---------------------------------------------------------------------------------------------------------

    def _status(self, node: int) -> Json:
        return {
            "cluster": "demo",
            "cluster_id": "c" * 32,
            "node_id": node,
            "incarnation": str(node) * 32,
            "boot_count": 1,
            "engine_starts": 1,
            "version": "0.1.0",
            "advertised": self.address(node),
            "birth": "started",
            "state": "follower",
            "recovering": None,
            "term": 2,
            "vote": {"term": 2, "node_id": 1, "committed": True},
            "leader": 1,
            "last_log": log_id(100),
            "committed": log_id(100),
            "applied": log_id(100),
            "snapshot": log_id(50),
            "purged": None,
            "membership": {},
            "building_snapshot": False,
            "restoring": None,
            "transfer_to": None,
            "last_quorum_acked_ms_ago": None,
            "election_timeout_max_ms": 300.0,
            "runtime_config": {"enable_tick": True, "enable_heartbeat": True, "enable_elect": True, "enable_pre_vote": True},
            "alarms": [],
            "fatal": None,
            "free_bytes": 10**11,
            "kv": {"keys": 0, "bytes": 0},
        }

    @staticmethod
    def address(node: int) -> Json:
        return {"raft": f"127.0.0.1:{9200 + node}", "management": url(node)}

    def membership(self) -> Json:
        members = [*self.voters, *self.learners]
        return {
            "configs": [self.voters],
            "learners": self.learners,
            "nodes": {str(node): self.address(node) for node in members},
            "log_id": log_id(1, 0, 0),
            "committed": True,
            "incarnations": {str(node): [str(node) * 32] for node in members},
        }

    def lead(self, leader: int | None, term: int = 2) -> None:
        """Make `leader` lead `term`; None: nobody does."""
        for node, status in self.nodes.items():
            status |= {"state": "leader" if node == leader else "follower", "leader": leader, "term": term}
            status |= {"membership": self.membership(), "last_quorum_acked_ms_ago": 1.0 if node == leader else None}
            status.pop("replication", None)
        if leader is not None:
            others = [node for node in [*self.voters, *self.learners] if node != leader]
            self.nodes[leader]["replication"] = {str(node): self._target(node) for node in others}

    @staticmethod
    def _target(node: int) -> Json:
        return {
            "matching": log_id(100),
            "lag": 0,
            "state": "replicate",
            "last_ack_ms_ago": 3.0,
            "revert_armed": False,
            "revert_armed_ms_left": None,
            "incarnation": str(node) * 32,
            "snapshot_sent_bytes": 0,
            "snapshot_size_bytes": 0,
        }

    @property
    def leader(self) -> int | None:
        return next((node for node, status in self.nodes.items() if status["state"] == "leader"), None)

    def target(self, node: int) -> Json:
        assert self.leader is not None
        return self.nodes[self.leader]["replication"][str(node)]

    # -- what a test scripts -------------------------------------------------------------------------------------------

    def answers(self, path: str, *answers: Answer, method: str = "POST", node: int | None = None) -> None:
        """The next requests to `path` get these answers, and the ones after them what the cluster would say."""
        self.scripted.setdefault((node, method, path), deque()).extend(answers)

    @property
    def mutations(self) -> list[tuple[str, int, str, Json]]:
        return [request for request in self.requests if request[0] != "GET"]

    @property
    def paths(self) -> list[str]:
        return [path for _, _, path, _ in self.mutations]

    # -- answering -----------------------------------------------------------------------------------------------------

    def _answer(self, request: httpx.Request) -> httpx.Response:
        node, path = (request.url.port or 0) - 9100, request.url.path
        is_json = "json" in request.headers.get("content-type", "")
        body = json.loads(request.content) if request.content and is_json else {}
        self.requests.append((request.method, node, path, body))
        self.headers.append(request.headers)
        if node in self.down or node not in self.nodes:
            raise self.down.get(node, httpx.ConnectError("[Errno 111] Connection refused"))
        for key in ((node, request.method, path), (None, request.method, path)):
            if self.scripted.get(key):
                answer = self.scripted[key].popleft()
                if isinstance(answer, Exception):
                    raise answer
                return answer if isinstance(answer, httpx.Response) else answer(request)
        if path == "/v1/status":
            return httpx.Response(200, json=self.nodes[node])
        if path.startswith("/v1/kv") and self.leader is None:
            return problem(503, "no_leader")
        if path.startswith("/v1/kv"):
            reply = self._key_value(request)
            reply.headers["x-raft-node"] = str(node)
            return reply
        return self._act(node, path, body)

    def ask(
        self, url: str, headers: Mapping[str, str], *, connect_timeout_s: float, timeout_s: float, is_stream: bool = False
    ) -> PlainAnswer:
        """What stands for `plain_http.ask`: the same answers, whichever way a question comes."""
        try:
            response = self._answer(httpx.Request("GET", url, headers=dict(headers)))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotSentError("connection refused" if "refused" in str(error) else str(error)) from error
        except httpx.HTTPError as error:
            raise NoReplyError(f"no answer in {timeout_s:g} s") from error
        return PlainAnswer(response.status_code, dict(response.headers), response.content)

    def _act(self, node: int, path: str, body: Json) -> httpx.Response:
        name = path.removeprefix("/v1/").replace("trigger/", "").replace("node/", "").replace("-", "_").replace("/", "_")
        if self._is_for_leader(name) and node != self.leader:
            if self.leader is None:
                return problem(503, "no_leader")
            return problem(421, "not_leader", leader={"id": self.leader, "management": url(self.leader)})
        handler = getattr(self, f"_{name}", None)
        return handler(node, body) if handler is not None else problem(404, "not_found")

    @staticmethod
    def _is_for_leader(name: str) -> bool:
        return name in {"heartbeat", "transfer_leader", "allow_next_revert", "barrier"} or name.startswith("membership")

    def done(
        self, node: int, action: str, detail: str = "done", *, changed: bool = True, **effective: Any
    ) -> httpx.Response:
        body = {
            "action": action,
            "node": node,
            "requested": {},
            "effective": effective,
            "changed": changed,
            "observed": True,
            "detail": detail,
            "leader": self.leader,
            "term": self.nodes[node]["term"],
        }
        return httpx.Response(200, json=body)

    def accepted(self, node: int, action: str) -> httpx.Response:
        """What a node says that did not see the effect in time."""
        body = json.loads(self.done(node, action, "under way").content) | {"observed": False}
        return httpx.Response(202, json=body)

    def _elect(self, node: int, _body: Json) -> httpx.Response:
        if node == self.leader:
            return self.done(node, "elect", f"node {node} leads term 2 already", changed=False)
        self.lead(node, self.nodes[node]["term"] + 1)
        return self.done(node, "elect", f"node {node} leads term {self.nodes[node]['term']}")

    def _heartbeat(self, node: int, _body: Json) -> httpx.Response:
        return self.done(node, "heartbeat", acked_by=[other for other in self.voters if other != node])

    def _snapshot(self, node: int, _body: Json) -> httpx.Response:
        self.nodes[node]["snapshot"] = log_id(100)
        return self.done(node, "snapshot", "snapshot up to 100", upto=100)

    def _purge_log(self, node: int, body: Json) -> httpx.Response:
        upto = min(body["upto"], self.nodes[node]["snapshot"]["index"])
        self.nodes[node]["purged"] = log_id(upto)
        return self.done(node, "purge_log", f"purged up to {upto}", upto=upto)

    def _transfer_leader(self, node: int, body: Json) -> httpx.Response:
        self.lead(body["to"], 3)
        return self.done(node, "transfer_leader", f"node {body['to']} leads term 3")

    def _allow_next_revert(self, node: int, body: Json) -> httpx.Response:
        self.target(body["to"])["revert_armed"] = body["allow"]
        return self.done(node, "allow_next_revert", f"node {body['to']} may revert once")

    def _runtime_config(self, node: int, body: Json) -> httpx.Response:
        self.nodes[node]["runtime_config"] |= body
        return self.done(node, "runtime_config", "", **self.nodes[node]["runtime_config"])

    def _init(self, node: int, _body: Json) -> httpx.Response:
        return self.done(node, "init", "the cluster has a leader")

    def _membership_learners(self, node: int, body: Json) -> httpx.Response:
        self.learners.append(body["id"])
        self.lead(node)
        return self.done(node, "add_learner", voters=self.voters, learners=self.learners)

    def _membership_voters(self, node: int, body: Json) -> httpx.Response:
        gone = [voter for voter in self.voters if voter not in body["voters"]]
        self.learners = [x for x in self.learners if x not in body["voters"]] + (gone if body["retain"] else [])
        self.voters = body["voters"]
        self.lead(node)
        return self.done(node, "change_voters", voters=self.voters, learners=self.learners)

    def _barrier(self, node: int, body: Json) -> httpx.Response:
        acked = [voter for voter in self.voters if voter not in body["exclude"]]
        return httpx.Response(200, json={"log_id": log_id(101, self.nodes[node]["term"], node), "acked_by": acked})

    def _stop_raft(self, node: int, _body: Json) -> httpx.Response:
        self.nodes[node]["state"] = "shutdown"
        return self.done(node, "stop_raft", "the engine is stopped")

    def _start_raft(self, node: int, _body: Json) -> httpx.Response:
        self.nodes[node] |= {"state": "follower", "recovering": None}
        for status in self.nodes.values():
            status["applied"] = status["last_log"] = status["committed"] = log_id(101)
            for target in status.get("replication", {}).values():
                target["matching"] = log_id(101)
        return self.done(node, "start_raft", "the engine runs")

    def _wipe(self, node: int, _body: Json) -> httpx.Response:
        self.target(node)["revert_armed"] = False
        return httpx.Response(200, json={"retired_to": f"retired-of-{node}"})

    def _digest(self, _node: int, _body: Json) -> httpx.Response:
        return httpx.Response(200, json={"index": 101, "digest": DIGEST, "algorithm": "sha256"})

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _key_value(self, request: httpx.Request) -> httpx.Response:
        key = unquote_to_bytes(request.url.raw_path.partition(b"?")[0].removeprefix(b"/v1/kv").removeprefix(b"/"))
        if not key:
            items = [
                {"key": name.decode(), "value_base64": base64.b64encode(value).decode(), "revision": revision}
                for name, (value, revision) in sorted(self.keys.items())
                if name.startswith(request.url.params.get("prefix", "").encode())
            ]
            return httpx.Response(200, json={"items": items, "next": None})
        value, revision = self.keys.get(key, (b"", 0))
        if request.method == "GET":
            if not revision:
                return problem(404, "key_not_found")
            return httpx.Response(200, content=value, headers={"etag": f'"{revision}"'})
        wanted = request.headers.get("if-match", f'"{revision}"').strip('"')
        if int(wanted) != revision or (request.headers.get("if-none-match") and revision):
            return problem(412, "precondition_failed", revision=revision)
        if request.method == "DELETE":
            self.keys.pop(key, None)
        else:
            self.keys[key] = (request.content, 100 + len(self.requests))
        return httpx.Response(200, json={"log_id": log_id(101), "revision": 100 + len(self.requests)})
