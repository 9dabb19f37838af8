"""An engine on a data directory, over TCP, in one call: raft_engine/runtime/embed.py, member.py."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from raft_engine.config import Config
from raft_engine.runtime.embed import open_raft
from raft_engine.runtime.member import Member
from raft_engine.runtime.raft import Raft
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.files import Files
from raft_engine.storage.identity import load_identity
from raft_engine.types.ids import NodeId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.metrics import ReplicationState
from tests.ports import free_ports
from tests.runtime.cluster import Words, peer

CONFIG = Config(
    election_timeout_min_ms=300, election_timeout_max_ms=600, heartbeat_interval_ms=50, reconnect_backoff_max_ms=50
)


class Trio:
    """Three nodes on real directories; those that run are ended with the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members = {number: f"127.0.0.1:{port}" for number, port in enumerate(free_ports(3), start=1)}
        self.rafts: dict[int, Raft] = {}

    def directory(self, node_id: int) -> Path:
        return self.path / f"n{node_id}"

    async def start(self, *node_ids: int) -> None:
        opened = await asyncio.gather(
            *(
                open_raft(
                    self.directory(node_id), node_id=node_id, members=self.members, state_machine=Words(), config=CONFIG
                )
                for node_id in node_ids
            )
        )
        self.rafts |= dict(zip(node_ids, opened, strict=True))

    async def stop(self, *node_ids: int) -> None:
        for node_id in node_ids:
            await self.rafts.pop(node_id).shutdown()

    async def until_known(self, node_id: int, *, start: int) -> None:
        """Wait until the others have written down that they heard of this start."""
        for other in self.members.keys() - {node_id}:
            while start not in _known(self.directory(other), node_id):  # noqa: ASYNC110 (nobody announces a file)
                await asyncio.sleep(0.01)

    async def leader(self) -> Raft:
        seen = await next(iter(self.rafts.values())).wait().metrics(lambda seen: seen.leader in self.rafts, "a leader")
        return self.rafts[seen.leader]


@pytest.fixture
async def trio(tmp_path):
    made = Trio(tmp_path)
    await made.start(1, 2, 3)
    yield made
    await made.stop(*list(made.rafts))


async def test_a_directory_restored_from_an_older_copy_is_fenced_though_its_log_is_whole(trio: Trio):
    leader = await trio.leader()
    other = next(node_id for node_id in trio.rafts if node_id != leader.node_id)
    await trio.stop(other)
    shutil.copytree(trio.directory(other), trio.path / "copy")
    await trio.start(other)  # it votes, or may vote, as this run
    await leader.wait().metrics(lambda seen: _state(seen, other) is ReplicationState.REPLICATE, "the node being back")
    await trio.stop(other)
    shutil.rmtree(trio.directory(other))
    (trio.path / "copy").rename(trio.directory(other))
    await trio.start(other)
    seen = await leader.wait().metrics(
        lambda seen: _state(seen, other) is ReplicationState.REVERTED, "the copy being fenced"
    )
    assert [("node_reverted", other)] == [(alarm.code, alarm.node) for alarm in seen.alarms]
    assert "older copy of its data directory" in seen.alarms[0].detail
    await leader.client_write(b"the others go on")


async def test_an_older_copy_is_fenced_also_when_all_were_restarted(trio: Trio):
    """After a power cut nobody has met the later start of the node in this life, but it was written down."""
    await (await trio.leader()).client_write(b"w")
    await trio.stop(3)
    shutil.copytree(trio.directory(3), trio.path / "copy")
    await trio.start(3)
    await trio.until_known(3, start=2)
    await trio.stop(1, 2, 3)
    shutil.rmtree(trio.directory(3))
    (trio.path / "copy").rename(trio.directory(3))
    await trio.start(1, 2, 3)
    leader = await trio.leader()
    assert 3 != leader.node_id
    seen = await leader.wait().metrics(lambda seen: _state(seen, 3) is ReplicationState.REVERTED, "the copy being fenced")
    assert [("node_reverted", 3)] == [(alarm.code, alarm.node) for alarm in seen.alarms]


async def test_a_node_that_is_started_again_and_again_is_taken_every_time(trio: Trio):
    leader = await trio.leader()
    other = next(node_id for node_id in trio.rafts if node_id != leader.node_id)
    for word in (b"one", b"two"):
        await trio.stop(other)
        await trio.start(other)
        index = (await leader.client_write(word)).log_id.index
        assert index <= (await trio.rafts[other].wait().applied_index_at_least(index)).applied.index
    assert () == leader.metrics().alarms


def _known(directory: Path, node_id: int) -> list[int]:
    identity = load_identity(directory, Files())
    return [item.boot.number for item in identity.known if item.node_id == node_id]


def _state(seen, node_id: int):
    target = (seen.replication or {}).get(node_id)
    return target and target.state


def test_a_node_that_is_refused_as_an_older_copy_knows_it(tmp_path):
    data_dir = DataDir(tmp_path / "n1", "demo", NodeId(1), open_stores=False)
    address = NodeAddress("127.0.0.1:1", "")
    member = Member(data_dir, CONFIG, listen_raft=address.raft, address=address, make_state_machine=Words)
    assert () == member.alarms
    member._boots.refused_by |= {peer(3): "n3 takes no messages: older copy", peer(2): "n2 takes no messages: older copy"}
    (alarm,) = member.alarms
    assert ("older_copy", 1, "n2 takes no messages: older copy") == (alarm.code, alarm.node, alarm.detail)
    assert alarm.hint.startswith("stop this node and put back the directory it ran on last ")
    assert "if that is lost, bring up a quorum of the other voters" in alarm.hint
    assert alarm.hint.endswith("start it with an empty one, then raftctl rejoin-node 1 --blank")
    data_dir.close()
