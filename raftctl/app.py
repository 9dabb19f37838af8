"""Which commands there are, and under which heading each stands in the help."""

from __future__ import annotations

from collections.abc import Callable

import typer

from raftctl.commands import (
    change,
    context,
    dev,
    doctor,
    explain,
    kv,
    member,
    observe,
    operations,
    rejoin,
    runbooks,
    runs,
    setup,
    snapshots,
    top,
    trigger,
    verify,
    watch,
)
from raftctl.help import Command, Group
from raftctl.options import flags_only, with_session
from raftctl.run import Run
from raftctl.settings import Flags

_TRIGGERS: dict[str, Callable[..., None]] = {
    "elect": trigger.elect,
    "heartbeat": trigger.heartbeat,
    "snapshot": trigger.snapshot,
    "purge-log": trigger.purge_log,
    "transfer-leader": trigger.transfer_leader,
    "allow-next-revert": trigger.allow_next_revert,
}


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _group(help_text: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        cls=Group,
        rich_markup_mode=None,
        add_completion=False,
        no_args_is_help=help_text is not None,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )


def _add(group: typer.Typer, name: str, function: Callable[..., None], panel: str | None = None) -> None:
    group.command(name, cls=Command, rich_help_panel=panel, context_settings=_SETTINGS)(with_session(function))


def _callback(typer_context: typer.Context, flags: Flags, version: bool) -> None:
    """Operate a Raft cluster: see it, trigger what its engine can do, bring a node back safely.

    Exit codes: 0 done and seen to be done, 1 bug, 2 usage, 3 configuration, 4 unreachable, 5 refused by a rule, 6 conflict,
    7 accepted but not seen, 8 runbook failed and undone, 9 runbook needs attention, 10 degraded, 11 no quorum, 12 not
    allowed, 13 not found, 14 mismatch, 20 you said no, 130 interrupted.
    """
    run: Run = typer_context.find_root().obj
    run.begin(flags)
    if version:
        run.call(setup.version, {})
        raise typer.Exit
    if typer_context.invoked_subcommand is None:
        typer.echo(typer_context.get_help())


def _add_group(
    name: str,
    help_text: str,
    panel: str | None,
    commands: dict[str, Callable[..., None]],
    *,
    into: typer.Typer | None = None,
) -> typer.Typer:
    group = _group(help_text)
    (into or app).add_typer(group, name=name, rich_help_panel=panel)
    for command, function in commands.items():
        _add(group, command, function)
    return group


def _also_a_command(name: str, function: Callable[..., None], panel: str, commands: dict[str, Callable[..., None]]) -> None:
    """A command that has others under it: without one of them it does its own."""
    group = _group()
    group.callback(invoke_without_command=True, help=function.__doc__)(with_session(function))
    app.add_typer(group, name=name, rich_help_panel=panel)
    for command, sub in commands.items():
        _add(group, command, sub)


app = _group()
app.callback(invoke_without_command=True)(flags_only(_callback))

_add(app, "status", observe.status, "Observe")
_add(app, "nodes", observe.nodes, "Observe")
_add(app, "health", observe.health, "Observe")
_add(app, "top", top.top, "Observe")
_add(app, "doctor", doctor.doctor, "Observe")
_add(app, "watch", watch.watch, "Observe")
_add_group("verify", "Whether what should be equal is equal.", "Observe", {"digest": verify.digest})
_explain = _add_group(
    "explain",
    "What an action would mean: effect, quorum, elections, bytes to ship, danger. Changes nothing.",
    "Observe",
    {
        "elect": explain.elect,
        "heartbeat": explain.heartbeat,
        "snapshot": explain.snapshot,
        "purge-log": explain.purge_log,
        "transfer-leader": explain.transfer_leader,
        "allow-next-revert": explain.allow_next_revert,
    },
)
_add_group(
    "member",
    "Changes of who belongs to the cluster.",
    None,
    {"add": explain.add, "promote": explain.promote, "demote": explain.demote, "remove": explain.remove},
    into=_explain,
)
_add(_explain, "rejoin-node", explain.rejoin_node)
_add(_explain, "replace-node", explain.replace_node)
_add(_explain, "rolling-restart", explain.rolling_restart)
_add(_explain, "drain", explain.drain)

for _name, _function in _TRIGGERS.items():
    if _name != "snapshot":  # which has a command of its own under it
        _add(app, _name, _function, "Trigger")
_add_group("trigger", "The same six as a group.", "Trigger", _TRIGGERS)
_also_a_command("snapshot", trigger.snapshot, "Trigger", {"list": snapshots.list_snapshots})

_add(app, "init", change.init, "Change")
_add_group(
    "member",
    "Who belongs to the cluster.",
    "Change",
    {"add": member.add, "promote": member.promote, "demote": member.demote, "remove": member.remove},
)
_add_group(
    "runtime-config",
    "What a node's timers do by themselves.",
    "Change",
    {"get": change.runtime_config_get, "set": change.runtime_config_set},
)

_add(app, "rejoin-node", rejoin.rejoin_node, "Runbooks")
_add(app, "replace-node", operations.replace_node, "Runbooks")
_add(app, "rolling-restart", operations.rolling_restart, "Runbooks")
_add(app, "drain", operations.drain, "Runbooks")
_add_group(
    "runbook",
    "Runbooks that are files.",
    "Runbooks",
    {"list": runbooks.list_runbooks, "show": runbooks.show, "validate": runbooks.validate, "run": runbooks.run},
)
_add_group(
    "runs",
    "What runbooks did, going on with one, taking one back.",
    "Runbooks",
    {"list": runs.list_runs, "show": runs.show, "resume": runs.resume, "abort": runs.abort, "export": runs.export},
)

_add_group(
    "kv",
    "Read and write the bundled key-value store.",
    "Data",
    {"get": kv.get, "put": kv.put, "delete": kv.delete, "list": kv.list_keys},
)

_add_group(
    "context",
    "The clusters this program knows.",
    "Set-up",
    {"list": context.list_contexts, "show": context.show, "use": context.use, "add": context.add, "remove": context.remove},
)
_add_group("config", "The configuration file.", "Set-up", {"path": context.config_path, "view": context.config_view})
_add_group(
    "dev", "A cluster on this machine to try things on.", "Set-up", {"up": dev.up, "status": dev.status, "down": dev.down}
)
_add(app, "completion", setup.completion, "Set-up")
_add(app, "version", setup.version, "Set-up")
