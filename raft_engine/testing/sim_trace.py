"""Writing down what a simulated cluster did, as steps of the specification in spec/Core.tla.

    recorder = TraceRecorder(limit=600)
    Simulation(seed=7, watch=recorder.watch).run(20)
    recorder.lines

One event that a core handles becomes one or more lines: first what the event itself means (writes are durable, a leader's
entries came, a vote was asked for), then what the node did besides (it won, committed, appended, purged). The last line of an
event carries what the node is like afterwards. Whether each line is a step that the specification allows is for TLC to say
(scripts/traces.py); nothing is judged here.

What is recorded ends where the specification does: at a node that is wiped with its vote kept (way A has a model of its own)
or put back to an older image of its disk.
Source: Cirstea, Kuppe, Merz, "Validating Traces of Distributed Programs Against TLA+ Specifications" (2024); CCF's trace
validation (NSDI 2025).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from raft_engine.core.commands import AppendEntries, Command, PurgeLog, SendMessage
from raft_engine.core.events import Event, LogIoFlushed, MessageReceived, SnapshotBuilt, SnapshotInstalled
from raft_engine.core.state import RaftState, Restored, SendWhenFlushed
from raft_engine.runtime.log_worker import LogCommand
from raft_engine.testing.sim_node import Booted, Died, MadeDurable, Notice, SimNode, Wiped
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.ids import NOBODY, IoId, NodeId, PeerId, Term
from raft_engine.types.membership import Membership, decode_membership
from raft_engine.types.messages import (
    AppendRequest,
    Message,
    SnapshotChunk,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.vote import Vote

_LIVES: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class After:
    """What a node is like after an event; indexes, not ids, but for the last entry's term.

    `pending`: how many writes are on their way to the disk.
    """

    term: int
    voted_for: str
    known_to_lead: bool
    role: str
    last: int
    last_term: int
    committed: int
    flushed: int
    snapshot: int
    purged: int
    config: int
    pending: int = 0


@dataclass(frozen=True)
class Line:
    """One step of one server. `numbers` and the rest are what the step needs to know; see CoreTrace.tla."""

    step: str
    server: str
    numbers: tuple[int, ...] = ()
    other: str = ""
    entries: tuple[tuple[int, Membership | None], ...] = ()
    """(term, configuration) of entries that a leader appends."""
    runs: tuple[tuple[int, int], ...] = ()
    """(first index, term) of the log that a node finds when it starts again."""
    after: After | None = None


@dataclass
class _Watched:
    """A life of a node, as far as it was seen."""

    after: After
    outstanding: deque[IoId] = field(default_factory=deque)
    installing_term: int = 0


class TraceRecorder:
    """Collects the lines of one simulation; give its `watch` to the simulation."""

    def __init__(self, limit: int) -> None:
        """Record until there are `limit` lines."""
        self.lines: list[Line] = []
        self.names: dict[PeerId, str] = {}
        self.founders: list[str] = []
        self.first: Membership | None = None
        """The configuration that every founder's log begins with."""
        self.is_over = False
        self._limit = limit
        self._watched: dict[PeerId, _Watched] = {}

    def name(self, peer: PeerId) -> str:
        """Return the name of a life: n3a is node 3's first, n3b its second."""
        if peer not in self.names:
            lives = sum(other.node_id == peer.node_id for other in self.names)
            self.names[peer] = f"n{peer.node_id}{_LIVES[lives]}"
        return self.names[peer]

    def watch(self, node: SimNode, notice: Notice, commands: list[Command], now: float) -> None:
        """See `sim_node.Watch`."""
        del now
        if self.is_over or isinstance(notice, Died | MadeDurable):
            return
        if isinstance(notice, Wiped):
            self.is_over = notice.how != "blank"
        elif isinstance(notice, Booted):
            self._booted(node, notice.restored, commands)
        elif node.engine is not None:
            self._handled(node.me, node.engine.state, notice, commands)
        self.is_over = self.is_over or len(self.lines) >= self._limit

    # -- starts ----------------------------------------------------------------------------------------------------------

    def _booted(self, node: SimNode, restored: Restored, commands: list[Command]) -> None:
        assert node.engine is not None
        state, server = node.engine.state, self.name(node.me)
        outstanding = deque(command.io_id for command in commands if isinstance(command, LogCommand))
        after = replace(after_of(state), pending=len(outstanding))
        if node.me in self._watched:
            runs = tuple((first, term) for first, term, _ in restored.runs)
            self.lines.append(Line("Crash", server, (restored.purged.index,), runs=runs, after=after))
        elif restored.last.index:
            self.founders.append(server)
            self.first = state.membership
        self._watched[node.me] = _Watched(after, outstanding)

    # -- events ----------------------------------------------------------------------------------------------------------

    def _handled(self, me: PeerId, state: RaftState, event: Event, commands: list[Command]) -> None:
        watched = self._watched[me]
        before = watched.after
        writes = [command for command in commands if isinstance(command, LogCommand)]
        lines = [*self._meaning(me, state, event, commands, watched)]
        lines += self._besides(me, state, before, event, commands)
        watched.outstanding.extend(command.io_id for command in writes)
        after = replace(after_of(state), pending=len(watched.outstanding))
        watched.after = after
        if not lines and after != before:
            lines.append(Line("Nothing", self.name(me)))  # the specification knows no such step: TLC will say so
        if lines and not (_is_idle(lines) and after == before and not watched.outstanding):
            lines[-1] = replace(lines[-1], after=after)
            self.lines += lines

    def _meaning(
        self, me: PeerId, state: RaftState, event: Event, commands: list[Command], watched: _Watched
    ) -> Sequence[Line]:
        """Return the step that the event itself is."""
        server = self.name(me)
        if isinstance(event, LogIoFlushed):
            count = 0
            while watched.outstanding and watched.outstanding[0] <= event.io_id:
                watched.outstanding.popleft()
                count += 1
            return [Line("Flush", server, (count,))] if count else []
        if isinstance(event, SnapshotInstalled):
            return [Line("Install", server, (watched.installing_term, event.meta.last_log_id.index))]
        if not isinstance(event, MessageReceived):
            return []
        message, before = event.message, watched.after
        if isinstance(message, VoteRequest):
            return self._vote_request(me, state, event.sender, message, commands)
        if not isinstance(message, AppendRequest | SnapshotChunk) or not _follows(state, before, event.sender, message):
            return []
        term = message.vote.term
        if isinstance(message, SnapshotChunk):
            if state.installing is None:
                watched.installing_term = term
            return [Line("Chunk", server, (term, message.meta.last_log_id.index))]
        upto = message.entries[-1].index if message.entries else message.prev.index
        return [Line("Append", server, (term, message.prev.index, message.prev.term, upto, message.committed))]

    def _vote_request(
        self, me: PeerId, state: RaftState, candidate: PeerId, request: VoteRequest, commands: list[Command]
    ) -> Sequence[Line]:
        if not _is_granted(state, candidate, request, commands):
            return []
        step = "PreGrant" if request.pre_vote else "Grant"
        last = request.last_log_id
        return [Line(step, self.name(me), (request.term, last.term, last.index), self.name(candidate))]

    def _besides(self, me: PeerId, state: RaftState, before: After, event: Event, commands: list[Command]) -> Sequence[Line]:
        """Return what the node did of its own accord, or as a leader."""
        server, after = self.name(me), after_of(state)
        message = event.message if isinstance(event, MessageReceived) else None
        lines = _of_elections(server, before, after, message)
        appends = [command.entries for command in commands if isinstance(command, AppendEntries)]
        if lines and lines[-1].step == "Win":
            appends = appends[1:]  # its first entry is part of winning
        if "leader" in {before.role, after.role} and not isinstance(message, AppendRequest | SnapshotChunk):
            if after.committed > before.committed:
                lines.append(Line("Commit", server, (after.committed,)))
            lines += [Line("Lead", server, entries=_entries(entries)) for entries in appends]
        if _steps_down(before, after, message):
            lines.append(Line("StepDown", server))
        if isinstance(event, SnapshotBuilt) and after.snapshot > before.snapshot:
            lines.append(Line("BuildSnapshot", server, (after.snapshot,)))
        if not isinstance(event, SnapshotInstalled):
            lines += [Line("Purge", server, (command.upto.index,)) for command in commands if isinstance(command, PurgeLog)]
        return lines


def after_of(state: RaftState) -> After:
    """Return what a node is like; `pending` is not known here."""
    role = "follower"
    if state.leader is not None:
        role = "leader"
    elif state.candidate is not None:
        role = "pre" if state.candidate.pre_vote else "candidate"
    return After(
        state.vote.term,
        node_name(state.vote.node_id),
        state.vote.committed,
        role,
        state.log.last.index,
        state.log.last.term,
        state.committed,
        state.flushed,
        state.snapshot.last_log_id.index,
        state.log.purged.index,
        state.effective.log_id.index,
    )


def node_name(node_id: NodeId) -> str:
    return f"n{node_id}" if node_id != NOBODY else "nobody"


def _entries(entries: Sequence[Entry]) -> tuple[tuple[Term, Membership | None], ...]:
    return tuple(
        (entry.term, decode_membership(entry.data) if entry.kind == EntryKind.MEMBERSHIP else None) for entry in entries
    )


def _follows(state: RaftState, before: After, sender: PeerId, message: AppendRequest | SnapshotChunk) -> bool:
    """Return whether the node follows the leader that sent this (`following._follow`)."""
    wanted = Vote(message.vote.term, sender.node_id, committed=True)
    return state.vote == wanted and message.vote.term >= before.term and state.leader is None


def _of_elections(server: str, before: After, after: After, message: Message | None) -> list[Line]:
    """Return the steps by which the vote and the role came to be what they are."""
    lines = []
    if after.term > before.term and after.voted_for == "nobody":
        lines.append(Line("AdoptTerm", server, (after.term,)))
    if after.role == "pre" and before.role != "pre":
        lines.append(Line("PreCampaign", server))
    if after.role == "candidate" and after.term > before.term:
        asked = before.role == "pre" and isinstance(message, VoteResponse)
        lines.append(Line("Campaign", server, (after.term, int(asked))))
    if after.role == "leader" and before.role != "leader":
        lines.append(Line("Win", server))
    return lines


def _steps_down(before: After, after: After, message: Message | None) -> bool:
    """Return whether a role was given up that no other step of the event takes away."""
    if after.role != "follower" or before.role == "follower" or after.term > before.term:
        return False
    follows = isinstance(message, AppendRequest | SnapshotChunk) and after.known_to_lead
    grants = isinstance(message, VoteRequest) and not message.pre_vote and not after.known_to_lead
    return not (follows or grants)


def _is_granted(state: RaftState, candidate: PeerId, request: VoteRequest, commands: list[Command]) -> bool:
    """Look for the answer among what is sent now and what is sent when it is durable."""
    said = [(command.target, command.message) for command in commands if isinstance(command, SendMessage)]
    waiting = [(action.target, action.message) for _, action in state.pending_io if isinstance(action, SendWhenFlushed)]
    for target, answer in [*said, *waiting[-1:]]:
        if target == candidate and isinstance(answer, VoteResponse):
            return answer.granted and (answer.term, answer.pre_vote) == (request.term, request.pre_vote)
    return False


def _is_idle(lines: Sequence[Line]) -> bool:
    """Return whether this may be a heartbeat that changed nothing."""
    return [line.step for line in lines] == ["Append"] and lines[0].numbers[1] == lines[0].numbers[3]
