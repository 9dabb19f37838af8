"""A case that stands in no list would never run."""

from __future__ import annotations

from raft_engine.testing import storage_suite
from raft_engine.testing.storage_suite import LOG_CASES, SNAPSHOT_CASES, START_CASES, STATE_MACHINE_CASES

NEEDS_TWO_STORES = {"check_a_snapshot_goes_from_one_store_to_another"}


def test_every_case_of_the_suite_is_in_a_list():
    listed = {case.__name__ for case in [*LOG_CASES, *SNAPSHOT_CASES, *STATE_MACHINE_CASES, *START_CASES]}
    assert {name for name in vars(storage_suite) if name.startswith("check_")} == listed | NEEDS_TWO_STORES
