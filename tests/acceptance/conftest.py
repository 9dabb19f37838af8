"""What the acceptance tests share: clusters that are taken down, and the nodes' last words when a test failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.ports import free_sandbox_port

ClusterMaker = Callable[..., Cluster]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    Cluster.made.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.failed:
        shared = [value for value in item.funcargs.values() if isinstance(value, Cluster) and value not in Cluster.made]
        for cluster in [*shared, *Cluster.made]:
            report.sections += cluster.last_words()
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


_failed = pytest.StashKey[bool]()


@pytest.fixture
def make_cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ClusterMaker]:
    """Make a cluster with the settings a test wants; it is not started. Ended, and its data removed if the test passed."""
    made: list[Cluster] = []

    def make(count: int = 3, **raft: int | bool) -> Cluster:
        cluster = Cluster(tmp_path / f"c{len(made)}", count, **raft)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.end()
        if not request.node.stash.get(_failed, False):
            cluster.remove_data()


@pytest.fixture
def cluster(make_cluster: ClusterMaker) -> Cluster:
    """Three nodes that serve."""
    cluster = make_cluster()
    cluster.begin()
    return cluster


@pytest.fixture
def sandbox(make_cluster: ClusterMaker) -> Iterator[Cluster]:
    """A raftctl whose context is a sandbox of three nodes that it has started itself; the cluster's own node never runs."""
    tool = make_cluster(1)
    tool.config.unlink()
    try:
        tool.raftctl("dev", "up", "--base-port", str(free_sandbox_port()))
        yield tool
    finally:
        tool.raftctl("dev", "down", "--purge", code=None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that serve, for tests that leave them as they found them: nobody dies, nothing is lost."""
    cluster = Cluster(tmp_path_factory.mktemp("shared"))
    try:
        cluster.begin()
        yield cluster
    finally:
        cluster.end()
        cluster.remove_data()
