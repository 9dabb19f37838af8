"""Bringing a voter back that lost its directory, and with it its vote: way B, as a new life.

For Raft a blank node is another server that has the old one's id and addresses. The leader, once it is allowed to, takes it
in as a learner, brings it up to date, and replaces the old life by the new one in one joint change; ids stay as they are. This
runbook gives the permission, gives it again to a successor that came to office before it was used, watches, and proves.
Going back: until the new life is in the configuration, the permission is taken back. From there on the configuration itself says
that a return is under way, and every later leader finishes it.
Source: design of rejoin (way B); docs/decisions/0009-incarnations-and-birth.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from raftctl.confirm import Tier
from raftctl.errors import CtlError
from raftctl.guards import LockHolder, blank_rules, refusal, tolerance_left, with_overrides
from raftctl.model import Expect, index_of
from raftctl.output.progress import CatchUpBar
from raftctl.output.text import human_seconds
from raftctl.runbook.catch_up import LAG_SMALL, STALL_S, CatchUp, show_catch_up, where
from raftctl.runbook.choose_driver import driver_of
from raftctl.runbook.drivers import look
from raftctl.runbook.engine import Facts, Plan, Run, Runbook, Step
from raftctl.runbook.leadership import ARM_TTL_S, disarm, leader_without, until_settled
from raftctl.runbook.proof import prove_equal
from raftctl.runbook.rejoin import RejoinParams, proof_lines
from raftctl.session import Session
from raftctl.survey import EVERYBODY, Survey

ADMIT_S: Final = 60.0
"""The leader sees a blank node when it next dials it; a back-off of its connection may be in between."""
_LOOK_EVERY_S: Final = 0.2


class RejoinBlank(Runbook):
    """Way B for one node."""

    name = "rejoin-node"

    def __init__(self, params: RejoinParams) -> None:
        self.params: RejoinParams = params
        self._target = params.node

    def plan(self, _session: Session, survey: Survey, lock_holder: LockHolder | None) -> Plan:
        node = self._target
        status = survey.status(node)
        starts = status is None and self.params.driver != "http"
        left = tolerance_left(survey, node)
        tolerance = f"{left} more may fail" if left > 0 else "no other voter may fail"
        first = [f"start the process of node {node} ({self.params.driver})"] if starts else []
        return Plan(
            cluster=survey.cluster,
            what=f"rejoin node {node} of cluster {survey.cluster} as a new life",
            findings=blank_rules(survey, node, lock_holder, starts=starts),
            tier=Tier.SEVERE,
            node=node,
            steps=[
                *first,
                f"allow the leader to let the blank node {node} in; until it has voted again {tolerance}",
                "from here on the only way is forward; before it, a failure or Ctrl-C undoes everything",
                "the leader takes it in as a learner, brings it up to date, and replaces the old life in one joint change",
                "watch it, and prove it: equal digests of both state machines at one entry",
            ],
            facts={
                "cluster": survey.cluster,
                "driver": self.params.driver,
                "starts": starts,
                "old_lives": list(survey.membership.incarnations.get(node, ())),
            },
        )

    def steps(self, run: Run) -> Sequence[Step]:
        node = self._target
        first = Step(name="start", title=f"Start node {node} ({self.params.driver})", do=self._start)
        return [
            *([first] if run.facts["starts"] else []),
            Step(name="preflight", title="Hold every rule against the cluster once more", do=self._preflight),
            Step(name="allow", title=f"Allow the leader to let node {node} in", do=self._allow, undo=self._take_back),
            Step(name="admit", title="Watch it taken in as a learner", do=self._admit),
            Step(name="replace", title="Watch it catch up and replace its old life", do=self._replace),
            Step(name="prove", title="Compare the state machines", do=lambda run: prove_equal(run, node)),
            Step(name="disarm", title="Take back the permission if it was not used", do=self._disarm_if_unused),
        ]

    def attention(self, run: Run, *, way_back: bool) -> str:
        if run.past.undoing:
            return super().attention(run, way_back=way_back)
        return (
            f"once node {self._target} is taken in, every leader goes on with it by itself; go on watching with "
            f"raftctl runs resume {run.run_id}; what was done: raftctl runs show {run.run_id}"
        )

    def _start(self, run: Run) -> Facts:
        limit_s = self.params.timeout_s
        driver_of(run, self._target, self.params.driver, str(run.facts["cluster"]), limit_s).start()
        return {"summary": f"node {self._target} answers"}

    def _preflight(self, run: Run) -> Facts:
        """The life that is let in is the one seen here, and no other."""
        survey = run.session.survey(patient_with=EVERYBODY)
        error = refusal(
            with_overrides(blank_rules(survey, self._target, None, starts=False), run.overrides),
            f"rejoin-node {self._target} --blank",
        )
        status = survey.status(self._target)
        if error is not None:
            raise error
        assert status is not None, "a rule demands that it answers"
        return {"incarnation": status.incarnation, "summary": f"all rules hold; the new life is {status.incarnation[:8]}"}

    # -- the permission ----------------------------------------------------------------------------------------------------

    def _allow(self, run: Run) -> Facts:
        def attempt() -> Facts:
            survey = run.client.cluster()
            if self._is_in(run, survey):
                return {"summary": "the leader has taken it in already"}
            self._check_life(run)
            leader = leader_without(survey, self._target)
            expect = Expect(term=leader.term, leader=leader.node_id)
            run.client.allow_next_revert(self._target, allow=True, ttl_s=ARM_TTL_S, expect=expect)
            return {"summary": f"node {leader.node_id}, leader of term {leader.term}, may let it in once"}

        return until_settled(run, attempt)

    def _take_back(self, run: Run) -> None:
        disarm(run, self._target)

    def _admit(self, run: Run) -> Facts:
        """A permission is lost with its leader: whoever leads next, and has not used it, is given another."""
        again = run.poll(ADMIT_S, every_s=_LOOK_EVERY_S)
        times = 0
        while not self._is_in(run, survey := run.client.cluster()):
            replication = survey.replication(self._target)
            if replication is not None and not replication.revert_armed:
                times += 1
                run.note(f"the leader of term {survey.term} has no permission; it is given again")
                self._allow(run)
            if not again():
                self._check_life(run)
                raise CtlError("not_observed", f"no leader took node {self._target} in within {human_seconds(ADMIT_S)}")
        return {"allowed_again": times, "summary": f"node {self._target} is in the configuration as its new life"}

    def _is_in(self, run: Run, survey: Survey) -> bool:
        return run.facts["incarnation"] in survey.membership.incarnations.get(self._target, ())

    def _check_life(self, run: Run) -> None:
        """Raises: CtlError: refused, the node is yet another life."""
        status = look(run.client, self._target)
        if status is not None and status.incarnation != run.facts["incarnation"]:
            message = (
                f"node {self._target} is incarnation {status.incarnation[:8]} now, "
                f"the run was to let {str(run.facts['incarnation'])[:8]} in"
            )
            raise CtlError("refused", message, rule_ids=["blank-target"], hint="make a new plan: run the command again")

    # -- watching ----------------------------------------------------------------------------------------------------------

    def _replace(self, run: Run) -> Facts:
        begun = time.monotonic()
        again = run.poll(self.params.timeout_s, every_s=_LOOK_EVERY_S)
        seen: tuple[int, ...] = ()
        moved_at, shipped = begun, 0
        with CatchUpBar(quiet=run.session.flags.quiet or not run.output.for_people, color=run.output.colors_stderr) as bar:
            while not self._is_replaced(run, survey := run.client.cluster(patient_with=[self._target])):
                self._check_life(run)
                now, shipped = self._progress(survey), max(shipped, self._snapshot_bytes(survey))
                if now != seen:
                    seen, moved_at = now, time.monotonic()
                show_catch_up(bar, survey, self._target)
                is_still = time.monotonic() - moved_at > STALL_S
                if is_still or not again():
                    why = "nothing moves" if is_still else "the time is up"
                    raise CtlError(
                        "needs_attention",
                        f"node {self._target} has not replaced its old life: {why} ({where(survey, self._target)})",
                    )
        status = survey.status(self._target)
        applied = index_of(status.applied) if status is not None else 0
        seconds = round(time.monotonic() - begun, 3)
        caught_up = CatchUp(seconds, applied, survey.lag(self._target) or 0, shipped, 0)
        return {
            "catch_up": msgspec.to_builtins(caught_up),
            "summary": f"node {self._target} votes as its new life, after {human_seconds(seconds)}",
        }

    def _is_replaced(self, run: Run, survey: Survey) -> bool:
        """The new life is the only one, in a configuration that is committed, and the node follows."""
        membership = survey.membership
        lives = membership.incarnations.get(self._target, ())
        is_only = list(lives) == [run.facts["incarnation"]] and self._target in membership.voters
        is_settled = len(membership.configs) == 1 and membership.committed and survey.leader is not None
        replication = survey.replication(self._target)
        follows = replication is None or (replication.state == "replicate" and replication.lag <= LAG_SMALL)
        return is_only and is_settled and follows

    def _progress(self, survey: Survey) -> tuple[int, ...]:
        return (*survey.progress(self._target), index_of(survey.membership.log_id))

    def _snapshot_bytes(self, survey: Survey) -> int:
        replication = survey.replication(self._target)
        return replication.snapshot_size_bytes if replication is not None else 0

    def _disarm_if_unused(self, run: Run) -> Facts:
        unused = disarm(run, self._target)
        return {"permission_unused": unused, "summary": "taken back" if unused else "it was used; nothing to take back"}

    def why_no_undo(self, run: Run) -> str | None:
        if "incarnation" in run.facts and self._is_in(run, run.client.cluster()):
            return f"the new life of node {self._target} is in the configuration, and every leader goes on with it"
        return None

    # -- the receipt -------------------------------------------------------------------------------------------------------

    def receipt(self, run: Run) -> Facts:
        kept = ("incarnation", "old_lives", "driver", "allowed_again", "catch_up", "proof")
        return {name: run.facts.get(name) for name in kept} | {"blank": True}

    def receipt_lines(self, data: Mapping[str, Any]) -> list[str]:
        old = ", ".join(life[:8] for life in data["old_lives"])
        return [*proof_lines(data), f"  life:      {data['incarnation'][:8]} in place of {old}"]
