"""A mocked cluster for the runbooks around one node's absence: engines that start anew, members that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import respx

from raftctl import plain_http
from tests.raftctl.fake_cluster import FakeCluster, Json, log_id, problem

NEW = "4=127.0.0.1:9204,http://127.0.0.1:9104"


@contextmanager
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[OperationsCluster]:
    """A cluster that raftctl finds wherever it looks."""
    with respx.mock(assert_all_called=False) as router:
        fake = OperationsCluster(router)
        monkeypatch.setattr(plain_http, "ask", fake.ask)
        yield fake


class OperationsCluster(FakeCluster):
    """Nodes 1 to 3, of which node 1 leads term 2; node 4 runs and belongs to nobody yet. `sins`: what must never be seen."""

    def __init__(self, router: respx.MockRouter) -> None:
        super().__init__(router)
        self.nodes[4] = self._status(4) | {"birth": "blank", "leader": None, "term": 0, "membership": self.membership()}
        self.sins: list[str] = []

    def _leads(self, leader: int, term: int) -> None:
        """Another leader; engines that are stopped stay so."""
        stopped = [node for node, status in self.nodes.items() if status["state"] == "shutdown"]
        self.lead(leader, term)
        for node in stopped:
            self.nodes[node]["state"] = "shutdown"

    def _transfer_leader(self, node: int, body: Json) -> httpx.Response:
        self._leads(body["to"], self.nodes[node]["term"] + 1)
        return self.done(node, "transfer_leader", f"node {body['to']} leads")

    def _stop_raft(self, node: int, _body: Json) -> httpx.Response:
        status = self.nodes[node]
        running = status["state"] != "shutdown"
        if running and node == self.leader:
            self.sins.append(f"node {node} was stopped while it led")
        if running and status["applied"]["index"] < status["last_log"]["index"]:
            self.sins.append(f"node {node} was stopped while writes waited for it")
        others = [voter for voter in self.voters if voter != node and self.nodes[voter]["state"] == "shutdown"]
        if others:
            self.sins.append(f"node {node} was stopped while node {others[0]} was away")
        status["state"] = "shutdown"
        return self.done(node, "stop_raft", "the engine is stopped", changed=running)

    def _start_raft(self, node: int, _body: Json) -> httpx.Response:
        status = self.nodes[node]
        changed = status["state"] == "shutdown"
        if changed:
            status |= {"state": "follower", "engine_starts": status["engine_starts"] + 1}
        return self.done(node, "start_raft", "the engine runs", changed=changed)

    def _membership_learners(self, node: int, body: Json) -> httpx.Response:
        if body["id"] not in self.learners:
            self.learners.append(body["id"])
        self.nodes[body["id"]]["birth"] = "started"
        self._leads(node, self.nodes[node]["term"])
        return self.done(node, "add_learner", voters=self.voters, learners=self.learners)

    def _membership_voters(self, node: int, body: Json) -> httpx.Response:
        if len(body["voters"]) != len(self.voters):
            self.sins.append(f"{len(self.voters)} voters became {len(body['voters'])}")
        if not set(body["voters"]) <= {*self.voters, *self.learners}:
            return problem(409, "not_a_learner")
        reply = super()._membership_voters(node, body)
        self._leads(node, self.nodes[node]["term"])
        return reply

    def _membership_4(self, node: int, _body: Json) -> httpx.Response:
        self.learners = [learner for learner in self.learners if learner != 4]
        self._leads(node, self.nodes[node]["term"])
        return self.done(node, "remove_member", voters=self.voters, learners=self.learners)

    def _barrier(self, node: int, body: Json) -> httpx.Response:
        acked = [voter for voter in self.voters if voter not in body["exclude"]]
        return httpx.Response(200, json={"log_id": log_id(101, self.nodes[node]["term"], node), "acked_by": acked})

    def starts(self) -> list[int]:
        return [self.nodes[node]["engine_starts"] for node in (1, 2, 3)]

    def all_run(self) -> bool:
        return all(self.nodes[node]["state"] != "shutdown" for node in (1, 2, 3))
