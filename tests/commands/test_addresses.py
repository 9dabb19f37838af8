"""Whether a node could listen where its file says."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from raft_engine.commands.addresses import check_apart, why_not
from raft_engine.errors import ConfigError

FILE = Path("n1/node.toml")


def test_a_free_address_is_nothing_to_speak_of():
    assert why_not("listen.raft", "127.0.0.1:0") is None
    assert why_not("listen.raft", "0.0.0.0:0") is None


def test_a_taken_port_is_named_with_its_setting():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert why_not("listen.raft", address).startswith(f"listen.raft {address} is taken; ")
    assert why_not("listen.raft", address) is None


def test_an_address_of_another_machine_is_said_to_be_one():
    # 192.0.2.0/24 is for documentation and nobody's (RFC 5737)
    assert "192.0.2.1:7101 is not an address of this machine; " in why_not("listen.raft", "192.0.2.1:7101")


def test_a_name_that_nobody_knows_is_said_to_be_one(monkeypatch):
    def unknown(*_words, **_more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "the name is not known here" in why_not("listen.raft", "nobody.invalid:7101")


@pytest.mark.parametrize("name", ["a..b", "a" * 64])
def test_what_cannot_be_a_name_is_said_to_be_none(name):
    assert f"{name}:7101: that cannot be a name (" in why_not("listen.raft", f"{name}:7101")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not be listened on by this user; take a port above 1023"),
        (errno.ENOBUFS, "cannot be listened on ("),
    ],
)
def test_any_other_reason_is_told(monkeypatch, number, words):
    class Refusing(socket.socket):
        def bind(self, _place):
            raise OSError(number, "so it is")

    monkeypatch.setattr(socket, "socket", Refusing)
    assert words in why_not("listen.raft", "127.0.0.1:80")


# -- both of a node's addresses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["127.0.0.1:7101", "0.0.0.0:7101", "localhost:7101"])
def test_two_names_of_one_address_are_one(monkeypatch, other):
    as_numbers = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *words, **more: as_numbers(host.replace("localhost", "127.0.0.1"), *words, **more),
    )
    for one, two in (("127.0.0.1:7101", other), (other, "127.0.0.1:7101")):
        with pytest.raises(ConfigError, match=r"^n1/node\.toml: .* are the same address: give each a port of its own"):
            check_apart(FILE, one, two)


@pytest.mark.parametrize("other", ["127.0.0.1:7102", "127.0.0.2:7101", "[::]:7101", "[::1]:7101"])
def test_another_port_host_or_family_is_another_address(other):
    check_apart(FILE, "127.0.0.1:7101", other)


def test_ports_that_are_chosen_at_the_start_are_two():
    check_apart(FILE, "127.0.0.1:0", "127.0.0.1:0")


def test_a_name_that_nobody_knows_is_left_to_whoever_says_so():
    check_apart(FILE, "127.0.0.1:7101", "a..b:7101")
