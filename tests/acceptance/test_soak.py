"""The soak in small: every kind of fault once under the mixed load."""

from __future__ import annotations

from benchmarks.soak import soak
from benchmarks.soak_load import MIX


def test_a_soak_with_every_kind_of_fault_loses_nothing_and_gets_no_wrong_answer(tmp_path):
    seen = soak(tmp_path, minutes=60, rate=100, every_s=0.5, seed=7, faults_max=8)
    assert (seen.lost, seen.wrong, seen.failures) == ([], [], [])
    assert dict(seen.faults) == dict.fromkeys(
        [
            "kill a follower",
            "kill the leader",
            "stop a follower",
            "stop the leader",
            "transfer",
            "snapshot",
            "purge",
            "rejoin",
        ],
        1,
    )
    assert set(seen.done) == set(MIX)
    assert seen.keys == 1000
