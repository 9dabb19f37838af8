"""The engine of runbooks, with a runbook of its own: order, journal, undo, going on, and what stops a run where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from raftctl import deadline
from raftctl.confirm import Tier
from raftctl.errors import CtlError
from raftctl.guards import finding
from raftctl.runbook import catalogue, conduct, journal, lock
from raftctl.runbook.engine import Facts, Plan, Run, Runbook, Step, no_way_back
from raftctl.runbook.journal import find_run, read_runs
from raftctl.runbook.lock import KEY
from raftctl.session import Session
from raftctl.settings import Flags
from tests.raftctl.killing import Clock


class Params(msgspec.Struct, frozen=True):
    number: int


class Toy(Runbook):
    """Three steps, of which a test may change each part. `told`: what happened, in order."""

    name = "toy"
    holds = True
    told: ClassVar[list[str]] = []
    acts: ClassVar[dict[str, Callable[[Run], Any]]] = {}
    reason: str | None = None

    def __init__(self, params: Params) -> None:
        self.params: Params = params

    def plan(self, session, survey, lock_holder) -> Plan:
        rules = [
            finding("toy-rule", self.holds, "2 of 3", "3 of 3", overridable=True),
            finding("no-lock", lock_holder is None, str(lock_holder or "free"), "free", overridable=True),
        ]
        return Plan(
            cluster=survey.cluster, what="playing", findings=rules, steps=["play"], tier=Tier.MILD, facts={"seed": 7}
        )

    def steps(self, run: Run) -> Sequence[Step]:
        return [self._step(name) for name in ("a", "b", "c")]

    def _step(self, name: str) -> Step:
        def part(verb: str) -> Callable[[Run], Any]:
            def act(run: Run) -> Any:
                self.told.append(f"{verb} {name}")
                return self.acts.get(f"{verb} {name}", lambda _run: {name: self.params.number} if verb == "do" else None)(
                    run
                )

            return act

        return Step(
            name=name,
            title=f"Step {name}",
            precheck=part("precheck"),
            do=part("do"),
            verify=part("verify"),
            undo=part("undo") if name != "b" else None,
        )

    def why_no_undo(self, run: Run) -> str | None:
        return self.reason

    def secure(self, run: Run) -> None:
        self.told.append("secure")

    def receipt(self, run: Run) -> Facts:
        return dict(run.facts)


@pytest.fixture
def toy(raftctl, cluster, monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    monkeypatch.setattr(Toy, "told", [])
    monkeypatch.setattr(Toy, "acts", {})
    made = dict(catalogue.CATALOGUE) | {"toy": lambda params: Toy(msgspec.convert(params, Params))}
    monkeypatch.setattr(catalogue, "CATALOGUE", made)
    clock = Clock()
    for module in (deadline, lock):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Toy, "clock", clock, raising=False)
    return Toy


def session(**flags: Any) -> Session:
    return Session(Flags(**flags))


def fails(code: str = "not_observed", message: str = "it did not work") -> Callable[[Run], Any]:
    def act(_run: Run) -> Any:
        raise CtlError(code, message)

    return act


def ended(act: Callable[[], object]) -> CtlError:
    with pytest.raises(CtlError) as caught:
        act()
    return caught.value


def start(**flags: Any) -> None:
    conduct.start(session(**flags), Toy(Params(5)))


def the_run():
    (run,) = read_runs()
    return run


def resume(**flags: Any) -> None:
    conduct.resume(session(**flags), the_run().run_id)


def abort(**flags: Any) -> None:
    conduct.abort(session(**flags), the_run().run_id)


def test_each_step_is_prechecked_done_and_seen_to_be_done(toy):
    start()
    assert [f"{verb} {name}" for name in "abc" for verb in ("precheck", "do", "verify")] == toy.told
    assert "done" == the_run().outcome


def test_what_is_begun_is_written_before_and_what_is_done_after_it(toy):
    seen: list[str] = []
    toy.acts["do b"] = lambda run: (
        [seen.append(f"{r['event']} {r.get('step', '')}") for r in find_run(run.run_id).records] and {}
    )
    start()
    assert ["run_begun ", "step_begun a", "step_done a", "step_begun b"] == seen


def test_facts_reach_later_steps_and_the_receipt(toy):
    seen: Facts = {}
    toy.acts["do c"] = lambda run: seen.update(run.facts) or {"c": 1}
    start()
    assert {"seed": 7, "a": 5, "b": 5} == seen
    assert {"seed": 7, "a": 5, "b": 5, "c": 1} == the_run().records[-1]["receipt"]


def test_a_refusal_tells_rule_number_and_threshold_and_leaves_nothing(toy, cluster, monkeypatch):
    monkeypatch.setattr(Toy, "holds", False)
    error = ended(start)
    assert (5, ("toy-rule",)) == (error.exit_code, error.rule_ids)
    assert {"toy-rule": {"measured": "2 of 3", "threshold": "3 of 3"}} == error.measured
    assert [] == [*toy.told, *read_runs(), *cluster.mutations]
    start(override=["toy-rule"])
    assert 5 == ended(lambda: start(override=["no-lock"])).exit_code


def test_a_dry_run_only_reads(toy, cluster):
    start(dry_run=True)
    assert [] == [*toy.told, *read_runs(), *cluster.mutations]


def test_the_lock_is_held_while_it_runs_and_not_afterwards(toy, cluster):
    seen: list[bool] = []
    toy.acts["do b"] = lambda run: seen.append(KEY in cluster.keys) or {}
    start()
    assert ([True], {}) == (seen, cluster.keys)


def test_a_failure_is_undone_latest_first_and_a_step_without_undo_left_out(toy, cluster):
    toy.acts["do c"] = fails()
    error = ended(start)
    assert ("undone", 8) == (error.code, error.exit_code)
    assert "Step c failed: it did not work; undone: Step c; Step a" in error.message
    assert ["undo c", "undo a"] == toy.told[-2:]
    assert {} == cluster.keys
    assert "undone" == the_run().outcome


def test_an_effect_that_is_not_seen_is_a_failure(toy):
    toy.acts["verify b"] = fails()
    assert "undone" == ended(start).code


def test_a_precheck_that_fails_has_begun_nothing(toy):
    toy.acts["precheck a"] = fails("refused", "not now")
    error = ended(start)
    assert ("refused", "not now") == (error.code, error.message)
    assert ["precheck a"] == toy.told


def test_ctrl_c_undoes_and_is_130(toy):
    def interrupted(_run: Run) -> Any:
        raise KeyboardInterrupt

    toy.acts["do b"] = interrupted
    error = ended(start)
    assert (130, "interrupted; undone: Step a") == (error.exit_code, error.message)
    assert "interrupted" == the_run().outcome


def test_when_there_is_no_way_back_it_says_why_and_secures(toy, monkeypatch):
    toy.acts["do c"] = fails()
    monkeypatch.setattr(Toy, "reason", "the bridge is burnt")
    error = ended(start)
    assert 9 == error.exit_code
    assert "nothing was undone: the bridge is burnt" in error.message
    assert error.hint is not None
    assert "runs resume" in error.hint
    assert "runs abort" not in error.hint
    assert "secure" == toy.told[-1]
    assert "undo c" not in toy.told


def test_when_nobody_can_see_whether_there_is_a_way_back_nothing_is_touched(toy, monkeypatch):
    toy.acts["do c"] = fails()
    monkeypatch.setattr(Toy, "why_no_undo", lambda self, run: fails("unauthorized", "no token")(run))
    error = ended(start)
    assert 9 == error.exit_code
    assert "is not seen: no token" in error.message
    assert "verify b" == toy.told[-3]
    assert "needs_attention" == the_run().outcome


def test_an_undo_that_finds_no_way_back_turns_forward_again(toy):
    def too_late(_run: Run) -> Any:
        raise no_way_back("too late")

    toy.acts |= {"do c": fails(), "undo a": too_late}
    error = ended(start)
    assert 9 == error.exit_code
    assert ["undo c", "undo a", "secure"] == toy.told[-3:]
    toy.acts.clear()
    toy.told.clear()
    resume()
    assert ["precheck c", "do c", "verify c"] == toy.told
    assert "done" == the_run().outcome


def test_what_came_after_an_undone_step_is_done_again(toy):
    def too_late(_run: Run) -> Any:
        raise no_way_back("too late")

    toy.acts |= {"do c": fails(), "undo a": too_late}
    ended(start)
    toy.acts = {"do c": fails()}
    toy.told.clear()
    ended(resume)
    assert ["undo c", "undo a"] == toy.told[-2:]
    assert "undone" == the_run().outcome


def test_an_undo_that_fails_can_be_gone_on_with_and_only_undoes(toy):
    toy.acts |= {"do c": fails(), "undo a": fails(message="no power")}
    error = ended(start)
    assert (9, "needs_attention") == (error.exit_code, the_run().outcome)
    assert "undoing 'Step a' failed too: no power" in error.message
    assert "runs resume" in error.hint
    toy.acts.clear()
    toy.told.clear()
    error = ended(resume)
    assert ["undo a"] == toy.told
    assert (8, "undone", "undone") == (error.exit_code, error.code, the_run().outcome)
    assert "no power" not in error.message
    assert "as asked" not in error.message


def test_a_run_that_is_over_is_not_gone_on_with(toy, capsys):
    start()
    done = list(toy.told)
    resume()  # shows the receipt again
    assert done == toy.told
    assert "done" == the_run().outcome
    error = ended(abort)
    assert (5, ("run-open",)) == (error.exit_code, error.rule_ids)


@pytest.mark.parametrize("other", [{"cluster": "production"}, {"cluster_id": "d" * 32}])
def test_a_run_is_not_gone_on_with_in_another_cluster(toy, cluster, other):
    toy.acts |= {"do c": fails(), "undo a": fails()}
    ended(start)
    for status in cluster.nodes.values():
        status.update(other)
    error = ended(resume)
    assert (5, ("same-cluster",)) == (error.exit_code, error.rule_ids)
    assert "'demo'" in error.message


def test_a_lock_that_was_lost_stops_the_run_where_it_is(toy, cluster):
    def robbed(run: Run) -> Any:
        lock.ClusterLock(run.client, "other", "rejoin-node").take(force=True)
        toy.clock.sleep(60)
        return {}

    toy.acts["do b"] = robbed
    error = ended(start)
    assert 9 == error.exit_code
    assert "run other" in error.message
    assert "verify b" == toy.told[-1]
    assert "needs_attention" == the_run().outcome
    assert KEY in cluster.keys
    assert 6 == ended(resume).exit_code
    lock.ClusterLock(session().client, "other", "rejoin-node").release_leftover()
    resume()
    assert "done" == the_run().outcome


def test_a_wait_notices_a_lost_lock_too(toy):
    def waits(run: Run) -> Any:
        lock.ClusterLock(run.client, "other", "rejoin-node").take(force=True)
        again = run.poll(600)
        while again():
            pass

    toy.acts["do b"] = waits
    assert "run other" in ended(start).message


def test_a_lock_of_another_run_is_a_refusal_with_its_holder_and_can_be_overridden(toy):
    other = lock.ClusterLock(session().client, "other", "rejoin-node")
    other.take()
    error = ended(start)
    assert (5, ("no-lock",)) == (error.exit_code, error.rule_ids)
    assert "run other (rejoin-node) by" in error.measured["no-lock"]["measured"]
    start(override=["no-lock"])
    assert "done" == the_run().outcome


def test_a_lock_that_somebody_takes_after_the_plan_ends_the_run_before_anything_is_done(toy, cluster, monkeypatch):
    monkeypatch.setattr(conduct, "holder_in_the_way", lambda client: lock.ClusterLock(client, "other", "x").take())
    error = ended(start)
    assert (6, "locked") == (error.exit_code, the_run().outcome)
    assert [] == toy.told
    assert 5 == ended(resume).exit_code


def test_a_journal_that_cannot_be_written_stops_the_run_where_it_is(toy, monkeypatch):
    def fills_the_disk(_run: Run) -> Any:
        def full(_handle: int, _line: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(journal, "_write_all", full)
        return {}

    write = journal._write_all
    toy.acts["do b"] = fills_the_disk
    error = ended(start)
    assert 9 == error.exit_code
    assert "No space left" in error.message
    assert "verify b" == toy.told[-1]
    monkeypatch.setattr(journal, "_write_all", write)
    toy.acts.clear()
    resume()
    assert "done" == the_run().outcome


def test_a_journal_that_names_another_runbook_is_not_guessed_at(toy, monkeypatch):
    toy.acts |= {"do c": fails(), "undo a": fails()}
    ended(start)
    monkeypatch.setattr(catalogue, "CATALOGUE", {})
    assert "has no runbook 'toy'" in ended(resume).message


def test_a_run_of_a_version_with_other_steps_is_not_guessed_at(toy, monkeypatch):
    toy.acts |= {"do c": fails(), "undo a": fails()}
    ended(start)
    monkeypatch.setattr(Toy, "steps", lambda self, run: [self._step("a")])
    assert "this version's toy has ['a']" in ended(resume).message


def test_the_receipt_is_kept_once_with_the_head_of_the_journal(toy, capsys):
    import json

    start()
    run = the_run()
    path = run.path.with_suffix(".receipt.json")
    receipt = json.loads(path.read_text())
    assert receipt["journal"]["head_sha256"] == run.head
    before = path.read_bytes()
    path.unlink()
    resume()
    assert before == path.read_bytes()
