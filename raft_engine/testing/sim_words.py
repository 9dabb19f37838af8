"""What a node is told and does, in the words of the Raft paper: for people who read the end of a failed run.

    T4.17    entry 17, of term 4

Whoever knows the paper's figure 2 needs nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from raft_engine.core.commands import (
    AppendEntries,
    Command,
    PurgeLog,
    ResetLog,
    Respond,
    RespondReads,
    RespondWrites,
    SaveHardState,
    TruncateLog,
)
from raft_engine.core.events import (
    AllowNextRevertRequested,
    Applied,
    BarrierRequested,
    ClientWritesRequested,
    ElectRequested,
    MembershipChangeRequested,
    PeerReplaced,
    PurgeLogRequested,
    ReadsRequested,
    SnapshotBuilt,
    SnapshotInstalled,
    SnapshotRequested,
    TransferLeaderRequested,
)
from raft_engine.kv.commands import PUT, decode_command
from raft_engine.kv.commands import Command as KvCommand
from raft_engine.testing.sim_node import Booted, Died, MadeDurable, Notice, SimNode, Wiped
from raft_engine.types.entry import Entry
from raft_engine.types.log_id import LogId
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TransferRequest,
    TransferResponse,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.outcomes import BarrierOutcome, CommitOutcome, Outcome, ReadOutcome, Refusal, WriteOutcome
from raft_engine.types.vote import Vote

_PEER = re.compile(r"\bn(\d+)\.[0-9a-f]{6}")
_DIRECTION = re.compile(r"\((\d+), (\d+)\)")
_ENDS = {
    "killed": "its process is killed",
    "power": "its power is lost",
    "failed": "its engine stops by itself",
    "stopped": "an operator stops it",
    "crash_at_disk_call": "it dies in the middle of a call to its disk",
}
_WIPES = {
    "kept_vote": "an operator has wiped it, its vote kept; recovering until",
    "blank": "its whole data directory is gone",
    "rolled_back": "its disk is put back to an older image; its log ends with",
}


def plain(detail: str) -> str:
    """Return a detail of the trace with nodes by number and cut directions as arrows."""
    return _PEER.sub(r"node \1", _DIRECTION.sub(r"\1->\2", detail)).replace("[", "").replace("]", "")


def message(told: Message) -> str:
    """Return what a message says."""
    match told:
        case VoteRequest(term, last, pre_vote):
            return f"asks for {'a pre-vote' if pre_vote else 'the vote'} in T{term}, its log ends with {_id(last)}"
        case VoteResponse(term, pre_vote, granted, vote, last):
            what = f"{'the pre-vote' if pre_vote else 'the vote'} in T{term}"
            return f"grants {what}" if granted else f"refuses {what} ({told.reason}; is in T{vote.term}, has {_id(last)})"
        case AppendRequest():
            what = f"append {_range(told.entries)}" if told.entries else "heartbeat"
            return f"{what} after {_id(told.prev)}, leads T{told.vote.term}, committed {told.committed}"
        case AppendResponse():
            return _answer(told)
        case SnapshotChunk():
            upto = told.offset + len(told.data)
            return f"snapshot up to {_id(told.meta.last_log_id)}, bytes {told.offset} to {upto} of {told.meta.size_bytes}"
        case SnapshotChunkResponse():
            return "has installed the snapshot" if told.installed else f"has {told.next_offset} bytes of the snapshot"
        case TransferRequest(_, last):
            return f"asks it to take over leadership with {_id(last)}"
        case TransferResponse(_, accepted, reason):
            return "takes over" if accepted else f"does not take over ({reason})"
        case ReadIndexRequest():
            return "asks from which index on a read is served"
        case ReadIndexResponse(_, index, leader):
            return f"reads are served from {index} on" if index else f"is no leader; node {leader} may be"


def _answer(told: AppendResponse) -> str:
    if told.accepted:
        return f"has up to {_id(told.matching)} (T{told.vote.term})"
    if told.conflict.index:
        return f"lacks {_id(told.conflict)}, has {_id(told.last)} (T{told.vote.term})"
    return f"rejects: is in T{told.vote.term}"


def notice(node: SimNode, told: Notice) -> str:
    """Return what a node was told or what became of it; nothing, if it says nothing by itself. Messages: see `message`."""
    match told:
        case Booted(restored):
            recovery = restored.hard_state.recovery
            until = "" if recovery is None else f", recovering until {_id(recovery.until)}"
            return f"starts with {_vote(restored.hard_state.vote)}, log up to {_id(restored.last)}{until}"
        case Died(how):
            return _ENDS.get(how, how)
        case Wiped(how, until):
            return _WIPES.get(how, how) + (f" {_id(until)}" if until is not None else "")
        case MadeDurable():
            return f"on its disk now: {_vote(node.durable.hard_state.vote)}, log up to {_id(node.durable.last)}"
        case ClientWritesRequested(writes):
            return "; ".join(f"a client asks to {_write(write.data)}" for write in writes)
        case ReadsRequested(lease=lease):
            return f"a client asks to read by {'lease' if lease else 'read index'}"
        case Applied(upto):
            return f"has applied up to {_id(upto)}"
        case SnapshotBuilt(meta):
            return "" if meta is None else f"has built a snapshot up to {_id(meta.last_log_id)}"
        case SnapshotInstalled(meta):
            return f"its state is the snapshot up to {_id(meta.last_log_id)} now"
        case PeerReplaced(peer):
            return f"notices that node {peer.node_id} came back as a new life"
        case _:
            return _request(told)


def _request(told: Notice) -> str:
    match told:
        case ElectRequested(pre_vote=pre_vote):
            return f"is asked to campaign {'with' if pre_vote else 'without'} pre-vote"
        case TransferLeaderRequested(to=to):
            return f"is asked to hand over leadership to node {to}"
        case SnapshotRequested():
            return "is asked for a snapshot"
        case PurgeLogRequested(upto=upto):
            return f"is asked to purge its log up to {upto}"
        case AllowNextRevertRequested(to=to, allow=allow):
            return f"is told that node {to} {'may' if allow else 'must not'} come back with less"
        case BarrierRequested(exclude=exclude):
            return f"is asked for a barrier without node {', '.join(map(str, sorted(exclude)))}"
        case MembershipChangeRequested():
            return f"is asked for other members: {_members(told)}"
        case _:
            return ""


def _members(told: MembershipChangeRequested) -> str:
    parts = []
    if told.add_learners:
        parts.append(f"learners {sorted(peer.node_id for peer in told.add_learners)} more")
    if told.voters is not None:
        parts.append(f"voters {sorted(told.voters)}")
    return ", ".join(parts)


def done(commands: Sequence[Command]) -> Iterator[str]:
    """Yield what a node does about it, as far as it is of consequence; messages are seen where they arrive."""
    for command in commands:
        match command:
            case SaveHardState(_, hard_state):
                yield f"writes {_vote(hard_state.vote)}"
            case AppendEntries(_, entries):
                yield f"writes {_range(entries)}"
            case TruncateLog(_, after):
                yield f"cuts off what follows entry {after}"
            case PurgeLog(_, upto):
                yield f"purges up to {_id(upto)}"
            case ResetLog(_, upto):
                yield f"drops its log, goes on after {_id(upto)}"
            case Respond(_, outcome) | RespondReads(_, outcome):
                yield _outcome(outcome)
            case RespondWrites(writes):
                yield f"answers the write of {', '.join(_id(log_id) for _ticket, log_id, _result in writes)}"
            case _:
                pass


def _outcome(outcome: Outcome) -> str:
    match outcome:
        case Refusal(code):
            return f"answers: {code.value}"
        case ReadOutcome(index):
            return f"answers the read as of {index}"
        case WriteOutcome(log_id) | CommitOutcome(log_id):
            return f"answers the write of {_id(log_id)}"
        case BarrierOutcome(log_id):
            return f"answers: barrier {_id(log_id)} holds"
        case _:
            return "answers: done" if outcome.observed else "answers: not seen to be done"


def _write(data: bytes) -> str:
    command = decode_command(data)
    if not isinstance(command, KvCommand):
        return f"write {len(data)} bytes"
    first = command.operations[0]
    key = first.key.decode(errors="replace")
    return f"write {key}={(first.value or b'').decode(errors='replace')}" if first.kind == PUT else f"delete {key}"


def _range(entries: Sequence[Entry]) -> str:
    first, last = entries[0], entries[-1]
    return _id(first.log_id) if first is last else f"{_id(first.log_id)} to {_id(last.log_id)}"


def _id(log_id: LogId) -> str:
    return f"T{log_id.term}.{log_id.index}" if log_id.index else "nothing"


def _vote(vote: Vote) -> str:
    if not vote.term:
        return "no vote"
    return f"term T{vote.term}" + (f", voted for node {vote.node_id}" if vote.node_id else "")
