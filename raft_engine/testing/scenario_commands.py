"""The words of the scenario language, one function each.

A word takes the cluster and the rest of its line. What happens is written down by the cluster; a word that only shows
something adds its own lines. The page docs/scenarios.md explains them to people.
Source: etcd `rafttest/interaction_env_handler*.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from raft_engine.config import Config, config_from_mapping
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
    ReadRequested,
    SnapshotRequested,
    Ticked,
    TransferLeaderRequested,
)
from raft_engine.testing.scenario_cluster import Actor, Cluster, Flight, address_of, describe_hard_state, short
from raft_engine.testing.simulator import DiskImage
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import NOBODY, LogIndex, NodeId, Term
from raft_engine.types.vote import Vote

WAIT_MS = 1000.0
STEP_MS = 10.0
"""`run` and `advance` move the clock in such steps: a tick of the default settings."""

Words = list[str]


class ScenarioError(Exception):
    """A scenario file says something that cannot be done; the message says what and where."""


def _options(words: Words) -> tuple[Words, dict[str, str]]:
    """Return the plain words and the `name=value` ones."""
    plain = [word for word in words if "=" not in word]
    return plain, dict(word.split("=", 1) for word in words if "=" in word)


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
    """nodes N [blank=M] [stopped] [setting=value …]: the cluster, and the settings of all engines."""
    plain, options = _options(words)
    blank = int(options.pop("blank", "0"))
    settings = {name: msgspec.json.decode(value) for name, value in options.items()}
    cluster.config = config_from_mapping(msgspec.structs.asdict(cluster.config) | settings)
    cluster.create(int(plain[0]), blank)
    if "stopped" not in plain:
        for actor in cluster.actors.values():
            cluster.start(actor)


def given(cluster: Cluster, words: Words) -> None:
    """given N log=1,1,2 [term=T] [voted=M]: a stopped node's disk. The log's first entry, the configuration, stays."""
    plain, options = _options(words)
    actor = _actor(cluster, plain[0])
    terms = [int(term) for term in options["log"].split(",") if term]
    del actor.durable.entries[1:]
    for position, term in enumerate(terms):
        index = LogIndex(position + 2)
        actor.durable.entries.append(make_entry(Term(term), NOBODY, index, EntryKind.NORMAL, b"x"))
    term = int(options.get("term", str(max(terms, default=0))))
    vote = Vote(Term(term), NodeId(int(options.get("voted", "0"))), committed=False)
    actor.durable.hard_state = HardState(vote)


def disk(cluster: Cluster, words: Words) -> None:
    """disk slow|fast [N …]: whether what is written waits for `flush`."""
    for actor in _actors(cluster, words[1:]):
        actor.slow_disk = words[0] == "slow"
        if not actor.slow_disk:
            cluster.flush(actor)


def machine(cluster: Cluster, words: Words) -> None:
    """machine slow|fast [N …]: whether the state machine waits for `apply`."""
    for actor in _actors(cluster, words[1:]):
        actor.slow_machine = words[0] == "slow"
        if not actor.slow_machine:
            cluster.work(actor)


# -- time and hands ----------------------------------------------------------------------------------------------------


def advance(cluster: Cluster, words: Words) -> None:
    """advance MS [N …]: the clock moves in steps of 10 ms; those nodes (all) notice. Nothing is delivered."""
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


def run(cluster: Cluster, words: Words) -> None:
    """run MS: time goes on as it does, in steps of 10 ms, and messages arrive."""
    end = cluster.now + float(words[0])
    while cluster.now < end:
        advance(cluster, [str(min(STEP_MS, end - cluster.now))])
        settle(cluster, [])


def settle(cluster: Cluster, words: Words) -> None:
    """settle: deliver until nothing is in flight."""
    del words
    cluster.settle()


def deliver(cluster: Cluster, words: Words) -> None:
    """deliver [1->2 …] [Kind …]: hand over what is in flight now, not what that brings about."""
    meant = _links(cluster, words)
    for flight in [flight for flight in cluster.flights if meant(flight)]:
        if flight in cluster.flights:
            cluster.deliver(flight)


def again(cluster: Cluster, words: Words) -> None:
    """again [1->2 …] [Kind …]: messages in flight are doubled, as a network may do."""
    meant = _links(cluster, words)
    cluster.flights += [flight for flight in cluster.flights if meant(flight)]


def drop(cluster: Cluster, words: Words) -> None:
    """drop [1->2 …] [Kind …]: what is in flight now is lost."""
    meant = _links(cluster, words)
    for flight in [flight for flight in cluster.flights if meant(flight)]:
        cluster.flights.remove(flight)
        cluster.say(f"lost {flight}")


def flush(cluster: Cluster, words: Words) -> None:
    """flush [N …] [count=K]: what slow disks were given becomes durable, or the first K writes of it."""
    plain, options = _options(words)
    count = int(options["count"]) if "count" in options else None
    for actor in _actors(cluster, plain):
        if cluster.flush(actor, count):
            cluster.say(f"  {actor.number} is durable up to {actor.durable.last.index}")


def apply(cluster: Cluster, words: Words) -> None:
    """apply [N …]: slow state machines do what they were asked for."""
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
    """lose N M: both nodes notice that their connection is broken."""
    one, other = (_actor(cluster, word) for word in words)
    cluster.feed(one, PeerLost(other.me, "connection reset"))
    cluster.feed(other, PeerLost(one.me, "connection reset"))


def heal(cluster: Cluster, words: Words) -> None:
    """heal: every link works again; connections that were broken stand anew."""
    del words
    broken = sorted({tuple(sorted(link)) for link in cluster.cut})
    cluster.cut.clear()
    for one, other in broken:
        lose(cluster, [str(one), str(other)])
    cluster.connect_all()


def crash(cluster: Cluster, words: Words) -> None:
    """crash N …: the process is gone, and what was not flushed."""
    for actor in _actors(cluster, words):
        if actor.engine is not None:
            cluster.stop(actor)


def restart(cluster: Cluster, words: Words) -> None:
    """restart N …: start (or crash and start) a node with what is on its disk."""
    for actor in _actors(cluster, words):
        if actor.engine is not None:
            cluster.stop(actor)
        cluster.start(actor)


def wipe(cluster: Cluster, words: Words) -> None:
    """wipe N until=INDEX | wipe N blank | wipe N keep=INDEX: a stopped node loses its data.

    until: the planned way, vote kept, recovering until the log holds that entry. blank: everything, identity too.
    keep: an old copy of the disk was restored: same identity, the log ends there.
    """
    plain, options = _options(words)
    actor = _actor(cluster, plain[0])
    if actor.engine is not None:
        raise ScenarioError(f"node {actor.number} runs: crash it first")
    if "keep" in options:
        del actor.durable.entries[int(options["keep"]) :]
        actor.snapshot = None
        return
    cluster.actors[actor.number] = fresh = Actor(actor.me if "until" in options else cluster.new_life(actor.number))
    if "until" in options:
        index = int(options["until"])
        holder = next(other for other in cluster.running() if other.view.read(index - 1, index))
        until = holder.view.read(index - 1, index)[0].log_id
        fresh.durable = DiskImage(HardState(actor.durable.hard_state.vote, Recovery(until, "rejoin")))


# -- asking nodes ------------------------------------------------------------------------------------------------------


def _ask(cluster: Cluster, word: str, event: Event) -> None:
    cluster.feed(_actor(cluster, word), event)


def campaign(cluster: Cluster, words: Words) -> None:
    """campaign N [pre-vote] [wait=MS]: an operator wants an election."""
    plain, options = _options(words)
    ticket = cluster.ticket("elect")
    wait = float(options.get("wait", WAIT_MS))
    _ask(cluster, plain[0], ElectRequested(ticket, pre_vote="pre-vote" in plain, wait_ms=wait))


def propose(cluster: Cluster, words: Words) -> None:
    """propose N DATA …: client writes, all at once."""
    writes = [ClientWrite(cluster.ticket(f"write {word}"), word.encode()) for word in words[1:]]
    _ask(cluster, words[0], ClientWritesRequested(writes))


def read(cluster: Cluster, words: Words) -> None:
    """read N [lease]: a linearizable read."""
    lease = "lease" in words
    _ask(cluster, words[0], ReadRequested(cluster.ticket("lease read" if lease else "read"), lease, WAIT_MS))


def heartbeat(cluster: Cluster, words: Words) -> None:
    """heartbeat N: an operator wants to know who answers."""
    _ask(cluster, words[0], HeartbeatRequested(cluster.ticket("heartbeat"), WAIT_MS))


def snapshot(cluster: Cluster, words: Words) -> None:
    """snapshot N: an operator wants one."""
    _ask(cluster, words[0], SnapshotRequested(cluster.ticket("snapshot"), WAIT_MS))


def purge(cluster: Cluster, words: Words) -> None:
    """purge N INDEX [strict]: an operator wants entries dropped."""
    index = LogIndex(int(words[1]))
    _ask(cluster, words[0], PurgeLogRequested(cluster.ticket("purge"), index, "strict" in words, WAIT_MS))


def transfer(cluster: Cluster, words: Words) -> None:
    """transfer N M: node N is asked to hand leadership to M."""
    _ask(cluster, words[0], TransferLeaderRequested(cluster.ticket("transfer"), NodeId(int(words[1])), WAIT_MS))


def arm(cluster: Cluster, words: Words) -> None:
    """arm N M [ttl=MS]: leader N may let M come back once with less than it acknowledged."""
    plain, options = _options(words)
    to, ttl_ms = NodeId(int(plain[1])), float(options.get("ttl", "0"))
    _ask(cluster, plain[0], AllowNextRevertRequested(cluster.ticket("arm"), to, allow=True, ttl_ms=ttl_ms))


def disarm(cluster: Cluster, words: Words) -> None:
    """disarm N M: the permission is taken back."""
    to = NodeId(int(words[1]))
    _ask(cluster, words[0], AllowNextRevertRequested(cluster.ticket("disarm"), to, allow=False, ttl_ms=0))


def barrier(cluster: Cluster, words: Words) -> None:
    """barrier N [exclude=M]: a no-op that is known to be held without M."""
    plain, options = _options(words)
    exclude = frozenset(NodeId(int(word)) for word in options.get("exclude", "").split(",") if word)
    _ask(cluster, plain[0], BarrierRequested(cluster.ticket("barrier"), exclude, WAIT_MS))


def learner(cluster: Cluster, words: Words) -> None:
    """learner N M: leader N adds node M as a learner."""
    actor = _actor(cluster, words[1])
    add = {actor.me: address_of(actor.number)}
    _ask(cluster, words[0], MembershipChangeRequested(cluster.ticket("learner"), WAIT_MS, add_learners=add))


def voters(cluster: Cluster, words: Words) -> None:
    """voters N M …: leader N makes these the voters."""
    wanted = frozenset(_actor(cluster, word).number for word in words[1:])
    _ask(cluster, words[0], MembershipChangeRequested(cluster.ticket("voters"), WAIT_MS, voters=wanted))


# -- looking -----------------------------------------------------------------------------------------------------------


def status(cluster: Cluster, words: Words) -> None:
    """status [N …]: what nodes think; a leader also shows its targets and alarms."""
    for actor in _actors(cluster, words):
        if actor.engine is None:
            cluster.say(f"{actor.number} is down, disk: {describe_hard_state(actor.durable.hard_state)}")
            continue
        metrics = actor.engine.metrics(cluster.now)
        ends = f"last={short(metrics.last_log)} committed={metrics.committed.index} applied={metrics.applied.index}"
        extra = "".join(
            f" {name}={log_id.index}"
            for name, log_id in (("snapshot", metrics.snapshot), ("purged", metrics.purged))
            if log_id.index
        )
        cluster.say(f"{actor.number} {metrics.state} T{metrics.term} leader={metrics.leader or '-'} {ends}{extra}")
        for number, target in sorted((metrics.replication or {}).items()):
            armed = " armed" if target.revert_armed_ms is not None else ""
            cluster.say(f"  {number}: {target.state} matching={target.matching.index}{armed}")
        for alarm in metrics.alarms:
            cluster.say(f"  alarm {alarm.code}: {alarm.detail}")


def log(cluster: Cluster, words: Words) -> None:
    """log [N …]: the entries of each node, as term.index."""
    for actor in _actors(cluster, words):
        image = actor.view if actor.engine is not None else actor.durable
        entries = " ".join(short(entry.log_id) for entry in image.entries) or "empty"
        purged = f"purged up to {image.purged.index}; " if image.purged.index else ""
        cluster.say(f"{actor.number}: {purged}{entries}")


def flights(cluster: Cluster, words: Words) -> None:
    """flights: what is on its way."""
    del words
    cluster.lines += [f"{flight}" for flight in cluster.flights]


WORDS: dict[str, Callable[[Cluster, Words], None]] = {
    word.__name__: word
    for word in (
        nodes,
        given,
        disk,
        machine,
        advance,
        sleep,
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
        heal,
        crash,
        restart,
        wipe,
        campaign,
        propose,
        read,
        heartbeat,
        snapshot,
        purge,
        transfer,
        arm,
        disarm,
        barrier,
        learner,
        voters,
        status,
        log,
        flights,
    )
}


def perform(cluster: Cluster, line: str) -> list[str]:
    """Do one command line and return what happened.

    Raises: ScenarioError: the line cannot be understood or done.
    """
    words = line.split()
    quiet = words[0] == "quiet"
    word, *rest = words[1:] if quiet else words
    if word not in WORDS:
        raise ScenarioError(f"{word!r} is not a word of the scenario language; known: {', '.join(sorted(WORDS))}")
    cluster.lines = []
    before = list(cluster.flights)
    try:
        WORDS[word](cluster, rest)
    except (IndexError, ValueError, KeyError) as error:
        raise ScenarioError(f"{line!r}: {error!r}; usage: {(WORDS[word].__doc__ or '').splitlines()[0]}") from error
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
