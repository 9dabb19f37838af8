"""The birth of a cluster, its interruptions and its repetition: raft_engine/runtime/bootstrap.py."""

from __future__ import annotations

import asyncio

import pytest

from raft_engine.errors import InitializeError, TransportError
from raft_engine.runtime import bootstrap
from raft_engine.runtime.bootstrap import BirthKeeper
from raft_engine.storage.identity import Identity
from raft_engine.types.bootstrap import (
    BirthState,
    BootstrapAbort,
    BootstrapPrepare,
    BootstrapQuery,
    BootstrapReply,
    BootstrapRequest,
    BootstrapStart,
)
from raft_engine.types.ids import Incarnation, NodeId
from raft_engine.types.membership import uniform
from tests.runtime.cluster import addresses, peer

CLUSTER = "demo"


class Member:
    """One data directory and who answers for it."""

    def __init__(self, node_id: int) -> None:
        self.identity = Identity(CLUSTER, NodeId(node_id), peer(node_id).incarnation)
        self.starts = 0
        self.keeper = BirthKeeper(lambda: self.identity, self._save, self._started)

    def _save(self, identity: Identity) -> None:
        self.identity = identity

    def _started(self) -> None:
        self.starts += 1

    @property
    def birth(self) -> BirthState:
        return self.identity.birth


class Town:
    """Members by address; `lose` names requests that do not arrive: (kind of request, node id)."""

    def __init__(self, *node_ids: int) -> None:
        self.members = {node_id: Member(node_id) for node_id in node_ids}
        self.lose: set[tuple[type, int]] = set()
        self.wrong_way: dict[int, int] = {}

    async def ask(self, address: str, request: BootstrapRequest) -> BootstrapReply:
        await asyncio.sleep(0)
        node_id = int(address.removeprefix("n").removesuffix(":1"))
        if node_id not in self.members or (type(request), node_id) in self.lose:
            raise TransportError(f"{address} cannot be reached")
        return self.members[self.wrong_way.get(node_id, node_id)].keeper.answer(request)

    async def init(self, *node_ids: int, by: int = 1) -> None:
        await bootstrap.initialise(CLUSTER, NodeId(by), addresses(node_ids or self.members), self.ask)

    def births(self) -> list[str]:
        return [str(member.birth) for member in self.members.values()]


async def refused(town: Town, *node_ids: int, by: int = 1) -> InitializeError:
    with pytest.raises(InitializeError) as error:
        await town.init(*node_ids, by=by)
    return error.value


async def test_all_members_start_with_one_configuration_that_names_their_incarnations():
    town = Town(1, 2, 3)
    await town.init()
    identities = [member.identity for member in town.members.values()]
    assert town.births() == ["started"] * 3
    assert [identity.membership for identity in identities] == [
        uniform([peer(1), peer(2), peer(3)], addresses([1, 2, 3]))
    ] * 3
    assert len({identity.cluster_id for identity in identities}) == 1
    assert [member.starts for member in town.members.values()] == [1, 1, 1]


async def test_the_initiator_must_be_a_member():
    assert (await refused(Town(1, 2, 3), 2, 3)).code == "not_in_members"


async def test_a_silent_member_is_named_and_nobody_has_prepared():
    town = Town(1, 2)
    error = await refused(town, 1, 2, 3)
    assert error.code == "member_unreachable"
    assert "node 3" in error.detail
    assert town.births() == ["blank", "blank"]


async def test_another_node_at_a_members_address_is_not_taken_for_it():
    town = Town(1, 2, 3)
    town.wrong_way[3] = 2
    error = await refused(town)
    assert "node 2 answers at n3:1" in error.detail


async def test_a_started_cluster_is_not_born_again():
    town = Town(1, 2, 3)
    await town.init()
    assert (await refused(town)).code == "already_initialized"


async def test_one_started_member_ends_the_birth_of_another_cluster():
    town = Town(1, 2, 3, 4)
    await town.init(1, 2)
    error = await refused(town, 3, 4, 1, by=3)
    assert error.code == "already_initialized"
    assert "node 1" in error.detail
    assert town.births() == ["started", "started", "blank", "blank"]


async def test_a_wiped_member_of_a_started_cluster_does_not_begin_it_anew():
    town = Town(1, 2, 3)
    await town.init()
    town.members[1].identity = Identity(CLUSTER, NodeId(1), Incarnation("f" * 32))
    assert (await refused(town)).code == "already_initialized"
    assert town.members[1].birth is BirthState.BLANK


async def test_a_failed_preparation_leaves_nobody_prepared_who_could_be_reached():
    town = Town(1, 2, 3)
    town.lose = {(BootstrapPrepare, 3)}
    assert (await refused(town)).code == "member_unreachable"
    assert town.births() == ["blank"] * 3


async def test_an_initiator_that_died_after_preparing_can_repeat_and_finish():
    town = Town(1, 2, 3)
    town.lose = {(BootstrapPrepare, 3), (BootstrapAbort, 1), (BootstrapAbort, 2)}
    await refused(town)
    assert town.births() == ["prepared", "prepared", "blank"]
    begun = town.members[1].identity.cluster_id
    town.lose = set()
    await town.init()
    assert town.births() == ["started"] * 3
    assert {member.identity.cluster_id for member in town.members.values()} == {begun}


async def test_another_member_can_finish_what_the_first_initiator_began():
    town = Town(1, 2, 3)
    town.lose = {(BootstrapStart, 2), (BootstrapStart, 3)}
    assert (await refused(town)).code == "member_unreachable"
    assert town.births() == ["prepared"] * 3
    town.lose = set()
    await town.init(by=2)
    assert town.births() == ["started"] * 3


async def test_a_birth_that_one_member_missed_is_finished_by_repeating_it():
    town = Town(1, 2, 3)
    town.lose = {(BootstrapStart, 3)}
    error = await refused(town)
    assert "node 3" in error.detail
    assert town.births() == ["started", "started", "prepared"]
    town.lose = set()
    await town.init()
    assert town.births() == ["started"] * 3
    assert [member.starts for member in town.members.values()] == [1, 1, 1]


async def test_members_prepared_for_others_are_left_alone():
    town = Town(1, 2, 3, 4)
    town.lose = {(BootstrapStart, 2), (BootstrapStart, 3)}
    await refused(town, 1, 2, 3)
    error = await refused(town, 2, 3, 4, by=2)
    assert error.code == "prepared_for_another"
    assert "init --abort" in error.hint
    assert town.births() == ["prepared"] * 3 + ["blank"]


async def test_a_member_wiped_after_preparing_is_not_taken_for_the_one_that_prepared():
    town = Town(1, 2, 3)
    town.lose = {(BootstrapStart, 2), (BootstrapStart, 3)}
    await refused(town)
    town.lose = set()
    town.members[3].identity = Identity(CLUSTER, NodeId(3), Incarnation("f" * 32))
    assert (await refused(town)).code == "prepared_for_another"


async def test_abort_makes_everybody_blank_again():
    town = Town(1, 2, 3)
    town.lose = {(BootstrapStart, 2), (BootstrapStart, 3)}
    await refused(town)
    await bootstrap.abort(CLUSTER, town.members[1].identity, town.ask)
    assert town.births() == ["blank"] * 3
    town.lose = set()
    await town.init(1, 2)
    assert town.births() == ["started", "started", "blank"]


async def test_abort_is_refused_once_a_member_has_started():
    town = Town(1, 2, 3)
    town.lose = {(BootstrapStart, 3)}
    await refused(town)
    for node_id in (1, 3):
        with pytest.raises(InitializeError) as error:
            await bootstrap.abort(CLUSTER, town.members[node_id].identity, town.ask)
        assert error.value.code == "already_initialized"
    assert town.births() == ["started", "started", "prepared"]


async def test_two_initiators_at_once_never_make_two_clusters():
    town = Town(1, 2, 3)
    await asyncio.gather(town.init(by=1), town.init(by=2), return_exceptions=True)
    started = {member.identity.cluster_id for member in town.members.values() if member.birth is BirthState.STARTED}
    assert len(started) <= 1
    if not started:
        await town.init()
    assert len({member.identity.cluster_id for member in town.members.values()}) == 1


def test_another_cluster_is_refused():
    member = Member(1)
    assert "not of 'other'" in member.keeper.answer(BootstrapQuery("other")).error


def test_a_member_brought_in_by_a_leader_counts_as_started():
    member = Member(1)
    member.identity = Identity(CLUSTER, NodeId(1), peer(1).incarnation, log_created=True)
    assert member.keeper.answer(BootstrapQuery(CLUSTER)).state is BirthState.STARTED


def test_a_start_without_preparation_is_refused():
    member = Member(1)
    assert "not prepared" in member.keeper.answer(BootstrapStart(CLUSTER, "abc")).error
    assert (member.birth, member.starts) == (BirthState.BLANK, 0)


def test_a_configuration_that_does_not_name_this_life_is_not_prepared():
    member = Member(1)
    other = uniform([peer(2)], addresses([2]))
    assert "does not name" in member.keeper.answer(BootstrapPrepare(CLUSTER, "abc", other)).error
    assert member.birth is BirthState.BLANK
