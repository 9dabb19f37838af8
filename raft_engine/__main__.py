"""The program `raft-engine`: running one node, checking its settings, looking into its directory.

    raft-engine serve --config node.toml         run a node in the foreground until SIGTERM or SIGINT
    raft-engine check-config --config node.toml  say whether a node could start with these settings
    raft-engine inspect DIR [-o json]            what is in a data directory, every checksum verified; changes nothing
    raft-engine wipe DIR --recover-until …       retire log and snapshots of a stopped node, keep its vote
    raft-engine restore DIR --retired …          undo a wipe, while nothing was acknowledged since

Logs go to stderr. Exit codes: 0 done; 1 a bug; 2 wrong usage; 3 the settings or an address cannot be used; 4 the data
directory cannot be used; 5 refused, nothing was changed; 6 somebody has the directory open, or it is not as expected;
13 there is no such directory; 14 something in it is damaged.
Source: public contract, sections 1 and 5.
"""

# ruff: noqa: T201 (a program prints)

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from raft_engine import __version__, is_compiled
from raft_engine.commands import inspect, serve, wipe
from raft_engine.commands.exit_codes import INTERRUPTED, READER_GONE, exit_code
from raft_engine.errors import RaftError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    wrong = options.check_usage(options)
    if wrong is not None:
        parser.error(wrong)
    try:
        code: int = options.run(options)
    except RaftError as error:
        print(f"raft-engine: error: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return READER_GONE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="raft-engine", description="One node of a Raft cluster.")
    build = " (compiled)" if is_compiled() else ""
    parser.add_argument("--version", action="version", version=f"raft-engine {__version__}{build}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str,
        text: str,
        run: Callable[[argparse.Namespace], int],
        add_options: Callable[[argparse.ArgumentParser], None],
        check_usage: Callable[[argparse.Namespace], str | None] = lambda _options: None,
    ) -> None:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, check_usage=check_usage)
        add_options(command)

    add("serve", serve.SUMMARY, serve.run, serve.add_options)
    add("check-config", serve.CHECK_SUMMARY, serve.run_check, serve.add_config)
    add("inspect", inspect.SUMMARY, inspect.run, inspect.add_options)
    add("wipe", wipe.SUMMARY, wipe.run, wipe.add_options, wipe.check_usage)
    add("restore", wipe.RESTORE_SUMMARY, wipe.run_restore, wipe.add_restore_options, wipe.check_usage)
    return parser


if __name__ == "__main__":
    sys.exit(main())
