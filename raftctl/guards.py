"""The rules that must hold before a dangerous action: each with an id, what was measured, and what it was measured against.

Pure: a survey goes in, findings come out. A refusal prints the numbers; a rule that may be overridden is overridden by its
own name, never by one switch for all.
Source: design of rejoin (preflight rules); field notes A.3.3, B 14, 15, 21.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from raftctl.errors import CtlError, usage
from raftctl.model import NodeStatus, index_of
from raftctl.output.text import human_bytes, human_ms, listed
from raftctl.survey import Absence, Survey
from raftctl.ways_back import is_older_copy, no_leader, of_gone, of_new_life, of_older_copy, of_silent, to_a_quorum

LAG_MAX: Final = 5000
"""Entries another voter may be behind: openraft's replication_lag_threshold."""
CONTACT_MS_MIN: Final = 1000.0
"""Silence that is never held against a node: three of the default engine's election timeouts; a busy machine passes."""
SPACE_RESERVE_BYTES: Final = 64 * 1024 * 1024
"""Beside the data itself: one log segment and a snapshot's temporary file."""

PASSING: Final = frozenset({"one-leader", "config-settled", "others-healthy", "all-healthy"})
"""Rules that a cluster which is well breaks for a moment: during an election, or while a disk stalls."""


class Verdict(enum.StrEnum):
    """`step`: does not hold yet, the runbook sees to it first."""

    OK = "ok"
    WARN = "warn"
    STEP = "step"
    FAIL = "fail"
    OVERRIDDEN = "overridden"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One rule held against the world."""

    rule: str
    verdict: Verdict
    measured: str
    threshold: str
    hint: str = ""
    overridable: bool = False


class LockHolder(msgspec.Struct, frozen=True):
    """The run that is in the way of another one: its id, whether it began on this machine, and all that is known of it."""

    run: str
    is_of_this_machine: bool
    text: str

    def __str__(self) -> str:
        return self.text


def finding(rule: str, holds: bool, measured: str, threshold: str, *, hint: str = "", overridable: bool = False) -> Finding:
    verdict = Verdict.OK if holds else Verdict.FAIL
    return Finding(rule=rule, verdict=verdict, measured=measured, threshold=threshold, hint=hint, overridable=overridable)


def with_overrides(findings: Sequence[Finding], overrides: Sequence[str]) -> list[Finding]:
    """Return the findings with the named rules overridden.

    Raises: CtlError: usage, a name is no rule of this action or must not be overridden.
    """
    known = {item.rule: item for item in findings}
    for rule in overrides:
        if rule not in known:
            raise usage(f"--override {rule}: no such rule here", f"the rules are: {', '.join(known) or 'none'}")
        if not known[rule].overridable:
            may = ", ".join(item.rule for item in findings if item.overridable) or "none"
            raise usage(f"--override {rule}: this rule cannot be overridden", f"rules that can: {may}")
    return [
        msgspec.structs.replace(item, verdict=Verdict.OVERRIDDEN)
        if item.verdict is Verdict.FAIL and item.rule in overrides
        else item
        for item in findings
    ]


def refusal(findings: Sequence[Finding], what: str) -> CtlError | None:
    """Return why it must not be done, None if it may."""
    failed = [item for item in findings if item.verdict is Verdict.FAIL]
    if not failed:
        return None
    reasons = "; ".join(f"{item.rule}: {item.measured} (needs: {item.threshold})" for item in failed)
    return CtlError(
        "refused",
        f"{what} is refused, nothing was changed: {reasons}",
        hint=_hints(failed),
        rule_ids=[item.rule for item in failed],
        measured={item.rule: {"measured": item.measured, "threshold": item.threshold} for item in failed},
    )


def _hints(failed: Sequence[Finding]) -> str:
    """Return what to do about all of them; that some can be overridden is said only if that is all it takes."""
    enough = all(item.overridable for item in failed)
    told = list(dict.fromkeys(item.hint for item in failed if item.hint and (enough or not item.overridable)))
    if not told and enough:
        return "to go on all the same: " + " ".join(f"--override {item.rule}" for item in failed)
    return "; ".join(told)


# -- rules of the triggers -----------------------------------------------------------------------------------------------


def has_leader(survey: Survey) -> Finding:
    leader = survey.leader
    if leader is not None:
        return finding("one-leader", True, f"node {leader.node_id} leads term {leader.term}", "a leader")
    measured, hint = no_leader(survey)
    return finding("one-leader", False, measured, "a leader", hint=hint)


def transfer_rules(survey: Survey, to: int) -> list[Finding]:
    """May leadership go to node `to`? The leader holds its own rules as well; these say it before anything is asked."""
    leader = survey.leader
    findings = [has_leader(survey)]
    voters = survey.membership.voters
    no_voter = (
        f"a learner cannot lead: raftctl member promote {to}" if to in survey.membership.learners else _nobody(survey, to)
    )
    hint = "" if to in voters else no_voter
    findings.append(
        finding("target-voter", to in voters, f"voters are {listed(voters)}", f"node {to} is a voter", hint=hint)
    )
    if leader is None:
        return findings
    leads = leader.node_id == to
    hint = f"node {to} already leads term {leader.term}: nothing to do" if leads else ""
    needs = f"node {to} does not lead"
    findings.append(finding("target-not-leader", not leads, f"node {leader.node_id} leads", needs, hint=hint))
    if leads or to not in voters:
        return findings
    reached = _target_reachable(survey, to)
    findings.append(reached)
    replication = survey.replication(to)
    if replication is not None and reached.verdict is Verdict.OK:
        measured = f"node {to} is {replication.lag} entries behind ({replication.state})"
        flows = replication.state == "replicate" and replication.lag <= LAG_MAX
        findings.append(finding("target-caught-up", flows, measured, f"at most {LAG_MAX} behind, state replicate"))
    return findings


def _nobody(survey: Survey, node_id: int) -> str:
    """Return the hint for a number that no member has."""
    members = sorted({*survey.membership.voters, *survey.membership.learners})
    return f"there is no member {node_id}, known are {listed(members)}; see: raftctl nodes"


def _target_reachable(survey: Survey, to: int) -> Finding:
    """How far a node is behind that nobody reaches says nothing. Only that *we* do not reach it can be answered for."""
    replication = survey.replication(to)
    cut_off = replication is not None and replication.state == "unreachable"
    why_not = _why_not_up(survey, to)
    up = survey.up_without(to)
    return finding(
        "target-reachable",
        why_not is None,
        why_not or f"node {to} answers",
        f"node {to} answers, runs its engine, and is reached by the leader",
        hint=f"see: raftctl doctor; voters that are up: {listed(up) or 'none'}",
        overridable=survey.status(to) is None and not cut_off,
    )


def _why_not_up(survey: Survey, node_id: int) -> str | None:
    """Return what keeps a node from taking part, in words; None: nothing that shows."""
    status = survey.status(node_id)
    if status is None:
        report = survey.report(node_id)
        why = report.error.detail if report is not None and report.error is not None else "no answer"
        return f"node {node_id} does not answer: {why}"
    if status.fatal is not None:
        return f"the engine of node {node_id} failed: {status.fatal}"
    if status.stopped:
        return f"the engine of node {node_id} is stopped"
    if survey.is_new_life(status):
        return f"node {node_id} lost its directory"
    absence = survey.absence(node_id)
    if absence is Absence.UNREACHED:
        address = survey.membership.nodes.get(node_id)
        return f"the leader does not reach node {node_id}" + (f" at {address.raft}" if address is not None else "")
    return f"node {node_id} {absence}" if absence is not None else None


def elect_rules(survey: Survey, node: int) -> list[Finding]:
    """May this node campaign?"""
    voters = survey.membership.voters
    status = survey.status(node)
    findings = [finding("target-voter", node in voters, f"voters are {listed(voters)}", f"node {node} is a voter")]
    if status is not None:
        until = f"until {status.recovering.until}" if status.recovering is not None else "not recovering"
        findings.append(finding("target-whole", status.recovering is None, f"node {node}: {until}", "not recovering"))
    return findings


def purge_rules(status: NodeStatus, upto: int, *, strict: bool) -> list[Finding]:
    """Is there a snapshot that covers what is to go?"""
    end = index_of(status.snapshot)
    purged = index_of(status.purged)
    if upto <= purged:
        return [finding("snapshot-covers", True, f"purged up to {purged} already", "nothing to do")]
    runs = not status.stopped and status.fatal is None
    hint = (
        f"raftctl snapshot --node {status.node_id}" if runs else "its engine does not run; raftctl doctor says what mends it"
    )
    measured = f"the snapshot of node {status.node_id} ends at {end}" if end else f"node {status.node_id} has no snapshot"
    if strict:
        applied = index_of(status.applied)
        if upto > applied:
            hint = f"node {status.node_id} has applied {applied} entries: no snapshot covers more; leave out --strict"
        elif end > purged and runs:
            hint = f"{hint}, then the same again; without --strict it would purge up to {end}"
        needs = f"a snapshot up to {upto}, as --strict demands"
        return [finding("snapshot-covers", upto <= end, measured, needs, hint=hint)]
    return [finding("snapshot-covers", end > 0, measured, "a snapshot", hint=hint)]


def revert_rules(survey: Survey, to: int) -> list[Finding]:
    """Is there a leader to give the permission, and a member to get it?"""
    findings = [has_leader(survey)]
    members = sorted({*survey.membership.voters, *survey.membership.learners})
    hint = "" if to in members else _nobody(survey, to)
    findings.append(
        finding("target-member", to in members, f"members are {listed(members)}", f"node {to} is a member", hint=hint)
    )
    if survey.leader is not None:
        leads = survey.leader.node_id == to
        findings.append(
            finding("target-not-leader", not leads, f"node {survey.leader.node_id} leads", f"node {to} does not lead")
        )
    return findings


# -- preflight of rejoin-node --------------------------------------------------------------------------------------------


def rejoin_rules(survey: Survey, target: int, lock_holder: LockHolder | None) -> list[Finding]:
    """Return all rules of way A, each measured, in the order of the table.

    Args:
        lock_holder: who holds the cluster's lock, None: nobody.
    """
    return [
        _identity(survey, target),
        one_leader(survey),
        _not_leader(survey, target),
        config_settled(survey, target),
        others_healthy(survey, target),
        no_other_recovering(survey, target),
        _holders_without_target(survey, target),
        _snapshot_or_log(survey),
        _space(survey, target),
        no_lock(survey, target, lock_holder),
    ]


def _identity(survey: Survey, target: int) -> Finding:
    status = survey.status(target)
    report = survey.report(target)
    threshold = "it answers, is the life that the configuration names, and has what it acknowledged"
    if status is None:
        why = (
            report.error.detail
            if report is not None and report.error is not None
            else "no endpoint and no member has this id"
        )
        hint = f"it must answer first: {of_silent(survey, target)}; restart it if it hangs"
        return finding("identity", False, f"node {target} does not answer: {why}", threshold, hint=hint)
    lives = survey.membership.incarnations.get(target, ())
    named = f"named: {listed(life[:8] for life in lives)}" if lives else "no life of it is named"
    measured = f"{status.cluster}/{target}, incarnation {status.incarnation[:8]}, {named}"
    if status.directory_gone:
        told = f"{measured}; its engine stopped: its directory was moved, removed or replaced"
        return finding("identity", False, told, threshold, hint=of_gone(survey, target))
    if is_older_copy(survey, status):
        told = f"{measured}; it has less than it acknowledged, and may have forgotten votes too"
        return finding("identity", False, told, threshold, hint=of_older_copy(survey, target))
    fresh = status.birth != "started" or (bool(lives) and status.incarnation not in lives)
    hint = ""
    if fresh and lives:
        hint = f"its directory is new: {of_new_life(survey, target)}"
    same_cluster = survey.view is not None and (status.cluster, status.cluster_id) == (
        survey.view.cluster,
        survey.view.cluster_id,
    )
    started = status.birth == "started"
    return finding("identity", same_cluster and started and status.incarnation in lives, measured, threshold, hint=hint)


def _others(survey: Survey, target: int) -> list[int]:
    return [node_id for node_id in survey.membership.voters if node_id != target]


def _told_besides(survey: Survey, target: int) -> str:
    count = len(survey.membership.voters)
    absent = [
        f"node {node_id} {survey.absences[node_id]}" for node_id in _others(survey, target) if not survey.is_up(node_id)
    ]
    told = f"{len(survey.up_without(target))} of {count} voters besides node {target} are up"
    return told + (f" ({listed(absent)})" if absent else "")


def one_leader(survey: Survey) -> Finding:
    """Who is stopped, failed or blank knows nothing new, and is not asked."""
    voters = survey.membership.voters
    asked = [status for status in survey.statuses if status.node_id in voters and survey.runs(status.node_id)]
    words = sorted({(status.leader or 0, status.term) for status in asked})
    agree = survey.leader is not None and words == [(survey.leader.node_id, survey.leader.term)]
    measured = listed(f"{f'node {leader}' if leader else 'nobody'} leads term {term}" for leader, term in words)
    who = "1 voter says" if len(asked) == 1 else f"{len(asked)} voters say"
    hint = "if it lasts, raftctl doctor says what mends it"
    return finding("one-leader", agree, f"{who}: {measured}", "all say the same leader and term", hint=hint)


def _not_leader(survey: Survey, target: int) -> Finding:
    leader = survey.leader
    if leader is None or leader.node_id != target:
        measured = f"node {leader.node_id} leads" if leader is not None else "nobody leads"
        return finding("not-leader", True, measured, f"node {target} does not lead")
    return Finding(
        rule="not-leader",
        verdict=Verdict.STEP,
        measured=f"node {target} leads; leadership is transferred first",
        threshold=f"node {target} does not lead",
    )


def config_settled(survey: Survey, target: int | None) -> Finding:
    """One set of voters, committed, and known alike by all who run; `target` need not know it."""
    membership = survey.membership
    members = {*membership.voters, *membership.learners} - {target}
    asked = [status for status in survey.statuses if status.node_id in members and survey.runs(status.node_id)]
    told = {index_of(status.membership.log_id) for status in asked}
    sets = "->".join("{" + ",".join(map(str, config)) + "}" for config in membership.configs) or "{}"
    committed = "committed" if membership.committed else "not committed"
    known = {0: "nobody who is up was asked", 1: "known alike by all"}.get(len(told), "known alike by some only")
    measured = f"{sets} of {membership.log_id or '-'}, {committed}, {known}"
    settled = len(membership.configs) == 1 and membership.committed and len(told) == 1
    return finding("config-settled", settled, measured, "one voter set, committed, known alike by all")


def others_healthy(survey: Survey, target: int) -> Finding:
    timeout_ms = survey.view.election_timeout_max_ms if survey.view is not None else None
    contact_ms = max(timeout_ms or 0.0, CONTACT_MS_MIN)
    told: list[str] = []
    ill = 0
    for node_id in _others(survey, target):
        word, well = _health(survey, node_id, contact_ms)
        told.append(f"node {node_id} {word}")
        ill += not well
    threshold = f"every other voter reachable, at most {LAG_MAX} behind, heard of within {human_ms(contact_ms)}"
    hint = "" if not ill else "a quorum without the target may be enough: --override others-healthy"
    return finding(
        "others-healthy",
        ill == 0 and bool(told),
        ", ".join(told) or "no other voter",
        threshold,
        hint=hint,
        overridable=True,
    )


def _health(survey: Survey, node_id: int, contact_ms: float) -> tuple[str, bool]:
    if survey.leader is not None and survey.leader.node_id == node_id:
        quorum_ms = survey.leader.last_quorum_acked_ms_ago
        return f"leads (quorum {human_ms(quorum_ms)} ago)", quorum_ms is None or quorum_ms <= contact_ms
    if survey.status(node_id) is None or node_id in survey.down:
        return "is down", False
    replication = survey.replication(node_id)
    if replication is None:
        return "is not told of by a leader", False
    contact = replication.last_ack_ms_ago
    well = replication.lag <= LAG_MAX and contact is not None and contact <= contact_ms and replication.state == "replicate"
    return f"is {replication.lag} behind, heard {human_ms(contact)} ago ({replication.state})", well


def no_other_recovering(survey: Survey, target: int) -> Finding:
    found: list[str] = []
    members = {*survey.membership.voters, *survey.membership.learners}
    for status in survey.statuses:
        if status.node_id == target or status.node_id not in members:
            continue  # a blank node that belongs to nobody yet takes nothing away
        if status.recovering is not None:
            found.append(f"node {status.node_id} is recovering")
        if status.birth != "started":
            found.append(f"node {status.node_id} is {status.birth}")
    leader = survey.leader
    for node_id, replication in (leader.replication or {}).items() if leader is not None else ():
        if node_id != target and replication.revert_armed:
            found.append(f"node {node_id} may revert")
        if node_id != target and replication.state == "reverted":
            found.append(f"node {node_id} has reverted")
    threshold = "no other member blank, recovering, reverted or armed"
    return finding("no-other-recovering", not found, ", ".join(found) or "none", threshold)


def _holders_without_target(survey: Survey, target: int) -> Finding:
    """n - q + 1 holders other than the target: enough that every later quorum meets one of them."""
    voters = survey.membership.voters
    count = len(voters)
    quorum = count // 2 + 1
    needed = count - quorum + 1
    up = survey.up_without(target)
    measured = _told_besides(survey, target)
    holds = count > 1 and len(up) >= needed
    hint = "a cluster of one comes back from a snapshot, not from others" if count == 1 else ""
    result = finding("holders-without-target", holds, measured, f"at least {needed}", hint=hint)
    is_voter = target in voters
    if holds and is_voter and len(up) < quorum:
        stop = f"{measured}; fewer than a quorum of {quorum}: writes stop until node {target} is back"
        return msgspec.structs.replace(result, verdict=Verdict.WARN, measured=stop)
    return result


def _snapshot_or_log(survey: Survey) -> Finding:
    leader = survey.leader
    if leader is None:
        return finding("snapshot-or-log", False, "nobody leads", "the leader can ship everything")
    purged = index_of(leader.purged)
    end = index_of(leader.snapshot)
    last = index_of(leader.last_log)
    log = f"log from {purged + 1} to {last}" if last > purged else f"no log behind {last}"
    measured = f"snapshot up to {end or '-'}, {log}"
    holds = purged == 0 or end >= purged
    return finding("snapshot-or-log", holds, measured, "log from 1, or a snapshot up to where the log begins")


def _space(survey: Survey, target: int) -> Finding:
    status = survey.status(target)
    free = status.free_bytes if status is not None else None
    size = (survey.leader.data_bytes or 0) if survey.leader is not None else 0
    needed = size + SPACE_RESERVE_BYTES
    measured = f"{human_bytes(free)} free" if free is not None else "not known"
    return finding(
        "space", free is not None and free >= needed, measured, f"at least {human_bytes(needed)}", overridable=True
    )


def no_lock(survey: Survey, target: int, lock_holder: LockHolder | None) -> Finding:
    found: list[str] = []
    hint = ""
    if lock_holder is not None:
        found.append(lock_holder.text)
        where = "" if lock_holder.is_of_this_machine else "there, "
        hint = (
            f"wait for it; if its process is dead: {where}raftctl runs resume {lock_holder.run}, "
            f"or raftctl runs abort {lock_holder.run}"
        )
    replication = survey.replication(target)
    if replication is not None and replication.revert_armed:
        found.append(f"node {target} may revert already (for {human_ms(replication.revert_armed_ms_left)} more)")
        hint = hint or f"another rejoin may be under way; if not: raftctl allow-next-revert --to {target} --no-allow"
    status = survey.status(target)
    if status is not None and status.recovering is not None:
        found.append(f"node {target} is recovering until {status.recovering.until}")
        hint = hint or "it may come back by itself: raftctl health --wait; to begin again: --override no-lock"
    threshold = "no other runbook of this cluster under way"
    return finding("no-lock", not found, ", ".join(found) or "free", threshold, hint=hint, overridable=True)


# -- preflight of rejoin-node --blank --------------------------------------------------------------------------------------


def blank_rules(survey: Survey, target: int, lock_holder: LockHolder | None, *, starts: bool) -> list[Finding]:
    """Return all rules of way B, each measured.

    Args:
        starts: the runbook starts the node itself, so it need not answer yet.
    """
    return [
        _blank_target(survey, target, starts=starts),
        one_leader(survey),
        config_settled(survey, target),
        others_healthy(survey, target),
        no_other_recovering(survey, target),
        quorum_without_target(survey, target),
        _snapshot_or_log(survey),
        _blank_space(survey, target, starts=starts),
        no_lock(survey, target, lock_holder),
    ]


def _blank_target(survey: Survey, target: int, *, starts: bool) -> Finding:
    """A node whose directory is new: its life is none that the configuration names."""
    status = survey.status(target)
    is_voter = target in survey.membership.voters
    lives = survey.membership.incarnations.get(target, ())
    threshold = "a voter whose present life the configuration does not name"
    if status is None:
        measured = f"node {target} does not answer" + ("; it is started first" if starts else "")
        hint = "" if starts else of_silent(survey, target)
        return finding("blank-target", starts and is_voter, measured, threshold, hint=hint)
    measured = f"incarnation {status.incarnation[:8]}, {status.birth}; named: {listed(life[:8] for life in lives)}"
    same_cluster = survey.view is not None and status.cluster == survey.view.cluster
    is_blank = bool(lives) and status.incarnation not in lives
    hint = _way_of_named_life(survey, status) if not is_blank and is_voter else ""
    if is_blank and not is_voter:
        hint = f"a learner has no vote to lose: raftctl allow-next-revert --to {target}"
    return finding("blank-target", is_voter and same_cluster and is_blank, measured, threshold, hint=hint)


def _way_of_named_life(survey: Survey, status: NodeStatus) -> str:
    """Return what to do about a node that is the life which the configuration names, so that it is not let in as another."""
    if status.directory_gone:
        return of_gone(survey, status.node_id)
    if is_older_copy(survey, status):
        return of_older_copy(survey, status.node_id)
    return f"it has its data and its vote: raftctl rejoin-node {status.node_id}"


def quorum_without_target(survey: Survey, target: int) -> Finding:
    """The old life never answers again, so the change is decided by a quorum of the others."""
    count = len(survey.membership.voters)
    quorum = count // 2 + 1
    up = survey.up_without(target)
    measured = _told_besides(survey, target)
    hint = to_a_quorum(survey, without=target)
    if count <= 2:
        hint = f"with so few voters nobody can decide without it: put the directory of node {target} back as it was when it stopped"
    return finding("quorum-without-target", len(up) >= quorum, measured, f"at least {quorum}", hint=hint)


def _blank_space(survey: Survey, target: int, *, starts: bool) -> Finding:
    if starts and survey.status(target) is None:
        return finding("space", True, "not known before it is started", "room for the data", overridable=True)
    return _space(survey, target)


def tolerance_left(survey: Survey, target: int) -> int:
    """Return how many more voters may fail while the target is away; negative: writes stop at once."""
    return len(survey.up_without(target)) - (len(survey.membership.voters) // 2 + 1)
