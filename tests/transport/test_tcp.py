"""TCP: messages arrive once, in order, at the right life of the right node; and trouble with one peer stays with it."""

from __future__ import annotations

import asyncio
import socket

import pytest
import pytest_asyncio

from raft_engine.errors import TransportError
from raft_engine.transport import accepting, dialing
from raft_engine.transport.boots import Boots
from raft_engine.transport.codec import LENGTH, FrameReader, FrameWriter
from raft_engine.transport.handshake import Identity, Refused, Welcome, decode_reply, encode_greeting
from raft_engine.transport.tcp import TcpTransport
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.ids import Boot, Incarnation, PeerId
from raft_engine.types.messages import ReadIndexRequest
from tests.transport.peers import (
    CLUSTER,
    CLUSTER_ID,
    Recorder,
    address,
    answer,
    append_request,
    dial_raw,
    peer,
    read_frame,
    request,
    rest_of,
    silent_server,
)

ALICE, BOB, CAROL = peer(1), peer(2), peer(3)


@pytest_asyncio.fixture
async def start():
    """Start transports that are closed after the test: `await start(me, …)` returns (transport, events)."""
    started: list[TcpTransport] = []

    async def start_one(
        me, listen="127.0.0.1:0", *, cluster=CLUSTER, cluster_id=CLUSTER_ID, on_message=None, **settings
    ) -> tuple[TcpTransport, Recorder]:
        transport = TcpTransport(cluster, cluster_id, me, listen, **{"backoff_min_ms": 1, "backoff_max_ms": 20} | settings)
        events = Recorder(on_message)
        await transport.start(events)
        started.append(transport)
        return transport, events

    try:
        async with asyncio.timeout(60):
            yield start_one
    finally:
        for transport in started:
            await transport.close()


async def connect(dialer: tuple[TcpTransport, Recorder], target, listening_on: str) -> None:
    transport, events = dialer
    transport.set_peers({target: address(listening_on)})
    assert target == await events.connections.get()


def hello(me=ALICE, wanted=BOB, cluster: str = CLUSTER, cluster_id: str = CLUSTER_ID) -> bytes:
    return encode_greeting(Identity(cluster, lambda: cluster_id, me).hello(wanted))


def frame(message, sender=ALICE, receiver=BOB) -> bytes:
    return FrameWriter(sender, receiver).encode(message)


# --- messages ---


async def test_a_request_arrives_and_the_answer_comes_back_to_a_node_that_is_no_peer(start):
    alice, alice_events = await start(ALICE)
    bob, bob_events = await start(BOB)
    await connect((alice, alice_events), BOB, bob.listening_on)
    alice.send(BOB, request(7))
    assert (ALICE, request(7)) == await bob_events.messages.get()
    bob.send(ALICE, answer(7))
    assert (BOB, answer(7)) == await alice_events.messages.get()


async def test_ten_thousand_requests_and_their_answers_come_in_order(start):
    alice, alice_events = await start(ALICE)
    bob, _ = await start(BOB, on_message=lambda sender, message: bob.send(sender, answer(message.request_id)))
    await connect((alice, alice_events), BOB, bob.listening_on)
    for number in range(10_000):
        alice.send(BOB, request(number))
    answers = [(await alice_events.messages.get())[1].request_id for _ in range(10_000)]
    assert list(range(10_000)) == answers
    assert (alice.dropped_count, bob.dropped_count) == (0, 0)


async def test_entries_arrive_as_the_records_they_are(start):
    alice, alice_events = await start(ALICE)
    bob, bob_events = await start(BOB)
    await connect((alice, alice_events), BOB, bob.listening_on)
    entries = [make_entry(1, 1, index, EntryKind.NORMAL, b"x" * index * 100) for index in range(1, 200)]
    alice.send_append(BOB, append_request(), entries)
    assert (ALICE, append_request(entries=tuple(entries))) == await bob_events.messages.get()


async def test_an_entry_of_many_megabytes_comes_through(start):
    alice, alice_events = await start(ALICE)
    bob, bob_events = await start(BOB)
    await connect((alice, alice_events), BOB, bob.listening_on)
    entry = make_entry(1, 1, 1, EntryKind.NORMAL, bytes(20_000_000))
    alice.send_append(BOB, append_request(), [entry])
    alice.send(BOB, request(1))
    assert (ALICE, append_request(entries=(entry,))) == await bob_events.messages.get()
    assert (ALICE, request(1)) == await bob_events.messages.get()


async def test_frames_may_come_in_any_pieces(start):
    bob, bob_events = await start(BOB)
    reader, writer = await dial_raw(bob.listening_on)
    for byte in hello() + frame(request(1)) + frame(request(2)):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert [(ALICE, request(1)), (ALICE, request(2))] == [await bob_events.messages.get() for _ in range(2)]
    assert isinstance(decode_reply(await read_frame(reader)), Welcome)
    writer.close()


async def test_what_cannot_be_sent_is_dropped_and_counted(start):
    alice, _ = await start(ALICE)
    alice.send(BOB, request(1))
    alice.send(BOB, answer(1))
    alice.send_append(BOB, append_request(), [])
    assert alice.dropped_count == 3


async def test_a_message_too_large_for_any_frame_is_dropped_and_the_connection_goes_on(start, monkeypatch):
    alice, alice_events = await start(ALICE)
    bob, bob_events = await start(BOB)
    await connect((alice, alice_events), BOB, bob.listening_on)
    monkeypatch.setattr("raft_engine.transport.codec.FRAME_BYTES_MAX", 500)
    alice.send_append(BOB, append_request(), [make_entry(1, 1, 1, EntryKind.NORMAL, bytes(1000))])
    alice.send(BOB, request(1))
    assert (ALICE, request(1)) == await bob_events.messages.get()
    assert alice.dropped_count == 1


# --- coming and going ---


async def test_a_refused_connection_is_reported_again_and_again(start):
    alice, events = await start(ALICE)
    nobody, _ = await start(CAROL)
    await nobody.close()
    alice.set_peers({BOB: address(nobody.listening_on)})
    for _ in range(3):
        lost, reason = await events.losses.get()
        assert BOB == lost
        assert "cannot be reached" in reason


async def test_a_node_that_comes_back_is_reached_again(start):
    alice, events = await start(ALICE)
    bob, _ = await start(BOB)
    await connect((alice, events), BOB, bob.listening_on)
    await bob.close()
    assert BOB == (await events.losses.get())[0]
    _, bob_events = await start(BOB, bob.listening_on)
    assert BOB == await events.connections.get()
    alice.send(BOB, request(1))
    assert (ALICE, request(1)) == await bob_events.messages.get()


async def test_a_node_that_comes_back_as_another_life_is_reported_and_gets_nothing(start):
    alice, events = await start(ALICE)
    bob, _ = await start(BOB)
    await connect((alice, events), BOB, bob.listening_on)
    await bob.close()
    reborn = peer(2, life=1)
    _, reborn_events = await start(reborn, bob.listening_on)
    assert (BOB, reborn.incarnation) == await events.replacements.get()
    alice.send(BOB, request(1))
    assert (BOB, reborn.incarnation) == await events.replacements.get()  # asked again, slowly
    assert alice.dropped_count == 1
    assert reborn_events.messages.empty()


async def test_two_lives_of_one_node_at_one_address_do_not_disturb_each_other(start):
    """A leader replacing an old life by a new one dials both."""
    alice, events = await start(ALICE)
    bob, bob_events = await start(BOB)
    former = peer(2, life=9)
    alice.set_peers({former: address(bob.listening_on), BOB: address(bob.listening_on)})
    assert BOB == await events.connections.get()
    for number in range(3):
        assert (former, BOB.incarnation) == await events.replacements.get()
        alice.send(BOB, request(number))
        assert (ALICE, request(number)) == await bob_events.messages.get()
        bob.send(ALICE, answer(number))
        assert (BOB, answer(number)) == await events.messages.get()
    assert events.losses.empty()


def run(*names: str) -> Boots:
    """Somebody who knows nobody yet and has been started under these names."""
    return Boots(lambda: tuple(Boot(len(names) - back, name) for back, name in enumerate(reversed(names))))


async def test_a_peer_that_was_started_again_is_taken(start):
    alice, events = await start(ALICE, boots=run("a"))
    for names in ("b1",), ("b1", "b2"):
        bob, bob_events = await start(BOB, "127.0.0.1:0", boots=run(*names))
        await connect((alice, events), BOB, bob.listening_on)
        await connect((bob, bob_events), ALICE, alice.listening_on)
        await bob.close()
    assert events.rollbacks.empty()


async def test_a_peer_that_runs_on_an_older_copy_is_reported_and_neither_heard_nor_sent_to(start):
    known = run("a")
    alice, events = await start(ALICE, boots=known)
    bob, _ = await start(BOB, boots=run("b1", "b2"))
    await connect((alice, events), BOB, bob.listening_on)
    await bob.close()
    mine = run("b1", "another b2")
    copy, copy_events = await start(BOB, bob.listening_on, boots=mine)
    assert (BOB, True) == ((rolled_back := await events.rollbacks.get())[0], "older copy" in rolled_back[1])
    copy.set_peers({ALICE: address(alice.listening_on)})
    _, reason = await copy_events.losses.get()
    assert "takes no messages from" in reason
    assert "older copy of its data directory" in reason
    assert [ALICE] == list(mine.refused_by)
    alice.send(BOB, request(1))
    assert (1, True, True) == (alice.dropped_count, copy_events.messages.empty(), copy_events.connections.empty())


async def test_the_last_word_of_a_process_that_was_overtaken_is_no_rollback(start):
    known = run("a")
    alice, events = await start(ALICE, boots=known)
    bob, _ = await start(BOB, boots=run("b1"))
    known.why_stale(BOB, run("b1", "b2").mine)  # its successor was heard of first
    alice.set_peers({BOB: address(bob.listening_on)})
    assert "is not taken as it is" in (await events.losses.get())[1]
    await bob.close()
    await start(BOB, bob.listening_on, boots=run("b1", "b2"))
    assert BOB == await events.connections.get()
    assert events.rollbacks.empty()


@pytest.mark.parametrize(
    ("other", "settings", "complaint"),
    [
        (CAROL, {}, "it is node 3, not node 2"),
        (BOB, {"cluster": "other"}, "belongs to cluster 'demo', not 'other'"),
        (BOB, {"cluster_id": "d" * 32}, "another cluster named 'demo'"),
        (peer(1, life=5), {}, "node id 1 is this node's own"),
    ],
)
async def test_a_stranger_at_the_address_is_no_peer(start, other, settings, complaint):
    alice, events = await start(ALICE)
    stranger, _ = await start(other, **settings)
    alice.set_peers({BOB: address(stranger.listening_on)})
    for _ in range(2):
        lost, reason = await events.losses.get()
        assert BOB == lost
        assert complaint in reason
    assert events.connections.empty()


async def test_a_node_may_learn_its_cluster_id_while_it_listens(start):
    learned = ""
    alice, events = await start(ALICE, cluster_id="d" * 32)
    bob, _ = await start(BOB, cluster_id=lambda: learned)
    await connect((alice, events), BOB, bob.listening_on)
    learned = CLUSTER_ID
    alice.set_peers({})
    alice.set_peers({BOB: address(bob.listening_on)})
    assert "another cluster named 'demo'" in (await events.losses.get())[1]


async def test_a_peer_taken_away_is_neither_sent_to_nor_reported(start):
    alice, events = await start(ALICE)
    bob, _ = await start(BOB)
    carol, _ = await start(CAROL)
    await connect((alice, events), BOB, bob.listening_on)
    await connect((alice, events), CAROL, carol.listening_on)  # from now on the only one
    alice.send(BOB, request(1))
    await carol.close()
    assert CAROL == (await events.losses.get())[0]
    assert alice.dropped_count == 1


async def test_a_peer_taken_away_while_its_messages_are_handed_out_is_not_heard_any_more(start):
    alice, events = await start(ALICE, on_message=lambda _sender, _message: alice.set_peers({}))
    bob, bob_events = await start(BOB)
    await connect((alice, events), BOB, bob.listening_on)
    alice.send(BOB, request(1))
    await bob_events.messages.get()
    bob.send(ALICE, answer(1))
    bob.send(ALICE, answer(2))
    assert (BOB, answer(1)) == await events.messages.get()
    await alice.close()
    assert events.messages.empty()


async def test_a_changed_address_is_dialed_anew(start):
    alice, events = await start(ALICE)
    former, _ = await start(BOB)
    moved, moved_events = await start(BOB)
    await connect((alice, events), BOB, former.listening_on)
    await connect((alice, events), BOB, moved.listening_on)
    alice.send(BOB, request(1))
    assert (ALICE, request(1)) == await moved_events.messages.get()


async def test_a_node_does_not_dial_itself(start):
    alice, events = await start(ALICE)
    bob, _ = await start(BOB)
    alice.set_peers({ALICE: address(alice.listening_on), BOB: address(bob.listening_on)})
    assert BOB == await events.connections.get()
    assert (events.connections.empty(), events.losses.empty()) == (True, True)


async def test_an_earlier_life_of_this_node_is_not_dialed_as_its_address_is_the_own_one(start):
    alice, _ = await start(ALICE)
    bob, _ = await start(BOB)
    earlier = PeerId(ALICE.node_id, Incarnation("e" * 32))
    alice.set_peers({BOB: address(bob.listening_on), earlier: address(alice.listening_on)})
    assert [BOB] == list(alice._links)


async def test_an_address_that_is_none_is_reported(start):
    alice, events = await start(ALICE)
    alice.set_peers({BOB: address("nonsense")})
    assert "'nonsense' is not an address; write host:port" in (await events.losses.get())[1]


async def test_a_host_that_takes_the_connection_but_says_nothing_is_given_up(start, monkeypatch):
    monkeypatch.setattr(dialing, "GREETING_TIMEOUT_S", 0.02)
    alice, events = await start(ALICE)
    async with silent_server() as silent:
        alice.set_peers({BOB: address(silent)})
        assert "did not greet within" in (await events.losses.get())[1]


async def test_a_taken_address_cannot_be_listened_on(start):
    alice, _ = await start(ALICE)
    with pytest.raises(TransportError, match="cannot listen for peers on"):
        await start(BOB, alice.listening_on)


async def test_after_close_nothing_is_reported_and_the_port_is_free(start):
    alice, events = await start(ALICE)
    bob, _ = await start(BOB)
    await connect((alice, events), BOB, bob.listening_on)
    await alice.close()
    await bob.close()
    assert (events.losses.empty(), events.messages.empty()) == (True, True)
    with socket.socket() as taken:
        host, port = alice.listening_on.rsplit(":", 1)
        assert taken.connect_ex((host, int(port))) != 0


async def test_closing_twice_or_before_the_start_is_harmless(start):
    alice, _ = await start(ALICE)
    await alice.close()
    await alice.close()
    await TcpTransport(CLUSTER, "", BOB, "127.0.0.1:0").close()


# --- one peer's trouble ---


async def test_a_peer_that_does_not_read_is_cut_off_and_the_others_are_served(start, monkeypatch):
    monkeypatch.setattr("raft_engine.transport.dialing.CONNECT_TIMEOUT_S", 60)  # a busy machine is not what is tested
    limit = 1024 * 1024
    alice, events = await start(ALICE, queue_bytes_max=limit)
    carol, carol_events = await start(CAROL)
    entry = make_entry(1, 1, 1, EntryKind.NORMAL, bytes(100_000))
    async with silent_server(encode_greeting(Identity(CLUSTER, lambda: CLUSTER_ID, BOB).welcome())) as slow:
        alice.set_peers({BOB: address(slow), CAROL: address(carol.listening_on)})
        assert {BOB, CAROL} == {await events.connections.get(), await events.connections.get()}
        sent = 0
        while events.losses.empty():
            alice.send_append(BOB, append_request(), [entry])
            alice.send(CAROL, request(sent))
            assert (ALICE, request(sent)) == await carol_events.messages.get()
            connection = alice._links[BOB][0].connection
            if connection is not None and connection.is_open:
                assert connection._outgoing_bytes + connection._transport.get_write_buffer_size() <= limit + 101_000
            sent += 1
        assert (BOB, "queue full: it does not read what is sent") == await events.losses.get()
        assert alice.dropped_count >= 1
        alice.set_peers({})
    assert carol_events.messages.empty()


async def test_an_exception_of_the_listener_is_logged_once_and_the_next_message_is_delivered(start, caplog):
    def choke(_sender, message):
        if message.request_id < 5:
            raise RuntimeError("choked")

    alice, alice_events = await start(ALICE)
    bob, bob_events = await start(BOB, on_message=choke)
    await connect((alice, alice_events), BOB, bob.listening_on)
    for number in range(6):
        alice.send(BOB, request(number))
    assert (ALICE, request(5)) == await bob_events.messages.get()
    assert [record.message for record in caplog.records if "choked" in record.message] == [
        "transport: handling a ReadIndexRequest failed (reported once): RuntimeError('choked')"
    ]


async def test_a_message_for_another_life_is_refused_and_counted_and_the_next_one_delivered(start):
    bob, events = await start(BOB)
    _, writer = await dial_raw(
        bob.listening_on,
        hello(),
        frame(request(1), receiver=peer(2, life=9)),
        frame(request(2), sender=peer(1, life=9)),
        frame(request(3), sender=CAROL),
        frame(request(4)),
    )
    assert (ALICE, request(4)) == await events.messages.get()
    assert (bob.misaddressed_count, events.messages.empty()) == (3, True)
    writer.close()


DAMAGED = frame(ReadIndexRequest(1))[:-1] + b"\xff"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        LENGTH.pack(0),
        LENGTH.pack(0xFFFFFFFF),
        LENGTH.pack(64 * 1024 + 1),
        LENGTH.pack(12) + b"raftnull",
        LENGTH.pack(12) + b"wrongone",
        hello() + LENGTH.pack(0xFFFFFFFF),
        hello() + DAMAGED,
        hello() + hello(),
    ],
)
async def test_who_sends_something_else_is_cut_off_and_the_others_are_served(start, sent):
    alice, alice_events = await start(peer(4))
    bob, bob_events = await start(BOB)
    await connect((alice, alice_events), BOB, bob.listening_on)
    reader, writer = await dial_raw(bob.listening_on, sent)
    await rest_of(reader)
    writer.close()
    alice.send(BOB, request(1))
    assert (peer(4), request(1)) == await bob_events.messages.get()
    assert bob_events.messages.empty()


async def test_who_says_nothing_is_cut_off(start, monkeypatch):
    monkeypatch.setattr(accepting, "GREETING_TIMEOUT_S", 0.02)
    bob, _ = await start(BOB)
    reader, writer = await dial_raw(bob.listening_on)
    assert await rest_of(reader) == b""
    writer.close()


async def test_a_peer_that_dials_again_gets_its_answers_over_the_newer_connection(start):
    bob, events = await start(BOB)
    older_reader, older = await dial_raw(bob.listening_on, hello())
    await read_frame(older_reader)
    newer_reader, newer = await dial_raw(bob.listening_on, hello(), frame(request(1)))
    await read_frame(newer_reader)
    assert (ALICE, request(1)) == await events.messages.get()
    bob.send(ALICE, answer(1))
    assert answer(1) == FrameReader(BOB, ALICE).decode(await read_frame(newer_reader))
    assert await rest_of(older_reader) == b""
    older.close()
    newer.close()


async def test_a_foreign_dialer_is_told_why(start):
    bob, _ = await start(BOB)
    reader, writer = await dial_raw(bob.listening_on, hello(cluster="other"))
    reply = decode_reply(await read_frame(reader))
    assert isinstance(reply, Refused)
    assert "belongs to cluster 'other', not 'demo'" in reply.reason
    assert await reader.read() == b""
    writer.close()


async def test_nothing_a_refused_dialer_sent_beforehand_is_looked_at(start):
    bob, events = await start(BOB)
    reader, writer = await dial_raw(bob.listening_on, hello(cluster="other") + hello() + frame(request(1)))
    assert isinstance(decode_reply(await read_frame(reader)), Refused)
    assert await rest_of(reader) == b""
    assert events.messages.empty()
    writer.close()


async def test_too_many_connections_are_refused_until_some_have_gone(start, monkeypatch):
    monkeypatch.setattr(accepting, "INBOUND_COUNT_MAX", 2)
    bob, _ = await start(BOB)
    welcomed = [await dial_raw(bob.listening_on, hello(peer(node_id))) for node_id in (4, 5)]
    for reader, _ in welcomed:
        await read_frame(reader)
    reader, writer = await dial_raw(bob.listening_on, hello(peer(6)))
    assert await rest_of(reader) == b""
    writer.close()
    for _, other in welcomed:
        other.close()
    alice, events = await start(ALICE)
    alice.set_peers({BOB: address(bob.listening_on)})
    assert BOB == await events.connections.get()


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_taken_while_the_transport_closes_is_closed_too(turns):
    alone = TcpTransport(CLUSTER, CLUSTER_ID, BOB, "127.0.0.1:0")
    await alone.start(Recorder())
    host, _, port = alone.listening_on.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as stranger:
        for _ in range(turns):
            await asyncio.sleep(0)
        await alone.close()
        assert await asyncio.to_thread(gone, stranger)


def gone(sock: socket.socket) -> bool:
    """Whether the other side closes or resets."""
    try:
        return not sock.recv(1)
    except ConnectionResetError:
        return True
