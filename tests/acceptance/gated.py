"""A cluster in which raftctl reaches every node through a gate, so that a test can hold its requests and act meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.acceptance.cluster import DEADLINE_S, Cluster, Json, Node, Running
from tests.acceptance.conftest import ClusterMaker
from tests.acceptance.gate import Gate
from tests.ports import free_ports

SURE = ("--yes", "--confirm", "demo")
PATIENT = ("--request-timeout", f"{DEADLINE_S:g}s")
"""For a raftctl whose request is held: it must not give it up by itself."""
STEPS = ["stop-raft", "barrier", "allow-next-revert", "wipe", "start-raft"]
"""Requests of a rejoin, in order; the barrier and the permission go to the leader, the rest to the node."""


class Gated:
    """`gates`: by node id; `reached`: a request is held at one of them."""

    def __init__(self, cluster: Cluster, gates: dict[int, Gate], reached: threading.Event) -> None:
        self.cluster = cluster
        self.gates = gates
        self.reached = reached

    def begin(self, node: Node, request: str, *options: str) -> Running:
        """Begin a rejoin and return when that request is on its way, to whichever node; it is held, and never arrives."""
        return self.held_at(request, "rejoin-node", str(node.node_id), *SURE, *PATIENT, "-o", "json", *options)

    def held_at(self, request: str, *arguments: str) -> Running:
        """Start that raftctl and return when that request of it is held."""
        for gate in self.gates.values():
            gate.hold_at = b"/" + request.encode()
        running = self.cluster.begin_raftctl(self.reached.is_set, *arguments)
        assert self.reached.is_set(), "raftctl ended before"
        return running

    def hold_no_more(self) -> None:
        """What is held stays so; everything else passes."""
        for gate in self.gates.values():
            gate.hold_at = b""

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
        return self.cluster.last_run()


@contextmanager
def gated_cluster(make_cluster: ClusterMaker, count: int = 3, **raft: int | bool) -> Iterator[Gated]:
    """A cluster of `count` nodes that serves, behind gates."""
    cluster = make_cluster(count, **raft)
    gates: dict[int, Gate] = {}
    reached = threading.Event()
    for node in cluster:
        (port,) = free_ports(1)
        gates[node.node_id] = Gate(port, node.management_port, reached)
        node.extra = f'\n[advertise]\nmanagement = "http://127.0.0.1:{port}"\nraft = "{node.raft_address}"\n'
        cluster.write_config(node)
    endpoints = json.dumps([f"http://127.0.0.1:{gate.port}" for gate in gates.values()])
    cluster.config.write_text(f'current-context = "demo"\n[contexts.demo]\nendpoints = {endpoints}\n', "utf-8")
    cluster.start()
    members = {
        str(node.node_id): {"raft": node.raft_address, "management": f"http://127.0.0.1:{gates[node.node_id].port}"}
        for node in cluster
    }
    cluster.init(members)
    cluster.settled()
    try:
        yield Gated(cluster, gates, reached)
    finally:
        for gate in gates.values():
            gate.close()
