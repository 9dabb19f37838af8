"""raftctl dies at every point of a rejoin: whoever comes after it can finish the run, and can undo it."""

from __future__ import annotations

import pytest

from raftctl import deadline
from raftctl.runbook import catch_up, lock, proof
from raftctl.runbook.journal import read_runs
from tests.raftctl.fake_cluster import url
from tests.raftctl.killing import Clock, Killed, Killer
from tests.raftctl.rejoin_cluster import WELL, RejoinCluster, mocked

LINE = "rejoin-node 3 --yes --confirm demo"
POINTS = 84
"""More than a run has: the last ones find nothing to kill. A test says so if the runs grow."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    with mocked(monkeypatch) as fake:
        yield fake


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    clock = Clock()
    for module in (deadline, lock, catch_up, proof):
        monkeypatch.setattr(module, "time", clock)
    assert deadline.poll(1.0)()
    return Killer(monkeypatch)


def begin(raftctl, killer: Killer, at: int | None) -> bool:
    """Begin a rejoin that dies at a point; return whether it did."""
    killer.again(at)
    try:
        raftctl(LINE, code=None)
    except Killed:
        return True
    return False


def go_on(raftctl, killer: Killer, verb: str, code: int | None = 0):
    """Let another process go on with the only run."""
    killer.again()
    (run,) = read_runs()
    return raftctl(f"runs {verb} {run.run_id} -o json", code=code)


def outcome() -> str:
    (run,) = read_runs()
    return run.outcome


def has_begun() -> bool:
    """A run that died before its first record was whole has done nothing, and there is nothing to go on with."""
    return any(run.records for run in read_runs())


def assert_rebuilt(cluster: RejoinCluster) -> None:
    assert WELL == cluster.picture(3)
    assert 1 == cluster.wipes - cluster.restores
    assert 1 == len(cluster.retired[3])


def assert_as_before(cluster: RejoinCluster) -> None:
    assert WELL == cluster.picture(3)
    assert {} == cluster.retired[3]
    assert cluster.wipes == cluster.restores


def test_the_points_cover_a_whole_run(cluster, raftctl, killer):
    assert not begin(raftctl, killer, None)
    assert 50 < killer.count < POINTS


@pytest.mark.parametrize("point", range(POINTS))
def test_a_run_that_died_is_finished_by_another_process(cluster: RejoinCluster, raftctl, killer: Killer, point: int):
    died = begin(raftctl, killer, point)
    if not has_begun():
        assert died
        assert [] == cluster.mutations
        return
    if died:
        receipt = go_on(raftctl, killer, "resume").data
        assert 3 == receipt["node"]
    assert "done" == outcome()
    assert_rebuilt(cluster)


@pytest.mark.parametrize("point", range(POINTS))
def test_a_run_that_died_is_undone_by_another_process_while_there_is_a_way_back(
    cluster: RejoinCluster, raftctl, killer: Killer, point: int
):
    died = begin(raftctl, killer, point)
    if not died or not has_begun():
        return
    if "done" == outcome():
        go_on(raftctl, killer, "abort", code=5)
        assert_rebuilt(cluster)
        return
    ended = go_on(raftctl, killer, "abort", code=None)
    if 0 == ended.code:
        assert "undone" == outcome()
        assert_as_before(cluster)
        return
    assert 9 == ended.code
    assert "nothing was undone: node 3" in ended.error["message"]
    assert "the barrier" in ended.error["message"]
    assert "runs abort" not in ended.error["hint"]
    (run,) = read_runs()
    assert [f"raftctl runs resume {run.run_id}"] == raftctl(f"runs show {run.run_id} -o json").data["next"]
    assert "follower" == cluster.nodes[3]["state"]
    go_on(raftctl, killer, "resume")
    assert_rebuilt(cluster)


@pytest.mark.parametrize("second", range(1, 50, 4))
@pytest.mark.parametrize("first", [22, 36, 43])
def test_whoever_goes_on_may_die_too(cluster: RejoinCluster, raftctl, killer: Killer, first: int, second: int):
    assert begin(raftctl, killer, first)
    (run,) = read_runs()
    killer.again(second)
    try:
        raftctl(f"runs resume {run.run_id}", code=None)
    except Killed:
        go_on(raftctl, killer, "resume")
    assert "done" == outcome()
    assert_rebuilt(cluster)


@pytest.mark.parametrize("second", range(0, 42, 2))
@pytest.mark.parametrize(("first", "verb"), [(28, "resume"), (37, "abort"), (43, "resume"), (44, "abort")])
def test_an_undo_that_died_is_finished(cluster: RejoinCluster, raftctl, killer: Killer, first: int, second: int, verb: str):
    assert begin(raftctl, killer, first)
    (run,) = read_runs()
    killer.again(second)
    try:
        raftctl(f"runs abort {run.run_id}", code=0)
    except Killed:
        (run,) = read_runs()
        began_to_undo = any("undoing" == record["event"] for record in run.records)
        was_undone = "undone" == run.outcome
        resumed = 5 if was_undone else 8 if began_to_undo else 0
        go_on(raftctl, killer, verb, code=resumed if verb == "resume" else 0)
        if verb == "resume" and not began_to_undo:
            assert "done" == outcome()
            assert_rebuilt(cluster)
            return
    assert "undone" == outcome()
    assert_as_before(cluster)


@pytest.mark.parametrize("point", range(18, 39))
def test_a_node_that_somebody_started_meanwhile_is_stopped_again_or_left_as_it_is(
    cluster: RejoinCluster, raftctl, killer: Killer, point: int
):
    """Between its stop and its wipe; the barrier must come after the stop that counts."""
    assert begin(raftctl, killer, point)
    cluster._act(3, "/v1/node/start-raft", {})
    ended = go_on(raftctl, killer, "resume", code=None)
    assert ended.code in {0, 8}
    assert WELL == cluster.picture(3)
    if 0 == ended.code and cluster.wipes:
        assert_rebuilt(cluster)


@pytest.mark.parametrize("verb", ["resume", "abort"])
@pytest.mark.parametrize("point", [*range(8, 22), *range(22, POINTS, 6)])
def test_a_run_for_the_leader_that_died_is_gone_on_with(
    cluster: RejoinCluster, raftctl, killer: Killer, point: int, verb: str
):
    """Leadership that was handed over stays where it is."""
    killer.again(point)
    with pytest.raises(Killed):
        raftctl("rejoin-node 1 --yes --confirm demo", code=None)
    ended = go_on(raftctl, killer, verb, code=None)
    if 9 == ended.code:
        go_on(raftctl, killer, "resume")
    assert outcome() in {"done", "undone"}
    if 1 != cluster.leader:
        assert WELL == cluster.picture(1)
    assert cluster.wipes - cluster.restores == len(cluster.retired[1]) == (outcome() == "done")


@pytest.mark.parametrize("verb", ["resume", "abort"])
@pytest.mark.parametrize("count", [2, 4, 5])
@pytest.mark.parametrize("point", range(13, POINTS, 5))
def test_a_run_that_died_in_a_cluster_of_another_size_is_gone_on_with(
    raftctl, killer: Killer, monkeypatch: pytest.MonkeyPatch, point: int, count: int, verb: str
):
    """With two voters there is no quorum, and so no lock to be had, until the node is back. It is the last that is asked."""
    with mocked(monkeypatch, count) as cluster:
        killer.again(point)
        died = False
        try:
            raftctl(f"rejoin-node 2 --yes --confirm demo -e {url(1)} -e {url(2)}", code=None)
        except Killed:
            died = True
        if died:
            ended = go_on(raftctl, killer, f"{verb} -e {url(1)} -e {url(2)}", code=None)
            if 9 == ended.code:
                go_on(raftctl, killer, f"resume -e {url(1)} -e {url(2)}")
        assert outcome() in {"done", "undone"}
        assert WELL == cluster.picture(2)
        assert cluster.wipes - cluster.restores == len(cluster.retired[2]) == (outcome() == "done")


# -- way B: the directory is lost ----------------------------------------------------------------------------------------

BLANK = "rejoin-node 3 --blank --yes --confirm demo"
BLANK_POINTS = 64


def begin_blank(cluster: RejoinCluster, raftctl, killer: Killer, at: int | None) -> bool:
    cluster.lose(3)
    killer.again(at)
    try:
        raftctl(BLANK, code=None)
    except Killed:
        return True
    return False


def assert_let_in(cluster: RejoinCluster) -> None:
    assert WELL == cluster.picture(3)
    assert ["b" * 32] == cluster.lives[3]
    assert [] == cluster.learners
    assert "/v1/node/wipe" not in cluster.paths


def test_the_points_cover_a_whole_run_of_way_b(cluster, raftctl, killer):
    assert not begin_blank(cluster, raftctl, killer, None)
    assert 40 < killer.count < BLANK_POINTS


@pytest.mark.parametrize("point", range(BLANK_POINTS))
def test_a_run_of_way_b_that_died_is_finished(cluster: RejoinCluster, raftctl, killer: Killer, point: int):
    died = begin_blank(cluster, raftctl, killer, point)
    if not has_begun():
        assert [] == cluster.mutations
        return
    if died:
        go_on(raftctl, killer, "resume")
    assert "done" == outcome()
    assert_let_in(cluster)


@pytest.mark.parametrize("point", range(BLANK_POINTS))
def test_a_run_of_way_b_that_died_is_undone_while_there_is_a_way_back(
    cluster: RejoinCluster, raftctl, killer: Killer, point: int
):
    died = begin_blank(cluster, raftctl, killer, point)
    if not died or not has_begun() or "done" == outcome():
        return
    ended = go_on(raftctl, killer, "abort", code=None)
    if 0 == ended.code:
        assert "undone" == outcome()
        assert WELL | {"fenced": True} == cluster.picture(3)
        assert ["3" * 32] == cluster.lives[3]
        return
    assert 9 == ended.code
    assert "is in the configuration" in ended.error["message"]
    go_on(raftctl, killer, "resume")
    assert_let_in(cluster)
