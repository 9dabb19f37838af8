"""Rules of the doctor about the cluster as a whole, and about how this machine reaches it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Final

from raftctl import what_if
from raftctl.doctor import CLOCK_SKEW_S_MAX, Diagnosis, Facts, Rule, Severity
from raftctl.guards import Verdict, config_settled
from raftctl.health import QUORUM_SILENT_MS_MAX
from raftctl.http_values import host_and_port
from raftctl.output.text import human_ms, listed
from raftctl.survey import Absence, Survey
from raftctl.ways_back import to_a_quorum

_LOOPBACK: Final = re.compile(r"localhost|127\..*|::1")


def _leader(facts: Facts) -> Iterator[Diagnosis]:
    survey = facts.now
    if survey.leader is not None or not survey.statuses or survey.quorum.unknown:
        return
    moved = [node for node in survey.membership.voters if survey.moved_from(node) is not None]
    able = _winners(survey, [])
    sure = [node for node in able if node in _winners(survey, [other for other in moved if other != node])]
    nobody_leads = f"no node leads (latest term {survey.term})"
    if not survey.membership.configs:
        yield Diagnosis(severity=Severity.BAD, evidence="the cluster was not born yet", fix="raftctl init")
    elif sure:
        evidence = f"{nobody_leads}, and node {listed(sure)} could win an election"
        yield Diagnosis(severity=Severity.BAD, evidence=evidence, fix=f"raftctl elect --node {sure[0]}")
    elif able:
        evidence = f"{nobody_leads}, and node {listed(able)} could win only if node {listed(moved)} is reached by its peers"
        yield Diagnosis(severity=Severity.BAD, evidence=evidence, fix=f"see what is said of node {listed(moved)} (links)")
    else:
        evidence = f"{nobody_leads}, and none could win an election"
        yield Diagnosis(severity=Severity.BAD, evidence=evidence, fix="bring back more voters, as the rule quorum says")


def _winners(survey: Survey, without: Sequence[int]) -> list[int]:
    return [chance.node for chance in what_if.chances(survey, without=without) if chance.can_win]


def _stale_leader(facts: Facts) -> Iterator[Diagnosis]:
    leader = facts.now.leader
    for status in facts.now.statuses:
        if status.leads and leader is not None and status.node_id != leader.node_id:
            evidence = f"says that it leads term {status.term}, but node {leader.node_id} leads term {leader.term}"
            fix = (
                f"nothing, if it is over soon; else its links to other nodes are cut: raftctl watch --node {status.node_id}"
            )
            yield Diagnosis(severity=Severity.WARN, node=status.node_id, evidence=evidence, fix=fix)


def _quorum(facts: Facts) -> Iterator[Diagnosis]:
    survey = facts.now
    quorum = survey.quorum
    if quorum.is_lost:
        evidence = f"{_up(survey)}, {quorum.needed} are needed: writes are impossible"
        yield Diagnosis(severity=Severity.BAD, evidence=evidence, fix=to_a_quorum(survey))
    leader = survey.leader
    silent_ms = leader.last_quorum_acked_ms_ago if leader is not None else None
    if leader is not None and silent_ms is not None and silent_ms > QUORUM_SILENT_MS_MAX:
        evidence = f"leads, but heard of a quorum {human_ms(silent_ms)} ago"
        yield Diagnosis(
            severity=Severity.BAD, node=leader.node_id, evidence=evidence, fix="look at its peer links (raft addresses)"
        )


def _tolerance(facts: Facts) -> Iterator[Diagnosis]:
    survey = facts.now
    quorum = survey.quorum
    if not quorum.reached or quorum.tolerance or quorum.unknown:
        return
    if survey.absences:
        evidence = f"{_up(survey)}: the next failure stops writes"
        yield Diagnosis(severity=Severity.WARN, evidence=evidence, fix=_bring_back(survey))
    elif quorum.voters < 3:
        evidence = f"{quorum.voters} voter{'s' if quorum.voters > 1 else ''}: no failure is tolerated"
        yield Diagnosis(
            severity=Severity.INFO, evidence=evidence, fix="raftctl member add ID=RAFT,URL; then raftctl member promote ID"
        )


def _up(survey: Survey) -> str:
    """How many voters are up, and why those that answer all the same are not counted."""
    quorum = survey.quorum
    told = [f"node {node} {why}" for node, why in survey.absences.items() if why is not Absence.DOWN]
    why = f" ({listed(told)})" if told else ""
    return f"{quorum.reachable} of {quorum.voters} voters are up{why}"


def _bring_back(survey: Survey) -> str:
    """Who answers does not lack a start: another rule says what it lacks."""
    silent = [node for node, why in survey.absences.items() if survey.status(node) is None and why is Absence.DOWN]
    others = [node for node in survey.absences if survey.status(node) is not None]
    told = [f"bring back node {listed(silent)}"] if silent else []
    return "; ".join([*told, f"see what is said of node {listed(others)}"] if others else told)


def _odd_voters(facts: Facts) -> Iterator[Diagnosis]:
    count = len(facts.now.membership.voters)
    if count and count % 2 == 0 and len(facts.now.membership.configs) == 1:
        evidence = f"{count} voters tolerate as many failures as {count - 1}, and every write waits for one more"
        yield Diagnosis(severity=Severity.INFO, evidence=evidence, fix="raftctl member promote or demote one")


def _config_settled(facts: Facts) -> Iterator[Diagnosis]:
    """Said only when it was so twice: a change that is under way is not stuck."""
    looks = [config_settled(survey, None) for survey in (facts.before, facts.now)]
    if facts.has_two_looks and facts.now.leader is not None and all(look.verdict is not Verdict.OK for look in looks):
        fix = "raftctl status; the leader finishes the change when a quorum of both voter sets is up"
        yield Diagnosis(severity=Severity.WARN, evidence=f"members are being changed: {looks[1].measured}", fix=fix)


def _one_cluster(facts: Facts) -> Iterator[Diagnosis]:
    found = sorted({(status.cluster, status.cluster_id[:8]) for status in facts.now.statuses if status.cluster_id})
    if len(found) > 1:
        told = listed(f"{name} ({number})" for name, number in found)
        yield Diagnosis(
            severity=Severity.BAD, evidence=f"the endpoints belong to several clusters: {told}", fix="raftctl context show"
        )
    for node in facts.now.nodes:
        if node.error is not None and node.error.code == "other_cluster":
            yield Diagnosis(
                severity=Severity.BAD, evidence=f"{node.management}: {node.error.detail}", fix="raftctl context show"
            )


def _strangers(facts: Facts) -> Iterator[Diagnosis]:
    for status in facts.now.statuses:
        known = facts.now.membership.configs and facts.now.role(status.node_id) == "-"
        if known and status.birth == "started" and not status.stopped:
            evidence = "runs, and is no member of the cluster"
            fix = f"stop its process, or: raftctl member add {status.node_id}=RAFT,URL"
            yield Diagnosis(severity=Severity.WARN, node=status.node_id, evidence=evidence, fix=fix)


def _term_churn(facts: Facts) -> Iterator[Diagnosis]:
    before, now = facts.before.term, facts.now.term
    if facts.has_two_looks and now > before:
        evidence = f"the term rose from {before} to {now} while it was looked at: elections are going on"
        yield Diagnosis(severity=Severity.WARN, evidence=evidence, fix="raftctl watch --kind leader --kind term")


def _endpoints(facts: Facts) -> Iterator[Diagnosis]:
    """A context that lacks a member asks too few when some are down."""
    if facts.context is None:
        return
    named = {host_and_port(endpoint) for endpoint in facts.endpoints}
    members = facts.now.membership.nodes
    missing = [node for node, address in members.items() if host_and_port(address.management) not in named]
    if missing:
        urls = " ".join(f"-e {quote(address.management)}" for _node, address in sorted(members.items()))
        evidence = f"the context {facts.context} does not name node {listed(sorted(missing))}"
        fix = f"raftctl context remove {facts.context} --yes; raftctl context add {facts.context} {urls}"
        yield Diagnosis(severity=Severity.INFO, evidence=evidence, fix=fix)


def _plaintext(facts: Facts) -> Iterator[Diagnosis]:
    places = {endpoint: host_and_port(endpoint) for endpoint in facts.endpoints if endpoint.lower().startswith("http://")}
    far = [endpoint for endpoint, place in places.items() if place is not None and not _LOOPBACK.fullmatch(place[0])]
    if far:
        evidence = f"{listed(far)}: what goes there can be read and changed on the way, tokens too"
        yield Diagnosis(
            severity=Severity.WARN, evidence=evidence, fix="give the nodes certificates ([security]) and use https"
        )


def _token(facts: Facts) -> Iterator[Diagnosis]:
    if facts.token_mode is not None and facts.token_mode & 0o077:
        evidence = f"{facts.token_path} can be read by others on this machine (mode {facts.token_mode & 0o777:03o})"
        yield Diagnosis(severity=Severity.WARN, evidence=evidence, fix=f"chmod 600 {quote(facts.token_path)}")


def _clocks(facts: Facts) -> Iterator[Diagnosis]:
    """Each against this machine's; if all are alike, it is this machine's that is wrong."""
    off = {
        node: skew
        for node, clock in facts.clocks.items()
        if abs(skew := _skew(clock.ahead_min_s, clock.ahead_max_s)) > CLOCK_SKEW_S_MAX
    }
    if off and len(off) == len(facts.clocks) > 1 and max(off.values()) - min(off.values()) <= CLOCK_SKEW_S_MAX:
        seconds = listed(sorted({f"{abs(skew):.0f} s" for skew in off.values()}))
        way = "behind" if min(off.values()) > 0 else "ahead of"
        evidence = f"this machine's clock is at least {seconds} {way} those of all nodes"
        yield Diagnosis(severity=Severity.WARN, evidence=evidence, fix="set this machine's clock (NTP)")
        return
    for node, skew in off.items():
        way = "ahead of" if skew > 0 else "behind"
        evidence = f"its clock is at least {abs(skew):.0f} s {way} this machine's"
        yield Diagnosis(severity=Severity.WARN, node=node, evidence=evidence, fix="set its clock (NTP)")


def _skew(least: float, most: float) -> float:
    """Return how far it is off at the very least; 0 when it may be right."""
    if least > 0:
        return least
    return most if most < 0 else 0.0


def _versions(facts: Facts) -> Iterator[Diagnosis]:
    found = sorted({status.version for status in facts.now.statuses if status.version})
    if len(found) > 1:
        yield Diagnosis(
            severity=Severity.INFO,
            evidence=f"nodes run versions {listed(found)}",
            fix="install one version on all, then restart one node after the other",
        )
    elif found and facts.version and facts.version not in found:
        evidence = f"this program is version {facts.version}, the nodes are {found[0]}"
        yield Diagnosis(severity=Severity.INFO, evidence=evidence, fix="use the raftctl that came with the nodes")


def _unfinished_runs(facts: Facts) -> Iterator[Diagnosis]:
    for run, commands in facts.unfinished_runs.items():
        fix = ", or: ".join(commands) or f"raftctl runs show {run}"
        yield Diagnosis(severity=Severity.WARN, evidence=f"run {run} began on this machine and did not end", fix=fix)


RULES: Final[Mapping[str, Rule]] = {
    "leader": _leader,
    "stale-leader": _stale_leader,
    "quorum": _quorum,
    "tolerance": _tolerance,
    "odd-voters": _odd_voters,
    "config-settled": _config_settled,
    "one-cluster": _one_cluster,
    "strangers": _strangers,
    "term-churn": _term_churn,
    "unfinished-runs": _unfinished_runs,
    "endpoints": _endpoints,
    "plaintext": _plaintext,
    "token-file": _token,
    "clocks": _clocks,
    "versions": _versions,
}
