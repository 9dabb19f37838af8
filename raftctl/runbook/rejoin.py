"""Bringing a voter back whose data is wiped while its vote is kept: way A, step by step.

Stop the node; have the leader append a barrier that enough others hold without it; allow the node to revert; look once more
that leader and term are the same; wipe; start; watch it catch up; prove that its state machine equals the leader's.
The barrier comes after the stop, so that nothing the node ever acknowledged counts above it.

Going back: before the wipe the permission is taken back and the node started. After it, and until the node holds entries
beyond the barrier, it is stopped, gets its retired data back, and is started. What it acknowledged in between is at or below
the barrier, which enough others hold; the leader is told to count none of it. Later, only the way forward is left.
Going on after a crash: see `wiping.py`; every other step looks, or repeats what does no harm twice.
Source: design of rejoin (way A, preflight table, what was model-checked).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from raftctl.confirm import Tier
from raftctl.deadline import poll
from raftctl.errors import CtlError
from raftctl.guards import LockHolder, Verdict, refusal, rejoin_rules, tolerance_left, with_overrides
from raftctl.model import BarrierReply, Expect, Life, LogId, NodeStatus, index_of
from raftctl.output.text import human_bytes, human_seconds, listed
from raftctl.runbook import wiping
from raftctl.runbook.catch_up import watch_catch_up
from raftctl.runbook.choose_driver import driver_of, undoes_wipes
from raftctl.runbook.drivers import Driver, WipeOrder, look
from raftctl.runbook.engine import Facts, Plan, Run, Runbook, Step
from raftctl.runbook.leadership import (
    ARM_TTL_S,
    allow_revert,
    barrier_without,
    disarm,
    hand_over,
    leader_without,
    settle_s,
    until_settled,
)
from raftctl.runbook.proof import prove_equal
from raftctl.session import Session
from raftctl.survey import EVERYBODY, Survey

HEARD_S: Final = 3.0
"""Right after a transfer some voter may not have heard of the new leader yet."""
FOLLOW_S: Final = 30.0
"""For a node that was started again to be replicated to."""


class RejoinParams(msgspec.Struct, frozen=True, kw_only=True):
    """`blank`: way B; `timeout_s`: for the catch-up, and for a person to do what a manual driver asks."""

    node: int
    driver: str
    timeout_s: float
    blank: bool = False


class Rejoin(Runbook):
    """Way A for one node."""

    name = "rejoin-node"

    def __init__(self, params: RejoinParams) -> None:
        self.params: RejoinParams = params
        self._target = params.node

    # -- the plan ----------------------------------------------------------------------------------------------------------

    def plan(self, session: Session, survey: Survey, lock_holder: LockHolder | None) -> Plan:
        node = self._target
        findings = rejoin_rules(survey, node, lock_holder)
        transfers = any(item.verdict is Verdict.STEP for item in findings)
        left = tolerance_left(survey, node)
        tolerance = f"{left} more may fail" if left > 0 else "no other voter may fail"
        tolerance = "writes stop until it is back" if left < 0 else tolerance
        first = [f"hand leadership from node {node} to another voter"] if transfers else []
        undone = "from here on the only way is forward"
        if undoes_wipes(session, node, self.params.driver):
            undone = "as soon as the node holds entries beyond the barrier, the only way is forward"
        status = survey.status(node)
        return Plan(
            cluster=survey.cluster,
            what=f"rejoin node {node} of cluster {survey.cluster}",
            findings=findings,
            tier=Tier.SEVERE,
            node=node,
            steps=[
                *first,
                f"stop the engine of node {node} ({self.params.driver}); meanwhile {tolerance}",
                f"have the leader append a barrier that enough voters other than node {node} hold, and allow the node to revert once",
                f"retire log, snapshots and state machine of node {node}; keep its vote and incarnation",
                f"{undone}; before that, a failure or Ctrl-C undoes everything",
                "start it, watch it catch up, and prove it: equal digests of both state machines at one entry",
            ],
            facts={
                "cluster": survey.cluster,
                "driver": self.params.driver,
                "incarnation": status.incarnation if status is not None else "",
                "reason": session.flags.reason or "",
                "transfers": transfers,
            },
        )

    def steps(self, run: Run) -> Sequence[Step]:
        node = self._target
        first = Step(
            name="transfer",
            title=f"Hand leadership from node {node} to another voter",
            do=lambda run: hand_over(run, node),
        )
        return [
            *([first] if run.facts["transfers"] else []),
            Step(name="preflight", title="Hold every rule against the cluster once more", do=self._preflight),
            Step(
                name="stop",
                title=f"Stop the engine of node {node} ({self.params.driver})",
                precheck=lambda run: self._check_identity(run, look(run.client, node), may_be_silent=True),
                do=self._stop,
                verify=self._is_silent,
                undo=self._start_again,
            ),
            Step(
                name="protect",
                title=f"Barrier without node {node}, then allow it to revert",
                do=self._protect,
                undo=self._take_back_permission,
            ),
            Step(
                name="wipe",
                title=f"Wipe node {node}, keeping its vote",
                do=self._wipe,
                verify=lambda run: wiping.check_wiped(run, node),
                undo=lambda run: wiping.take_back(run, node, self._driver(run)),
            ),
            Step(name="start", title=f"Start node {node}", do=self._start, verify=self._is_up, undo=self._stop_again),
            Step(name="catch-up", title=f"Watch node {node} catch up", do=self._catch_up),
            Step(
                name="prove",
                title="Compare the state machines",
                do=lambda run: prove_equal(run, node),
            ),
            Step(name="disarm", title="Take back the permission if it was not used", do=self._disarm_if_unused),
        ]

    def attention(self, run: Run, *, way_back: bool) -> str:
        if run.past.undoing:
            return super().attention(run, way_back=way_back)
        return (
            f"node {self._target} recovers by itself while it runs; once it answers, {run.going_on(self, way_back=way_back)}; "
            f"what was done: raftctl runs show {run.run_id}"
        )

    def _driver(self, run: Run) -> Driver:
        return driver_of(run, self._target, self.params.driver, str(run.facts["cluster"]), self.params.timeout_s)

    # -- before the wipe -----------------------------------------------------------------------------------------------

    def _preflight(self, run: Run) -> Facts:
        """The world may have moved since the plan was read."""
        again = poll(HEARD_S)
        while True:
            survey = run.session.survey(patient_with=EVERYBODY)
            findings = with_overrides(rejoin_rules(survey, self._target, None), run.overrides)
            error = refusal(findings, f"rejoin-node {self._target}")
            if error is None or not again():
                break
        if error is not None:
            raise error
        if any(item.verdict is Verdict.STEP for item in findings):
            raise CtlError("refused", f"node {self._target} leads again; run the command once more", rule_ids=["not-leader"])
        self._check_identity(run, survey.status(self._target))
        self._driver(run)  # what the context lacks for it is found now
        return {"summary": "all rules hold"}

    def _check_identity(self, run: Run, status: NodeStatus | None, *, may_be_silent: bool = False) -> None:
        planned = str(run.facts["incarnation"])
        if status is None and may_be_silent:
            return
        life = status.incarnation if status is not None else "nobody"
        if life != planned:
            message = f"node {self._target} is now incarnation {life[:8]}, the plan was made for {planned[:8]}"
            raise CtlError("refused", message, rule_ids=["identity"], hint="make a new plan: run the command again")

    def _stop(self, run: Run) -> Facts:
        """The run of the engine that ends here is what the wipe is bound to."""
        status = look(run.client, self._target)
        if status is not None:
            run.record(life=status.life)
        self._driver(run).stop()
        return {"summary": f"node {self._target} answers nothing from here on"}

    def _is_silent(self, run: Run) -> None:
        status = look(run.client, self._target)
        if status is not None and not status.stopped:
            raise CtlError("not_observed", f"the engine of node {self._target} runs although it was stopped")

    def _start_again(self, run: Run) -> None:
        self._driver(run).start()
        if run.facts.get("ran_wiped"):
            self._until_followed(run)
            disarm(run, self._target)

    def _until_followed(self, run: Run) -> None:
        """Its present log was lost and its old one is back: the leader must have met it before the permission ends."""
        again = run.poll(FOLLOW_S)
        while True:
            replication = run.client.cluster().replication(self._target)
            if replication is not None and replication.state == "replicate" and index_of(replication.matching) > 0:
                return
            if not again():
                raise CtlError(
                    "not_observed", f"node {self._target} has its data back and runs, but no leader follows it up"
                )

    def _protect(self, run: Run) -> Facts:
        """Barrier and permission by one leader in one term; again from the start when that leader is gone."""

        def attempt() -> Facts:
            survey = run.client.cluster()
            status = survey.status(self._target)
            if status is not None and not status.stopped:
                run.note(f"node {self._target} runs again; it is stopped again, and the barrier comes after that")
                self._stop(run)
            leader = leader_without(survey, self._target)
            barrier = barrier_without(run, survey, leader, self._target)
            expect = Expect(term=leader.term, leader=leader.node_id)
            run.client.allow_next_revert(self._target, allow=True, ttl_s=ARM_TTL_S, expect=expect)
            told = f"barrier {barrier.log_id} on node {listed(barrier.acked_by)}; node {self._target} may revert once"
            return {
                "leader": leader.node_id,
                "term": leader.term,
                "barrier": msgspec.to_builtins(barrier),
                "summary": told,
            }

        return until_settled(run, attempt)

    def _take_back_permission(self, run: Run) -> None:
        if run.facts.get("ran_wiped"):
            allow_revert(run, self._target)  # what it acknowledged since is gone from it: none of that counts
        else:
            disarm(run, self._target)

    # -- the wipe ----------------------------------------------------------------------------------------------------------

    def _wipe(self, run: Run) -> Facts:
        return wiping.wipe(run, self._target, self._driver(run), lambda: self._order(run))

    def _order(self, run: Run) -> WipeOrder:
        self._protect_until_now(run)
        return WipeOrder(
            recover_until=self._barrier(run),
            life=run.fact("life", Life),
            reason=str(run.facts["reason"]) or f"raftctl rejoin-node, run {run.run_id}",
        )

    def _barrier(self, run: Run) -> LogId:
        barrier = run.fact("barrier", BarrierReply)
        assert barrier is not None, "the wipe comes after the barrier"
        return barrier.log_id

    def _protect_until_now(self, run: Run) -> None:
        """Look once more; when the leader moved, the new one makes its own barrier."""
        again = run.poll(settle_s(run), every_s=0.2)
        while not self._is_protected(run):
            run.note("the leader moved; barrier and permission are made again")
            if not again():
                raise CtlError("refused", "the leader keeps changing; nothing was wiped", rule_ids=["one-leader"])
            facts = self._protect(run)
            facts.pop("summary")
            run.record(**facts)

    def _is_protected(self, run: Run) -> bool:
        survey = run.client.cluster()
        leader = survey.leader
        if leader is None or (leader.node_id, leader.term) != (run.facts["leader"], run.facts["term"]):
            return False
        status = survey.status(self._target)
        if status is not None:
            self._check_identity(run, status)
            if not status.stopped:
                raise CtlError("refused", f"node {self._target} runs again although it was stopped; nothing was wiped")
        replication = survey.replication(self._target)
        return replication is not None and replication.revert_armed

    # -- after it ----------------------------------------------------------------------------------------------------------

    def _start(self, run: Run) -> Facts:
        run.record(ran_wiped=True)
        self._driver(run).start()
        return {
            "summary": f"it recovers until its log holds {self._barrier(run)}; till then it neither campaigns nor serves reads"
        }

    def _is_up(self, run: Run) -> None:
        if run.client.status(self._target).stopped:
            raise CtlError("not_observed", f"the engine of node {self._target} is stopped although it was started")

    def _stop_again(self, run: Run) -> None:
        self._driver(run).stop()

    def _catch_up(self, run: Run) -> Facts:
        caught_up = watch_catch_up(
            run, self._target, str(run.facts["incarnation"]), self._barrier(run), self.params.timeout_s
        )
        told = f"caught up to entry {caught_up.matching} in {human_seconds(caught_up.seconds)}"
        return {"catch_up": msgspec.to_builtins(caught_up), "summary": told}

    def _disarm_if_unused(self, run: Run) -> Facts:
        unused = disarm(run, self._target)
        return {
            "permission_unused": unused,
            "summary": "it was not used; taken back" if unused else "it was used or has ended; nothing to take back",
        }

    def why_no_undo(self, run: Run) -> str | None:
        """After the wipe: until the node holds entries beyond the barrier."""
        return wiping.why_not_taken_back(run, self._target) if run.has_begun("wipe") else None

    def secure(self, run: Run) -> None:
        if wiping.order_of(run) is not None:
            self._driver(run).start()

    # -- the receipt -------------------------------------------------------------------------------------------------------

    def receipt(self, run: Run) -> Facts:
        kept = ("incarnation", "driver", "barrier", "retired_to", "catch_up", "proof")
        return {name: run.facts.get(name) for name in kept}

    def receipt_lines(self, data: Mapping[str, Any]) -> list[str]:
        return [*proof_lines(data), *_barrier_lines(data)]


def proof_lines(data: Mapping[str, Any]) -> list[str]:
    """Return what both ways back prove, for people."""
    proof, catch_up = data["proof"], data["catch_up"]
    shipped = f", snapshot of {human_bytes(catch_up['snapshot_bytes'])}" if catch_up["snapshot_bytes"] else ""
    return [
        f"Node {data['node']} of cluster {data['cluster']} is back, and equal to the leader.",
        f"  proof:     {proof['algorithm']} {proof['digest']}",
        f"             at entry {proof['index']} on node {data['node']} and on leader {proof['leader']}",
        f"  catch-up:  to entry {catch_up['matching']} in {human_seconds(catch_up['seconds'])}{shipped}",
    ]


def _barrier_lines(data: Mapping[str, Any]) -> list[str]:
    barrier = msgspec.convert(data["barrier"], BarrierReply)
    where = data["retired_to"] or "its data directory, under a name whose answer was lost"
    return [
        f"  barrier:   {barrier.log_id}, held by node {listed(barrier.acked_by)}",
        f"  old data:  {where} (kept on the node; remove it when you no longer want it)",
    ]
