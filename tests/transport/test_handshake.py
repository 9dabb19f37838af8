"""The first words: who may talk to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.errors import TransportError
from raft_engine.transport.handshake import (
    HELLO_BYTES_MAX,
    Answer,
    BootstrapHello,
    Identity,
    Refused,
    decode_hello,
    decode_reply,
    encode_greeting,
)
from raft_engine.types.bootstrap import BirthState, BootstrapPrepare, BootstrapQuery, BootstrapReply
from raft_engine.types.membership import NodeAddress, uniform
from tests.transport.peers import CLUSTER, CLUSTER_ID, peer

ALICE, BOB = peer(1), peer(2)
MEMBERSHIP = uniform([ALICE, BOB], {1: NodeAddress("a:1", "http://a"), 2: NodeAddress("b:1", "http://b")})


def identity(cluster: str = CLUSTER, cluster_id: str = CLUSTER_ID, me=ALICE) -> Identity:
    return Identity(cluster, lambda: cluster_id, me)


def test_a_hello_comes_out_as_it_went_in():
    hello = identity().hello(BOB)
    assert hello == decode_hello(encode_greeting(hello))


def test_a_bootstrap_request_keeps_its_membership():
    hello = BootstrapHello(1, CLUSTER, BootstrapPrepare(CLUSTER, CLUSTER_ID, MEMBERSHIP))
    assert hello == decode_hello(encode_greeting(hello))


@pytest.mark.parametrize(
    "reply",
    [
        identity().welcome(),
        Refused("because"),
        Answer(BootstrapReply(BOB.node_id, BOB.incarnation, BirthState.PREPARED, CLUSTER_ID, MEMBERSHIP)),
    ],
)
def test_a_reply_comes_out_as_it_went_in(reply):
    assert reply == decode_reply(encode_greeting(reply))


def test_a_hello_is_no_reply_and_a_reply_no_hello():
    with pytest.raises(TransportError, match="cannot be decoded"):
        decode_reply(encode_greeting(identity().hello(BOB)))
    with pytest.raises(TransportError, match="cannot be decoded"):
        decode_hello(encode_greeting(identity().welcome()))


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_with_a_transport_error(data):
    with pytest.raises(TransportError):
        decode_hello(data)
    with pytest.raises(TransportError):
        decode_reply(b"\0\0\0\0raft" + data)


def test_deeply_nested_json_is_refused():
    with pytest.raises(TransportError, match="cannot be decoded"):
        decode_hello(b"\0\0\0\0raft" + b'{"type":"peer","x":' + b"[" * 100_000)


def test_a_hello_with_an_impossible_name_is_refused():
    hello = encode_greeting(identity().hello(BOB)).replace(ALICE.incarnation.encode(), b"z" * 32)
    with pytest.raises(TransportError, match="32 hex digits"):
        decode_hello(hello)


def test_a_greeting_beyond_the_bound_is_not_sent():
    with pytest.raises(TransportError, match="exceeds the bound"):
        encode_greeting(BootstrapHello(1, CLUSTER, BootstrapQuery("x" * HELLO_BYTES_MAX)))


@pytest.mark.parametrize("other_id", [CLUSTER_ID, ""])
def test_who_has_the_same_cluster_or_no_id_yet_belongs(other_id):
    assert identity().why_foreign(identity(cluster_id=other_id, me=BOB).welcome()) == ""


def test_a_node_without_id_accepts_any_id_of_a_cluster_of_its_name():
    assert identity(cluster_id="").why_foreign(identity(me=BOB).hello(ALICE)) == ""


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (identity(cluster="other", me=BOB), "belongs to cluster 'other', not 'demo'"),
        (identity(cluster_id="d" * 32, me=BOB), "another cluster named 'demo'"),
    ],
)
def test_who_belongs_to_another_cluster_is_foreign(other, complaint):
    assert complaint in identity().why_foreign(other.hello(ALICE))
    assert complaint in identity().why_foreign(other.welcome())
