"""The words of the scenario language, one function each.

A word takes the cluster and the rest of its line. What happens is written down by the cluster; a word that only shows
something adds its own lines. The page docs/scenarios.md explains them to people.
Source: etcd `rafttest/interaction_env_handler*.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from raft_engine.config import Config, config_from_mapping, nearest
from raft_engine.core.events import (
    AllowNextRevertRequested,
    BarrierRequested,
    ClientWrite,
    ClientWritesRequested,
    ElectRequested,
    Event,
    HeartbeatRequested,
    MembershipChangeRequested,
    PeerLost,
    PurgeLogRequested,
    ReadsRequested,
    RuntimeFlagsChanged,
    SnapshotRequested,
    StepDownRequested,
    Ticked,
    TransferLeaderRequested,
    WriteRequested,
)
from raft_engine.core.progress import Progress
from raft_engine.errors import ConfigError
from raft_engine.testing.scenario_cluster import Actor, Cluster, Flight, address_of, describe_hard_state, short
from raft_engine.testing.scenario_disk import DiskImage
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import NOBODY, LogIndex, NodeId, Term
from raft_engine.types.outcomes import NOTHING_EXPECTED, Expectation
from raft_engine.types.vote import Vote

WAIT_MS = 1000.0
STEP_MS = 10.0
"""`run` and `advance` move the clock in such steps: a tick of the default settings."""

Words = list[str]


class ScenarioError(Exception):
    """A scenario file says something that cannot be done; the message says what and where."""


@dataclass(frozen=True)
class Line:
    """What follows a word: `plain` words, flags that are there, and `name=value` options."""

    plain: Words
    flags: frozenset[str]
    options: dict[str, str]

    def number(self, name: str, default: float) -> float:
        return float(self.options.get(name, default))


def _read(words: Words, *, flags: Iterable[str] = (), options: Iterable[str] = (), plain: int | None = None) -> Line:
    """Sort the words after a word; nothing that is not understood passes unnoticed."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    for name in given:
        if name not in options:
            raise ScenarioError(f"{name!r} is not an option here{nearest(name, list(options)) if options else ''}")
    rest = [word for word in words if "=" not in word and word not in flags]
    if plain is not None and len(rest) > plain:
        raise ScenarioError(f"{rest[plain]!r} is not expected here{nearest(rest[plain], list(flags)) if flags else ''}")
    return Line(rest, frozenset(words) & frozenset(flags), given)


def _actors(cluster: Cluster, words: Sequence[str]) -> list[Actor]:
    return [_actor(cluster, word) for word in words] if words else list(cluster.actors.values())


def _actor(cluster: Cluster, word: str) -> Actor:
    try:
        return cluster.actors[int(word)]
    except (ValueError, KeyError):
        raise ScenarioError(f"{word!r} is not a node; there are {sorted(cluster.actors)}") from None


def _links(cluster: Cluster, words: Words) -> Callable[[Flight], bool]:
    """Return whether a message is meant: `1->2`, `->2` (to 2), `1->` (from 1), a message's first word, or all."""
    links = [tuple(word.split("->")) for word in words if "->" in word]
    kinds = {word for word in words if "->" not in word}
    for word in (name for link in links for name in link if name):
        _actor(cluster, word)

    def meant(flight: Flight) -> bool:
        sender, target = str(flight.sender.node_id), str(flight.target.node_id)
        on_link = not links or any(one in {"", sender} and other in {"", target} for one, other in links)
        return on_link and (not kinds or str(flight).split()[1] in kinds)

    return meant


# -- making a cluster --------------------------------------------------------------------------------------------------


def nodes(cluster: Cluster, words: Words) -> None:
    """nodes N [blank=M] [stopped] [setting=value …]: N voters and M blank nodes; settings of all engines."""
    line = _read(words, flags=["stopped"], options=["blank", *Config.__struct_fields__], plain=1)
    settings = {name: msgspec.json.decode(value) for name, value in line.options.items() if name != "blank"}
    cluster.config = config_from_mapping(msgspec.structs.asdict(cluster.config) | settings)
    cluster.create(int(line.plain[0]), int(line.number("blank", 0)))
    if not line.flags:
        for actor in cluster.actors.values():
            cluster.start(actor)


def given(cluster: Cluster, words: Words) -> None:
    """given N log=1,1,2 [term=T] [voted=M]: the disk of a stopped node: terms of the entries after the first."""
    line = _read(words, options=["log", "term", "voted"], plain=1)
    actor = _stopped(cluster, line.plain[0])
    terms = [int(term) for term in line.options["log"].split(",") if term]
    del actor.durable.entries[1:]
    for position, term in enumerate(terms):
        index = LogIndex(position + 2)
        actor.durable.entries.append(make_entry(Term(term), NOBODY, index, EntryKind.NORMAL, b""))
    term = int(line.number("term", max(terms, default=0)))
    vote = Vote(Term(term), NodeId(int(line.number("voted", 0))), committed=False)
    actor.durable.hard_state = HardState(vote)


def _stopped(cluster: Cluster, word: str) -> Actor:
    actor = _actor(cluster, word)
    if actor.engine is not None:
        raise ScenarioError(f"node {actor.number} runs: crash it first")
    return actor


def disk(cluster: Cluster, words: Words) -> None:
    """disk slow|fast [N …]: whether what is written waits for `flush`."""
    _one_of(words[0], "slow", "fast")
    for actor in _actors(cluster, words[1:]):
        actor.slow_disk = words[0] == "slow"
        if not actor.slow_disk:
            cluster.flush(actor)


def machine(cluster: Cluster, words: Words) -> None:
    """machine slow|fast|deferring [N …]: whether the state machine waits for `apply`, or puts snapshots off."""
    _one_of(words[0], "slow", "fast", "deferring")
    for actor in _actors(cluster, words[1:]):
        actor.slow_machine = words[0] == "slow"
        actor.defers_snapshots = words[0] == "deferring"
        if not actor.slow_machine:
            cluster.work(actor)


def _one_of(word: str, *known: str) -> None:
    if word not in known:
        raise ScenarioError(f"{word!r} is none of {', '.join(known)}{nearest(word, list(known))}")


# -- time --------------------------------------------------------------------------------------------------------------


def advance(cluster: Cluster, words: Words) -> None:
    """advance MS [N …]: the clock moves in steps of 10 ms; those nodes (all) notice; nothing is delivered."""
    end = cluster.now + float(words[0])
    while cluster.now < end:
        cluster.now = min(cluster.now + STEP_MS, end)
        for actor in _actors(cluster, words[1:]):
            cluster.feed(actor, Ticked())


def sleep(cluster: Cluster, words: Words) -> None:
    """sleep MS [N …]: the clock moves, and those nodes (all) notice only at the end."""
    cluster.now += float(words[0])
    for actor in _actors(cluster, words[1:]):
        cluster.feed(actor, Ticked())


def jump(cluster: Cluster, words: Words) -> None:
    """jump MS N …: the clocks of these nodes alone jump ahead; they notice with whatever comes next."""
    if float(words[0]) < 0 or not words[1:]:
        raise ScenarioError("the core goes by a clock that is never set back; name the nodes whose clocks jump ahead")
    for actor in _actors(cluster, words[1:]):
        actor.ahead += float(words[0])


def run(cluster: Cluster, words: Words) -> None:
    """run MS: time goes on in steps of 10 ms, and messages arrive."""
    end = cluster.now + float(words[0])
    while cluster.now < end:
        advance(cluster, [str(min(STEP_MS, end - cluster.now))])
        settle(cluster, [])


# -- what is on its way ------------------------------------------------------------------------------------------------


def settle(cluster: Cluster, words: Words) -> None:
    """settle: deliver until nothing is in flight."""
    _read(words, plain=0)
    cluster.settle()


def deliver(cluster: Cluster, words: Words) -> None:
    """deliver [1->2] [->2] [1->] [Kind] [count=K] [last]: hand over what is in flight, or its first or last K."""
    for flight in _flights(cluster, words):
        if flight in cluster.flights:
            cluster.deliver(flight)


def again(cluster: Cluster, words: Words) -> None:
    """again [1->2] [Kind] [count=K] [last]: double what is in flight."""
    cluster.flights += _flights(cluster, words)


def drop(cluster: Cluster, words: Words) -> None:
    """drop [1->2] [Kind] [count=K] [last]: lose what is in flight."""
    for flight in _flights(cluster, words):
        cluster.flights.remove(flight)
        cluster.say(f"lost {flight}")


def _flights(cluster: Cluster, words: Words) -> list[Flight]:
    """Return the messages that are meant: on these links, of these kinds (a message's first word); the first or last of them."""
    line = _read(words, flags=["last"], options=["count"])
    links = [tuple(word.split("->")) for word in line.plain if "->" in word]
    kinds = {word for word in line.plain if "->" not in word}
    for word in (name for link in links for name in link if name):
        _actor(cluster, word)
    for kind in kinds:
        if kind not in KINDS:
            raise ScenarioError(f"{kind!r} is no kind of message{nearest(kind, list(KINDS))}")

    def meant(flight: Flight) -> bool:
        sender, target = str(flight.sender.node_id), str(flight.target.node_id)
        on_link = not links or any(one in {"", sender} and other in {"", target} for one, other in links)
        return on_link and (not kinds or str(flight).split()[1] in kinds)

    found = [flight for flight in cluster.flights if meant(flight)]
    count = int(line.number("count", 1 if line.flags else len(found)))
    return found[len(found) - count :] if line.flags else found[:count]


def flush(cluster: Cluster, words: Words) -> None:
    """flush [N …] [count=K]: slow disks finish their writes, or the first K."""
    line = _read(words, options=["count"])
    count = int(line.options["count"]) if "count" in line.options else None
    for actor in _actors(cluster, line.plain):
        if cluster.flush(actor, count):
            cluster.say(f"  {actor.number} is durable up to {actor.durable.last.index}")


def apply(cluster: Cluster, words: Words) -> None:
    """apply [N …]: slow state machines do their work."""
    for actor in _actors(cluster, words):
        cluster.work(actor)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def partition(cluster: Cluster, words: Words) -> None:
    """partition 1 2 | 3: no message passes between the groups."""
    groups = [[_actor(cluster, word).number for word in group.split()] for group in " ".join(words).split("|")]
    for one in groups:
        for other in groups:
            if one is not other:
                cluster.cut |= {(sender, target) for sender in one for target in other}


def cut(cluster: Cluster, words: Words) -> None:
    """cut 1->2 …: no message passes in this direction."""
    for word in words:
        sender, target = word.split("->")
        cluster.cut.add((_actor(cluster, sender).number, _actor(cluster, target).number))


def lose(cluster: Cluster, words: Words) -> None:
    """lose N M: both notice that their connection is broken."""
    one, other = (_actor(cluster, word) for word in words)
    cluster.feed(one, PeerLost(other.me, "connection reset"))
    cluster.feed(other, PeerLost(one.me, "connection reset"))


def forget(cluster: Cluster, words: Words) -> None:
    """forget N: node N alone notices that the connection to its leader is broken."""
    actor = _actor(cluster, _read(words, plain=1).plain[0])
    leader = actor.engine.leader_id if actor.engine is not None else None
    if leader is None or leader == actor.number:
        raise ScenarioError(f"node {actor.number} follows nobody")
    cluster.feed(actor, PeerLost(cluster.actors[leader].me, "connection reset"))


def heal(cluster: Cluster, words: Words) -> None:
    """heal: every link works, connections stand anew."""
    _read(words, plain=0)
    broken = sorted({tuple(sorted(link)) for link in cluster.cut})
    cluster.cut.clear()
    for one, other in broken:
        lose(cluster, [str(one), str(other)])
    cluster.connect_all()


def crash(cluster: Cluster, words: Words) -> None:
    """crash [N …] [kept=K]: the process ends at once; of what was not flushed, the first K writes are there all the same."""
    line = _read(words, options=["kept"])
    for actor in _actors(cluster, line.plain):
        if actor.engine is not None:
            cluster.stop(actor, int(line.number("kept", 0)))


def restart(cluster: Cluster, words: Words) -> None:
    """restart [N …]: (crash and) start with what is on the disk."""
    for actor in _actors(cluster, words):
        if actor.engine is not None:
            cluster.stop(actor)
        cluster.start(actor)


def wipe(cluster: Cluster, words: Words) -> None:
    """wipe N until=INDEX|blank|keep=K: a stopped node's data is gone, see below."""
    line = _read(words, flags=["blank"], options=["until", "keep"], plain=1)
    actor = _stopped(cluster, line.plain[0])
    if "keep" in line.options:
        del actor.durable.entries[int(line.options["keep"]) :]
        actor.snapshot = None
        return
    if not line.flags and "until" not in line.options:
        raise ScenarioError("say what is left: until=INDEX, blank or keep=K")
    cluster.actors[actor.number] = fresh = Actor(cluster.new_life(actor.number) if line.flags else actor.me)
    if "until" in line.options:
        index = int(line.options["until"])
        holder = next((other for other in cluster.running() if other.view.read(index - 1, index)), None)
        if holder is None:
            raise ScenarioError(f"no running node holds entry {index}")
        until = holder.view.read(index - 1, index)[0].log_id
        fresh.durable = DiskImage(HardState(actor.durable.hard_state.vote, Recovery(until, "rejoin")))


# -- asking nodes ------------------------------------------------------------------------------------------------------


def _ask(cluster: Cluster, word: str, event: Event) -> None:
    actor = _actor(cluster, word)
    if actor.engine is None:
        raise ScenarioError(f"node {actor.number} does not run")
    cluster.feed(actor, event)


def campaign(cluster: Cluster, words: Words) -> None:
    """campaign N [pre-vote] [wait=MS]: an operator wants an election."""
    line = _read(words, flags=["pre-vote"], options=["wait"], plain=1)
    ticket = cluster.ticket("elect")
    _ask(cluster, line.plain[0], ElectRequested(ticket, bool(line.flags), line.number("wait", WAIT_MS)))


def propose(cluster: Cluster, words: Words) -> None:
    """propose N DATA … [size=BYTES]: client writes, all at once, each at least so large."""
    line = _read(words, options=["size"])
    size = int(line.number("size", 0))
    writes = [ClientWrite(cluster.ticket(f"write {word}"), word.encode().ljust(size, b".")) for word in line.plain[1:]]
    _ask(cluster, line.plain[0], ClientWritesRequested(writes))


def write(cluster: Cluster, words: Words) -> None:
    """write N DATA|blank [term=T] [last=INDEX]: one write on conditions, whose caller hears of the commit too."""
    line = _read(words, options=["term", "last"], plain=2)
    number, text = line.plain
    expect = Expectation(term=int(line.options["term"]) if "term" in line.options else None)
    if "last" in line.options:
        last = _entry_at(cluster, number, int(line.options["last"])).log_id
        expect = msgspec.structs.replace(expect, last_log_id=last)
    ticket, commit = cluster.ticket(f"write {text}"), cluster.ticket(f"write {text} (commit)")
    _ask(cluster, number, WriteRequested(ticket, None if text == "blank" else text.encode(), expect, commit))


def read(cluster: Cluster, words: Words) -> None:
    """read N [lease] [wait=MS]: a linearizable read."""
    line = _read(words, flags=["lease"], options=["wait"], plain=1)
    lease = bool(line.flags)
    ticket = cluster.ticket("lease read" if lease else "read")
    _ask(cluster, line.plain[0], ReadsRequested([ticket], lease, line.number("wait", WAIT_MS)))


def heartbeat(cluster: Cluster, words: Words) -> None:
    """heartbeat N: an operator wants to know who answers."""
    line = _read(words, plain=1)
    _ask(cluster, line.plain[0], HeartbeatRequested(cluster.ticket("heartbeat"), WAIT_MS))


def snapshot(cluster: Cluster, words: Words) -> None:
    """snapshot N: an operator wants one."""
    line = _read(words, plain=1)
    _ask(cluster, line.plain[0], SnapshotRequested(cluster.ticket("snapshot"), WAIT_MS))


def purge(cluster: Cluster, words: Words) -> None:
    """purge N INDEX [strict]: an operator wants entries dropped, up to there."""
    line = _read(words, flags=["strict"], plain=2)
    index = LogIndex(int(line.plain[1]))
    _ask(cluster, line.plain[0], PurgeLogRequested(cluster.ticket("purge"), index, bool(line.flags), WAIT_MS))


def transfer(cluster: Cluster, words: Words) -> None:
    """transfer N M [wait=MS]: leader N is asked to hand over to M."""
    line = _read(words, options=["wait"], plain=2)
    to, wait_ms = NodeId(int(line.plain[1])), line.number("wait", WAIT_MS)
    _ask(cluster, line.plain[0], TransferLeaderRequested(cluster.ticket("transfer"), to, wait_ms))


def stepdown(cluster: Cluster, words: Words) -> None:
    """stepdown N [expect=INDEX]: a removed leader shall leave its office."""
    line = _read(words, options=["expect"], plain=1)
    _ask(cluster, line.plain[0], StepDownRequested(cluster.ticket("stepdown"), _expect_members(cluster, line)))


def arm(cluster: Cluster, words: Words) -> None:
    """arm N M [ttl=MS]: leader N may let M revert once."""
    line = _read(words, options=["ttl"], plain=2)
    to, ttl_ms = NodeId(int(line.plain[1])), line.number("ttl", 0)
    _ask(cluster, line.plain[0], AllowNextRevertRequested(cluster.ticket("arm"), to, allow=True, ttl_ms=ttl_ms))


def disarm(cluster: Cluster, words: Words) -> None:
    """disarm N M: not any more."""
    line = _read(words, plain=2)
    to = NodeId(int(line.plain[1]))
    _ask(cluster, line.plain[0], AllowNextRevertRequested(cluster.ticket("disarm"), to, allow=False, ttl_ms=0))


def barrier(cluster: Cluster, words: Words) -> None:
    """barrier N [exclude=M,…]: a no-op that is known to be held without M."""
    line = _read(words, options=["exclude"], plain=1)
    exclude = frozenset(NodeId(int(word)) for word in line.options.get("exclude", "").split(",") if word)
    _ask(cluster, line.plain[0], BarrierRequested(cluster.ticket("barrier"), exclude, WAIT_MS))


def learner(cluster: Cluster, words: Words) -> None:
    """learner N M … [nowait]: leader N adds learners, and waits until they have caught up."""
    line = _read(words, flags=["nowait"])
    added = [_actor(cluster, word) for word in line.plain[1:]]
    add = {actor.me: address_of(actor.number) for actor in added}
    blocking = not line.flags
    change = MembershipChangeRequested(cluster.ticket("learner"), WAIT_MS, add_learners=add, blocking=blocking)
    _ask(cluster, line.plain[0], change)


def unlearn(cluster: Cluster, words: Words) -> None:
    """unlearn N M …: leader N removes learners."""
    line = _read(words)
    remove = frozenset(_actor(cluster, word).number for word in line.plain[1:])
    _ask(cluster, line.plain[0], MembershipChangeRequested(cluster.ticket("unlearn"), WAIT_MS, remove_learners=remove))


def voters(cluster: Cluster, words: Words) -> None:
    """voters N M … [retain] [expect=INDEX]: leader N makes these the voters (who goes stays as a learner)."""
    line = _read(words, flags=["retain"], options=["expect"])
    wanted = frozenset(NodeId(int(word)) for word in line.plain[1:])
    ticket, retain, expect = cluster.ticket("voters"), bool(line.flags), _expect_members(cluster, line)
    _ask(cluster, line.plain[0], MembershipChangeRequested(ticket, WAIT_MS, wanted, retain, expect=expect))


def _expect_members(cluster: Cluster, line: Line) -> Expectation:
    if "expect" not in line.options:
        return NOTHING_EXPECTED
    return Expectation(membership_log_id=_entry_at(cluster, line.plain[0], int(line.options["expect"])).log_id)


def _entry_at(cluster: Cluster, word: str, index: int) -> Entry:
    found = _actor(cluster, word).view.read(index - 1, index)
    if not found:
        raise ScenarioError(f"node {word} holds no entry {index}")
    return found[0]


def switch(cluster: Cluster, words: Words) -> None:
    """switch tick|heartbeat|elect on|off [N …]: what the timers of those nodes (all) do."""
    _one_of(words[0], "tick", "heartbeat", "elect")
    _one_of(words[1], "on", "off")
    for actor in _actors(cluster, words[2:]):
        if actor.engine is not None:
            change = {f"enable_{words[0]}": words[1] == "on"}
            cluster.feed(actor, RuntimeFlagsChanged(msgspec.structs.replace(actor.engine.state.flags, **change)))


# -- looking -----------------------------------------------------------------------------------------------------------


def status(cluster: Cluster, words: Words) -> None:
    """status [N …]: what nodes think; a leader also shows its targets and alarms."""
    for actor in _actors(cluster, words):
        if actor.engine is None:
            cluster.say(f"{actor.number} is down, disk: {describe_hard_state(actor.durable.hard_state)}")
            continue
        metrics = actor.engine.metrics(cluster.time(actor))
        ends = f"last={short(metrics.last_log)} committed={metrics.committed.index} applied={metrics.applied.index}"
        extra = "".join(
            f" {name}={log_id.index}"
            for name, log_id in (("snapshot", metrics.snapshot), ("purged", metrics.purged))
            if log_id.index
        )
        if metrics.transfer_to is not None:
            extra += f" transfer to {metrics.transfer_to}"
        cluster.say(f"{actor.number} {metrics.state} T{metrics.term} leader={metrics.leader or '-'} {ends}{extra}")
        leader = actor.engine.state.leader
        for peer, progress in sorted(leader.progress.items()) if leader is not None else ():
            shown = metrics.replication[peer.node_id].state if metrics.replication else progress.mode.value
            cluster.say(f"  {peer.node_id}: {shown} {_describe_progress(progress, cluster.time(actor))}")
        for alarm in metrics.alarms:
            cluster.say(f"  alarm {alarm.code}: {alarm.detail}")


def _describe_progress(progress: Progress, now: float) -> str:
    words = [f"matching={progress.matching}", f"next={progress.next}"]
    if progress.inflight:
        words.append(f"inflight={len(progress.inflight)}")
    if progress.snapshot is not None:
        words.append(f"sent={progress.snapshot_offset} of {progress.snapshot.size_bytes}")
    return " ".join(words) + " armed" * progress.is_armed(now)


def log(cluster: Cluster, words: Words) -> None:
    """log [N …]: their entries as term, index and (data)."""
    for actor in _actors(cluster, words):
        image = actor.view if actor.engine is not None else actor.durable
        entries = " ".join(_describe_entry(entry) for entry in image.entries) or "empty"
        purged = f"purged up to {image.purged.index}; " if image.purged.index else ""
        cluster.say(f"{actor.number}: {purged}{entries}")


def _describe_entry(entry: Entry) -> str:
    if entry.kind == EntryKind.MEMBERSHIP:
        return f"{short(entry.log_id)}(config)"
    data = bytes(entry.data).decode(errors="replace").rstrip(".")
    return short(entry.log_id) + (f"({data})" if data else "")


def members(cluster: Cluster, words: Words) -> None:
    """members [N …]: the configuration in force at each node, and the committed one where that is another."""
    for actor in _actors(cluster, words):
        if actor.engine is None:
            continue
        metrics = actor.engine.metrics(cluster.time(actor))
        now, committed = metrics.membership, metrics.committed_membership
        note = "" if now == committed else f", committed: {short(committed.log_id)} {committed.membership}"
        cluster.say(f"{actor.number}: {short(now.log_id)} {now.membership}{note}")


def flights(cluster: Cluster, words: Words) -> None:
    """flights: what is on its way."""
    _read(words, plain=0)
    cluster.lines += [f"{flight}" for flight in cluster.flights]


KINDS = (
    "Vote",
    "VoteGranted",
    "VoteRefused",
    "PreVote",
    "PreVoteGranted",
    "PreVoteRefused",
    "Append",
    "Accepted",
    "Refused",
    "Snapshot",
    "SnapshotAnswer",
    "TimeoutNow",
    "TimeoutNowAccepted",
    "TimeoutNowRefused",
    "ReadIndex?",
    "ReadIndex",
)
"""The first word of every message."""

WORDS: dict[str, Callable[[Cluster, Words], None]] = {
    word.__name__: word
    for word in (
        nodes,
        given,
        disk,
        machine,
        advance,
        sleep,
        jump,
        run,
        settle,
        deliver,
        again,
        drop,
        flush,
        apply,
        partition,
        cut,
        lose,
        forget,
        heal,
        crash,
        restart,
        wipe,
        campaign,
        propose,
        write,
        read,
        heartbeat,
        snapshot,
        purge,
        transfer,
        stepdown,
        arm,
        disarm,
        barrier,
        learner,
        unlearn,
        voters,
        switch,
        status,
        members,
        log,
        flights,
    )
}


def usages() -> list[tuple[str, str]]:
    """Return how each word is used and what it does, in the order of the page docs/scenarios.md."""
    return [_usage(word) for word in WORDS.values()]


def _usage(word: Callable[[Cluster, Words], None]) -> tuple[str, str]:
    use, _, meaning = (word.__doc__ or "").splitlines()[0].partition(": ")
    return use, meaning.removesuffix(".")


def perform(cluster: Cluster, line: str) -> list[str]:
    """Do one command line and return what happened.

    Raises: ScenarioError: the line cannot be understood or done.
    """
    words = line.split()
    quiet = words[0] == "quiet"
    word, *rest = words[1:] if quiet else words
    if word not in WORDS:
        raise ScenarioError(f"{word!r} is not a word of the scenario language{nearest(word, list(WORDS))}")
    cluster.lines = []
    before = list(cluster.flights)
    try:
        WORDS[word](cluster, rest)
    except ScenarioError as error:
        raise ScenarioError(f"{line!r}: {error}; usage: {_usage(WORDS[word])[0]}") from error
    except (IndexError, ValueError, KeyError, ConfigError, msgspec.DecodeError) as error:
        raise ScenarioError(f"{line!r}: {error!r}; usage: {_usage(WORDS[word])[0]}") from error
    if quiet:
        return []
    sent = list(cluster.flights)
    for flight in before:
        if flight in sent:
            sent.remove(flight)
    if word != "flights":
        cluster.lines += [f"  sent {flight}" for flight in sent]
    return cluster.lines


def new_cluster() -> Cluster:
    """Return an empty cluster with settings that suit files people read: no snapshot by itself, nothing kept."""
    return Cluster(Config(snapshot_logs_since_last=0, max_in_snapshot_log_to_keep=0))
