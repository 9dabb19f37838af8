"""Putting a new node in the place of a voter: learner, catch-up, one joint change, proof.

The new node learns first, so the cluster tolerates what it tolerated all the time; the old one may be dead. One joint change takes
the new node in and the old one out, so there is never a voter more or less.
Going back: until the change of voters is committed, the new node is taken out again. Afterwards the cluster is what was asked for;
replacing the other way round is another run.
Source: dissertation 4.2 to 4.4; etcd operations guide (replace a failed member: remove, then add; here the other way round).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from raftctl.confirm import Tier
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
)
from raftctl.model import Address, Expect
from raftctl.output.progress import CatchUpBar
from raftctl.output.text import human_bytes, human_seconds, listed
from raftctl.runbook.absence import hold
from raftctl.runbook.catch_up import LAG_SMALL, STALL_S, show_catch_up, where
from raftctl.runbook.engine import Facts, Plan, Run, Runbook, Step, no_way_back
from raftctl.runbook.leadership import BARRIER_WAIT_S, hand_over, leader_without, until_settled
from raftctl.runbook.proof import prove_equal
from raftctl.session import Session
from raftctl.survey import EVERYBODY, Survey

_LOOK_EVERY_S: Final = 0.2


class ReplaceParams(msgspec.Struct, frozen=True, kw_only=True):
    """`timeout_s`: for the catch-up."""

    old: int
    new: int
    address: Address
    timeout_s: float


class ReplaceNode(Runbook):
    """A new voter for an old one."""

    name = "replace-node"

    def __init__(self, params: ReplaceParams) -> None:
        self.params: ReplaceParams = params

    def plan(self, _session: Session, survey: Survey, lock_holder: LockHolder | None) -> Plan:
        old, new, address = self.params.old, self.params.new, self.params.address
        voters = survey.membership.voters
        after = sorted({*voters, new} - {old})
        leads = survey.leader is not None and survey.leader.node_id == old
        size = (survey.leader.data_bytes or 0) if survey.leader is not None else 0
        return Plan(
            cluster=survey.cluster,
            what=f"replacing node {old} of cluster {survey.cluster} by node {new}",
            findings=self._rules(survey, lock_holder),
            tier=Tier.SEVERE,
            node=old,
            steps=[
                f"add node {new} ({address.raft}, {address.management}) as a learner, which changes no quorum",
                f"wait until it has caught up ({human_bytes(size)} of state)",
                *([f"hand leadership from node {old} to another voter"] if leads else []),
                f"one joint change: voters {listed(voters)} become {listed(after)}; node {old} is no member any more",
                "until that change is committed, a failure or Ctrl-C takes the new node out again; after it there is no undo",
                f"prove it: equal digests of the state machines of node {new} and the leader at one entry",
                f"stop the process of node {old} yourself, and keep its directory until you know that you do not want it",
            ],
            facts={"cluster": survey.cluster, "was_learner": new in survey.membership.learners},
        )

    def steps(self, run: Run) -> Sequence[Step]:  # noqa: ARG002 (always the same)
        old, new = self.params.old, self.params.new
        return [
            Step(name="preflight", title="Hold every rule against the cluster once more", do=self._preflight),
            Step(name="add", title=f"Add node {new} as a learner", do=self._add, undo=self._take_out),
            Step(name="catch-up", title=f"Watch node {new} catch up", do=self._catch_up),
            Step(name="hand-over", title=f"Hand leadership from node {old} if it leads", do=lambda run: hand_over(run, old)),
            Step(
                name="replace",
                title=f"Replace node {old} by node {new} in one joint change",
                do=self._replace,
                verify=self._is_replaced,
                undo=self._not_replaced,
            ),
            Step(name="prove", title="Compare the state machines", do=lambda run: prove_equal(run, new)),
        ]

    def _rules(self, survey: Survey, lock_holder: LockHolder | None) -> list[Finding]:
        old, new = self.params.old, self.params.new
        membership = survey.membership
        voters = membership.voters
        is_new = new not in voters and new != old
        known = membership.nodes.get(new)
        same = new not in membership.learners or known == self.params.address
        measured = "it is a voter" if new in voters else "it is none" if known is None else f"a learner at {known.raft}"
        taken = [
            node
            for node, address in membership.nodes.items()
            if node != new
            and {address.raft, address.management} & {self.params.address.raft, self.params.address.management}
        ]
        return [
            finding("target-voter", old in voters, f"voters are {listed(voters)}", f"node {old} is a voter"),
            finding("new-node", is_new and same, f"node {new}: {measured}", "no member yet, or a learner at this address"),
            finding(
                "new-address",
                not taken,
                f"node {listed(taken)} has it" if taken else "nobody has it",
                "an address of its own",
            ),
            one_leader(survey),
            config_settled(survey, old),
            others_healthy(survey, old),
            no_other_recovering(survey, old),
            quorum_without_target(survey, old),
            no_lock(survey, old, lock_holder),
        ]

    # -- before the change -------------------------------------------------------------------------------------------------

    def _preflight(self, run: Run) -> Facts:
        return hold(run, self._rules(run.session.survey(patient_with=EVERYBODY), None), f"replace-node {self.params.old}")

    def _add(self, run: Run) -> Facts:
        new, address = self.params.new, self.params.address

        def attempt() -> None:
            survey = run.client.cluster()
            if new in {*survey.membership.voters, *survey.membership.learners}:
                return
            leader = leader_without(survey, new)
            expect = Expect(term=leader.term, leader=leader.node_id, membership_log_id=leader.membership.log_id)
            run.client.add_learner(new, address, expect=expect, wait_s=0.0)

        until_settled(run, attempt)
        self._until(run, lambda survey: new in {*survey.membership.voters, *survey.membership.learners}, "is no member")
        return {"summary": f"node {new} is a learner"}

    def _take_out(self, run: Run) -> None:
        """What was a learner before stays one."""
        new = self.params.new
        if run.facts["was_learner"]:
            return

        def attempt() -> None:
            survey = run.client.cluster()
            if new in survey.membership.voters:
                raise no_way_back(f"node {new} is a voter already")
            if new in survey.membership.learners:
                leader = leader_without(survey, new)
                expect = Expect(term=leader.term, leader=leader.node_id)
                run.client.remove_member(new, expect=expect, wait_s=BARRIER_WAIT_S)

        until_settled(run, attempt)
        self._until(run, lambda survey: new not in survey.membership.learners, "is still a learner")

    def _catch_up(self, run: Run) -> Facts:
        new = self.params.new
        begun = time.monotonic()
        again = run.poll(self.params.timeout_s, every_s=_LOOK_EVERY_S)
        seen: tuple[int, ...] = ()
        moved_at = begun
        with CatchUpBar(quiet=run.session.flags.quiet or not run.output.for_people, color=run.output.colors_stderr) as bar:
            while True:
                survey = run.client.cluster(patient_with=[new])
                replication = survey.replication(new)
                if replication is not None and replication.state == "replicate" and replication.lag <= LAG_SMALL:
                    break
                now = survey.progress(new)
                if now != seen:
                    seen, moved_at = now, time.monotonic()
                show_catch_up(bar, survey, new)
                is_still = time.monotonic() - moved_at > STALL_S
                if is_still or not again():
                    why = "nothing moves" if is_still else f"not done after {human_seconds(self.params.timeout_s)}"
                    hint = f"does its process run, with an empty directory, and answer at {self.params.address.raft}?"
                    raise CtlError("not_observed", f"node {new} has not caught up: {why} ({where(survey, new)})", hint=hint)
        seconds = round(time.monotonic() - begun, 3)
        return {"catch_up_s": seconds, "summary": f"node {new} has caught up in {human_seconds(seconds)}"}

    # -- the change --------------------------------------------------------------------------------------------------------

    def _replace(self, run: Run) -> Facts:
        old, new = self.params.old, self.params.new

        def attempt() -> None:
            survey = run.client.cluster()
            voters = survey.membership.voters
            if new in voters and old not in voters:
                return
            leader = leader_without(survey, old)
            expect = Expect(term=leader.term, leader=leader.node_id, membership_log_id=leader.membership.log_id)
            wanted = sorted({*voters, new} - {old})
            run.client.set_voters(wanted, retain=False, expect=expect, wait_s=BARRIER_WAIT_S)

        until_settled(run, attempt)
        return {"summary": f"node {new} votes in the place of node {old}"}

    def _is_replaced(self, run: Run) -> None:
        self._until(run, self._done, "is not replaced")

    def _done(self, survey: Survey) -> bool:
        membership = survey.membership
        members = {*membership.voters, *membership.learners}
        is_settled = membership.committed and len(membership.configs) == 1
        return is_settled and self.params.new in membership.voters and self.params.old not in members

    def _not_replaced(self, run: Run) -> None:
        if self.params.new in run.client.cluster().membership.voters:
            raise no_way_back(f"node {self.params.new} is a voter: the change of voters is under way or done")

    def why_no_undo(self, run: Run) -> str | None:
        if self.params.new in run.client.cluster().membership.voters:
            return f"node {self.params.new} is a voter: the change of voters is under way or done"
        return None

    def _until(self, run: Run, seen: Any, what: str) -> None:
        again = run.poll(BARRIER_WAIT_S, every_s=_LOOK_EVERY_S)
        while not seen(run.client.cluster()):
            if not again():
                raise CtlError("not_observed", f"node {self.params.new} {what} after {human_seconds(BARRIER_WAIT_S)}")

    # -- the receipt -------------------------------------------------------------------------------------------------------

    def receipt(self, run: Run) -> Facts:
        return {
            "new": self.params.new,
            "address": msgspec.to_builtins(self.params.address),
            "catch_up_s": run.facts.get("catch_up_s"),
            "proof": run.facts.get("proof"),
        }

    def receipt_lines(self, data: Mapping[str, Any]) -> list[str]:
        proof = data["proof"]
        return [
            f"Node {data['new']} of cluster {data['cluster']} votes in the place of node {data['node']}, and is equal to the leader.",
            f"  proof:     {proof['algorithm']} {proof['digest']}",
            f"             at entry {proof['index']} on node {data['new']} and on leader {proof['leader']}",
            f"  left over: the process and the directory of node {data['node']}; the cluster asks them nothing more",
        ]
