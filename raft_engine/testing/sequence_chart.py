"""The last steps of a run as a message-sequence chart in plain text: nodes are columns, time runs downwards.

       at ms   1       2       3
      3021.4   L------>|       |       append T3.15 after T3.14, leads T3, committed 13; writes T3.15
      3022.0   .       |       |       its process is killed
      3190.2   .       C------>|       asks for the vote in T4, its log ends with T3.15

Down a column stands what the node is: `L` leads, `C` campaigns, `|` follows or learns, `.` is down. A message is drawn when it
arrives. Steps that changed nothing (most heartbeats and their answers) are left out and counted.
"""

from __future__ import annotations

import re
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from raft_engine.core.commands import Command, ReplicateEntries, SendMessage
from raft_engine.core.events import ClientWritesRequested, LogIoFlushed, MessageReceived, ReadsRequested
from raft_engine.testing import sim_words
from raft_engine.testing.sim_faults import Happened, is_of_a_link
from raft_engine.testing.sim_node import Notice, SimNode
from raft_engine.types.ids import NodeId
from raft_engine.types.messages import AppendRequest, AppendResponse, Message
from raft_engine.types.metrics import ServerState

WIDTH: Final = 120
ROWS: Final = 50
"""Rows that a chart has at most."""
OLD_MS: Final = 100.0
"""A message that was on its way for longer says so."""
_TIME_WIDTH: Final = 12
_TEXT_MIN: Final = 60
_LANE: Final = 8
_ROLES: Final = {ServerState.LEADER: "L", ServerState.CANDIDATE: "C"}
_SENT_AWAY: Final = {"answers: not_leader", "answers: no_leader"}
_DOWN: Final = "."
_ON_A_LINK = re.compile(r"(\d+) to (\d+)(.*)")
_LOSSES: Final = {
    "drop": "fault: a message is lost",
    "duplicate": "fault: a message is doubled",
    "reorder": "fault: a message is late",
}


class Row(NamedTuple):
    """One step. `source`: who sent it, else None. `lost`: it did not arrive. `roles`: a mark a node, after the step."""

    at_ms: float
    node: NodeId | None
    text: str
    roles: dict[NodeId, str]
    source: NodeId | None = None
    lost: bool = False


class Recorder:
    """Watches a run (`Simulation(watch=recorder.watch)`) and remembers its last steps that changed something."""

    def __init__(self, rows: int = ROWS) -> None:
        self.rows: deque[Row] = deque(maxlen=rows)
        self.skipped: deque[float] = deque(maxlen=100_000)
        """When a step that changed nothing was left out."""
        self._roles: dict[NodeId, str] = {}
        self._known: dict[NodeId, tuple[object, ...]] = {}
        self._sent: deque[tuple[object, float, Command]] = deque(maxlen=2000)
        """What was sent when; the command is kept so that nothing else gets its identity."""

    def watch(self, node: SimNode, told: Notice, commands: Sequence[Command], now: float) -> None:
        """See `sim_node.Watch`."""
        if not self._roles:
            self._roles = dict.fromkeys(node.simulation.nodes, _DOWN)
        texts = [*self._changes(node), *sim_words.done(commands)]
        source = None
        if isinstance(told, MessageReceived):
            source = told.sender.node_id
            is_news = bool(texts) or not _is_routine(told.message)
            age = now - self._sent_at(source, node.node_id, told.message, now)
            head = sim_words.message(told.message) + (f" [sent {age:.0f} ms before]" if age > OLD_MS else "")
        else:
            head = sim_words.notice(node, told)
            is_news = bool(texts) if isinstance(told, LogIoFlushed) else bool(texts or head)
            is_news = is_news and not (isinstance(told, ClientWritesRequested | ReadsRequested) and set(texts) <= _SENT_AWAY)
        for command in commands:
            if isinstance(command, SendMessage | ReplicateEntries):
                self._sent.append((_key(node.node_id, command), now, command))
        if is_news:
            text = "; ".join([part for part in (head, *texts) if part])
            self.rows.append(Row(now, node.node_id, text, dict(self._roles), source))
        else:
            self.skipped.append(now)

    def _changes(self, node: SimNode) -> Iterator[str]:
        """Yield what is different about the node's role and commit index."""
        if node.engine is None:
            self._roles[node.node_id] = _DOWN
            self._known.pop(node.node_id, None)
            return
        state = node.engine.state
        role, candidate = state.server_state(), state.candidate
        self._roles[node.node_id] = _ROLES.get(role, "|")
        pre_vote = candidate.term if candidate is not None and candidate.pre_vote else 0
        now = (role, state.term, state.committed, pre_vote)
        before = self._known.get(node.node_id, now)
        self._known[node.node_id] = now
        if (role, state.term) != before[:2]:
            if role is ServerState.LEADER:
                yield f"LEADS T{state.term}"
            elif role is ServerState.CANDIDATE:
                yield f"stands for election in T{state.term}"
            elif before[0] in {ServerState.LEADER, ServerState.CANDIDATE}:
                yield f"steps down, is in T{state.term}"
            else:
                yield f"is in T{state.term}"
        if pre_vote and pre_vote != before[3]:
            yield f"asks around whether it would be elected in T{pre_vote}"
        if state.committed != before[2]:
            yield f"committed is {state.committed}"

    def _sent_at(self, source: NodeId, target: NodeId, message: Message, now: float) -> float:
        if isinstance(message, AppendRequest):
            wanted: object = (source, target, message.vote, message.session, message.round, message.prev.index)
        else:
            wanted = (source, target, id(message))
        return next((at for key, at, _command in self._sent if key == wanted), now)


def _key(source: NodeId, command: SendMessage | ReplicateEntries) -> object:
    target = command.target.node_id
    if isinstance(command, ReplicateEntries):
        return source, target, command.vote, command.session, command.round, command.prev.index
    message = command.message
    if isinstance(message, AppendRequest):
        return source, target, message.vote, message.session, message.round, message.prev.index
    return source, target, id(message)


def _is_routine(message: Message) -> bool:
    """Whether a message says nothing if it changes nothing."""
    if isinstance(message, AppendRequest):
        return not message.entries
    return isinstance(message, AppendResponse) and message.accepted


def chart(recorder: Recorder, nodes: Iterable[NodeId], happened: Iterable[Happened] = (), width: int = WIDTH) -> str:
    """Return the recorded steps and the faults among them as text, `width` columns wide."""
    ids = sorted(nodes)
    steps = list(recorder.rows)
    if not steps:
        return "nothing happened"
    since = steps[0].at_ms
    rows = sorted([*steps, *(_row_of(fault, steps) for fault in happened if fault.at >= since)], key=lambda row: row.at_ms)
    lane = max(3, min(_LANE, (width - _TIME_WIDTH - _TEXT_MIN) // len(ids)))
    lines = [f"{'at ms':>10}  " + "".join(f"{node_id:<{lane}}" for node_id in ids).rstrip()]
    for row in rows:
        lines += _lines(row, ids, lane, width)
    skipped = sum(at >= since for at in recorder.skipped)
    lines.append(f"({skipped} steps that changed nothing are left out: ticks, heartbeats, answers)")
    return "\n".join(lines)


def _row_of(fault: Happened, steps: Sequence[Row]) -> Row:
    """Return a fault as a row, with the roles of that moment."""
    roles = next((row.roles for row in reversed(steps) if row.at_ms <= fault.at), steps[0].roles)
    found = _ON_A_LINK.match(fault.detail) if is_of_a_link(fault.serial) else None
    if found is not None:
        source, target, rest = NodeId(int(found[1])), NodeId(int(found[2])), found[3].removeprefix(",")
        text = _LOSSES.get(fault.kind, fault.kind) + (f",{rest}" if rest else "")
        return Row(fault.at, target, text, roles, source, lost=fault.kind == "drop")
    return Row(fault.at, None, f"fault: {fault.kind.replace('_', ' ')}: {sim_words.plain(fault.detail)}", roles)


def _lines(row: Row, ids: Sequence[NodeId], lane: int, width: int) -> Iterator[str]:
    lanes = _lanes(row, ids, lane)
    bare = _lanes(row._replace(node=None), ids, lane)
    pieces = textwrap.wrap(row.text, width - _TIME_WIDTH - len(lanes))
    yield f"{row.at_ms:10.1f}  {lanes}{pieces[0]}"
    for piece in pieces[1:]:
        yield f"{'':{_TIME_WIDTH}}{bare}  {piece}"[:width]


def _lanes(row: Row, ids: Sequence[NodeId], lane: int) -> str:
    """Draw the columns: a mark a node, an arrow for a message, a star where something else happened."""
    cells = [" "] * (lane * len(ids))
    for number, node_id in enumerate(ids):
        cells[number * lane] = row.roles.get(node_id, _DOWN)
    if row.node is None:
        return "".join(cells)
    target = ids.index(row.node) * lane
    if row.source is None or row.source == row.node:
        cells[target + 1] = "*"
        return "".join(cells)
    source = ids.index(row.source) * lane
    low, high = min(source, target), max(source, target)
    cells[low + 1 : high] = "-" * (high - low - 1)
    if row.lost:
        cells[(low + high) // 2] = "x"
    else:
        cells[target - 1 if target > source else target + 1] = ">" if target > source else "<"
    return "".join(cells)
