"""The program raft-engine: what it prints and how it ends: raft_engine/__main__.py, node.py, runtime/member.py."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

import raft_engine
from raft_engine.__main__ import main
from raft_engine.errors import StorageFailed
from raft_engine.node import Node
from raft_engine.node_config import load_node_config
from raft_engine.runtime.raft import Raft
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.metrics import ServerState
from tests.ports import free_ports

FAST = "[raft]\nelection_timeout_min_ms = 60\nelection_timeout_max_ms = 120\nheartbeat_interval_ms = 15\n"


class Files:
    """Node files of one cluster on free ports."""

    def __init__(self, tmp_path: Path, size: int = 1, *, bootstrap: bool = False) -> None:
        ports = free_ports(2 * size)
        self.addresses = {
            NodeId(i): NodeAddress(f"127.0.0.1:{ports[2 * i - 2]}", f"http://127.0.0.1:{ports[2 * i - 1]}")
            for i in range(1, size + 1)
        }
        self._tmp_path = tmp_path
        for node_id in self.addresses:
            self.path(node_id).write_text(self._text(node_id, bootstrap))

    def path(self, node_id: int) -> Path:
        return self._tmp_path / f"n{node_id}.toml"

    def directory(self, node_id: int) -> Path:
        return self._tmp_path / "data" / f"n{node_id}"

    def _text(self, node_id: int, bootstrap: bool) -> str:
        own = self.addresses[NodeId(node_id)]
        text = f'cluster = "demo"\nnode_id = {node_id}\ndata_dir = "data/n{node_id}"\n{FAST}[listen]\n'
        text += f'raft = "{own.raft}"\nmanagement = "{own.management.removeprefix("http://")}"\n'
        if bootstrap:
            members = ", ".join(
                f'{i} = {{ raft = "{address.raft}", management = "{address.management}" }}'
                for i, address in self.addresses.items()
            )
            text += f"[bootstrap]\nmembers = {{ {members} }}\n"
        return text


@asynccontextmanager
async def running(files: Files, *node_ids: int):
    """The nodes, in this process; ended as a signal would end them."""
    nodes: list[Node] = []
    ends = []
    endings = []
    try:
        for node_id in node_ids:
            ending = asyncio.Event()
            node = await Node.open(load_node_config(files.path(node_id)), ending)
            nodes.append(node)
            endings.append(ending)
            ends.append(asyncio.ensure_future(node.run()))
        yield nodes
    finally:
        for ending in endings:
            ending.set()
        await asyncio.gather(*ends)


def after(log_id: LogId) -> LogId:
    """A barrier as the others make it when this node has stopped: behind everything that it holds."""
    return LogId(log_id.term, log_id.node_id, LogIndex(log_id.index + 1))


async def until_started(*nodes: Node) -> None:
    async with asyncio.timeout(20):
        for node in nodes:
            await node._member.settled()
            await node.raft.wait().leader()


# -- a node in this process ----------------------------------------------------------------------------------------------


async def test_engines_that_were_stopped_leave_nothing_behind_though_the_collector_is_told_to_look_next_to_never(tmp_path):
    files = Files(tmp_path, bootstrap=True)
    async with running(files, 1) as (node,):
        gc.collect()
        gc.freeze()  # as `serve` does once it runs
        gc.disable()
        try:
            for _ in range(3):
                await until_started(node)
                await node.stop_raft()
                await node.start_raft()
            engines = [found for found in gc.get_objects() if isinstance(found, Raft)]
            assert engines == [node.raft]
        finally:
            gc.enable()
            gc.unfreeze()


async def test_init_makes_a_blank_node_lead_and_a_restart_finds_what_was_written(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1) as (node,):
        assert node.birth is BirthState.BLANK
        await node.init(files.addresses)
        await node.raft.wait().state(ServerState.LEADER)
        async with httpx.AsyncClient(base_url=files.addresses[1].management) as client:
            assert (await client.put("/v1/kv/color", content=b"blue")).status_code == 200
    async with running(files, 1) as (node,):
        await node.raft.wait().state(ServerState.LEADER)
        async with httpx.AsyncClient(base_url=files.addresses[1].management) as client:
            assert (await client.get("/v1/kv/color")).content == b"blue"
        assert node.boot_count == 2


async def test_three_nodes_with_a_bootstrap_section_become_a_cluster(tmp_path):
    files = Files(tmp_path, 3, bootstrap=True)
    async with running(files, 3, 2, 1) as nodes:
        await until_started(*nodes)
        assert len({node.cluster_id for node in nodes}) == 1
        assert {node.raft.metrics().leader for node in nodes} <= {1, 2, 3}


async def test_a_wiped_node_with_its_old_file_waits_mute_and_says_so(tmp_path):
    files = Files(tmp_path, 3, bootstrap=True)
    async with running(files, 1, 2, 3) as nodes:
        await until_started(*nodes)
    for node_id in (1, 3):
        files.directory(node_id).rename(tmp_path / f"lost{node_id}")
        async with running(files, 2, node_id) as (_, blank):
            async with asyncio.timeout(20):
                while not blank.alarms:  # noqa: ASYNC110 (an alarm sends no event)
                    await asyncio.sleep(0.01)
            assert [alarm.code for alarm in blank.alarms] == ["not_admitted"]
            assert [alarm.hint for alarm in blank.alarms] == [f"raftctl rejoin-node {node_id} --blank"]
            assert blank.birth is BirthState.BLANK
            assert blank.raft.metrics().term == 0
        (tmp_path / f"lost{node_id}").rename(tmp_path / f"unused{node_id}")


async def test_a_stopped_engine_can_be_wiped_and_comes_back_recovering(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1) as (node,):
        await node.init(files.addresses)
        await node.raft.wait().state(ServerState.LEADER)
        barrier = after((await node.raft.barrier()).log_id)
        incarnation, store = node.incarnation, node.store
        await node.stop_raft()
        assert node.raft is None
        assert node.last_metrics.state is ServerState.SHUTDOWN
        retired = await node.wipe(barrier, "for a test")
        assert (files.directory(1) / retired / "log").is_dir()
        assert (node.last_metrics.recovery.until, node.last_metrics.last_log) == (barrier, BEFORE_LOG)
        later = after(barrier)
        second = await node.wipe(later, "again")
        await node.wipe(barrier, "with the barrier of before")
        assert node.last_metrics.recovery.until == later, "what it waits for, not what was asked for"
        await node.restore(second)
        assert node.last_metrics.recovery.until == barrier, "what it waited for before that wipe"
        await node.start_raft()
        assert node.raft.metrics().recovery.until == barrier
        assert node.incarnation == incarnation
        assert node.store is not store
        assert node.raft.metrics().last_log.index == 0


async def test_a_wipe_that_is_taken_back_leaves_what_was_written(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1) as (node,), httpx.AsyncClient(base_url=files.addresses[1].management) as client:
        await node.init(files.addresses)
        await node.raft.wait().state(ServerState.LEADER)
        await client.put("/v1/kv/color", content=b"blue")
        barrier = after((await node.raft.barrier()).log_id)
        assert node.engine_starts == 2, "blank, then born"
        await node.stop_raft()
        retired = await node.wipe(barrier, "for a test")
        await node.restore(retired)
        await node.start_raft()
        await node.raft.wait().state(ServerState.LEADER)
        assert (node.engine_starts, node.raft.metrics().recovery) == (3, None)
        assert (await client.get("/v1/kv/color")).content == b"blue"


async def test_the_program_wipes_only_the_boot_that_was_stopped_and_takes_it_back(tmp_path, capsys):
    files = Files(tmp_path)
    async with running(files, 1) as (node,):
        await node.init(files.addresses)
        await node.raft.wait().state(ServerState.LEADER)
        barrier = after((await node.raft.barrier()).log_id)
        boot = node.boot_count
    named = ["--config", str(files.path(1)), "--recover-until", str(barrier)]
    assert main(["wipe", *named, "--expect-boot", str(boot - 1)]) == 6
    assert "ran since it was stopped" in capsys.readouterr().err
    assert main(["wipe", *named, "--expect-boot", str(boot)]) == 0
    retired = Path(capsys.readouterr().out.strip())
    assert main(["wipe", *named, "--expect-boot", str(boot)]) == 0, "a wipe may be repeated"
    assert Path(capsys.readouterr().out.strip()) == retired
    assert main(["restore", "--config", str(files.path(1)), "--retired", retired.name]) == 0
    async with running(files, 1) as (node,):
        await node.raft.wait().state(ServerState.LEADER)
        assert node.boot_count == boot + 1


async def test_a_node_that_is_served_stopped_shows_its_vote_and_can_be_wiped(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1) as (node,):
        await node.init(files.addresses)
        await node.raft.wait().state(ServerState.LEADER)
        vote, barrier = node.raft.metrics().vote, after((await node.raft.barrier()).log_id)
    [segment] = (files.directory(1) / "log").glob("*.seg")
    segment.write_bytes(b"no segment")
    ending = asyncio.Event()
    node = await Node.open(load_node_config(files.path(1)), ending, starts_engine=False)
    end = asyncio.ensure_future(node.run())
    async with httpx.AsyncClient(base_url=files.addresses[1].management) as client:
        status = (await client.get("/v1/status")).json()
        assert (status["state"], status["term"], status["fatal"]) == ("shutdown", vote.term, None)
        await node.wipe(barrier, "its log is damaged")
        status = (await client.get("/v1/status")).json()
        assert status["recovering"]["until"]["index"] == barrier.index
        await node.start_raft()
        assert node.raft.metrics().recovery.until == barrier
    ending.set()
    await end


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_node_whose_directory_is_gone_stops_and_says_so(replaced, tmp_path, monkeypatch):
    monkeypatch.setattr("raft_engine.runtime.member.DIRECTORY_LOOK_S", 0.01)
    files = Files(tmp_path)
    async with running(files, 1) as (node,), httpx.AsyncClient(base_url=files.addresses[1].management) as client:
        await node.init(files.addresses)
        await node.raft.wait().state(ServerState.LEADER)
        raft = node.raft
        await raft.wait().recovered()  # applied: nothing is read of the log any more, which would be missed first
        files.directory(1).rename(tmp_path / "moved")
        if replaced:
            shutil.copytree(tmp_path / "moved", files.directory(1))
        await raft.wait_over()
        assert "was moved, removed or replaced while the node ran" in node.fatal
        assert str(files.directory(1)) in node.fatal
        assert (await client.put("/v1/kv/color", content=b"blue")).status_code == 500
        status = (await client.get("/v1/status")).json()
        assert (status["state"], status["fatal"], status["fatal_code"]) == ("shutdown", node.fatal, "directory_gone")
        assert status["free_bytes"] > 0
        while node.raft is not None:  # noqa: ASYNC110 (the member's own clearing up sends no event)
            await asyncio.sleep(0.01)
        with pytest.raises(StorageFailed, match="while the node ran"):
            await node.start_raft()
        with pytest.raises(StorageFailed, match="while the node ran"):
            await node.wipe(LogId(Term(9), NodeId(1), LogIndex(9)), "nothing is there")
    shutil.rmtree(files.directory(1), ignore_errors=True)
    (tmp_path / "moved").rename(files.directory(1))
    async with running(files, 1) as (node,):
        await node.raft.wait().state(ServerState.LEADER)


async def test_stopping_and_starting_twice_changes_nothing(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1) as (node,):
        await node.start_raft()
        engine = node.raft
        await node.start_raft()
        assert node.raft is engine
        await node.stop_raft()
        await node.stop_raft()
        assert node.raft is None


async def test_a_failing_engine_leaves_the_endpoint_up_with_the_reason(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1) as (node,):
        await node.init(files.addresses)
        engine = await node.raft.wait().state(ServerState.LEADER)
        assert engine.fatal is None
        raft = node.raft
        raft._loop.fail(OSError(5, "Input/output error"))
        assert "Input/output error" in node.fatal
        async with httpx.AsyncClient(base_url=files.addresses[1].management) as client:
            status = (await client.get("/v1/status")).json()
            assert status["state"] == "shutdown"
            assert "Input/output error" in status["fatal"]
            assert "engine_failed" in [alarm["code"] for alarm in status["alarms"]]


# -- the program ---------------------------------------------------------------------------------------------------------


async def start_program(*arguments: str) -> asyncio.subprocess.Process:
    root = Path(__file__).parents[2]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "raft_engine",
        *arguments,
        cwd=root,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def until_live(address: NodeAddress, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient(base_url=address.management) as client:
        while process.returncode is None:
            try:
                if (await client.get("/livez")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)
    raise AssertionError((await process.stderr.read()).decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_with_code_0(tmp_path, number):
    files = Files(tmp_path)
    process = await start_program("serve", "--config", str(files.path(1)))
    await until_live(files.addresses[1], process)
    os.kill(process.pid, number)
    assert await process.wait() == 0
    log = (await process.stderr.read()).decode()
    assert "node 1 of cluster 'demo'" in log
    assert "Traceback" not in log


async def test_shutdown_over_http_ends_it_with_code_0(tmp_path):
    files = Files(tmp_path)
    process = await start_program("serve", "--config", str(files.path(1)))
    await until_live(files.addresses[1], process)
    async with httpx.AsyncClient(base_url=files.addresses[1].management) as client:
        assert (await client.post("/v1/shutdown", json={})).is_success
    assert await process.wait() == 0
    await process.communicate()


@pytest.mark.parametrize(("which", "named"), [("raft", "peers"), ("management", "management")])
async def test_a_taken_port_is_one_clear_sentence_and_code_3(tmp_path, which, named):
    files = Files(tmp_path)
    address = files.addresses[1].raft if which == "raft" else files.addresses[1].management.removeprefix("http://")
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        process = await start_program("serve", "--config", str(files.path(1)))
        _, log = await process.communicate()
    assert process.returncode == 3
    said = [line for line in log.decode().splitlines() if line.startswith("raft-engine: error:")]
    assert len(said) == 1
    assert address in said[0]
    assert named in said[0]
    assert "Traceback" not in log.decode()


async def test_a_directory_in_use_is_one_clear_sentence_and_code_4(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1):
        process = await start_program("serve", "--config", str(files.path(1)))
        _, log = await process.communicate()
    assert process.returncode == 4
    assert f"process {os.getpid()} has this data directory open" in log.decode()
    assert "Traceback" not in log.decode()


async def test_a_damaged_directory_is_one_clear_sentence_and_code_4(tmp_path):
    files = Files(tmp_path)
    async with running(files, 1):
        pass
    identity = files.directory(1) / "identity.json"
    identity.write_bytes(identity.read_bytes().replace(b"demo", b"dent"))
    process = await start_program("serve", "--config", str(files.path(1)))
    _, log = await process.communicate()
    assert process.returncode == 4
    assert str(identity) in log.decode()
    assert "Traceback" not in log.decode()


# -- commands that do not run a node -------------------------------------------------------------------------------------


def test_check_config_says_that_a_good_file_is_good(tmp_path, capsys):
    assert main(["check-config", "--config", str(Files(tmp_path).path(1))]) == 0
    assert "node 1 of cluster 'demo'" in capsys.readouterr().out


def test_check_config_says_where_a_relative_directory_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    path = Files(tmp_path).path(1).relative_to(tmp_path.parent)
    assert main(["check-config", "--config", str(path)]) == 0
    assert f"is good, its directory is {tmp_path.resolve()}/" in capsys.readouterr().out


def test_check_config_says_that_a_directory_is_one(tmp_path, capsys):
    assert main(["check-config", "--config", str(tmp_path)]) == 3
    assert f"{tmp_path} is a directory; name the file in it, such as {tmp_path}/node.toml\n" in capsys.readouterr().err


def test_check_config_warns_of_an_address_that_is_taken(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "node.toml"
        path.write_text(
            f'cluster = "demo"\nnode_id = 1\ndata_dir = "n1"\n[listen]\nmanagement = "{address}"\nraft = "127.0.0.1:0"\n'
        )
        assert main(["check-config", "--config", str(path)]) == 0
    assert f"warning: listen.management {address} is taken; this node runs already" in capsys.readouterr().err


def test_check_config_says_what_is_wrong_and_ends_with_code_3(tmp_path, capsys):
    path = tmp_path / "node.toml"
    path.write_text('clutser = "demo"\n')
    assert main(["check-config", "--config", str(path)]) == 3
    assert "clutser is not a setting; did you mean 'cluster'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "old", "new"),
    [
        (4, '"data/n1"', '"n1.toml"'),
        (4, '"data/n1"', '"/proc/n1"'),
        (3, '"data/n1"', '""'),
        (3, 'raft = "127.0.0.1:', 'raft = "127.0.0.1:{management}"\n#'),
    ],
)
async def test_check_config_refuses_a_file_with_the_words_of_a_start(tmp_path, capsys, code, old, new):
    files = Files(tmp_path)
    path = files.path(1)
    management = files.addresses[1].management.rpartition(":")[2]
    tmp_path.chmod(0o755)  # so that it could not be taken for the data directory
    path.write_text(path.read_text().replace(old, new.format(management=management)))
    process = await start_program("serve", "--config", str(path))
    _, log = await process.communicate()
    assert code == process.returncode
    assert main(["check-config", "--config", str(path)]) == code
    assert ("", log.decode()) == capsys.readouterr()


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("raft-engine 0.")
    assert ("(compiled)" in printed) is raft_engine.is_compiled()
