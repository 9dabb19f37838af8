"""Which run of a peer's process goes on from the last one known: raft_engine/transport/boots.py."""

from __future__ import annotations

import pytest

from raft_engine.transport.boots import LIVES_KEPT, Boots
from raft_engine.types.ids import Boot
from tests.transport.peers import peer

BOB, CAROL = peer(2), peer(3)


def runs(*names: str, upto: int | None = None) -> tuple[Boot, ...]:
    """Runs 1, 2, … under these names (or those that end with run `upto`), newest first."""
    newest = len(names) if upto is None else upto
    return tuple(Boot(newest - back, name) for back, name in enumerate(reversed(names)))


@pytest.mark.parametrize(
    ("known", "now"),
    [
        (runs("a"), runs("a")),
        (runs("a"), runs("a", "b")),
        (runs("a"), runs("a", "b", "c")),
        (runs("a", "b"), runs("b", "c", upto=3)),
        (runs("a"), runs("x", "y", upto=40)),
        (runs("a"), ()),
        ((), runs("a")),
    ],
    ids=["the same run", "the next one", "two later", "few names are told", "too long ago to tell", "not told", "not known"],
)
def test_a_run_that_goes_on_from_the_known_one_is_taken(known, now):
    boots = Boots()
    boots.why_stale(BOB, known)
    assert "" == boots.why_stale(BOB, now)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (runs("a"), "it was started 1 times, but start 2 of node 2 is known already"),
        (runs("a", "x"), "its start 2 is not the one that is known"),
        (runs("a", "x", "y"), "its start 2 is not the one that is known"),
    ],
    ids=["an earlier run", "the same number", "a later run of the copy"],
)
def test_a_run_of_an_older_copy_is_not_taken(now, why):
    boots = Boots()
    boots.why_stale(BOB, runs("a", "b"))
    assert boots.why_stale(BOB, now).startswith(why)
    assert "" == boots.why_stale(BOB, runs("a", "b", "c")), "the right one still is"


def test_what_is_known_is_kept_when_it_is_news():
    kept: list[dict] = []
    boots = Boots(changed=lambda: kept.append(boots.known))
    for heard in (runs("a"), runs("a"), runs("a", "b"), runs("a", "x"), ()):
        boots.why_stale(BOB, heard)
    assert [{BOB: Boot(1, "a")}, {BOB: Boot(2, "b")}] == kept


def test_what_was_known_before_a_restart_counts():
    boots = Boots(known={BOB: Boot(2, "b")})
    assert boots.why_stale(BOB, runs("a", "x"))


def test_of_one_node_the_lives_heard_of_last_are_remembered():
    boots = Boots()
    for life in range(LIVES_KEPT + 3):
        boots.why_stale(peer(2, life=life), runs("a"))
    boots.why_stale(CAROL, runs("c"))
    assert {*(peer(2, life=life) for life in range(3, LIVES_KEPT + 3)), CAROL} == set(boots.known)


def test_a_life_that_is_heard_of_again_is_not_the_oldest_any_more():
    boots = Boots()
    for life in range(LIVES_KEPT):
        boots.why_stale(peer(2, life=life), runs("a"))
    boots.why_stale(peer(2, life=0), runs("a", "b"))
    boots.why_stale(peer(2, life=99), runs("a"))
    assert (True, False) == (peer(2, life=0) in boots.known, peer(2, life=1) in boots.known)


def test_made_up_nodes_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("raft_engine.transport.boots.KNOWN_MAX", 3)
    boots = Boots()
    for node_id in range(2, 9):
        assert "" == boots.why_stale(peer(node_id), runs("a"))
    assert [2, 3, 4] == [known.node_id for known in boots.known]


def test_each_peer_and_each_life_has_its_own_runs():
    boots = Boots()
    boots.why_stale(BOB, runs("a", "b"))
    assert "" == boots.why_stale(CAROL, runs("x"))
    assert "" == boots.why_stale(peer(2, life=1), runs("x"))
