"""What must hold in a cluster after every event, whatever went wrong: Raft's promises, checked against what is on the disks.

    election safety        one leader a term (and one life of it)
    log matching           an entry of the same index and term is the same everywhere, and so is the one before it
    leader completeness    whoever is elected holds everything committed
    state machine safety   everybody applies the same entries with the same results, and arrives at the same state
    commit on quorum       what is committed is on the disks of a quorum: its bytes, not somebody's word
    committed is for ever  no commit index goes back, no committed entry changes or is cut off
    nothing promised is forgotten   after a crash the log holds what its sync had said to be durable, the vote too
    order of the indexes   purged <= snapshot <= applied <= committed <= last (`core/invariants`), each never falling
    one configuration at a time     each committed configuration follows from the one before
    lease exclusivity      nobody may serve reads by lease once a later leader has committed something

Source: Raft paper figure 3; dissertation 4.3, 6.4; openraft `tests-turmoil`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from raft_engine.core.commands import AppendEntries, ResetLog, TruncateLog
from raft_engine.core.engine import Engine
from raft_engine.core.leader import LeaderState
from raft_engine.core.quorum import has_quorum
from raft_engine.core.reading import CLOCK_DRIFT
from raft_engine.core.replication import quorum_acked_at
from raft_engine.kv.commands import PUT, Applied, Command, decode_command
from raft_engine.runtime.log_worker import LogCommand
from raft_engine.testing.scenario_disk import DiskImage
from raft_engine.types.entry import HEADER_BYTES, Entry, EntryKind
from raft_engine.types.ids import PeerId
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import Membership, decode_membership

if TYPE_CHECKING:
    from raft_engine.testing.sim_node import CheckedMachine, SimNode
    from raft_engine.testing.simulator import Simulation


class _Seen(NamedTuple):
    """What may only rise while a process lives."""

    term: int
    committed: int
    applied: int
    purged: int
    snapshot: int


class Checks:
    """Keeps what the whole cluster has shown so far; raises AssertionError when something impossible shows."""

    def __init__(self, simulation: Simulation) -> None:
        self.committed: list[Entry] = []
        self.leaders: dict[int, tuple[PeerId, int]] = {}
        """Who led a term, and in which of its lives: a restarted leader has lost its term."""
        self.lost: list[tuple[PeerId, DiskImage]] = []
        """What was promised by those whose directory is gone: they acknowledge nothing any more."""
        self._simulation = simulation
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(index, term) -> record, and the term of the entry before."""
        self._applied: list[tuple[bytes, object]] = []
        self._states: dict[int, object] = {}
        self._configuration: Membership | None = None
        self._seen: dict[PeerId, tuple[int, _Seen]] = {}

    # -- a node's log and disk -------------------------------------------------------------------------------------------

    def log_changes(self, node: SimNode, command: LogCommand) -> None:
        """The core asks for a change of its log; `node.view` is the log before it."""
        if isinstance(command, AppendEntries):
            previous = node.view.last.term
            for entry in command.entries:
                known = self._entries.setdefault((entry.index, entry.term), (entry.record, previous))
                if known[0] is not entry.record:
                    assert known[0] == entry.record, f"log matching: {node.me} appends another {entry}"
                assert known[1] == previous, (
                    f"log matching: before {entry} stands an entry of term {previous} on {node.me}, of {known[1]} elsewhere"
                )
                previous = entry.term
        elif isinstance(command, TruncateLog):
            life, seen = self._seen.get(node.me, (0, None))
            if seen is not None and life == node.life:
                assert command.after >= seen.committed, (
                    f"committed is for ever: {node.me} cuts its log after {command.after}, but {seen.committed} was committed"
                )
        elif isinstance(command, ResetLog):
            index = command.upto.index
            if index <= len(self.committed):
                assert self.committed[index - 1].log_id == command.upto, (
                    f"committed is for ever: {node.me} goes on after {command.upto}"
                )

    def recovered(self, node: SimNode, found: DiskImage) -> None:
        """A node has started: what was said to be durable must be there, as far as it was not taken back since."""
        promised = node.durable
        upto: int = promised.last.index
        for command in node.unreported:
            if isinstance(command, TruncateLog):
                upto = min(upto, command.after)
            elif isinstance(command, ResetLog):
                upto = 0
        if self._made_way_for_a_snapshot(promised, found.purged):
            upto = 0
        assert found.hard_state.vote.term >= promised.hard_state.vote.term, (
            f"durability: {node.me} has forgotten its vote: {promised.hard_state.vote} was durable, "
            f"{found.hard_state.vote} is there"
        )
        assert found.purged.index >= promised.purged.index or upto == 0, (
            f"durability: {node.me} has entries again that were purged"
        )
        assert found.last.index >= upto, (
            f"durability: {node.me} has lost entries: {promised.last} was durable, {found.last} is there"
        )
        for entry in promised.read(max(found.purged.index, promised.purged.index), upto):
            assert found.holds(entry.log_id), f"durability: {node.me} has lost {entry}, which was durable"

    def _made_way_for_a_snapshot(self, promised: DiskImage, start: LogId) -> bool:
        """Whether the log begins anew behind something committed that it contradicted.

        A process that dies between adopting a leader's snapshot and resetting its log does the latter when it starts.
        """
        is_within = promised.purged.index < start.index <= promised.last.index
        is_committed = 0 < start.index <= len(self.committed) and self.committed[start.index - 1].log_id == start
        return is_within and is_committed and not promised.holds(start)

    # -- after every event -------------------------------------------------------------------------------------------------

    def node(self, node: SimNode, engine: Engine) -> None:
        """Check what has become of a node after an event."""
        state = engine.state
        now = _Seen(
            state.vote.term,
            state.committed,
            state.applied.index,
            state.log.purged.index,
            state.snapshot.last_log_id.index,
        )
        life, before = self._seen.get(node.me, (0, now))
        if life == node.life and before is not now and before != now:
            for name, old, new in zip(_Seen._fields, before, now, strict=True):
                assert new >= old, f"nothing goes back: {name} of {node.me} went back from {old} to {new}"
        self._seen[node.me] = (node.life, now)
        if state.leader is not None:
            self._leader(node, engine, state.leader, before.committed if life == node.life else now.committed)
        if life == node.life and now.committed == before.committed:
            return
        self._committed(node, engine)
        upto = min(state.committed, len(self.committed))
        since = before.committed if life == node.life else upto - 3
        for entry in node.view.read(max(since, node.view.purged.index, 0), max(upto, node.view.purged.index)):
            known = self.committed[entry.index - 1]
            assert known.record == entry.record, f"committed is for ever: {node.me} committed {entry}, others {known}"

    def _leader(self, node: SimNode, engine: Engine, leader: LeaderState, committed_before: int) -> None:
        state = engine.state
        mine = (node.me, node.life)
        known = self.leaders.setdefault(state.vote.term, mine)
        assert known == mine, f"election safety: term {state.vote.term} has two leaders: (node, life) {known} and {mine}"
        since = max(state.committed, leader.first_index - 1)
        uncommitted = sum(stored.log_id.index > since for stored in state.memberships)
        assert uncommitted <= 1, f"one configuration at a time: {node.me} has begun {uncommitted} configurations at once"
        if state.log.last.index == leader.first_index and self.committed:
            last = self.committed[-1]
            assert last.term >= state.vote.term or node.view.holds(last.log_id), (
                f"leader completeness: {node.me} leads term {state.vote.term} without committed {last}"
            )
        if state.committed > max(committed_before, state.snapshot.last_log_id.index):
            assert state.committed >= leader.first_index, (
                f"commit by counting: {node.me} of term {state.vote.term} commits {state.log.at(state.committed)}"
            )
            self._leases(node, state.vote.term)

    def _leases(self, winner: SimNode, term: int) -> None:
        """A leader has committed something: no earlier one may believe in its lease."""
        simulation = self._simulation
        for other in simulation.nodes.values():
            engine = other.engine
            if other is winner or engine is None or engine.state.leader is None or engine.state.vote.term >= term:
                continue
            state, leader = engine.state, engine.state.leader
            if (
                simulation.lease_is_void()
                or leader.transfer is not None
                or leader.lease_given_up
                or state.committed < leader.first_index
            ):
                continue
            clock = other.clock()
            until = quorum_acked_at(leader, clock) + state.config.leader_lease_ms * (1 - CLOCK_DRIFT)
            assert clock >= until, (
                f"lease exclusivity: {other.me} of term {state.vote.term} would serve reads for {until - clock:.1f} ms more, "
                f"{winner.me} of term {term} has committed"
            )

    def _committed(self, node: SimNode, engine: Engine) -> None:
        state = engine.state
        while len(self.committed) < state.committed:
            index = len(self.committed) + 1
            found = node.view.read(index - 1, index)
            if not found:
                return  # it came with a snapshot, whose entries another node has shown
            if state.leader is not None:
                self._quorum_holds(found[0], [stored.membership for stored in state.memberships])
            self.committed.append(found[0])
            if found[0].kind == EntryKind.MEMBERSHIP:
                self._configuration_follows(found[0])

    def _quorum_holds(self, entry: Entry, memberships: list[Membership]) -> None:
        """Look for the entry on the disks of a quorum; a leader that begins another configuration now counted by the one before."""
        voters = {peer for membership in memberships for peer in membership.voters()}
        holders: set[PeerId] = set()
        for other in self._simulation.nodes.values():
            if other.me not in voters or not other.durable.holds(entry.log_id):
                continue
            gone = entry.index <= other.durable.purged.index or other.is_rotten
            assert gone or other.holds_on_disk(entry), (
                f"commit on quorum: {other.me} says that {entry} is durable, its disk does not hold it"
            )
            holders.add(other.me)
        # An acknowledgement sent before the directory went counts: that life votes for nobody any more.
        holders |= {me for me, disk in self.lost if me in voters and disk.holds(entry.log_id)}
        assert any(has_quorum(membership.configs, holders) for membership in memberships), (
            f"commit on quorum: {entry} is committed with durable copies on {sorted(peer.node_id for peer in holders)} only, "
            f"of {memberships}"
        )

    def _configuration_follows(self, entry: Entry) -> None:
        new, old = decode_membership(entry.data), self._configuration
        self._configuration = new
        if old is None or not old.configs:
            return
        follows = new.configs[0] == old.configs[-1] and not (new.is_joint and old.is_joint)
        assert follows, f"one configuration at a time: {new} of {entry} does not follow from {old}"

    # -- state machines ----------------------------------------------------------------------------------------------------

    def before_apply(self, node: SimNode, last: LogId, entries: Sequence[Entry]) -> None:
        assert entries[0].index == last.index + 1, f"state machine safety: {node.me} applies {entries[0]} after {last}"
        if node.engine is not None:
            assert node.durable.last.index >= entries[-1].index, (
                f"state machine safety: {node.me} applies {entries[-1]}, which is not durable there"
            )

    def applied(self, node: SimNode, entries: Sequence[Entry], results: Sequence[object]) -> None:
        known = self._applied
        for entry, result in zip(entries, results, strict=True):
            if entry.index > len(known):
                assert entry.index == len(known) + 1, (
                    f"state machine safety: {node.me} applies {entry}, nobody applied the one before"
                )
                known.append((entry.record, result))
            else:
                assert known[entry.index - 1] == (entry.record, result), (
                    f"state machine safety: {node.me} applied {entry} with {result}, others {known[entry.index - 1][1]}"
                )

    def writes(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Yield (index, key, value) of what was written, in order; None: deleted."""
        for index, (record, result) in enumerate(self._applied, 1):
            if isinstance(result, Applied) and not result.duplicate:
                command = decode_command(record[HEADER_BYTES:])
                assert isinstance(command, Command)
                for operation in command.operations:
                    yield index, operation.key, operation.value if operation.kind == PUT else None

    def state_at(self, node: SimNode, machine: CheckedMachine) -> None:
        """Compare whole states where snapshots were built or installed."""
        content = machine.content()
        known = self._states.setdefault(machine.last_applied.index, content)
        assert known == content, f"state machine safety: {node.me} has another state at {machine.last_applied}"
