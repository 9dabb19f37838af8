"""A cluster in which raftctl reaches every node through a gate, so that a test can hold its requests and act meanwhile."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.acceptance.cluster import Cluster, Json, Node
from tests.acceptance.conftest import ClusterMaker
from tests.acceptance.gate import Gate
from tests.ports import free_ports

SURE = ("--yes", "--confirm", "demo")
STEPS = ["stop-raft", "barrier", "allow-next-revert", "wipe", "start-raft"]
"""Requests of a rejoin, in order; the barrier and the permission go to the leader, the rest to the node."""


class Gated:
    """`gates`: by node id."""

    def __init__(self, cluster: Cluster, gates: dict[int, Gate]) -> None:
        self.cluster = cluster
        self.gates = gates

    def gate(self, node: Node, request: str) -> Gate:
        """Where this request of a rejoin of `node` passes."""
        return self.gates[self.cluster.leader().node_id if request in {"barrier", "allow-next-revert"} else node.node_id]

    def begin(self, node: Node, request: str, *options: str) -> subprocess.Popen[str]:
        """Begin a rejoin and return when that request is on its way; it is held, and never arrives."""
        gate = self.gate(node, request)
        gate.hold_at = b"/" + request.encode()
        running = self.cluster.start_raftctl(
            "rejoin-node", str(node.node_id), *SURE, "--request-timeout", "120s", "-o", "json", *options
        )
        assert gate.reached.wait(90)
        return running

    def kill_at(self, node: Node, request: str) -> None:
        """Begin a rejoin and kill raftctl while that request is on its way."""
        running = self.begin(node, request)
        running.kill()
        running.communicate(timeout=60)
        self.drop()

    def drop(self) -> None:
        """What is held never arrives; everything passes again."""
        for gate in self.gates.values():
            gate.drop()

    def run(self) -> Json:
        """The only run that raftctl knows."""
        (run,) = self.cluster.raftctl("runs", "list", "-o", "json").data["items"]
        return run


@contextmanager
def gated_cluster(make_cluster: ClusterMaker, count: int = 3, **raft: int | bool) -> Iterator[Gated]:
    """A cluster of `count` nodes that serves, behind gates."""
    cluster = make_cluster(count, **raft)
    gates = {}
    for node in cluster:
        (port,) = free_ports(1)
        gates[node.node_id] = Gate(port, node.management_port)
        node.extra = f'\n[advertise]\nmanagement = "http://127.0.0.1:{port}"\nraft = "{node.raft_address}"\n'
        cluster.write_config(node)
    endpoints = json.dumps([f"http://127.0.0.1:{gate.port}" for gate in gates.values()])
    cluster.config.write_text(f'current-context = "demo"\n[contexts.demo]\nendpoints = {endpoints}\n', "utf-8")
    cluster.start()
    members = {
        str(node.node_id): {"raft": node.raft_address, "management": f"http://127.0.0.1:{gates[node.node_id].port}"}
        for node in cluster
    }
    assert cluster[1].post("/v1/init", {"members": members}).status_code == 200
    cluster.leader()
    try:
        yield Gated(cluster, gates)
    finally:
        for gate in gates.values():
            gate.close()
