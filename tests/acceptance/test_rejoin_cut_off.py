"""The link between the node that is rejoined and its peers is cut at the steps of the rejoin, and healed later.

In both directions, in one of them, only to the leader, or with every connection ended. The run is done, or undone, or hands
over and `runs resume` finishes it; whichever, the cluster is whole and has every write it acknowledged.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance.cluster import DEADLINE_S, Cluster, Json, Load, Node, missing
from tests.acceptance.conftest import ClusterMaker
from tests.acceptance.peer_links import Linked, linked_cluster
from tests.acceptance.test_rejoin import SURE, assert_whole, fill
from tests.acceptance.test_rejoin_commands import journal_says

STEPS = ["preflight", "stop", "protect", "wipe", "start", "catch-up", "prove", "disarm"]
RUNNING = STEPS[STEPS.index("start") :]
"""Steps in or after which the node speaks with its peers."""
WRITES_MEANWHILE = 50


class Rejoined:
    """A rejoin of `node`, a follower, while writers write."""

    def __init__(self, linked: Linked, load: Load) -> None:
        self.cluster: Cluster = linked.cluster
        self.links = linked.links
        self.load = load
        self.leader = self.cluster.leader()
        self.node: Node = self.cluster.followers()[0]
        self._linked = linked
        self._running: subprocess.Popen[str] | None = None

    @property
    def running(self) -> subprocess.Popen[str]:
        assert self._running is not None
        return self._running

    def begin(self, step: str, *options: str) -> None:
        """Begin it, and return when that step has begun."""
        command = ("rejoin-node", str(self.node.node_id), *SURE, "-o", "json", *options)
        self._running = self.cluster.begin_raftctl(lambda: journal_says(self.cluster, "step_begun", step), *command)

    def until(self, event: str, step: str) -> None:
        """Wait until the journal says so, or the run is over."""
        end = time.monotonic() + DEADLINE_S
        while not journal_says(self.cluster, event, step) and self.running.poll() is None:
            assert time.monotonic() < end, f"no {event} of {step}"
            time.sleep(0.001)  # a step may be over in a few milliseconds

    def cut(self, how: str) -> None:
        """Cut the node off: `silent` nothing passes, `deaf` nothing to it, `mute` nothing from it, `severed` all ends."""
        only = [self.leader.node_id] if how == "leader only" else None
        to, back = self._linked.ways_to(self.node.node_id, only), self._linked.ways_from(self.node.node_id, only)
        if how == "severed":
            self.links.sever([*to, *back])
        else:
            self.links.cut([*(to if how != "mute" else []), *(back if how != "deaf" else [])])

    def run(self) -> Json:
        return self.cluster.last_run()

    @property
    def is_undone(self) -> bool:
        return journal_says(self.cluster, "undo_done", "stop")

    def finish(self) -> str:
        """Wait until it reports, heal, have what it hands over finished, and return how it ended."""
        _, told = self.running.communicate(timeout=2 * DEADLINE_S)
        assert self.running.returncode in {0, 5, 8, 9, 130}, told
        self.links.heal()
        if self.running.returncode == 9:
            self.cluster.raftctl("runs", "resume", self.run()["run"], code=None)
        self.load.more(20)
        return str(self.run()["outcome"])


@contextmanager
def rejoined(make_cluster: ClusterMaker, count: int = 3) -> Iterator[Rejoined]:
    """Yield with writers at work; in the end the cluster must be whole, and nothing lost."""
    with linked_cluster(make_cluster, count) as linked:
        cluster = linked.cluster
        fill(cluster, 30)
        with Load(cluster, "load/") as load:
            rejoined = Rejoined(linked, load)
            yield rejoined
        cluster.settled()
        assert [missing(load, each) for each in cluster] == [[] for _ in cluster]
        assert_whole(cluster, rejoined.node)


def cut_off_for_a_while(rejoined: Rejoined, step: str, how: str) -> str:
    rejoined.begin(step)
    rejoined.cut(how)
    rejoined.load.more(WRITES_MEANWHILE)
    if step in RUNNING:
        rejoined.links.wait_until_felt()
    rejoined.links.heal()
    return rejoined.finish()


@pytest.mark.parametrize(
    ("step", "how"),
    [
        *((step, "silent") for step in STEPS),
        *((step, how) for how in ["deaf", "mute"] for step in ["protect", "start", "catch-up", "prove"]),
        *((step, "severed") for step in ["start", "catch-up", "prove"]),
        *((step, "leader only") for step in ["start", "catch-up"]),
    ],
)
def test_a_node_cut_off_for_a_while_is_rejoined(make_cluster: ClusterMaker, step: str, how: str):
    """Or nothing is begun, when it is cut off so long before that it knows no leader any more."""
    with rejoined(make_cluster) as rejoin:
        ends = {"done", "undone", "refused"} if step == "preflight" else {"done", "undone"}
        assert cut_off_for_a_while(rejoin, step, how) in ends


@pytest.mark.parametrize(
    ("count", "step", "how"),
    [(4, "start", "deaf"), (4, "catch-up", "silent"), (5, "protect", "silent"), (5, "start", "mute")],
)
def test_a_node_of_a_larger_cluster_cut_off_for_a_while_is_rejoined(
    make_cluster: ClusterMaker, count: int, step: str, how: str
):
    with rejoined(make_cluster, count) as rejoin:
        assert cut_off_for_a_while(rejoin, step, how) in {"done", "undone"}


@pytest.mark.parametrize(
    ("step", "how"), [("stop", "silent"), ("wipe", "severed"), ("start", "deaf"), ("wipe", "leader only")]
)
def test_a_node_cut_off_for_longer_than_the_run_waits_gets_its_data_back(make_cluster: ClusterMaker, step: str, how: str):
    """Healed when the node has its data and runs again: the leader follows it up, and the run ends undone.

    Unless the node was quicker than the cut: then it holds entries beyond the barrier, and there is only the way forward.
    """
    with rejoined(make_cluster) as rejoin:
        rejoin.begin(step, "--timeout", "3s")
        rejoin.cut(how)
        rejoin.until("undo_begun", "stop")
        rejoin.links.wait_until_felt()
        rejoin.links.heal()
        assert rejoin.finish() == ("undone" if rejoin.is_undone else "done")


@pytest.mark.parametrize(("step", "how"), [("wipe", "silent"), ("catch-up", "mute")])
def test_ctrl_c_while_the_node_is_cut_off_undoes_everything_or_goes_forward(make_cluster: ClusterMaker, step: str, how: str):
    with rejoined(make_cluster) as rejoin:
        rejoin.begin(step)
        rejoin.cut(how)
        rejoin.running.send_signal(signal.SIGINT)
        rejoin.until("undo_begun", "stop")
        rejoin.load.more(WRITES_MEANWHILE)
        rejoin.links.heal()
        assert rejoin.finish() in ({"interrupted", "undone"} if rejoin.is_undone else {"done"})


def test_a_run_that_cannot_end_while_the_node_is_cut_off_hands_over_and_is_resumed(make_cluster: ClusterMaker):
    """Mute from before the run on: its leader is heard, so that every rule holds, but it acknowledges nothing."""
    with rejoined(make_cluster) as rejoin:
        rejoin.cut("mute")
        rejoin.links.wait_until_felt()
        rejoin.begin("stop", "--timeout", "3s")
        _, told = rejoin.running.communicate(timeout=2 * DEADLINE_S)
        assert rejoin.running.returncode == 9, told
        assert "no leader follows it up" in told
        assert rejoin.run()["resumable"]
        rejoin.links.heal()
        rejoin.cluster.raftctl("runs", "resume", rejoin.run()["run"], code=8)
        assert rejoin.run()["outcome"] == "undone"
        rejoin.load.more(20)
