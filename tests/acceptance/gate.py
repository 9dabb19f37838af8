"""A door in front of a node's endpoint that a test can hold shut.

It forwards bytes both ways. A request whose first line contains `hold_at` is kept back and never arrives; `reached`, which
several doors may share, tells that it came, and its sender waits until `drop` ends the connection.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Gate:
    """Listens on a port of its own and passes on to `target_port` on loopback."""

    def __init__(self, listen_port: int, target_port: int, reached: threading.Event) -> None:
        self.port = listen_port
        self.hold_at = b""
        self.reached = reached
        self._dropped = threading.Event()
        self._target_port = target_port
        self._listening = socket.create_server(("127.0.0.1", listen_port))
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Hold nothing more; what was held never arrives."""
        self.hold_at = b""
        self._dropped.set()

    def close(self) -> None:
        self.drop()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target_port)) as node:
            threading.Thread(target=self._back, args=(node, client), daemon=True).start()
            while data := client.recv(65536):
                if self.hold_at and self.hold_at in data.partition(b"\r\n")[0]:
                    self.reached.set()
                    self._dropped.wait()
                    return
                node.sendall(data)

    def _back(self, node: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := node.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
