"""Is the cluster well? Each check with what was measured; the worst of them is the answer.

"Healthy" is not a word but a number: how many more voters may fail. Pure: a survey goes in.
Source: field notes B 9, 15, 17; contract section 5 (exit codes 10 and 11).
"""

from __future__ import annotations

import enum

import msgspec

from raftctl.errors import ExitCode
from raftctl.guards import LAG_MAX
from raftctl.output.text import human_ms, listed
from raftctl.survey import Absence, NodeReport, Survey

QUORUM_SILENT_MS_MAX = 2000.0
"""A leader that heard nothing of a quorum for this long may have been deposed; far above any election timeout in use."""


class Condition(enum.StrEnum):
    """Ordered from well to worst."""

    OK = "ok"
    DEGRADED = "degraded"
    NO_QUORUM = "no_quorum"
    UNREACHABLE = "unreachable"


EXIT_OF = {
    Condition.OK: ExitCode.DONE,
    Condition.DEGRADED: ExitCode.DEGRADED,
    Condition.NO_QUORUM: ExitCode.NO_QUORUM,
    Condition.UNREACHABLE: ExitCode.UNREACHABLE,
}
_ORDER = list(Condition)


class Check(msgspec.Struct, frozen=True):
    """`condition`: what the cluster would be if this were all that is known."""

    name: str
    condition: Condition
    measured: str


class Health(msgspec.Struct, frozen=True):
    condition: Condition
    checks: tuple[Check, ...]


def health_of(survey: Survey) -> Health:
    """Return the checks and the worst of them."""
    if not survey.statuses:
        silent = listed(node.management for node in survey.nodes)
        return Health(Condition.UNREACHABLE, (Check("reachable", Condition.UNREACHABLE, f"no answer from {silent}"),))
    checks = (
        _leader(survey),
        _quorum(survey),
        _members(survey),
        _replication(survey),
        _recovery(survey),
        _alarms(survey),
    )
    return Health(max((check.condition for check in checks), key=_ORDER.index), checks)


def _check(name: str, ok: bool, measured: str, otherwise: Condition = Condition.DEGRADED) -> Check:
    return Check(name, Condition.OK if ok else otherwise, measured)


def _leader(survey: Survey) -> Check:
    """Nobody leads only if it is none of those either whom there was no time to ask."""
    leader = survey.leader
    if leader is None and survey.quorum.unknown:
        return _check("leader", False, f"no node that was asked leads (latest term {survey.term})")
    if leader is None:
        return _check("leader", False, f"no node leads (latest term {survey.term})", Condition.NO_QUORUM)
    dissent = [
        status.node_id
        for status in survey.statuses
        if status.node_id in survey.membership.voters
        and not status.stopped
        and (status.leader, status.term) != (leader.node_id, leader.term)
    ]
    measured = f"node {leader.node_id} leads term {leader.term}"
    if dissent:
        return _check("leader", False, f"{measured}; not so by the word of node {listed(dissent)}")
    return _check("leader", True, measured)


def _quorum(survey: Survey) -> Check:
    quorum = survey.quorum
    measured = f"{quorum.reachable} of {quorum.voters} voters up, {quorum.needed} needed"
    leader = survey.leader
    silent_ms = leader.last_quorum_acked_ms_ago if leader is not None else None
    if silent_ms is not None and silent_ms > QUORUM_SILENT_MS_MAX:
        return _check("quorum", False, f"{measured}; the leader heard of it {human_ms(silent_ms)} ago", Condition.NO_QUORUM)
    if not quorum.reached and not quorum.is_lost:
        return _check("quorum", False, f"{measured}; {quorum.unknown} not asked for lack of time")
    return _check("quorum", quorum.reached, measured, Condition.NO_QUORUM)


def _members(survey: Survey) -> Check:
    absences = survey.absences
    quorum = survey.quorum
    may_fail = f"{quorum.tolerance} more may fail" if quorum.tolerance else "none more may fail"
    if not quorum.reached:
        may_fail = "too few for writes" if quorum.is_lost else "too few to know whether writes are possible"
    nameless = [(node.management, _absence(node)) for node in survey.nodes if node.node_id is None]
    if absences or nameless:
        who = [f"node {node_id} {why}" for node_id, why in absences.items()] + [f"{url} {why}" for url, why in nameless]
        return _check("members", False, f"{listed(who)}; {may_fail}")
    return _check("members", True, f"all up; {may_fail}")


def _absence(node: NodeReport) -> Absence:
    return Absence.UNKNOWN if node.is_unknown else Absence.DOWN


def _replication(survey: Survey) -> Check:
    """How far a node is behind that nobody reaches is not known: it may have lost all it had."""
    leader = survey.leader
    if leader is None:
        return _check("replication", False, "not known: no node leads")
    ill: list[str] = []
    lags: list[int] = []
    for node_id, target in (leader.replication or {}).items():
        if target.state == "unreachable" or survey.status(node_id) is None:
            ill.append(f"node {node_id} not reached")
        elif target.state != "replicate":
            ill.append(f"node {node_id} {target.state}")
        elif target.lag > LAG_MAX:
            ill.append(f"node {node_id} {target.lag} behind")
        else:
            lags.append(target.lag)
    well = f"{'the others ' if ill else ''}at most {max(lags, default=0)} entries behind"
    return _check("replication", not ill, "; ".join([*([listed(ill)] if ill else []), *([well] if lags or not ill else [])]))


def _recovery(survey: Survey) -> Check:
    leader = survey.leader
    found = [f"node {status.node_id} is recovering" for status in survey.statuses if status.recovering is not None]
    found += [f"node {status.node_id} is {status.birth}" for status in survey.statuses if status.birth != "started"]
    armed = (leader.replication or {}).items() if leader is not None else ()
    found += [f"node {node_id} may revert" for node_id, target in armed if target.revert_armed]
    return _check("recovery", not found, listed(found) if found else "no node recovering, blank or armed")


def _alarms(survey: Survey) -> Check:
    found = [f"node {status.node_id}: {alarm.code}" for status in survey.statuses for alarm in status.alarms]
    found += [f"node {status.node_id}: {status.fatal}" for status in survey.statuses if status.fatal is not None]
    return _check("alarms", not found, listed(found) if found else "none")
