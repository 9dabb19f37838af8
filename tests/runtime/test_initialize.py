"""The first entry of a cluster whose members bring stores of their own: raft_engine/runtime/initialize.py."""

from __future__ import annotations

import pytest

from raft_engine.errors import NotAllowed, NotInMembers
from raft_engine.runtime.initialize import initialize
from raft_engine.storage.memory import MemoryLog
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import NodeId, Term
from raft_engine.types.vote import Vote
from tests.core.builder import entry
from tests.runtime.cluster import Cluster, addresses, first_entry, peer

MEMBERS = {peer(number): addresses([number])[NodeId(number)] for number in (1, 2, 3)}


async def test_members_that_were_initialised_alike_are_a_cluster():
    cluster = Cluster()
    for node_id in cluster.ids:
        cluster.logs[node_id] = MemoryLog()
        assert initialize(cluster.logs[node_id], peer(node_id), MEMBERS)
    await cluster.start()
    assert 0 == (await (await cluster.leader()).client_write(b"w")).result
    await cluster.stop()


def test_every_member_writes_the_same_bytes():
    logs = [MemoryLog(), MemoryLog()]
    initialize(logs[0], peer(1), MEMBERS)
    initialize(logs[1], peer(2), dict(reversed(MEMBERS.items())))
    assert [first_entry([1, 2, 3])] == logs[0].read(0, 1, 1) == logs[1].read(0, 1, 1)


def test_doing_it_again_changes_nothing():
    log = MemoryLog()
    initialize(log, peer(1), MEMBERS)
    log.append([entry(1, 2)])
    assert not initialize(log, peer(1), MEMBERS)
    assert 2 == log.state().last.index


def test_who_is_no_member_is_refused():
    with pytest.raises(NotInMembers):
        initialize(MemoryLog(), peer(9), MEMBERS)


def test_who_has_voted_is_refused():
    log = MemoryLog()
    log.save_hard_state(HardState(Vote(Term(3), NodeId(2), committed=False)))
    with pytest.raises(NotAllowed, match="T3-N2"):
        initialize(log, peer(1), MEMBERS)


def test_other_members_than_the_first_time_are_refused():
    log = MemoryLog()
    initialize(log, peer(1), MEMBERS)
    with pytest.raises(NotAllowed, match="begins with other members"):
        initialize(log, peer(1), {peer(1): MEMBERS[peer(1)]})
