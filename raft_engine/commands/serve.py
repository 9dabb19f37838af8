"""`raft-engine serve` and `check-config`: running one node in the foreground, and saying beforehand whether it could.

Source: public contract, section 1.
"""

# ruff: noqa: T201 (a program prints)

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raft_engine.commands.allocator import limit_arenas
from raft_engine.commands.exit_codes import DIRECTORY, DONE
from raft_engine.errors import StorageError, StorageFailed

if TYPE_CHECKING:
    from raft_engine.node_config import NodeConfig

SUMMARY: Final = "Run a node in the foreground."
CHECK_SUMMARY: Final = "Check a node's settings."
GC_ALLOCATIONS: Final = 50_000
"""New containers between two looks for cycles, which the write path makes none of; CPython's 700 cost 2 % and long pauses."""


def add_options(command: argparse.ArgumentParser) -> None:
    add_config(command)
    command.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="default: info")
    command.add_argument(
        "--stopped",
        action="store_true",
        help="leave the engine stopped and only serve the endpoint: for raftctl rejoin-node, when the log is damaged",
    )


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", required=True, type=Path, metavar="FILE", help="the node's node.toml")


def run(options: argparse.Namespace) -> int:
    import uvloop

    from raft_engine.commands.addresses import check_apart

    config = load(options.config)
    check_apart(options.config, config.listen_management, config.listen_raft)
    limit_arenas()
    _log_to_stderr(options.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run_node(config, starts_engine=not options.stopped))
    except (StorageError, StorageFailed) as error:
        return _unusable(error)
    return DONE


def run_check(options: argparse.Namespace) -> int:
    """Judge what a start judges, with its words and exit codes; an address that is taken may be this very node's."""
    from raft_engine.commands.addresses import check_apart, why_not
    from raft_engine.commands.directory import check_usable

    config = load(options.config)
    check_apart(options.config, config.listen_management, config.listen_raft)
    try:
        check_usable(config)
    except (StorageError, StorageFailed) as error:
        return _unusable(error)
    print(
        f"node {config.node_id} of cluster {config.cluster!r}: {options.config} is good, its directory is {config.data_dir}"
    )
    for alarm in config.alarms:
        print(f"warning: {alarm.code}: {alarm.detail}; {alarm.hint}", file=sys.stderr)
    for setting, address in (("listen.management", config.listen_management), ("listen.raft", config.listen_raft)):
        problem = why_not(setting, address)
        if problem is not None:
            print(f"warning: {problem}", file=sys.stderr)
    return DONE


def _unusable(error: Exception) -> int:
    """Whatever is the matter with the directory, a service manager is told the same: `exit_codes`."""
    print(f"raft-engine: error: {error}", file=sys.stderr)
    return DIRECTORY


def load(path: Path) -> NodeConfig:
    """Return the settings in node.toml. Raises: ConfigError."""
    from raft_engine.node_config import load_node_config

    return load_node_config(path)


async def _run_node(config: NodeConfig, *, starts_engine: bool) -> None:
    from raft_engine.node import Node

    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    node = await Node.open(config, ending, starts_engine=starts_engine)
    gc.freeze()  # what is there now stays: it need not be looked at again and again
    gc.set_threshold(GC_ALLOCATIONS, 10, 100)
    await node.run()


class _LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z WARNING engine peer_lost node=2: …`; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(room)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        record.room = record.name.removeprefix("raft_engine.")
        return super().format(record)


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
