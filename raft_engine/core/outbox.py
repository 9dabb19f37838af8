"""The commands that the event in hand asks for, in order."""

from __future__ import annotations

from typing import Final

from raft_engine.core.commands import Command, Report, Respond, RespondReads
from raft_engine.types.ids import NodeId, Ticket
from raft_engine.types.outcomes import Outcome, ReadOutcome, Refusal


class Outbox:
    """Collects commands; the Engine takes them when the event is done."""

    __slots__ = ("commands", "push")

    def __init__(self) -> None:
        self.commands: Final[list[Command]] = []
        self.push: Final = self.commands.append
        """Ask for one more command. Every event asks for some: bound once, this is no call of Python's."""

    def respond(self, ticket: Ticket, outcome: Outcome) -> None:
        self.commands.append(Respond(ticket, outcome))

    def respond_reads(self, tickets: list[Ticket], outcome: ReadOutcome | Refusal) -> None:
        self.commands.append(RespondReads(tickets, outcome))

    def report(self, event: str, detail: str, node: NodeId | None = None, *, warning: bool = False) -> None:
        self.commands.append(Report(event, detail, node, warning))

    def take(self) -> list[Command]:
        """Return what was asked for, and begin anew."""
        commands = self.commands.copy()
        self.commands.clear()
        return commands
