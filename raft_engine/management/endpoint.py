"""What one path of the endpoint is made of: a row of the table, a decoded request, and the reply to an action.

Source: contract sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from raft_engine.management import schema
from raft_engine.management.access import Role
from raft_engine.management.cluster import Members
from raft_engine.management.context import Context
from raft_engine.management.convert import action_reply, picture
from raft_engine.management.events import EventLog
from raft_engine.management.exchange import DEFAULT_WAIT_S, Fields, Reply, json_reply
from raft_engine.management.problems import malformed
from raft_engine.types.outcomes import TriggerOutcome

ACTED: Final[dict[int, type[msgspec.Struct] | str]] = {200: schema.ActionReply, 202: schema.ActionReply}
LEADER_ONLY: Final = ("not_leader", "no_leader", "precondition_failed", "raft_stopped", "shutting_down")


class Call(msgspec.Struct, frozen=True):
    """One request, decoded: the body is of the type its endpoint names.

    `path`: what stands in the braces of the path. `wait_s`: how long to wait for the effect.
    """

    context: Context
    members: Members
    events: EventLog
    body: Any
    query: dict[str, bytes]
    path: dict[str, int]
    fields: Fields
    wait_s: float


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    `request`: type of the body, None: takes none. `default_wait_s`: the wait when the caller names none. `replies`: type of
    the JSON body per status, or a media type. `codes`: the problems it is known for, besides those any request can meet.
    """

    method: str
    path: str
    role: Role
    summary: str
    handle: Callable[[Call], Awaitable[Reply]]
    request: type[msgspec.Struct] | None = None
    query: tuple[str, ...] = ()
    default_wait_s: float = DEFAULT_WAIT_S
    replies: dict[int, type[msgspec.Struct] | str]
    codes: tuple[str, ...] = ()

    @property
    def mutates(self) -> bool:
        return self.method != "GET"


def acted(call: Call, action: str, requested: dict[str, object], outcome: TriggerOutcome) -> Reply:
    """200: seen. 202: accepted, not seen before the wait ended."""
    node = call.context.node
    return json_reply(action_reply(node, action, requested, outcome, picture(node)), 200 if outcome.observed else 202)


def check_address(where: str, raft: str, management: str) -> None:
    """Refuse addresses that cannot be ones. Raises: ProblemError."""
    host, _, port = raft.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise malformed(f"{where}.raft is not host:port")
    plain = management.isascii() and management.isprintable() and " " not in management
    if not plain or not management.startswith(("http://", "https://")) or not management.partition("://")[2].strip("/"):
        raise malformed(f"{where}.management is not an http(s) URL")
