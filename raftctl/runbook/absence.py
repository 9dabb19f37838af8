"""Taking one node away and having it back: the rules for it, and how it is seen that the cluster is whole again.

Source: field notes B 15, 21 (quorum arithmetic before an action, the next node only when the last one is back).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftctl.errors import CtlError
from raftctl.guards import (
    Finding,
    LockHolder,
    config_settled,
    finding,
    no_lock,
    no_other_recovering,
    one_leader,
    others_healthy,
    quorum_without_target,
    refusal,
    with_overrides,
)
from raftctl.output.text import human_seconds
from raftctl.runbook.catch_up import LAG_SMALL
from raftctl.runbook.engine import Facts, Run
from raftctl.survey import EVERYBODY, Survey

_LOOK_EVERY_S: Final = 0.2


def away_rules(survey: Survey, node: int, lock_holder: LockHolder | None) -> list[Finding]:
    """May this node be away for a while? A quorum without it must be there before."""
    return [
        target_member(survey, node),
        one_leader(survey),
        config_settled(survey, node),
        others_healthy(survey, node),
        no_other_recovering(survey, node),
        *([quorum_without_target(survey, node)] if node in survey.membership.voters else []),
        no_lock(survey, node, lock_holder),
    ]


def hold(run: Run, findings: Sequence[Finding], what: str) -> Facts:
    """Hold the rules once more when a run begins: the world may have moved since the plan was read.

    Raises: CtlError: `refused`.
    """
    error = refusal(with_overrides(findings, run.overrides), what)
    if error is not None:
        raise error
    return {"summary": "all rules hold"}


def target_member(survey: Survey, node: int) -> Finding:
    """It answers, and is the life of a member."""
    members = sorted({*survey.membership.voters, *survey.membership.learners})
    status = survey.status(node)
    if node not in members:
        told = ", ".join(map(str, members))
        return finding("target-member", False, f"members are {told or 'none'}", f"node {node} is a member")
    if status is None or node in survey.down:
        measured = "it does not answer" if status is None else "its engine does not run, or its directory is another's"
        hint = f"start node {node} first, restart it if it hangs; raftctl doctor says what is wrong with it"
        return finding("target-member", False, f"node {node}: {measured}", "it runs as the member it is", hint=hint)
    return finding("target-member", True, f"a {survey.role(node)}, {status.state}", f"node {node} is a member and runs")


def missing(survey: Survey, *, but: int | None = None) -> list[str]:
    """Return what the cluster lacks to be whole: a leader, every member up and following. `but`: this node may be away."""
    if survey.leader is None:
        return ["no node leads"]
    found = []
    for node in sorted({*survey.membership.voters, *survey.membership.learners} - {but}):
        if node == survey.leader.node_id:
            continue
        status, replication = survey.status(node), survey.replication(node)
        if status is None or node in survey.down:
            found.append(f"node {node} is down")
        elif status.recovering is not None:
            found.append(f"node {node} recovers until {status.recovering.until}")
        elif replication is None or replication.state != "replicate" or replication.lag > LAG_SMALL:
            told = (
                f"{replication.lag} entries behind ({replication.state})" if replication is not None else "not followed up"
            )
            found.append(f"node {node} is {told}")
    return found


def until_whole(run: Run, timeout_s: float) -> Survey:
    """Return the survey in which nothing is missing. Raises: CtlError: `not_observed`, it still is when the time is up."""
    again = run.poll(timeout_s, every_s=_LOOK_EVERY_S)
    while True:
        survey = run.client.cluster(patient_with=EVERYBODY)
        lacking = missing(survey)
        if not lacking:
            return survey
        if not again():
            raise CtlError(
                "not_observed",
                f"the cluster is not whole after {human_seconds(timeout_s)}: {'; '.join(lacking)}",
                hint="raftctl doctor says what is wrong and what mends it",
            )
