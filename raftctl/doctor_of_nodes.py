"""Rules of the doctor about single nodes: what each says of itself, and what its leader says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Final

import msgspec

from raftctl.doctor import Diagnosis, Facts, Rule, Severity
from raftctl.guards import LAG_MAX, SPACE_RESERVE_BYTES
from raftctl.model import Address, NodeStatus, index_of
from raftctl.output.text import human_bytes, human_ms
from raftctl.survey import Absence
from raftctl.ways_back import of_gone, of_new_life, of_older_copy

ENTRIES_SINCE_SNAPSHOT_MAX: Final = 100_000
"""Twenty times the engine's default; a start has to apply them all again."""
LOG_ENTRIES_MAX: Final = 1_000_000
_OF_LIFE: Final = frozenset({"node_reverted", "not_admitted"})
"""Alarms of a leader, and of the node itself, when it came back with an empty directory."""


def _answers(facts: Facts) -> Iterator[Diagnosis]:
    for node in facts.now.nodes:
        if node.error is None or node.error.code == "other_cluster":
            continue
        who = "" if node.node_id is not None else f"{node.management}: "
        if node.is_unknown:
            fix = "allow more time: --timeout"
            yield Diagnosis(severity=Severity.WARN, node=node.node_id, evidence=f"{who}{node.error.detail}", fix=fix)
            continue
        fix = {
            "unauthorized": "give a token: --token-file FILE",
            "forbidden": "use a token of a higher role: --token-file FILE",
            "not_an_endpoint": "correct the endpoint: raftctl context show",
        }.get(node.error.code, f"start its process, restart it if it hangs, or open the way to {node.management}")
        yield Diagnosis(severity=Severity.BAD, node=node.node_id, evidence=f"{who}{node.error.detail}", fix=fix)


def _engine(facts: Facts) -> Iterator[Diagnosis]:
    for status in facts.now.statuses:
        if status.fatal is not None:
            evidence = f"its engine failed: {status.fatal}"
            fix = "mend what it names, then restart its process; raft-engine inspect DATA_DIR looks at its files"
            if status.directory_gone:
                fix = of_gone(facts.now, status.node_id)
            yield Diagnosis(severity=Severity.BAD, node=status.node_id, evidence=evidence, fix=fix)
        elif status.stopped:
            url = quote(f"{_url(facts, status.node_id)}/v1/node/start-raft")
            fix = f"raftctl runs list (a runbook may have stopped it); else: curl -H content-type:application/json -d {{}} {url}"
            yield Diagnosis(severity=Severity.BAD, node=status.node_id, evidence="its engine is stopped", fix=fix)


def _url(facts: Facts, node: int) -> str:
    report = facts.now.report(node)
    return report.management if report is not None else "URL"


def _life(facts: Facts) -> Iterator[Diagnosis]:
    """Its directory is not the one that the configuration names."""
    for status in facts.now.statuses:
        lives = facts.now.membership.incarnations.get(status.node_id, ())
        if facts.now.is_new_life(status):
            evidence = f"its directory is new (life {status.incarnation[:8]}), the cluster knows {lives[-1][:8]}"
            fix = of_new_life(facts.now, status.node_id)
            yield Diagnosis(severity=Severity.BAD, node=status.node_id, evidence=evidence, fix=fix)
        elif status.birth != "started":
            fix = "raftctl init gives birth to a cluster; raftctl member add lets it join one"
            yield Diagnosis(severity=Severity.WARN, node=status.node_id, evidence=f"is {status.birth}", fix=fix)


def _links(facts: Facts) -> Iterator[Diagnosis]:
    """Who answers us and not its leader; said only when it was so twice, as every start begins like that.

    Without a leader nobody tells whom he reaches: then only an address that is not the node's own is told.
    """
    survey = facts.now
    leader = survey.leader
    for node, known in sorted(survey.membership.nodes.items()):
        status = survey.status(node)
        if status is None or not survey.runs(node):
            continue
        is_cut_off = all(look.absence(node) is Absence.UNREACHED for look in (facts.before, survey)) and facts.has_two_looks
        moved = survey.moved_from(node) is not None
        if leader is not None and is_cut_off:
            evidence = f"answers here, but node {leader.node_id}, which leads, does not reach it at {known.raft}"
            fix = f"look at the way from node {leader.node_id} to {known.raft}: listener, firewall, certificates"
            if moved:
                evidence += f"; it says itself that it is at {status.advertised.raft}"
                fix = _move_back(known) + _tell_move(facts, leader, status)
            yield Diagnosis(severity=Severity.BAD, node=node, evidence=evidence, fix=fix)
        elif leader is None and moved:
            evidence = f"its peers look for it at {known.raft}; it says itself that it is at {status.advertised.raft}"
            yield Diagnosis(severity=Severity.WARN, node=node, evidence=evidence, fix=_move_back(known))


def _move_back(known: Address) -> str:
    return f"have it listen at {known.raft} again ([listen] raft in its node.toml), and restart its process"


def _tell_move(facts: Facts, leader: NodeStatus, status: NodeStatus) -> str:
    """The way for a node that moved for good."""
    advertised = status.advertised
    body = {"id": status.node_id, "raft": advertised.raft, "management": advertised.management}
    url = quote(f"{_url(facts, leader.node_id)}/v1/membership/addresses")
    request = f"curl -H content-type:application/json -d {quote(msgspec.json.encode(body).decode())} {url}"
    return f"; if it moved for good: {request}"


def _is_new_life(facts: Facts, node: int | None) -> bool:
    status = facts.now.status(node) if node is not None else None
    return status is not None and facts.now.is_new_life(status)


def _recovering(facts: Facts) -> Iterator[Diagnosis]:
    for status in facts.now.statuses:
        if status.recovering is not None:
            evidence = f"recovers until {status.recovering.until} ({status.recovering.reason})"
            yield Diagnosis(severity=Severity.WARN, node=status.node_id, evidence=evidence, fix="raftctl health --wait")
        elif facts.now.absence(status.node_id) is Absence.NOT_ADMITTED and not facts.now.is_new_life(status):
            evidence = "its new life learns, and does not yet vote in the place of its former one"
            yield Diagnosis(severity=Severity.WARN, node=status.node_id, evidence=evidence, fix="raftctl health --wait")


def _lag(facts: Facts) -> Iterator[Diagnosis]:
    leader = facts.now.leader
    for node, target in (leader.replication or {}).items() if leader is not None else ():
        if target.state == "snapshot":
            done = f"{human_bytes(target.snapshot_sent_bytes)} of {human_bytes(target.snapshot_size_bytes)}"
            yield Diagnosis(
                severity=Severity.INFO, node=node, evidence=f"is sent a snapshot, {done}", fix=f"raftctl watch --node {node}"
            )
        elif target.state == "reverted" and not _is_new_life(facts, node):
            evidence = "came back with less than it had acknowledged"
            yield Diagnosis(severity=Severity.BAD, node=node, evidence=evidence, fix=of_older_copy(facts.now, node))
        elif target.lag > LAG_MAX:
            heard = f"heard of {human_ms(target.last_ack_ms_ago)} ago"
            fix = "see its disk and its link; a snapshot is sent when the log it needs is gone"
            evidence = f"is {target.lag} entries behind its leader (at most {LAG_MAX} are usual), {heard}"
            yield Diagnosis(severity=Severity.WARN, node=node, evidence=evidence, fix=fix)


def _needs_snapshot(facts: Facts) -> Iterator[Diagnosis]:
    """Its leader purged what it lacks. A new leader does not know yet what a silent node has."""
    leader = facts.now.leader
    for node, target in (leader.replication or {}).items() if leader is not None else ():
        purged = index_of(leader.purged if leader is not None else None)
        if target.matching is not None and target.matching.index < purged and target.state != "snapshot":
            evidence = f"has entries up to {index_of(target.matching)}, and its leader's log begins at {purged + 1}"
            fix = "it will be sent a snapshot as soon as it answers"
            yield Diagnosis(severity=Severity.WARN, node=node, evidence=evidence, fix=fix)


def _applying(facts: Facts) -> Iterator[Diagnosis]:
    for status in facts.now.statuses:
        behind = index_of(status.committed) - index_of(status.applied)
        if behind > LAG_MAX and not status.stopped:
            evidence = f"has {behind} committed entries that its state machine has not applied"
            fix = "if the number does not fall, its state machine or disk is too slow: raftctl top"
            yield Diagnosis(severity=Severity.WARN, node=status.node_id, evidence=evidence, fix=fix)


def _snapshots(facts: Facts) -> Iterator[Diagnosis]:
    for status in facts.now.statuses:
        since = index_of(status.last_log) - index_of(status.snapshot)
        if since > ENTRIES_SINCE_SNAPSHOT_MAX and not status.building_snapshot:
            evidence = f"{since} entries since its last snapshot: a restart applies them all again"
            fix = f"raftctl snapshot --node {status.node_id}"
            yield Diagnosis(severity=Severity.INFO, node=status.node_id, evidence=evidence, fix=fix)
        end, purged = index_of(status.snapshot), index_of(status.purged)
        if end - purged > LOG_ENTRIES_MAX:
            evidence = f"its log keeps {end - purged} entries that a snapshot covers"
            fix = f"raftctl purge-log --upto {end} --node {status.node_id}"
            yield Diagnosis(severity=Severity.INFO, node=status.node_id, evidence=evidence, fix=fix)


def _armed(facts: Facts) -> Iterator[Diagnosis]:
    leader = facts.now.leader
    for node, target in (leader.replication or {}).items() if leader is not None else ():
        if target.revert_armed:
            left = f", for {human_ms(target.revert_armed_ms_left)} more" if target.revert_armed_ms_left is not None else ""
            fix = _whose_permission(facts, node)
            evidence = f"may come back once with less than it acknowledged{left}"
            yield Diagnosis(severity=Severity.WARN, node=node, evidence=evidence, fix=fix)


def _whose_permission(facts: Facts, node: int) -> str:
    """A run that did not end gave it, or a rejoin from elsewhere that is under way, or somebody forgot it."""
    for run, commands in facts.unfinished_runs.items():
        if f"-rejoin-node-{node}-" in run:
            return f"run {run} gave it: {', or: '.join(commands)}"
    status = facts.now.status(node)
    if status is not None and status.recovering is not None:
        return f"it was wiped and comes back with it; once it has: raftctl allow-next-revert --to {node} --no-allow"
    return f"raftctl allow-next-revert --to {node} --no-allow, unless a rejoin of it is under way on another machine"


def _timers(facts: Facts) -> Iterator[Diagnosis]:
    for status in facts.now.statuses:
        config = status.runtime_config
        names = ("tick", "heartbeat", "elect", "pre_vote")
        off = [f"enable_{name}" for name in names if not getattr(config, f"enable_{name}")]
        if off:
            settings = " ".join(f"{name}=on" for name in off)
            fix = f"raftctl runtime-config set {settings} --node {status.node_id}"
            evidence = f"switched off: {', '.join(off)}"
            yield Diagnosis(severity=Severity.WARN, node=status.node_id, evidence=evidence, fix=fix)


def _disk(facts: Facts) -> Iterator[Diagnosis]:
    """A snapshot is written beside the one it replaces."""
    for status in facts.now.statuses:
        if status.free_bytes is None:
            continue
        needed = (status.data_bytes or 0) + SPACE_RESERVE_BYTES
        if status.free_bytes < needed:
            evidence = f"{human_bytes(status.free_bytes)} free where its data is; a snapshot needs {human_bytes(needed)}"
            severity = Severity.BAD if status.free_bytes < SPACE_RESERVE_BYTES else Severity.WARN
            yield Diagnosis(severity=severity, node=status.node_id, evidence=evidence, fix=_room(status))


def _room(status: NodeStatus) -> str:
    """A purge is offered only where there is something that may go, and an engine that lets it go."""
    end = index_of(status.snapshot)
    if status.stopped or status.fatal is not None:
        return "make room where its data is, then restart its process: it goes on with what it has"
    if end > index_of(status.purged):
        return f"make room where its data is; raftctl purge-log --upto {end} --node {status.node_id} drops old log"
    return "make room where its data is: there is no log in it that a snapshot covers and that could be dropped"


def _alarms(facts: Facts) -> Iterator[Diagnosis]:
    """What the rule `life` says of a node is not said again."""
    for status in facts.now.statuses:
        for alarm in status.alarms:
            if alarm.code in _OF_LIFE and _is_new_life(facts, alarm.node):
                continue
            evidence = f"{alarm.code}: {alarm.detail}"
            yield Diagnosis(severity=Severity.BAD, node=alarm.node or status.node_id, evidence=evidence, fix=alarm.hint)


RULES: Final[Mapping[str, Rule]] = {
    "answers": _answers,
    "engine": _engine,
    "life": _life,
    "links": _links,
    "recovering": _recovering,
    "alarms": _alarms,
    "lag": _lag,
    "needs-snapshot": _needs_snapshot,
    "applying": _applying,
    "snapshots": _snapshots,
    "armed": _armed,
    "timers": _timers,
    "disk": _disk,
}
