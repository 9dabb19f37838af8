"""The network in one process keeps the promises of the real one."""

from __future__ import annotations

import pytest

from raft_engine.errors import TransportError
from raft_engine.transport.local import LocalNetwork, LocalTransport
from raft_engine.types.entry import EntryKind, make_entry
from tests.transport.peers import Recorder, address, answer, append_request, peer, request

ALICE, BOB, CAROL = peer(1), peer(2), peer(3)


class Town:
    """Nodes on one network, each at an address of its id."""

    def __init__(self) -> None:
        self.network = LocalNetwork()

    async def start(self, me) -> tuple[LocalTransport, Recorder]:
        transport, events = LocalTransport(self.network, me, f"n{me.node_id}:1"), Recorder()
        await transport.start(events)
        return transport, events


@pytest.fixture
def town() -> Town:
    return Town()


def peers(*wanted):
    return {each: address(f"n{each.node_id}:1") for each in wanted}


async def test_a_request_arrives_and_the_answer_comes_back_to_a_node_that_is_no_peer(town):
    alice, alice_events = await town.start(ALICE)
    bob, bob_events = await town.start(BOB)
    alice.set_peers(peers(BOB))
    assert BOB == await alice_events.connections.get()
    alice.send(BOB, request(1))
    assert (ALICE, request(1)) == await bob_events.messages.get()
    bob.send(ALICE, answer(1))
    assert (BOB, answer(1)) == await alice_events.messages.get()


async def test_a_message_is_delivered_in_a_later_turn_of_the_loop(town):
    alice, alice_events = await town.start(ALICE)
    _, bob_events = await town.start(BOB)
    alice.set_peers(peers(BOB))
    await alice_events.connections.get()
    alice.send(BOB, request(1))
    assert bob_events.messages.empty()
    assert (ALICE, request(1)) == await bob_events.messages.get()


async def test_entries_given_beside_a_request_arrive_in_it(town):
    alice, alice_events = await town.start(ALICE)
    _, bob_events = await town.start(BOB)
    alice.set_peers(peers(BOB))
    await alice_events.connections.get()
    entry = make_entry(1, 1, 1, EntryKind.NORMAL, b"data")
    alice.send_append(BOB, append_request(), [entry])
    assert (ALICE, append_request(entries=(entry,))) == await bob_events.messages.get()


async def test_nobody_there_is_reported_and_somebody_coming_too(town):
    alice, events = await town.start(ALICE)
    alice.set_peers(peers(BOB))
    assert BOB == (await events.losses.get())[0]
    bob, _ = await town.start(BOB)
    assert BOB == await events.connections.get()
    await bob.close()
    assert BOB == (await events.losses.get())[0]


async def test_another_life_is_reported_and_gets_nothing(town):
    reborn = peer(2, life=1)
    alice, events = await town.start(ALICE)
    _, reborn_events = await town.start(reborn)
    alice.set_peers(peers(BOB))
    assert (BOB, reborn.incarnation) == await events.replacements.get()
    alice.send(BOB, request(1))
    assert alice.dropped_count == 1
    assert reborn_events.messages.empty()


async def test_another_node_at_the_address_is_no_peer(town):
    alice, events = await town.start(ALICE)
    await town.start(CAROL)
    alice.set_peers({BOB: address("n3:1")})
    lost, reason = await events.losses.get()
    assert BOB == lost
    assert "it is node 3" in reason


async def test_a_cut_loses_messages_in_one_direction_silently(town):
    alice, alice_events = await town.start(ALICE)
    bob, bob_events = await town.start(BOB)
    for each, events, other in ((alice, alice_events, BOB), (bob, bob_events, ALICE)):
        each.set_peers(peers(other))
        await events.connections.get()
    town.network.cut(1, 2)
    alice.send(BOB, request(1))
    bob.send(ALICE, request(2))
    assert (BOB, request(2)) == await alice_events.messages.get()
    assert (bob_events.messages.empty(), alice_events.losses.empty()) == (True, True)
    town.network.heal(1, 2)
    alice.send(BOB, request(3))
    assert (ALICE, request(3)) == await bob_events.messages.get()


async def test_nobody_can_dial_across_a_cut_until_it_is_healed(town):
    alice, events = await town.start(ALICE)
    await town.start(BOB)
    town.network.partition([1], [2, 3])
    alice.set_peers(peers(BOB))
    assert BOB == (await events.losses.get())[0]
    town.network.heal()
    assert BOB == await events.connections.get()


async def test_a_partition_cuts_between_groups_only(town):
    town.network.partition([1], [2, 3])
    cuts = {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if town.network.is_cut(a, b)}
    assert cuts == {(1, 2), (2, 1), (1, 3), (3, 1)}
    town.network.heal(sender=1)
    assert not town.network.is_cut(1, 2)
    assert town.network.is_cut(2, 1)


async def test_the_drop_function_decides_about_each_message(town):
    alice, alice_events = await town.start(ALICE)
    _, bob_events = await town.start(BOB)
    alice.set_peers(peers(BOB))
    await alice_events.connections.get()
    town.network.drop = lambda sender, receiver, message: (sender, receiver, message) == (ALICE, BOB, request(1))
    alice.send(BOB, request(1))
    alice.send(BOB, request(2))
    assert (ALICE, request(2)) == await bob_events.messages.get()
    assert alice.dropped_count == 1


async def test_an_address_can_be_taken_once(town):
    await town.start(ALICE)
    with pytest.raises(TransportError, match="somebody does already"):
        await town.start(peer(1, life=1))


async def test_a_closed_transport_reports_nothing_and_makes_room(town):
    alice, events = await town.start(ALICE)
    bob, _ = await town.start(BOB)
    alice.set_peers(peers(BOB))
    await events.connections.get()
    bob.set_peers(peers(ALICE))
    await alice.close()
    _, again = await town.start(ALICE)
    bob.send(ALICE, request(1))
    assert (BOB, request(1)) == await again.messages.get()
    assert (events.messages.empty(), events.losses.empty()) == (True, True)
