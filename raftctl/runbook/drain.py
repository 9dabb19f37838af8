"""Preparing a node for maintenance: it leads no more and does not campaign, and still votes and follows.

Its elections are switched off first, so that leadership does not come back once it is handed on. The switch lives in the node's
memory: whoever starts the node again, or runs `raftctl drain NODE --undo`, has it campaign again.
Source: field notes B 12, 21 (move the leader before a reboot); openraft `runtime_config().elect`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from raftctl.confirm import Tier
from raftctl.errors import CtlError
from raftctl.guards import Finding, LockHolder, finding, no_lock
from raftctl.output.text import listed
from raftctl.runbook.absence import away_rules, hold, target_member
from raftctl.runbook.engine import Facts, Plan, Run, Runbook, Step
from raftctl.runbook.leadership import hand_over
from raftctl.session import Session
from raftctl.survey import EVERYBODY, Survey

_WAIT_S = 10.0


class DrainParams(msgspec.Struct, frozen=True, kw_only=True):
    """`undo`: have the node campaign again."""

    node: int
    undo: bool = False


class Drain(Runbook):
    """Leadership off one node, or the way back."""

    name = "drain"

    def __init__(self, params: DrainParams) -> None:
        self.params: DrainParams = params
        self._node = params.node

    def plan(self, _session: Session, survey: Survey, lock_holder: LockHolder | None) -> Plan:
        node = self._node
        status = survey.status(node)
        if self.params.undo:
            findings = [target_member(survey, node), no_lock(survey, node, lock_holder)]
            steps = [f"have node {node} campaign again when it hears no leader"]
            what = f"taking back the drain of node {node} of cluster {survey.cluster}"
        else:
            findings = self._rules(survey, lock_holder)
            leads = survey.leader is not None and survey.leader.node_id == node
            steps = [
                f"keep node {node} from campaigning (enable_elect off, until it is started again or drain --undo)",
                f"hand leadership from node {node} to the voter that is least behind and not drained itself"
                if leads
                else f"node {node} does not lead",
                "nothing else changes: it votes and follows; it may be stopped for as long as a quorum is up without it",
            ]
            what = f"draining node {node} of cluster {survey.cluster}"
        campaigned = status is None or status.runtime_config.enable_elect
        facts = {"cluster": survey.cluster, "campaigned": campaigned}
        return Plan(
            cluster=survey.cluster, what=what, findings=findings, steps=steps, tier=Tier.MODERATE, node=node, facts=facts
        )

    def steps(self, run: Run) -> Sequence[Step]:  # noqa: ARG002 (the parameters say it all)
        node = self._node
        if self.params.undo:
            return [Step(name="campaign", title=f"Have node {node} campaign again", do=self._loud)]
        return [
            Step(name="preflight", title="Hold every rule against the cluster once more", do=self._preflight),
            Step(name="mute", title=f"Keep node {node} from campaigning", do=self._mute, undo=self._unmute),
            Step(name="hand-over", title=f"Hand leadership from node {node}", do=self._hand_over, verify=self._leads_not),
        ]

    def _rules(self, survey: Survey, lock_holder: LockHolder | None) -> list[Finding]:
        voters = survey.membership.voters
        threshold = f"node {self._node} is a voter; a learner neither leads nor campaigns"
        voter = finding("target-voter", self._node in voters, f"voters are {listed(voters)}", threshold)
        return [voter, *away_rules(survey, self._node, lock_holder)]

    def _preflight(self, run: Run) -> Facts:
        return hold(run, self._rules(run.session.survey(patient_with=EVERYBODY), None), f"drain {self._node}")

    def _mute(self, run: Run) -> Facts:
        self._set(run, campaigns=False)
        return {"summary": f"node {self._node} does not campaign"}

    def _unmute(self, run: Run) -> None:
        if run.facts["campaigned"]:
            self._set(run, campaigns=True)

    def _loud(self, run: Run) -> Facts:
        self._set(run, campaigns=True)
        return {"summary": f"node {self._node} campaigns when it hears no leader"}

    def _set(self, run: Run, *, campaigns: bool) -> None:
        """Set it, and look: a lost reply is no reason to give up."""
        try:
            run.client.set_runtime_config(self._node, {"enable_elect": campaigns}, wait_s=_WAIT_S)
        except CtlError as error:
            if not error.outcome_unknown:
                raise
        again = run.poll(_WAIT_S)
        while run.client.status(self._node).runtime_config.enable_elect is not campaigns:
            if not again():
                raise CtlError("not_observed", f"node {self._node} does not take enable_elect = {str(campaigns).lower()}")

    def _hand_over(self, run: Run) -> Facts:
        return hand_over(run, self._node)

    def _leads_not(self, run: Run) -> None:
        leader = run.client.cluster().leader
        if leader is None or leader.node_id == self._node:
            raise CtlError("not_observed", "no other node leads")

    def receipt(self, run: Run) -> Facts:
        return {"undo": self.params.undo, "handed_to": run.facts.get("handed_to")}

    def receipt_lines(self, data: Mapping[str, Any]) -> list[str]:
        node = data["node"]
        if data["undo"]:
            return [f"Node {node} of cluster {data['cluster']} campaigns again."]
        to = f"node {data['handed_to']} leads" if data["handed_to"] else "it did not lead"
        return [
            f"Node {node} of cluster {data['cluster']} is drained: {to}; it does not campaign until it is started again.",
            f"  back:      raftctl drain {node} --undo",
        ]
