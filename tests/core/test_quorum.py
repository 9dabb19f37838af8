"""What a majority says."""

from __future__ import annotations

import pytest

from raft_engine.core.quorum import has_quorum, highest_agreed, holders_needed, holds_without, is_lost, majority
from raft_engine.types.ids import NodeId
from tests.core.builder import members, peer

THREE = members(1, 2, 3).configs
FIVE = members(1, 2, 3, 4, 5).configs
JOINT = THREE + members(3, 4, 5).configs


def peers(*numbers: int):
    return {peer(number) for number in numbers}


@pytest.mark.parametrize(("count", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_more_than_half(count: int, quorum: int):
    assert quorum == majority(count)


@pytest.mark.parametrize(
    ("values", "agreed"), [((5, 0, 0), 0), ((5, 4, 0), 4), ((5, 5, 9), 5), ((1, 2, 3), 2), ((0, 0, 0), 0)]
)
def test_the_highest_agreed_value_is_reached_by_a_majority(values: tuple[int, ...], agreed: int):
    assert agreed == highest_agreed([values])


def test_a_joint_configuration_agrees_on_what_both_sets_have_reached():
    before, wanted = (9, 9, 2), (2, 5, 1)
    assert 2 == highest_agreed([before, wanted])


def test_no_voter_set_agrees_on_nothing():
    with pytest.raises(AssertionError):
        highest_agreed([])


def test_an_empty_voter_set_is_a_mistake():
    with pytest.raises(AssertionError):
        highest_agreed([[]])


@pytest.mark.parametrize(("yes", "won"), [((1,), False), ((1, 2), True), ((1, 2, 3), True), ((), False)])
def test_a_majority_of_yes_is_a_quorum(yes: tuple[int, ...], won: bool):
    assert won == has_quorum(THREE, peers(*yes))


def test_no_voter_set_never_has_a_quorum():
    assert not has_quorum((), peers(1, 2, 3))


def test_a_joint_quorum_needs_a_majority_of_each_set():
    assert not has_quorum(JOINT, peers(1, 2, 3))
    assert not has_quorum(JOINT, peers(3, 4, 5))
    assert has_quorum(JOINT, peers(1, 3, 4))


def test_another_life_of_a_voter_does_not_count():
    assert not has_quorum(THREE, {peer(1), peer(2, life=2)})


@pytest.mark.parametrize(("no", "lost"), [((1,), False), ((1, 2), True), ((4, 5), False)])
def test_a_vote_is_lost_when_no_majority_is_left(no: tuple[int, ...], lost: bool):
    assert lost == is_lost(THREE, peers(*no))


def test_a_joint_vote_is_lost_when_one_set_has_no_majority_left():
    assert is_lost(JOINT, peers(4, 5))


@pytest.mark.parametrize(("count", "needed"), [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_without_one_voter_n_minus_q_plus_1_holders_are_needed(count: int, needed: int):
    (config,) = members(*range(1, count + 1)).configs
    assert needed == holders_needed(config, {NodeId(1)})


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (3, 2), (4, 3), (5, 3)])
def test_with_nobody_excluded_a_full_quorum_is_needed(count: int, needed: int):
    (config,) = members(*range(1, count + 1)).configs
    assert needed == holders_needed(config, set())


def test_an_excluded_holder_does_not_count():
    assert not holds_without(THREE, peers(1, 3), {NodeId(3)})
    assert holds_without(THREE, peers(1, 2), {NodeId(3)})


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7])
def test_every_quorum_meets_the_holders_outside_the_excluded_node(count: int):
    """The claim behind the barrier, by exhaustion: any q voters include one of the n - q + 1 holders that kept its log."""
    from itertools import combinations

    (config,) = members(*range(1, count + 1)).configs
    voters = sorted(config)
    excluded = voters[-1]
    for holders in combinations(voters[:-1], holders_needed(config, {excluded})):
        for quorum in combinations(voters, majority(count)):
            assert set(holders) & set(quorum)


def test_the_quorum_of_five_is_three():
    assert not has_quorum(FIVE, peers(1, 2))
    assert has_quorum(FIVE, peers(1, 2, 5))
