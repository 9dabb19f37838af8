"""What the acceptance tests share: clusters that are taken down, and the nodes' last words when a test failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster

ClusterMaker = Callable[..., Cluster]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.failed:
        for cluster in [value for value in item.funcargs.values() if isinstance(value, Cluster)]:
            for node in cluster:
                report.sections.append((f"log of node {node.node_id} ({node.log})", node.last_words()))
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
