"""How far one target is, as its leader sees it."""

from __future__ import annotations

from raft_engine.core.progress import Mode, Progress
from tests.core.builder import meta, peer


def progress(**fields) -> Progress:
    return Progress(peer(2), 1, **({"next": 6} | fields))


def test_a_new_target_is_probed():
    assert Mode.PROBE is progress().mode


def test_a_probe_has_room_for_one_request():
    target = progress()
    assert target.has_room(64)
    target.sent(9, now=0)
    assert not target.has_room(64)


def test_a_probe_does_not_move_on_before_it_is_answered():
    target = progress()
    target.sent(9, now=0)
    assert 6 == target.next


def test_replication_sends_on_without_waiting_up_to_a_limit():
    target = progress(mode=Mode.REPLICATE)
    for last in (7, 8):
        target.sent(last, now=0)
    assert 9 == target.next
    assert target.has_room(3)
    assert not target.has_room(2)


def test_an_accepted_probe_begins_replication():
    target = progress()
    target.sent(5, now=0)
    assert target.accept(5)
    assert (Mode.REPLICATE, 5, 6, 0) == (target.mode, target.matching, target.next, len(target.inflight))


def test_an_acceptance_below_the_probe_is_no_proof_that_the_logs_agree_there():
    target = progress()
    target.accept(3)
    assert (Mode.PROBE, 3) == (target.mode, target.matching)


def test_an_old_acceptance_is_no_news_and_takes_nothing_back():
    target = progress(mode=Mode.REPLICATE, matching=5, promised=5)
    assert not target.accept(3)
    assert 5 == target.matching


def test_an_acceptance_frees_every_request_that_it_covers():
    target = progress(mode=Mode.REPLICATE)
    for last in (7, 8, 9):
        target.sent(last, now=0)
    target.accept(8)
    assert [9] == [item.last_index for item in target.inflight]


def test_a_new_probe_keeps_what_is_matched_and_begins_a_session():
    target = progress(mode=Mode.REPLICATE, matching=4, promised=4)
    target.sent(9, now=0)
    target.probe(2, next_index=3)
    assert (Mode.PROBE, 2, 5, 4, 0) == (target.mode, target.session, target.next, target.matching, len(target.inflight))


def test_shipping_a_snapshot_goes_on_behind_it():
    target = progress()
    target.ship(2, meta(1, 20))
    assert (Mode.SNAPSHOT, 21, 0) == (target.mode, target.next, target.snapshot_offset)
    assert not target.has_room(64)


def test_a_fenced_target_counts_for_nothing_and_gets_nothing():
    target = progress(mode=Mode.REPLICATE, matching=5, promised=5)
    target.quarantine(2)
    assert (Mode.REVERTED, 0, 5) == (target.mode, target.matching, target.promised)
    assert not target.counts
    assert not target.has_room(64)


def test_a_permitted_loss_forgets_every_promise_and_uses_the_permission():
    target = progress(mode=Mode.REPLICATE, matching=5, promised=5, armed_until=float("inf"))
    target.forget(2)
    assert (Mode.PROBE, 0, 0, None, 2) == (target.mode, target.matching, target.promised, target.armed_until, target.session)


def test_a_permission_ends_with_its_time():
    target = progress(armed_until=100.0)
    assert target.is_armed(99.0)
    assert not target.is_armed(100.0)
    assert not progress().is_armed(0.0)


def test_it_shows_itself_for_people():
    assert f"{peer(2)} probe matching=0 next=6 inflight=0" == str(progress())
