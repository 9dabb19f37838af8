"""What counts as growth in a soak, and what does not."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable

import pytest

from benchmarks.soak_samples import (
    MIB,
    Growth,
    Latencies,
    Sample,
    by_minute,
    disk_bytes,
    growth,
    look,
    percentile,
    slope,
)


def samples(name: str, values: Callable[[int], float], minutes: int = 60, restarts_at: int = 999) -> list[Sample]:
    """One a minute; the process is another one from the minute `restarts_at` on."""
    figures = {"rss_mib": 0.0, "open_files": 0, "threads": 0, "disk_mib": 0.0}
    return [
        Sample(7 if minute < restarts_at else 8, 60.0 * minute, **{**figures, name: values(minute)}, cpu_s=0.0)
        for minute in range(minutes)
    ]


def test_the_slope_is_that_of_the_line_the_points_lie_on():
    assert slope([(x, 3.0 + 0.5 * x) for x in range(10)]) == pytest.approx(0.5)


def test_one_wild_point_does_not_bend_the_line():
    points = [(float(x), 2.0 * x) for x in range(20)]
    points[7] = (7.0, 10_000.0)
    assert slope(points) == pytest.approx(2.0)


@pytest.mark.parametrize("points", [[], [(3.0, 7.0)], [(1.0, 5.0), (1.0, 9.0)]])
def test_without_two_moments_there_is_no_slope(points):
    assert slope(points) == 0.0


def test_what_stays_is_flat():
    assert not growth(1, "rss_mib", samples("rss_mib", lambda _: 100.0), 60).grows


def test_a_leak_of_a_mebibyte_every_three_minutes_grows():
    found = growth(1, "rss_mib", samples("rss_mib", lambda minute: 100.0 + minute / 3), 60)
    assert found.grows
    assert found.rise == pytest.approx(10.0)
    assert found.allowed == pytest.approx(5.0, rel=0.2)


def test_what_fills_up_in_the_first_half_does_not_grow():
    warming = samples("rss_mib", lambda minute: min(100.0, 40.0 + 2.0 * minute))
    assert not growth(1, "rss_mib", warming, 60).grows


def test_noise_and_what_comes_and_goes_are_no_growth():
    dice = random.Random(1)
    saw = samples("rss_mib", lambda minute: 80.0 + 10.0 * (minute % 7) / 7 + dice.uniform(-1, 1))
    assert not growth(2, "rss_mib", saw, 60).grows


def test_a_file_that_is_left_open_every_five_minutes_grows():
    assert growth(1, "open_files", samples("open_files", lambda minute: 33 + minute // 5), 60).grows


def test_a_log_that_is_a_segment_longer_now_and_then_is_no_growth():
    assert not growth(1, "disk_mib", samples("disk_mib", lambda minute: 40.0 + 16.0 * (minute % 2)), 60).grows


def test_a_log_that_is_never_purged_grows():
    assert growth(1, "disk_mib", samples("disk_mib", lambda minute: 40.0 + 5.0 * minute), 60).grows


@pytest.mark.parametrize(("restarts_at", "grows"), [(20, True), (30, True), (45, False)])
def test_memory_is_judged_of_a_process_that_lived_through_the_second_half(restarts_at, grows):
    leaking = samples("rss_mib", lambda minute: 100.0 + minute, restarts_at=restarts_at)
    assert growth(1, "rss_mib", leaking, 60).grows is grows


def test_the_disk_is_judged_whatever_became_of_the_process():
    filling = samples("disk_mib", lambda minute: 40.0 + 5.0 * minute, restarts_at=45)
    assert growth(1, "disk_mib", filling, 60).grows


def test_a_node_that_was_never_seen_in_the_second_half_did_not_grow():
    assert growth(1, "threads", samples("threads", lambda _: 5, minutes=20), 60) == Growth(
        1, "threads", 0.0, 0.0, 0.0, 0.0, 2.0
    )


def test_samples_become_medians_by_minute():
    found = [Sample(7, at, rss, 0, 0, 0.0, 0.0) for at, rss in [(1, 5.0), (20, 7.0), (59.9, 900.0), (60, 8.0), (181, 9.0)]]
    assert by_minute(found, "rss_mib") == [(0, 7.0), (1, 8.0), (3, 9.0)]


def test_a_percentile_is_one_of_the_values():
    assert [percentile(range(100), share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
    assert percentile([], 0.5) == 0.0


def test_latencies_are_found_by_minute_node_and_kind():
    ours, theirs = Latencies(), Latencies()
    ours.add(59.0, 1, 0.1, is_write=True)
    ours.add(61.0, 2, 0.2, is_write=True)
    theirs.add(59.5, 1, 0.3, is_write=True)
    theirs.add(59.5, 1, 0.4, is_write=False)
    ours.merged(theirs)
    assert ours.of(minute=0, is_write=True) == [0.1, 0.3]
    assert ours.of(node=2, is_write=True) == [0.2]
    assert ours.of(is_write=False) == [0.4]


def test_this_process_is_seen_with_an_open_file_more(tmp_path):
    before = look(os.getpid(), tmp_path, 1.0)
    with (tmp_path / "held").open("wb"):
        after = look(os.getpid(), tmp_path, 2.0)
    assert before is not None
    assert after is not None
    assert after.open_files == before.open_files + 1
    assert after.rss_mib > 1
    assert after.threads >= 1
    assert after.cpu_s >= before.cpu_s


def test_a_process_that_is_gone_is_not_seen(tmp_path):
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: it has a status and no memory
    assert look(child.pid, tmp_path, 0.0) is None
    child.wait()
    assert look(child.pid, tmp_path, 0.0) is None


def test_a_directory_takes_the_room_of_all_its_files_and_holes_take_none(tmp_path):
    (tmp_path / "below").mkdir()
    with (tmp_path / "below" / "sparse").open("wb") as file:
        file.truncate(64 * MIB)
    (tmp_path / "full").write_bytes(os.urandom(MIB))
    assert MIB <= disk_bytes(tmp_path) < 2 * MIB
