"""How help looks: plain sections that read the same on a terminal, in a pipe and on paper.

Commands and options stand under the headings their panels name; the options of every command come last.
"""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from raftctl.options import GLOBAL_PANEL

PANELS: Final = ("Observe", "Trigger", "Change", "Runbooks", "Data", "Set-up")
_ORDER: Final = (
    *("status", "nodes", "health", "watch", "top", "doctor", "explain", "verify"),
    *("elect", "heartbeat", "snapshot", "purge-log", "transfer-leader", "allow-next-revert", "trigger"),
)
"""Typer puts groups behind commands; these are read together."""


class Command(TyperCommand):
    """A command whose options are listed by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self, ctx, formatter)


class Group(TyperGroup):
    """A group whose commands are listed by panel, before its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        commands = [
            (name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) is not None
        ]
        visible = [(name, command) for name, command in commands if not command.hidden]
        width = max((len(name) for name, _command in visible), default=0)
        for panel in (*PANELS, None):
            rows = [
                (name.ljust(width), command.get_short_help_str(200))
                for name, command in visible
                if getattr(command, "rich_help_panel", None) == panel
            ]
            if rows:
                with formatter.section(panel or "Commands"):
                    formatter.write_dl(rows)
        _write_parameters(self, ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (one order for all)
        """Return the contract's order; the others as they were added."""
        return sorted(self.commands, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], GLOBAL_PANEL: []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            panel = getattr(parameter, "rich_help_panel", None)
            sections["Arguments" if parameter.param_type_name == "argument" else panel or "Options"].append(record)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
