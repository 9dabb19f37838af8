"""Doors in front of the nodes' peer addresses, so that a test can cut the link between any two nodes, in either direction.

Every node advertises its door. A door learns from the greeting who dials, passes bytes on, and for a direction that is cut
keeps them back until it is healed, as TCP does over a network that loses everything. Severed instead, connections end and no
new ones come to be. Questions of a cluster's birth name no sender; they always pass.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from tests.acceptance.cluster import DEADLINE_S, Cluster
from tests.acceptance.conftest import ClusterMaker
from tests.ports import free_ports

Way = tuple[int, int]
"""From a node to a node."""
NOBODY = 0


class PeerLinks:
    """`ports`: where each node is dialed, by node id."""

    def __init__(self, raft_ports: dict[int, int]) -> None:
        self.ports = dict(zip(raft_ports, free_ports(len(raft_ports)), strict=True))
        self._is_felt = False
        self._raft_ports = raft_ports
        self._cut: set[Way] = set()
        self._severed: set[Way] = set()
        self._open: dict[Way, set[socket.socket]] = {}
        self._changed = threading.Condition()
        self._listening = {node: socket.create_server(("127.0.0.1", port)) for node, port in self.ports.items()}
        for node in self._listening:
            threading.Thread(target=self._accept, args=(node,), daemon=True).start()

    def cut(self, ways: Iterable[Way]) -> None:
        """Nothing passes these ways; nobody is told."""
        with self._changed:
            self._is_felt = False
            self._cut.update(ways)

    def sever(self, ways: Iterable[Way]) -> None:
        """End the connections of whoever dials these ways; new ones end at once."""
        with self._changed:
            self._is_felt = False
            self._severed.update(ways)
            ending = [side for way in self._severed for side in self._open.get(way, ())]
        for side in ending:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def wait_until_felt(self) -> None:
        """Wait until something was kept back or turned away since the last cut."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._is_felt, DEADLINE_S), "nobody missed the link"

    def heal(self) -> None:
        """Everything passes again, first what was kept back."""
        with self._changed:
            self._cut.clear()
            self._severed.clear()
            self._changed.notify_all()

    def close(self) -> None:
        self.heal()
        for listening in self._listening.values():
            listening.close()

    # -- one connection --------------------------------------------------------------------------------------------------

    def _accept(self, node: int) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                dialer, _ = self._listening[node].accept()
                threading.Thread(target=self._serve, args=(node, dialer), daemon=True).start()

    def _serve(self, node: int, dialer: socket.socket) -> None:
        with dialer, suppress(OSError, EOFError):
            greeting = read_frame(dialer)
            way = (sender_of(greeting), node)
            with socket.create_connection(("127.0.0.1", self._raft_ports[node])) as there, self._known(way, dialer, there):
                back = threading.Thread(target=self._pump, args=(way[::-1], there, dialer), daemon=True)
                back.start()
                self._pump(way, dialer, there, greeting)
                back.join()

    @contextmanager
    def _known(self, way: Way, *sides: socket.socket) -> Iterator[None]:
        """Yield while the connection is one that `sever` finds.

        Raises: EOFError: the way is severed.
        """
        with self._changed:
            if way in self._severed:
                self._feel()
                raise EOFError
            self._open.setdefault(way, set()).update(sides)
        try:
            yield
        finally:
            with self._changed:
                self._open[way].difference_update(sides)

    def _pump(self, way: Way, source: socket.socket, sink: socket.socket, data: bytes = b"") -> None:
        """Pass on until one side ends; then end both, each when the way to it is free."""
        try:
            while data := data or source.recv(65536):
                self._wait_until_free(way)
                sink.sendall(data)
                data = b""
            self._wait_until_free(way)
        except OSError:
            pass
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _wait_until_free(self, way: Way) -> None:
        with self._changed:
            if way in self._cut:
                self._feel()
            self._changed.wait_for(lambda: way not in self._cut)

    def _feel(self) -> None:
        self._is_felt = True
        self._changed.notify_all()


def read_frame(source: socket.socket) -> bytes:
    """Return the first frame: its length, and the rest.

    Raises: EOFError: the connection ended before.
    """
    data = b""
    length = 4
    while len(data) < length:
        more = source.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
        if len(data) == 4:
            length = int.from_bytes(data, "little")
    return data


def sender_of(greeting: bytes) -> int:
    """Return the node that greets: JSON behind a length and a magic word."""
    said = json.loads(greeting[8:])
    return said["node_id"] if said["type"] == "peer" else NOBODY


class Linked:
    """A cluster whose peers meet at doors."""

    def __init__(self, cluster: Cluster, links: PeerLinks) -> None:
        self.cluster = cluster
        self.links = links

    def ways_to(self, node: int, others: Iterable[int] | None = None) -> list[Way]:
        """The ways from the others (None: all of them) to `node`."""
        return [(other, node) for other in others or self.cluster.nodes if other != node]

    def ways_from(self, node: int, others: Iterable[int] | None = None) -> list[Way]:
        return [way[::-1] for way in self.ways_to(node, others)]


@contextmanager
def linked_cluster(make_cluster: ClusterMaker, count: int = 3, **raft: int | bool) -> Iterator[Linked]:
    """A cluster of `count` nodes that serves, and whose links can be cut."""
    cluster = make_cluster(count, **raft)
    links = PeerLinks({node.node_id: node.raft_port for node in cluster})
    try:
        for node in cluster:
            node.extra = f'\n[advertise]\nmanagement = "{node.url}"\nraft = "127.0.0.1:{links.ports[node.node_id]}"\n'
            cluster.write_config(node)
        cluster.start()
        members = {
            str(node.node_id): {"raft": f"127.0.0.1:{links.ports[node.node_id]}", "management": node.url} for node in cluster
        }
        cluster.init(members)
        cluster.settled()
        yield Linked(cluster, links)
    finally:
        links.close()
