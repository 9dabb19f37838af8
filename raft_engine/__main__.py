"""The program `raft-engine`: running one node, checking its settings, looking into its directory.

    raft-engine serve --config node.toml         run a node in the foreground until SIGTERM or SIGINT
    raft-engine check-config --config node.toml  say whether a node could start with these settings
    raft-engine inspect DIR [-o json]            what is in a data directory, every checksum verified; changes nothing
    raft-engine wipe --config node.toml …        retire log and snapshots of a stopped node, keep its vote
    raft-engine restore --config node.toml …     undo a wipe, while nothing was acknowledged since

Logs go to stderr. Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the settings or an address cannot be used; 4 the data
directory cannot be used (locked, damaged, of another node).
Source: public contract, section 1.
"""

# ruff: noqa: T201 (a program prints)

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raft_engine import __version__
from raft_engine.errors import ConfigError, RaftError, StorageError, TransportError

if TYPE_CHECKING:
    from raft_engine.node_config import NodeConfig

EXIT_FAILED = 1
EXIT_SETTINGS = 3
EXIT_DIRECTORY = 4

GC_ALLOCATIONS = 50_000
"""New containers between two looks for cycles, which the write path makes none of; CPython's 700 cost 2 % and long pauses."""
LOG_ID = re.compile(r"T(\d+)-N(\d+)\.(\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (ConfigError, TransportError) as error:
        return _say(error, EXIT_SETTINGS)
    except StorageError as error:
        return _say(error, EXIT_DIRECTORY)
    except RaftError as error:
        return _say(error, EXIT_FAILED)
    return code


def _say(error: Exception, code: int) -> int:
    print(f"raft-engine: error: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="raft-engine", description="One node of a Raft cluster.")
    parser.add_argument("--version", action="version", version=f"raft-engine {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    serve = add("serve", _serve, "Run a node in the foreground.")
    serve.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="default: info")
    check = add("check-config", _check_config, "Check a node's settings.")
    wipe = add(
        "wipe", _wipe, "Retire log and snapshots of a stopped node; its vote is kept, and it recovers from the others."
    )
    wipe.add_argument(
        "--recover-until", required=True, type=_log_id, metavar="LOG_ID", help="what POST /v1/barrier returned: T5-N1.1180"
    )
    wipe.add_argument("--reason", default="wiped with raft-engine", help="kept beside the vote, shown in the node's status")
    wipe.add_argument(
        "--expect-boot",
        type=int,
        metavar="N",
        help="refuse unless the node's boot counter is still N: it ran since otherwise",
    )
    restore = add("restore", _restore, "Undo a wipe of a stopped node: bring back what it retired.")
    restore.add_argument("--retired", required=True, metavar="NAME", help="what wipe printed: retired-20260102T030405Z")
    for command in (serve, check, wipe, restore):
        command.add_argument("--config", required=True, type=Path, metavar="FILE", help="the node's node.toml")
    inspect = add("inspect", _inspect, "Show what is in a data directory and verify every checksum; changes nothing.")
    inspect.add_argument("directory", type=Path, metavar="DIR")
    inspect.add_argument("-o", "--output", default="text", choices=["text", "json"], help="default: text")
    return parser


def _log_id(text: str) -> tuple[int, int, int]:
    match = LOG_ID.fullmatch(text)
    if match is None or int(match[3]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a log id such as T5-N1.1180 (term, node id, index)")
    return int(match[1]), int(match[2]), int(match[3])


# -- commands ------------------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    import uvloop

    config = _load(options)
    _log_to_stderr(options.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run_node(config))
    return 0


async def _run_node(config: NodeConfig) -> None:
    from raft_engine.node import Node

    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    node = await Node.open(config, ending)
    gc.freeze()  # what is there now stays: it need not be looked at again and again
    gc.set_threshold(GC_ALLOCATIONS, 10, 100)
    await node.run()


def _check_config(options: argparse.Namespace) -> int:
    config = _load(options)
    print(f"node {config.node_id} of cluster {config.cluster!r}: {options.config} is good")
    for alarm in config.alarms:
        print(f"warning: {alarm.code}: {alarm.detail}; {alarm.hint}", file=sys.stderr)
    return 0


def _wipe(options: argparse.Namespace) -> int:
    from raft_engine.storage.data_dir import DataDir
    from raft_engine.types.ids import LogIndex, NodeId, Term
    from raft_engine.types.log_id import LogId

    config = _load(options)
    term, node_id, index = options.recover_until
    data_dir = DataDir(config.data_dir, config.cluster, config.node_id, open_stores=False, starts=False)
    try:
        boot = data_dir.identity.boot_count
        if options.expect_boot is not None and boot != options.expect_boot:
            raise StorageError(
                f"the boot counter is {boot}, not {options.expect_boot}: the node ran since it was stopped; nothing was wiped",
                path=str(config.data_dir),
                hint="a barrier of before does not cover what it acknowledged since: begin again with another one",
            )
        retired = data_dir.wipe(LogId(Term(term), NodeId(node_id), LogIndex(index)), options.reason)
    finally:
        data_dir.close()
    print(config.data_dir / retired)
    return 0


def _restore(options: argparse.Namespace) -> int:
    from raft_engine.storage.data_dir import DataDir

    config = _load(options)
    data_dir = DataDir(config.data_dir, config.cluster, config.node_id, open_stores=False, starts=False)
    try:
        aside = data_dir.restore_retired(Path(options.retired).name)
    finally:
        data_dir.close()
    print(config.data_dir / aside)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from raft_engine.storage.inspection import describe

    if not options.directory.is_dir():
        raise StorageError("there is no such directory", path=str(options.directory))
    report = describe(options.directory)
    if options.output == "json":
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(_lines(report)))
    return EXIT_FAILED if report["problems"] else 0


def _load(options: argparse.Namespace) -> NodeConfig:
    from raft_engine.node_config import load_node_config

    return load_node_config(options.config)


# -- text ----------------------------------------------------------------------------------------------------------------


def _lines(value: Any, indent: str = "") -> list[str]:
    """Return a report as indented lines: `key: value`, one list item a line."""
    if isinstance(value, dict):
        lines: list[str] = []
        for key, item in value.items():
            if isinstance(item, dict | list) and item and not _is_log_id(item):
                lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {_short(item)}")
        return lines
    if isinstance(value, list):
        return [line for item in value for line in _item_lines(item, indent)]
    return [f"{indent}{_short(value)}"]


def _item_lines(item: Any, indent: str) -> list[str]:
    first, *rest = _lines(item, indent + "  ") or [indent + "  -"]
    return [f"{indent}- {first.lstrip()}", *rest]


def _is_log_id(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"term", "node_id", "index"}


def _short(value: Any) -> str:
    if _is_log_id(value):
        return f"T{value['term']}-N{value['node_id']}.{value['index']}"
    if value in (None, "", [], {}):
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


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


if __name__ == "__main__":
    sys.exit(main())
