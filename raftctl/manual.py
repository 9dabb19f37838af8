"""Writes `docs/cli.md`: every command with its usage and options, out of the program itself.

`python -m raftctl.manual` writes it, `--check` only says whether it is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer.main

from raftctl.app import app
from raftctl.deadline import Takes
from raftctl.errors import ExitCode
from raftctl.help import PANELS
from raftctl.options import GLOBAL_PANEL, TIMEOUT_NAME

PAGE: Final = Path("docs/cli.md")
_MEANINGS: Final = {
    ExitCode.DONE: "done, and seen to be done",
    ExitCode.BUG: "a bug in this program, or the answer could not be written",
    ExitCode.USAGE: "the command line is wrong, or an answer is needed and nobody can be asked",
    ExitCode.CONFIG: "the configuration is wrong",
    ExitCode.UNREACHABLE: "nobody answers",
    ExitCode.REFUSED: "refused by a rule; nothing changed",
    ExitCode.CONFLICT: "somebody else was first, or the cluster moved since it was looked at; nothing changed",
    ExitCode.NOT_OBSERVED: "accepted, and not seen to be done before `--timeout`",
    ExitCode.UNDONE: "a runbook failed and undid what it had done",
    ExitCode.ATTENTION: "a runbook failed and needs attention",
    ExitCode.DEGRADED: "degraded",
    ExitCode.NO_QUORUM: "no quorum, or no leader",
    ExitCode.AUTH: "not allowed",
    ExitCode.NOT_FOUND: "no such node, key or run",
    ExitCode.MISMATCH: "two things that should be equal are not",
    ExitCode.DECLINED: "you said no",
    ExitCode.INTERRUPTED: "interrupted; a runbook was undone first, of any other change the message says whether it may have been carried out",
}
_EXAMPLES: Final = {
    "status": "raftctl status -o wide",
    "nodes": "raftctl nodes -o name",
    "health": "raftctl health --wait --timeout 2m",
    "explain": "raftctl explain purge-log --upto 1200",
    "elect": "raftctl elect --node 2",
    "heartbeat": "raftctl heartbeat",
    "snapshot": "raftctl snapshot --all",
    "doctor": "raftctl doctor",
    "top": "raftctl top --interval 500ms --count 3",
    "watch": "raftctl watch --kind leader --for 10s",
    "snapshot list": "raftctl snapshot list",
    "verify digest": "raftctl verify digest",
    "purge-log": "raftctl purge-log --upto 1200 --all --yes",
    "transfer-leader": "raftctl transfer-leader --to 2 --yes",
    "allow-next-revert": "raftctl allow-next-revert --to 3 --ttl 10m --yes --confirm demo",
    "init": "raftctl init",
    "member add": "raftctl member add 4=10.0.0.4:7101,http://10.0.0.4:9101",
    "member promote": "raftctl member promote 4 --yes",
    "member demote": "raftctl member demote 4 --yes",
    "member remove": "raftctl member remove 4 --dry-run",
    "runtime-config get": "raftctl runtime-config get",
    "runtime-config set": "raftctl runtime-config set enable_elect=off --node 2 --yes",
    "rejoin-node": "raftctl rejoin-node 3 --dry-run",
    "replace-node": "raftctl replace-node 3 --with 4=10.0.0.4:7101,http://10.0.0.4:9101 --dry-run",
    "rolling-restart": "raftctl rolling-restart --dry-run",
    "drain": "raftctl drain 3 --dry-run",
    "runbook list": "raftctl runbook list",
    "runbook show": "raftctl runbook show examples/runbooks/patch-night.toml",
    "runbook validate": "raftctl runbook validate examples/runbooks/patch-night.toml",
    "runbook run": "raftctl runbook run examples/runbooks/patch-night.toml --dry-run",
    "runs list": "raftctl runs list",
    "runs show": "raftctl runs show 20261124T141030Z-rejoin-node-3-1d2d",
    "runs resume": "raftctl runs resume 20261124T141030Z-rejoin-node-3-1d2d",
    "runs abort": "raftctl runs abort 20261124T141030Z-rejoin-node-3-1d2d",
    "runs export": "raftctl runs export 20261124T141030Z-rejoin-node-3-1d2d --to run.jsonl",
    "kv get": "raftctl kv get greeting",
    "kv put": "raftctl kv put greeting hello",
    "kv delete": "raftctl kv delete greeting",
    "kv list": "raftctl kv list config/",
    "context list": "raftctl context list",
    "context show": "raftctl context show",
    "context use": "raftctl context use demo",
    "context add": "raftctl context add demo -e http://10.0.0.1:9101 -e http://10.0.0.2:9101",
    "context remove": "raftctl context remove demo",
    "config path": "raftctl config path",
    "config view": "raftctl config view",
    "dev up": "raftctl dev up",
    "dev status": "raftctl dev status",
    "dev down": "raftctl dev down --purge",
    "completion": "raftctl completion bash",
    "version": "raftctl version -o json",
}


def page() -> str:
    """Return the whole page."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    root: Any = typer.main.get_command(app)
    context = root.make_context("raftctl", ["version"])
    yield from [
        "# raftctl: every command",
        "",
        "Written by `python -m raftctl.manual`; do not edit. What the commands do, and when, is in [operating.md](operating.md) and",
        "[observing.md](observing.md).",
        "",
    ]
    yield from _common(root, context)
    yield from _exit_codes()
    commands: dict[str, Any] = root.commands
    for panel in PANELS:
        yield from [f"## {panel}", ""]
        for name in root.list_commands(context):
            command = commands[name]
            if command.rich_help_panel != panel:
                continue
            if name == "trigger":
                yield from [f"### {name}", "", f"`raftctl trigger {' | '.join(command.commands)}`: {command.help}", ""]
            elif name == "explain":
                yield from _explain(command)
            else:
                yield from _tree(name, command, context)


def _tree(name: str, command: Any, context: Any) -> Iterator[str]:
    """A command, or all commands of a group."""
    if command.callback is not None and getattr(command.callback, "raftctl_function", None) is not None:
        yield from _command(name, command, context)
    for sub, subcommand in getattr(command, "commands", {}).items():
        yield from _tree(f"{name} {sub}", subcommand, context)


def _explain(command: Any) -> Iterator[str]:
    """The commands under it are described where they act."""
    actions = [
        f"{name} {sub}" if sub else name
        for name, one in command.commands.items()
        for sub in getattr(one, "commands", {"": None})
    ]
    yield from ["### explain", "", command.help, "", "    raftctl explain ACTION [the action's options]", ""]
    yield from [f"Actions: {', '.join(f'`{action}`' for action in actions)}.", ""]
    yield from ["```console", f"$ {_EXAMPLES['explain']}", "```", ""]


def _common(root: Any, context: Any) -> Iterator[str]:
    yield from [
        "## Options of every command",
        "",
        "They may stand before or behind the command. Where a command says nothing else",
    ]
    yield from [f"of `--{TIMEOUT_NAME}`: {Takes().help[:1].lower()}{Takes().help[1:]}", ""]
    yield from _table(_records(root, context, GLOBAL_PANEL))


def _exit_codes() -> Iterator[str]:
    yield from ["## Exit codes", "", "| code | means |", "|---|---|"]
    yield from (f"| {code.value} | {meaning} |" for code, meaning in _MEANINGS.items())
    yield ""


def _command(name: str, command: Any, context: Any) -> Iterator[str]:
    own = typer.Context(command, info_name=name, parent=context)
    usage = " ".join(command.collect_usage_pieces(own))
    yield from [f"### {name}", "", command.help.strip(), "", f"    raftctl {name} {usage}", ""]
    times = [record for record in _records(command, own, GLOBAL_PANEL) if record[0].startswith(f"--{TIMEOUT_NAME} ")]
    told = [record for record in times if record[1] != Takes().help]
    yield from _table([*_arguments(command, own), *_records(command, own, None), *told])
    yield from ["```console", f"$ {_EXAMPLES[name]}", "```", ""]


def _arguments(command: Any, context: Any) -> list[tuple[str, str]]:
    return [
        record
        for parameter in command.get_params(context)
        if parameter.param_type_name == "argument" and (record := parameter.get_help_record(context)) is not None
    ]


def _records(command: Any, context: Any, panel: str | None) -> list[tuple[str, str]]:
    return [
        record
        for parameter in command.get_params(context)
        if parameter.param_type_name == "option"
        and getattr(parameter, "rich_help_panel", None) == panel
        and parameter.name != "help"
        and (record := parameter.get_help_record(context)) is not None
    ]


def _table(records: list[tuple[str, str]]) -> Iterator[str]:
    if records:
        yield from ["| | |", "|---|---|"]
        yield from (f"| `{left.replace('|', chr(92) + '|')}` | {' '.join(right.split())} |" for left, right in records)
        yield ""


def main(arguments: list[str]) -> int:
    """Write or check the page; return the exit code."""
    is_stale = not PAGE.exists() or PAGE.read_text("utf-8") != page()
    if arguments == ["--check"]:
        if is_stale:
            sys.stderr.write(f"{PAGE} is not up to date; run: python -m raftctl.manual\n")
        return int(is_stale)
    if is_stale:
        PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
