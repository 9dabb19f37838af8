"""What a majority says: pure arithmetic over one or two voter sets.

A joint configuration needs a majority in each of its sets.
Source: Raft paper 5.3, 6; dissertation 4.3; etcd `quorum/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from raft_engine.types.ids import Incarnation, NodeId, PeerId

VoterSet = dict[NodeId, Incarnation]


def majority(count: int) -> int:
    """Return how many of `count` voters are a quorum."""
    return count // 2 + 1


def highest_agreed(reached: Iterable[Sequence[float]]) -> float:
    """Return the highest value that a majority of every voter set has reached.

    Args:
        reached: for each voter set what each of its voters has reached (an index, a time; 0 for nothing), in any order; at
            least one voter set, none of them empty.
    """
    agreed = []
    for values in reached:
        assert values, "a voter set must not be empty"
        agreed.append(sorted(values)[-majority(len(values))])
    assert agreed, "a quorum of no voter set was asked for"
    return min(agreed)


def has_quorum(configs: Iterable[VoterSet], yes: AbstractSet[PeerId]) -> bool:
    """Return whether `yes` holds a majority of every voter set. No voter set: never."""
    sets = list(configs)
    return bool(sets) and all(_count(config, yes) >= majority(len(config)) for config in sets)


def is_lost(configs: Iterable[VoterSet], no: AbstractSet[PeerId]) -> bool:
    """Return whether `no` makes a majority impossible in some voter set."""
    return any(len(config) - _count(config, no) < majority(len(config)) for config in configs)


def holds_without(configs: Iterable[VoterSet], holders: AbstractSet[PeerId], excluded: AbstractSet[NodeId]) -> bool:
    """Return whether every future quorum must meet `holders` outside `excluded`, even if the excluded forget everything.

    That takes n - q + 1 holders in each voter set of n with quorum q: any q voters then include one of them. With nobody
    excluded a full quorum is asked for.
    """
    return all(
        sum(PeerId(*voter) in holders for voter in config.items() if voter[0] not in excluded)
        >= holders_needed(config, excluded)
        for config in configs
    )


def holders_needed(config: VoterSet, excluded: AbstractSet[NodeId]) -> int:
    """Return how many holders `holds_without` asks for in this voter set."""
    quorum = majority(len(config))
    return len(config) - quorum + 1 if excluded & config.keys() else quorum


def _count(config: VoterSet, peers: AbstractSet[PeerId]) -> int:
    return sum(PeerId(*voter) in peers for voter in config.items())
