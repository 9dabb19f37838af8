"""A request's time is bounded in all over httpx too, whatever it waits for: on a clock that only waiting makes go on."""

from __future__ import annotations

import httpcore
import pytest

from raftctl import bounded_network
from raftctl.errors import CtlError
from raftctl.http import Http

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"


class Network(httpcore.NetworkBackend, httpcore.NetworkStream):
    """Connects, sends and receives, each in the time that `takes` says; what it is given to read comes in these pieces."""

    def __init__(self):
        self.now = 0.0
        self.takes = {"connect": 0.0, "write": 0.0, "read": 1.0}
        self.pieces = []

    def monotonic(self):
        return self.now

    def _pass(self, what, timeout, error):
        assert timeout > 0
        self.now += min(timeout, self.takes[what])
        if self.takes[what] > timeout:
            raise error

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self._pass("connect", timeout, httpcore.ConnectTimeout)
        return self

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        self._pass("connect", timeout, httpcore.ConnectTimeout)
        return self

    def write(self, buffer, timeout=None):
        self._pass("write", timeout, httpcore.WriteTimeout)

    def read(self, max_bytes, timeout=None):
        self._pass("read", timeout, httpcore.ReadTimeout)
        return self.pieces.pop(0)

    def close(self):
        """There is no connection."""


@pytest.fixture
def network(monkeypatch):
    one = Network()
    monkeypatch.setattr(httpcore, "SyncBackend", lambda: one)
    monkeypatch.setattr(bounded_network, "time", one)
    return one


def letters(text):
    return [bytes([byte]) for byte in text]


def post(scheme="http", body=b"{}"):
    http = Http(request_timeout_s=7.0)
    try:
        return http.send("POST", f"{scheme}://127.0.0.1:1/v1/trigger/heartbeat", body=body)
    finally:
        http.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("pieces", [letters(HEAD), [HEAD, *letters(b"h" * 50)]], ids=["head", "body"])
def test_a_change_whose_reply_trickles_in_may_have_been_carried_out(network, scheme, pieces):
    network.pieces = pieces
    with pytest.raises(CtlError, match="was sent, but no reply came: no answer in 7 s") as lost:
        post(scheme)
    assert ("reply_lost", True, 7.0) == (lost.value.code, lost.value.outcome_unknown, network.now)


def test_what_connecting_took_is_not_given_to_the_reply_again(network):
    network.takes["connect"] = 3.0
    network.pieces = letters(HEAD)
    with pytest.raises(CtlError, match="no answer in 7 s"):
        post("https")
    assert 7.0 == network.now


def test_a_handshake_that_does_not_end_in_time_was_not_sent(network):
    network.takes["connect"] = 4.0
    with pytest.raises(CtlError, match="no connection in 7 s") as lost:
        post("https")
    assert ("unreachable", 7.0) == (lost.value.code, network.now)


def test_a_long_body_that_is_taken_slowly_is_given_up_in_time(network):
    network.takes["write"] = 2.0
    with pytest.raises(CtlError) as lost:
        post(body=b"v" * 1_000_000)
    assert ("reply_lost", 7.0) == (lost.value.code, network.now)


def test_a_reply_that_is_there_in_time_is_whole(network):
    network.pieces = [HEAD, b"h" * 25, b"h" * 25]
    assert b"h" * 50 == post().body


def test_a_stream_may_last(network):
    network.pieces = [b"HTTP/1.1 200 OK\r\n\r\n", *letters(b"hello"), b""]
    http = Http(request_timeout_s=7.0)
    assert b"hello" == b"".join(http.pieces("https://127.0.0.1:1/v1/events", headers={}, silent_s=1.5))
    http.close()
