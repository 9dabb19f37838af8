"""Which way a request goes, and what it means when nothing comes back."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from raftctl import plain_http
from raftctl.errors import CtlError
from raftctl.http import Http
from raftctl.http_values import host_and_port
from raftctl.plain_http import NotSentError

TLS = "-e https://127.0.0.1:9101 -e https://127.0.0.1:9102 -e https://127.0.0.1:9103"


@pytest.fixture
def no_bare_socket(monkeypatch):
    def refuse(url, *_words, **_more):
        raise NotSentError(f"{url} was asked over a bare socket")

    monkeypatch.setattr(plain_http, "ask", refuse)


def test_over_tls_everything_goes_through_httpx(cluster, raftctl, no_bare_socket):
    assert [1, 2, 3] == [node["node_id"] for node in raftctl(f"{TLS} status -o json").data["nodes"]]


def test_a_stream_over_tls_is_followed(cluster, raftctl, no_bare_socket):
    event = b'id: e-1\nevent: term\ndata: {"term": 3}\n\n'
    cluster.answers("/v1/events", httpx.Response(200, content=event), method="GET", node=2)
    line = raftctl(f"{TLS} watch --node 2 --kind term --count 1 -o json").out
    assert {"term": 3} == json.loads(line)["data"]["data"]


def test_questions_without_tls_go_over_a_bare_socket_and_changes_through_httpx(cluster, raftctl, monkeypatch):
    asked = []
    monkeypatch.setattr(plain_http, "ask", lambda url, *words, **more: asked.append(url) or cluster.ask(url, *words, **more))
    raftctl("snapshot --node 2")
    assert {"/v1/status"} == {url.partition("9101")[2] or url.partition(":910")[2][1:] for url in asked}
    assert ["/v1/trigger/snapshot"] == cluster.paths


@pytest.mark.parametrize(
    "line",
    [
        "status -e foo",
        "status -e https://foo",
        "nodes -e foo -e http://bar:9101",
        "kv put colour blue -e foo --timeout 0",
        "kv get colour -e foo -e bar --timeout 0",
    ],
)
def test_a_word_that_is_no_host_is_said_to_be_none_and_what_an_endpoint_is(raftctl, monkeypatch, line):
    def resolve(*_words, **_more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", resolve)
    error = raftctl(f"{line} -o json", code=4).err
    assert "no host is known by the name foo (Name or service not known)" in error
    assert "as http://127.0.0.1:9101 (HOST alone means port 80); a context is named with -c NAME" in error


@pytest.mark.parametrize("endpoint", ["foo:bar", "http://foo:0", "foo:70000", "http://a b", "ftp://foo"])
def test_what_leads_nowhere_is_no_endpoint(raftctl, endpoint):
    assert "is not the URL of an endpoint" in raftctl("status -e", endpoint, code=2).err


def test_a_dry_run_sends_nothing_but_questions():
    with pytest.raises(CtlError, match="nothing was sent"):
        Http(request_timeout_s=1.0, read_only=True).send("POST", "http://127.0.0.1:9101/v1/trigger/heartbeat")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://Host:9101/v1", ("host", 9101)),
        ("https://10.0.0.1", ("10.0.0.1", 443)),
        ("http://[::1]:9101", ("::1", 9101)),
        ("http://10.0.0.1/", ("10.0.0.1", 80)),
        ("http://user@10.0.0.1/", None),
        ("ftp://10.0.0.1/", None),
        ("http://10.0.0.1:0/", None),
        ("http://10.0.0.1:70000/", None),
        ("", None),
    ],
)
def test_where_a_url_leads(url, place):
    assert place == host_and_port(url)
