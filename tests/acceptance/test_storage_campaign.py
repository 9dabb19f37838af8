"""The storage campaign in small, and whether it would notice what it is looking for."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

import httpx
import pytest

from tests.acceptance.campaign import Campaign
from tests.acceptance.cluster import ROOT, Cluster
from tests.acceptance.ledger import Ledger, value_of
from tests.acceptance.mounts import has_ended, injected, may_inject

KINDS = ["kill the leader", "kill all", "fdatasync EIO", "killed at pwrite64", "failing start", "full file system"]


def test_nothing_acknowledged_is_lost_while_processes_are_killed_and_disks_fail(tmp_path):
    figures = Campaign(tmp_path, seed=20, say=print).run(rounds=len(KINDS), kinds=KINDS)
    assert (figures.lost, figures.altered, figures.failures) == ([], [], [])
    assert figures.rounds == len(KINDS)
    assert figures.writes_acknowledged > 100
    assert figures.kills >= 4
    assert figures.checks >= 4
    assert figures.inspections >= 6
    assert sum(figures.struck.values()) >= 3


# -- would it notice? ----------------------------------------------------------------------------------------------------


class Answers:
    """A node that has these values."""

    node_id = 1

    def __init__(self, values: dict[str, bytes]) -> None:
        items = [
            {"key": key, "value_base64": base64.b64encode(value).decode(), "revision": 1} for key, value in values.items()
        ]
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"items": items, "next": None}))
        self.client = httpx.Client(base_url="http://node", transport=transport)


@pytest.fixture
def ledger(tmp_path):
    """Number 5 was acknowledged, and 6 was tried."""
    ledger = Ledger(Cluster(tmp_path), 0)
    ledger._acknowledged["w0/1"], ledger._tried["w0/1"] = 5, 6
    return ledger


@pytest.mark.parametrize("number", [5, 6])
def test_the_acknowledged_value_and_the_one_in_doubt_are_right(number, ledger):
    verdict = ledger.check(Answers({"w0/1": value_of("w0/1", number)}))
    assert (verdict.keys, verdict.lost, verdict.altered) == (1, [], [])


@pytest.mark.parametrize("number", [4, 7])
def test_an_older_value_is_a_loss_and_so_is_one_that_nobody_wrote(number, ledger):
    verdict = ledger.check(Answers({"w0/1": value_of("w0/1", number)}))
    assert verdict.lost == [f"w0/1: number 5 was acknowledged, node 1 has {number}"]


def test_a_missing_key_is_a_loss(ledger):
    assert len(ledger.check(Answers({})).lost) == 1


@pytest.mark.parametrize("change", [lambda value: value[:-1], lambda value: value + b"x", lambda value: b"5:" + b"x" * 9])
def test_another_value_is_an_alteration(change, ledger):
    assert len(ledger.check(Answers({"w0/1": change(value_of("w0/1", 5))})).altered) == 1


def test_values_of_different_keys_and_numbers_differ():
    values = {value_of(key, number) for key in ("a", "b") for number in range(20)}
    assert len(values) == 40


@pytest.mark.skipif(not may_inject(), reason="this process may not trace others, or there is no strace")
def test_an_injected_fault_reaches_a_running_process(tmp_path):
    code = "import os, sys; sys.stdin.read(1); os.fsync(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)); print('synced')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x")], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    with injected(process.pid, "fsync:error=EIO"):
        _, said = process.communicate(b"x")
    assert b"Input/output error" in said
    assert has_ended(process.pid)
    assert not has_ended(os.getpid())
