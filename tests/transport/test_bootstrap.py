"""Questions about a cluster's birth."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from raft_engine.errors import TransportError
from raft_engine.transport.bootstrap import bootstrap_call
from raft_engine.transport.handshake import BootstrapHello, encode_greeting
from raft_engine.transport.tcp import TcpTransport
from raft_engine.types.bootstrap import BirthState, BootstrapPrepare, BootstrapQuery, BootstrapReply
from raft_engine.types.membership import NodeAddress, uniform
from tests.transport.peers import CLUSTER, CLUSTER_ID, Recorder, dial_raw, peer, rest_of, silent_server

BOB = peer(2)
QUERY = BootstrapQuery(CLUSTER)
REPLY = BootstrapReply(
    BOB.node_id, BOB.incarnation, BirthState.PREPARED, CLUSTER_ID, uniform([BOB], {2: NodeAddress("b:1", "http://b")})
)


@pytest_asyncio.fixture
async def listening():
    """Return the raft address of a new node with this bootstrap handler."""
    started: list[TcpTransport] = []

    async def listen(bootstrap=None) -> str:
        transport = TcpTransport(CLUSTER, "", BOB, "127.0.0.1:0", bootstrap=bootstrap)
        await transport.start(Recorder())
        started.append(transport)
        return transport.listening_on

    try:
        async with asyncio.timeout(60):
            yield listen
    finally:
        for transport in started:
            await transport.close()


async def test_the_answer_of_a_coroutine_comes_back(listening):
    asked = []

    async def answer(request):
        asked.append(request)
        await asyncio.sleep(0)
        return REPLY

    prepare = BootstrapPrepare(CLUSTER, CLUSTER_ID, REPLY.membership)
    assert REPLY == await bootstrap_call(await listening(answer), CLUSTER, prepare, 30)
    assert [prepare] == asked


async def test_the_answer_of_a_function_comes_back(listening):
    assert REPLY == await bootstrap_call(await listening(lambda _: REPLY), CLUSTER, QUERY, 30)


async def test_many_may_ask_at_once(listening):
    address = await listening(lambda _: REPLY)
    replies = await asyncio.gather(*[bootstrap_call(address, CLUSTER, QUERY, 30) for _ in range(20)])
    assert [REPLY] * 20 == replies


async def test_another_cluster_is_refused_before_the_handler_sees_it(listening):
    asked = []
    address = await listening(asked.append)
    with pytest.raises(TransportError, match="belongs to cluster 'demo', not 'other'"):
        await bootstrap_call(address, "other", QUERY, 30)
    assert asked == []


async def test_another_wire_version_is_refused(listening):
    reader, writer = await dial_raw(await listening(lambda _: REPLY), encode_greeting(BootstrapHello(99, CLUSTER, QUERY)))
    assert b"speaks wire version 1, not 99" in await reader.read()
    writer.close()


async def test_a_node_without_handler_refuses(listening):
    with pytest.raises(TransportError, match="takes no part"):
        await bootstrap_call(await listening(), CLUSTER, QUERY, 30)


async def test_a_failing_handler_is_told_to_the_asker(listening, caplog):
    async def fail(_):
        raise RuntimeError("the disk is full")

    with pytest.raises(TransportError, match="the disk is full"):
        await bootstrap_call(await listening(fail), CLUSTER, QUERY, 30)
    assert "answering a bootstrap request failed" in caplog.text


async def test_a_second_request_on_one_connection_ends_it(listening):
    asked = asyncio.Event()

    async def never(_):
        asked.set()
        await asyncio.Event().wait()

    hello = encode_greeting(BootstrapHello(1, CLUSTER, QUERY))
    reader, writer = await dial_raw(await listening(never), hello)
    await asked.wait()
    writer.write(hello)
    assert await rest_of(reader) == b""
    writer.close()


async def test_a_node_that_stops_while_it_answers_is_reported(listening):
    asked = asyncio.Event()

    async def never(_):
        asked.set()
        await asyncio.Event().wait()

    transport = TcpTransport(CLUSTER, "", BOB, "127.0.0.1:0", bootstrap=never)
    await transport.start(Recorder())
    call = asyncio.create_task(bootstrap_call(transport.listening_on, CLUSTER, QUERY, 30))
    await asked.wait()
    await transport.close()
    with pytest.raises(TransportError, match="did not answer"):
        await call


async def test_nobody_at_the_address_is_an_error(listening):
    address = await listening()
    transport = TcpTransport(CLUSTER, "", BOB, "127.0.0.1:0")
    await transport.start(Recorder())
    await transport.close()
    with pytest.raises(TransportError, match="cannot be reached"):
        await bootstrap_call(transport.listening_on, CLUSTER, QUERY, 30)
    with pytest.raises(TransportError, match="is not an address"):
        await bootstrap_call(address.partition(":")[0], CLUSTER, QUERY, 30)


async def test_a_silent_host_is_given_up_in_time():
    async with silent_server() as address:
        with pytest.raises(TransportError, match=r"did not answer within 0\.05 s"):
            await bootstrap_call(address, CLUSTER, QUERY, 0.05)
