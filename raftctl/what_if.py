"""Quorum arithmetic of what is and of what might be: who is up, who could be elected, who holds what.

Pure: a survey goes in, with the nodes that are thought away and the voters that are thought of instead.
Source: Raft paper 5.4.1 (the longer log wins), 5.4.2; dissertation 4.3 (joint consensus: a majority of each set).
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from raftctl.model import LogId, index_of
from raftctl.output.text import listed
from raftctl.survey import Absence, Survey

NO_ENTRY = LogId(0, 0, 0)


class Count(msgspec.Struct, frozen=True):
    """`tolerance`: how many more may fail before writes stop; negative: so many are missing."""

    voters: int
    needed: int
    up: int
    tolerance: int

    @property
    def writes(self) -> bool:
        return self.voters > 0 and self.tolerance >= 0


class Chance(msgspec.Struct, frozen=True):
    """Could this voter be elected next? `votes`: who would vote for it; `why`: in words."""

    node: int
    can_win: bool
    votes: tuple[int, ...]
    why: str


def voter_sets(survey: Survey, voters: Collection[int] | None = None) -> tuple[tuple[int, ...], ...]:
    """Return the sets that must each agree: the present ones, and `voters` if there shall be others."""
    present = survey.membership.configs
    if voters is None or any(set(voters) == set(config) for config in present):
        return present
    return (*present, tuple(sorted(voters)))


def count(survey: Survey, *, voters: Collection[int] | None = None, without: Collection[int] = ()) -> Count:
    """Return the arithmetic of the voter set that is worst off.

    Args:
        voters: this set instead of the present ones.
        without: nodes that are thought to have failed.
    """
    sets = survey.membership.configs if voters is None else (tuple(voters),)
    counts = [_count(survey, config, without) for config in sets]
    return min(counts, key=lambda one: one.tolerance, default=Count(0, 0, 0, 0))


def joint_count(survey: Survey, voters: Collection[int], *, without: Collection[int] = ()) -> Count:
    """Return the arithmetic while the present sets and `voters` must both agree."""
    counts = [_count(survey, config, without) for config in voter_sets(survey, voters)]
    return min(counts, key=lambda one: one.tolerance, default=Count(0, 0, 0, 0))


def _count(survey: Survey, config: Collection[int], without: Collection[int]) -> Count:
    needed = len(config) // 2 + 1
    up = len([node for node in config if node not in without and survey.is_up(node)])
    return Count(len(config), needed, up, up - needed)


def next_to_fail(survey: Survey, *, voters: Collection[int] | None = None, without: Collection[int] = ()) -> int | None:
    """Return the voter whose failure would hurt most after `without`: the leader, else any that is up."""
    chosen = survey.membership.voters if voters is None else voters
    up = [node for node in sorted(chosen) if node not in without and survey.is_up(node)]
    leader = survey.leader
    if leader is not None and leader.node_id in up:
        return leader.node_id
    return up[0] if up else None


def chances(survey: Survey, *, voters: Collection[int] | None = None, without: Collection[int] = ()) -> list[Chance]:
    """Return for each voter but those without whether it could win the next election.

    A node that recovers kept its vote and gives it, but does not campaign.

    Args:
        voters: this set instead of the present ones.
    """
    sets = survey.membership.configs if voters is None else (tuple(voters),)
    everybody = sorted({node for config in sets for node in config} - set(without))
    electors = [node for node in everybody if survey.absence(node) in {None, Absence.RECOVERING}]
    return [_chance(survey, node, sets, electors) for node in everybody]


def _chance(survey: Survey, node: int, sets: Collection[Collection[int]], electors: Collection[int]) -> Chance:
    status, absence = survey.status(node), survey.absence(node)
    if absence is Absence.RECOVERING:
        return Chance(node, False, (), "recovers, and does not campaign until it has caught up")
    if status is None or absence is not None:
        return Chance(node, False, (), str(absence))
    own = status.last_log or NO_ENTRY
    votes = tuple(other for other in electors if other == node or _log_end(survey, other) <= own)
    refuses = [other for other in electors if other not in votes]
    if all(len([other for other in config if other in votes]) > len(config) // 2 for config in sets):
        switched_off = "" if status.runtime_config.enable_elect else "; only when told to: its elections are switched off"
        return Chance(node, True, votes, f"log up to {index_of(own)}{switched_off}")
    longer = f"; longer logs: node {listed(refuses)}" if refuses else ""
    return Chance(node, False, votes, f"log up to {index_of(own)}, too few votes{longer}")


def _log_end(survey: Survey, node: int) -> LogId:
    """What a candidate's log must reach for this node's vote."""
    status = survey.status(node)
    if status is None:
        return NO_ENTRY
    end = status.last_log or NO_ENTRY
    until = status.recovering.until if status.recovering is not None else None
    return max(end, until) if until is not None else end


def holders(survey: Survey, *, without: Collection[int] = ()) -> tuple[int, list[int]]:
    """Return the leader's committed index and the voters, without some, that are known to have it on disk."""
    leader = survey.leader
    if leader is None:
        return 0, []
    committed = index_of(leader.committed)
    have = [leader.node_id] + [
        node for node, target in (leader.replication or {}).items() if index_of(target.matching) >= committed
    ]
    return committed, sorted(node for node in have if node in survey.membership.voters and node not in without)


def holders_needed(survey: Survey) -> int:
    """n - q + 1: so many holders that every quorum has one of them."""
    voters = len(survey.membership.voters)
    return voters - (voters // 2 + 1) + 1
