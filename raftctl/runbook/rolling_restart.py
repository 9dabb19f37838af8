"""Restarting every node, one after the other, without a moment in which the cluster could not write.

Followers first and the leader last, after it has handed over; the next node goes only when the one before is back, follows, and
nothing else is missing. What "restart" means is the driver's: `http` restarts the engine inside the process, the others the process.
Going back: a node that was stopped is started; there is nothing else to take back.
Going on after a crash: the life of a node is written down before it is stopped. A node that runs as another life was restarted.
Source: field notes A.3.2, B 15, 21; etcd operations guide (one member at a time, the leader last).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from raftctl.confirm import Tier
from raftctl.errors import CtlError
from raftctl.guards import Finding, LockHolder, config_settled, finding, no_lock, no_other_recovering, one_leader
from raftctl.model import Life
from raftctl.output.text import listed
from raftctl.runbook.absence import missing, until_whole
from raftctl.runbook.choose_driver import driver_of
from raftctl.runbook.drivers import Driver, look
from raftctl.runbook.engine import Facts, Plan, Run, Runbook, Step
from raftctl.runbook.leadership import hand_over, let_writes_end
from raftctl.session import Session
from raftctl.survey import Survey

NOBODY: Final = 0
"""Rules that are about one node, asked for none."""


class RestartParams(msgspec.Struct, frozen=True, kw_only=True):
    """`only`: these nodes; empty: all members. `drivers`: by node. `timeout_s`: for one node to be back and follow."""

    only: list[int] = []
    drivers: dict[int, str]
    timeout_s: float


class RollingRestart(Runbook):
    """One node after the other."""

    name = "rolling-restart"

    def __init__(self, params: RestartParams) -> None:
        self.params: RestartParams = params

    def plan(self, _session: Session, survey: Survey, lock_holder: LockHolder | None) -> Plan:
        order = restart_order(survey, self.params.only)
        leader = survey.leader
        inside = [node for node in order if self.params.drivers.get(node, "http") == "http"]
        steps = [_sentence(node, self.params.drivers.get(node, "http"), survey) for node in order]
        if inside:
            steps.append(
                f"http restarts the engine of node {listed(inside)} inside its process; --driver command, local or manual restarts processes"
            )
        steps.append("a failure or Ctrl-C starts the node that is stopped, and leaves the others as they are")
        return Plan(
            cluster=survey.cluster,
            what=f"restarting node {listed(order)} of cluster {survey.cluster}, one after the other",
            findings=self._rules(survey, lock_holder),
            steps=steps,
            tier=Tier.MODERATE,
            facts={"cluster": survey.cluster, "order": order, "leader": leader.node_id if leader is not None else None},
        )

    def steps(self, run: Run) -> Sequence[Step]:
        order: list[int] = run.facts["order"]
        return [self.step_of(node) for node in order]

    def step_of(self, node: int) -> Step:
        """Restart one node; also a step of other runbooks."""
        return Step(
            name=f"restart-{node}",
            title=f"Restart node {node} ({self.params.drivers.get(node, 'http')})",
            precheck=partial(self._may_go, node=node),
            do=partial(self._restart, node=node),
            undo=partial(self._have_it_run, node=node),
        )

    def _rules(self, survey: Survey, lock_holder: LockHolder | None) -> list[Finding]:
        members = sorted({*survey.membership.voters, *survey.membership.learners})
        unknown = [node for node in self.params.only if node not in members]
        voters = survey.membership.voters
        lacking = missing(survey)
        going = restart_order(survey, self.params.only)
        findings = [
            finding(
                "target-member",
                not unknown and bool(going),
                f"members are {listed(members) or 'none'}",
                "the nodes are members",
            ),
            one_leader(survey),
            config_settled(survey, None),
            finding("all-healthy", not lacking, "; ".join(lacking) or "every member runs and follows", "nothing is missing"),
            no_other_recovering(survey, NOBODY),
            no_lock(survey, NOBODY, lock_holder),
        ]
        if len(voters) < 3 and set(going) & set(voters):
            measured = f"{len(voters)} voter{'s' if len(voters) != 1 else ''}: writes stop while one is away"
            findings.append(
                finding("writes-go-on", False, measured, "at least 3 voters", overridable=True),
            )
        return findings

    # -- one node ----------------------------------------------------------------------------------------------------------

    def _driver(self, run: Run, node: int) -> Driver:
        name = self.params.drivers.get(node, "http")
        return driver_of(run, node, name, str(run.facts["cluster"]), self.params.timeout_s)

    def _may_go(self, run: Run, *, node: int) -> None:
        """Everybody else is well: waited for, since the node before has only just come back."""
        if f"life_{node}" in run.facts:
            return  # it was on its way when this was looked at
        self._driver(run, node)  # what the context lacks for it is found now
        until_whole(run, self.params.timeout_s)

    def _restart(self, run: Run, *, node: int) -> Facts:
        before = run.fact(f"life_{node}", Life)
        now = look(run.client, node)
        if before is None:
            before = run.client.status(node).life
            run.record(**{f"life_{node}": before})
        if now is not None and not now.stopped and now.life == before:
            hand_over(run, node, self.params.timeout_s)
            let_writes_end(run, node, self.params.timeout_s)  # a run that goes on may find it handed over already
            until_whole(run, self.params.timeout_s)
        if now is None or now.stopped or now.life == before:
            driver = self._driver(run, node)
            driver.stop()
            driver.start()
        survey = until_whole(run, self.params.timeout_s)
        status = survey.status(node)
        if status is None or status.life == before:
            raise CtlError("not_observed", f"node {node} runs, but it was not restarted")
        return {"summary": f"node {node} is back ({_boots(before, status.life)}) and follows", f"restarted_{node}": True}

    def _have_it_run(self, run: Run, *, node: int) -> None:
        if f"life_{node}" not in run.facts:
            return
        status = look(run.client, node)
        if status is None or status.stopped:
            self._driver(run, node).start()

    def attention(self, run: Run, *, way_back: bool) -> str:
        return f"see that every node runs (raftctl status); then {run.going_on(self, way_back=way_back)}"

    def receipt(self, run: Run) -> Facts:
        order: list[int] = run.facts["order"]
        return {"order": order, "restarted": [node for node in order if run.facts.get(f"restarted_{node}")]}

    def receipt_lines(self, data: Mapping[str, Any]) -> list[str]:
        return [f"Restarted one after the other in cluster {data['cluster']}: node {listed(data['restarted'])}; all follow."]


def restart_order(survey: Survey, only: Sequence[int]) -> list[int]:
    """Learners, then followers (those that are behind last), then the leader."""
    membership = survey.membership
    members = [node for node in {*membership.voters, *membership.learners} if not only or node in only]
    leader = survey.leader.node_id if survey.leader is not None else None

    def place(node: int) -> tuple[bool, bool, int, int]:
        return (node == leader, node in membership.voters, survey.lag(node) or 0, node)

    return sorted(members, key=place)


def _sentence(node: int, driver: str, survey: Survey) -> str:
    leads = survey.leader is not None and survey.leader.node_id == node
    first = "hand leadership on, then " if leads else ""
    return f"{first}restart node {node} ({driver}), and wait until it follows and nothing is missing"


def _boots(before: Life, now: Life) -> str:
    if now.boot_count != before.boot_count:
        return f"boot {before.boot_count} -> {now.boot_count}"
    return f"engine start {before.engine_starts} -> {now.engine_starts}"
