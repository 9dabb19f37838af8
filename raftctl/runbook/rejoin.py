"""Bringing a voter back whose data is wiped while its vote is kept: way A, step by step.

Stop the node; have the leader append a barrier that enough others hold without it; allow the node to revert; look once more
that leader and term are the same; wipe; start; watch it catch up; prove that its state machine equals the leader's.
The barrier comes after the stop, so that nothing the node ever acknowledged counts above it.
Source: design of rejoin (way A, preflight table, what was model-checked).
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from raftctl.errors import CtlError
from raftctl.guards import Verdict, refusal, rejoin_rules, with_overrides
from raftctl.model import BarrierReply, Expect, NodeStatus
from raftctl.output.text import human_seconds, listed
from raftctl.runbook.catch_up import CatchUp, watch_catch_up
from raftctl.runbook.drivers import Driver
from raftctl.runbook.engine import Facts, Step
from raftctl.runbook.journal import Journal
from raftctl.session import Session, poll
from raftctl.survey import Survey

ARM_TTL_S: Final = 600.0
"""The permission dies by itself if this program does: as long as the contract's example."""
BARRIER_WAIT_S: Final = 10.0
DIGEST_WAIT_S: Final = 60.0
"""A digest is computed beside the writes; a large store takes its time."""
MARKS_MAX: Final = 5
"""A mark can be lost when a snapshot jumps over it; that happens at most once or twice in a row."""
_UNSETTLED: Final = frozenset(
    {"not_leader", "no_leader", "no_quorum", "leadership_lost", "precondition_failed", "transfer_in_progress"}
)
"""The leader moved meanwhile: look again, then repeat the step."""


class Proof(msgspec.Struct, frozen=True):
    """Two state machines, one digest, at one applied index."""

    index: int
    digest: str
    algorithm: str
    leader: int


class Rejoin:
    """One run of the runbook for one node; collects what the receipt says."""

    def __init__(
        self, session: Session, survey: Survey, target: int, driver: Driver, journal: Journal, timeout_s: float
    ) -> None:
        status = survey.status(target)
        assert status is not None
        self._session = session
        self._client = session.client
        self._target = target
        self._driver = driver
        self._journal = journal
        self._timeout_s = timeout_s
        self._planned: NodeStatus = status
        self._leader: NodeStatus = status
        self._armed_on: int | None = None
        self.barrier: BarrierReply | None = None
        self.retired_to: str | None = None
        self.catch_up: CatchUp | None = None
        self.proof: Proof | None = None

    def steps(self, *, transfers: bool) -> list[Step]:
        """Return the steps. `transfers`: the target leads, so leadership goes elsewhere first."""
        node = self._target
        transfer = [Step(name="transfer", title=f"Hand leadership from node {node} to another voter", do=self._transfer)]
        return [
            *(transfer if transfers else []),
            Step(name="preflight", title="Hold every rule against the cluster once more", do=self._preflight),
            Step(
                name="stop",
                title=f"Stop the engine of node {node} ({self._driver.name})",
                do=self._stop,
                undo=self._driver.start,
            ),
            Step(
                name="protect",
                title=f"Barrier without node {node}, then allow it to revert",
                do=self._protect,
                undo=self._disarm,
            ),
            Step(
                name="wipe",
                title=f"Wipe node {node}, keeping its vote",
                do=self._wipe,
                final=True,
                forward=self._driver.start,
            ),
            Step(name="start", title=f"Start node {node}", do=self._start),
            Step(name="catch-up", title=f"Watch node {node} catch up", do=self._catch_up),
            Step(name="prove", title="Compare the state machines", do=self._prove),
            Step(name="disarm", title="Take back the permission if it was not used", do=self._disarm_if_unused),
        ]

    def attention(self) -> str:
        """What an operator does when the run cannot go on."""
        return (
            f"node {self._target} recovers by itself while it runs: raftctl health --wait; if its engine stands still, start it; "
            f"to begin again: raftctl rejoin-node {self._target} --override no-lock; journal: raftctl runs show {self._journal.run_id}"
        )

    # -- before the wipe -----------------------------------------------------------------------------------------------

    def _transfer(self) -> Facts:
        survey = self._session.survey()
        leader = survey.leader
        if leader is None or leader.node_id != self._target:
            return {"summary": "the node does not lead any more"}
        heirs = [
            (node_id, target)
            for node_id, target in (leader.replication or {}).items()
            if node_id in survey.membership.voters and target.state == "replicate"
        ]
        if not heirs:
            raise CtlError("target_unreachable", "no other voter can take over leadership")
        heir = min(heirs, key=lambda item: item[1].lag)[0]
        expect = Expect(term=leader.term, leader=leader.node_id)
        try:
            self._client.transfer_leader(heir, expect=expect, wait_s=BARRIER_WAIT_S)
        except CtlError as error:
            if not error.outcome_unknown:
                raise
        again = poll(BARRIER_WAIT_S)
        while True:
            now = self._client.cluster().leader
            if now is not None and now.node_id != self._target:
                return {"leader": now.node_id, "term": now.term, "summary": f"node {now.node_id} leads term {now.term}"}
            if not again():
                raise CtlError("not_observed", f"node {self._target} still leads; nothing else was done")

    def _preflight(self) -> Facts:
        """The world may have moved since the plan was read."""
        survey = self._settled_survey()
        findings = with_overrides(rejoin_rules(survey, self._target, None), self._session.flags.override)
        error = refusal(findings, f"rejoin-node {self._target}")
        if error is not None:
            raise error
        if any(item.verdict is Verdict.STEP for item in findings):
            raise CtlError("refused", f"node {self._target} leads again; run the command once more", rule_ids=["not-leader"])
        self._check_identity(survey)
        self._leader = self._leader_of(survey)
        measured = {item.rule: f"{item.verdict}: {item.measured}" for item in findings}
        return {"rules": measured, "leader": self._leader.node_id, "term": self._leader.term, "summary": "all rules hold"}

    def _settled_survey(self) -> Survey:
        """Right after a transfer some voter may not have heard of the new leader yet; give it a moment."""
        again = poll(3.0)
        while True:
            survey = self._session.survey()
            findings = with_overrides(rejoin_rules(survey, self._target, None), self._session.flags.override)
            if refusal(findings, "") is None or not again():
                return survey

    def _check_identity(self, survey: Survey) -> None:
        status = survey.status(self._target)
        life = status.incarnation if status is not None else "nobody"
        if life != self._planned.incarnation:
            message = (
                f"node {self._target} is now incarnation {life[:8]}, the plan was made for {self._planned.incarnation[:8]}"
            )
            raise CtlError("refused", message, rule_ids=["identity"], hint="make a new plan: run the command again")

    def _stop(self) -> Facts:
        self._driver.stop()
        return {"summary": f"node {self._target} answers nothing from here on"}

    def _protect(self) -> Facts:
        """Barrier and permission by one leader in one term; again from the start when that leader is gone."""
        again = poll(self._session.settings.timeout_s(), every_s=0.2)
        while True:
            try:
                return self._protect_once()
            except CtlError as error:
                if error.code not in _UNSETTLED and not error.outcome_unknown:
                    raise
                self._journal.write("note", step="protect", message=error.message)
                if not again():
                    raise

    def _protect_once(self) -> Facts:
        survey = self._client.cluster()
        leader = self._leader_of(survey)
        expect = Expect(term=leader.term, leader=leader.node_id)
        barrier = self._client.barrier([self._target], digest=False, expect=expect, wait_s=BARRIER_WAIT_S)
        self._check_barrier(survey, leader, barrier)
        self._journal.write("note", step="protect", barrier=barrier.log_id, acked_by=barrier.acked_by)
        self._armed_on = leader.node_id
        self._client.allow_next_revert(self._target, allow=True, ttl_s=ARM_TTL_S, expect=expect)
        self.barrier = barrier
        self._leader = leader
        return {
            "leader": leader.node_id,
            "term": leader.term,
            "barrier": barrier.log_id,
            "acked_by": list(barrier.acked_by),
            "summary": f"barrier {barrier.log_id} on node {listed(barrier.acked_by)}; node {self._target} may revert once",
        }

    def _check_barrier(self, survey: Survey, leader: NodeStatus, barrier: BarrierReply) -> None:
        """Our own arithmetic on the leader's word: n - q + 1 voters other than the target, in the leader's own term."""
        voters = survey.membership.voters
        holders = {node_id for node_id in barrier.acked_by if node_id in voters and node_id != self._target}
        needed = len(voters) - (len(voters) // 2 + 1) + 1
        if len(holders) < needed or barrier.log_id.term != leader.term:
            message = f"barrier {barrier.log_id} is held by node {listed(sorted(holders))}; {needed} voters are needed in term {leader.term}"
            raise CtlError("quorum_impossible", message, rule_ids=["holders-without-target"])

    def _leader_of(self, survey: Survey) -> NodeStatus:
        leader = survey.leader
        if leader is None:
            raise CtlError("no_leader", "no node leads at the moment")
        if leader.node_id == self._target:
            raise CtlError("is_leader", f"node {self._target} leads; it cannot be rebuilt now", rule_ids=["not-leader"])
        return leader

    def _disarm(self) -> None:
        """The permission lives in one leader's memory: if that one leads no more, it is gone by itself."""
        if self._armed_on is None:
            return
        survey = self._client.cluster()
        leader = survey.leader
        replication = survey.replication(self._target)
        if leader is not None and replication is not None and replication.revert_armed:
            self._client.allow_next_revert(self._target, allow=False, ttl_s=0.0, expect=None)

    # -- the wipe and after --------------------------------------------------------------------------------------------

    def _wipe(self) -> Facts:
        """Look once more; when the leader moved, the new one makes its own barrier."""
        again = poll(self._session.settings.timeout_s(), every_s=0.2)
        while not self._still_protected():
            self._journal.write("note", step="wipe", message="the leader moved; barrier and permission are made again")
            if not again():
                raise CtlError("refused", "the leader keeps changing; nothing was wiped", rule_ids=["one-leader"])
            self._protect()
        assert self.barrier is not None
        reason = self._session.flags.reason or f"raftctl rejoin-node, run {self._journal.run_id}"
        self.retired_to = self._driver.wipe(self.barrier.log_id, reason)
        return {
            "retired_to": self.retired_to,
            "recover_until": self.barrier.log_id,
            "summary": f"old data kept in {self.retired_to}",
        }

    def _still_protected(self) -> bool:
        survey = self._client.cluster()
        leader = survey.leader
        if leader is None or (leader.node_id, leader.term) != (self._leader.node_id, self._leader.term):
            return False
        status = survey.status(self._target)
        if status is not None:
            self._check_identity(survey)
            if not status.stopped:
                raise CtlError("refused", f"node {self._target} runs again although it was stopped; nothing was wiped")
        replication = survey.replication(self._target)
        return replication is not None and replication.revert_armed

    def _start(self) -> Facts:
        self._driver.start()
        assert self.barrier is not None
        return {
            "summary": f"it recovers until its log holds {self.barrier.log_id}; till then it neither campaigns nor serves reads"
        }

    def _catch_up(self) -> Facts:
        assert self.barrier is not None
        self.catch_up = watch_catch_up(
            self._session,
            self._target,
            self._planned.incarnation,
            self.barrier.log_id,
            self._journal,
            self._timeout_s,
            ARM_TTL_S,
        )
        took = human_seconds(self.catch_up.seconds)
        return {**msgspec.to_builtins(self.catch_up), "summary": f"caught up to entry {self.catch_up.matching} in {took}"}

    def _prove(self) -> Facts:
        """Mark an entry, and compare what both state machines were right after it."""
        for attempt in range(1, MARKS_MAX + 1):
            proof = self._compare(attempt)
            if proof is not None:
                self.proof = proof
                summary = f"equal at entry {proof.index}: {proof.algorithm} {proof.digest[:16]}…"
                return {**msgspec.to_builtins(proof), "marks": attempt, "summary": summary}
        message = f"no digest of node {self._target} could be had at any of {MARKS_MAX} marks; the node has caught up but nothing is proved"
        raise CtlError("needs_attention", message, hint=self.attention())

    def _compare(self, attempt: int) -> Proof | None:
        """Return the proof, None if this mark is no use.

        Raises: CtlError: digest_mismatch.
        """
        try:
            mark = self._client.barrier([], digest=True, expect=None, wait_s=BARRIER_WAIT_S)
            leader = self._leader_of(self._client.cluster())
            ours = self._client.digest(leader.node_id, mark.log_id.index, wait_s=DIGEST_WAIT_S)
            theirs = self._client.digest(self._target, mark.log_id.index, wait_s=DIGEST_WAIT_S)
        except CtlError as error:
            if error.code not in _UNSETTLED | {"digest_not_available"} and not error.outcome_unknown:
                raise
            self._journal.write("note", step="prove", attempt=attempt, message=error.message)
            time.sleep(0.2)
            return None
        if ours.digest != theirs.digest:
            message = (
                f"at entry {mark.log_id.index} the state machine of node {self._target} is {theirs.digest[:16]}…, "
                f"that of node {leader.node_id} is {ours.digest[:16]}…"
            )
            hint = f"keep clients away from node {self._target}: raftctl status; its old data is in {self.retired_to}"
            raise CtlError("digest_mismatch", message, hint=hint, measured={"leader": ours.digest, "target": theirs.digest})
        return Proof(mark.log_id.index, ours.digest, ours.algorithm, leader.node_id)

    def _disarm_if_unused(self) -> Facts:
        survey = self._client.cluster()
        replication = survey.replication(self._target)
        unused = replication is not None and replication.revert_armed
        self._disarm()
        return {
            "unused": unused,
            "summary": "it was not used; taken back" if unused else "it was used or has ended; nothing to take back",
        }
