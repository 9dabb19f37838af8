"""Running a runbook that is a file: each of its steps on each of its nodes, with the engine's journal, undo and receipt.

Which nodes a step is for is decided when the plan is made, and kept; the file itself is in the journal, so that a run goes on with
what was begun, on any machine, whatever became of the file.
Source: field notes A.3.4, A.3.11.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from raftctl import trigger_actions
from raftctl.actions import Action
from raftctl.confirm import Tier
from raftctl.durations import parse_duration
from raftctl.errors import CtlError
from raftctl.guards import LockHolder, config_settled, finding, no_lock, one_leader, refusal
from raftctl.output.text import human_seconds
from raftctl.runbook.absence import missing, until_whole
from raftctl.runbook.command_driver import is_down, is_up, run_words
from raftctl.runbook.drain import Drain, DrainParams
from raftctl.runbook.engine import Facts, Plan, Run, Runbook, Step
from raftctl.runbook.files import RunbookFile, StepEntry, digest_of, filled, nodes_of, parse, place_of
from raftctl.runbook.rolling_restart import NOBODY, RestartParams, RollingRestart
from raftctl.session import Session
from raftctl.survey import Survey

_TIMEOUT_S: Final = 120.0
_TIER: Final[Mapping[str, Tier]] = {
    "heartbeat": Tier.MILD,
    "snapshot": Tier.MILD,
    "wait": Tier.MILD,
}
"""The others are moderate."""


class FileParams(msgspec.Struct, frozen=True, kw_only=True):
    """`text`: the whole file; `values`: of its parameters; `drivers`: by node, for restarts."""

    text: str
    where: str
    values: dict[str, str] = {}
    drivers: dict[int, str] = {}
    timeout_s: float = _TIMEOUT_S


class FileRunbook(Runbook):
    """The runbook that a file describes."""

    name = "runbook"

    def __init__(self, params: FileParams) -> None:
        self.params: FileParams = params
        self._file: RunbookFile = parse(params.text, params.where)

    # -- the plan ----------------------------------------------------------------------------------------------------------

    def plan(self, _session: Session, survey: Survey, lock_holder: LockHolder | None) -> Plan:
        values = self._values(survey.cluster)
        nodes = [
            nodes_of(step, values, survey, place_of(self.params.text, self.params.where, number))
            for number, step in enumerate(self._file.steps, start=1)
        ]
        lacking = missing(survey)
        healthy = finding(
            "all-healthy", not lacking, "; ".join(lacking) or "every member runs and follows", "nothing is missing"
        )
        tiers = [_TIER.get(step.do, Tier.MODERATE) for step in self._file.steps]
        return Plan(
            cluster=survey.cluster,
            what=f"running {self._file.name} on cluster {survey.cluster}",
            findings=[
                one_leader(survey),
                config_settled(survey, None),
                msgspec.structs.replace(healthy, overridable=True),
                no_lock(survey, NOBODY, lock_holder),
            ],
            steps=[self._sentence(step, on, values) for step, on in zip(self._file.steps, nodes, strict=True)],
            tier=Tier.MODERATE if Tier.MODERATE in tiers else Tier.MILD,
            facts={
                "cluster": survey.cluster,
                "file": {"name": self._file.name, "path": self.params.where, "sha256": digest_of(self.params.text)},
                "nodes": nodes,
            },
        )

    def _values(self, cluster: str) -> dict[str, object]:
        return {"cluster": cluster, "node": "{node}", **self.params.values}

    def _sentence(self, step: StepEntry, nodes: Sequence[int], values: Mapping[str, object]) -> str:
        label = f"{step.name}: " if step.name else ""
        on = f" on node {', '.join(map(str, nodes))}" if nodes else "" if step.nodes is None else " on no node"
        match step.do:
            case "command":
                back = "" if step.undo else " (nothing undoes it)"
                return f"{label}run {filled(step.run or '', values)}{on}{back}"
            case "manual":
                return f"{label}ask a person: {filled(step.say or '', values)}{on}, until {step.until}"
            case "wait":
                return f"{label}wait until {step.until}"
            case _:
                upto = f" up to {filled(str(step.upto), values)}" if step.upto is not None else ""
                return f"{label}{step.do}{upto}{on}"

    def steps(self, run: Run) -> Sequence[Step]:
        found: list[Step] = []
        nodes: list[list[int]] = run.facts["nodes"]
        for number, (entry, on) in enumerate(zip(self._file.steps, nodes, strict=True), start=1):
            each: list[int | None] = list(on) if entry.nodes is not None else [None]
            found += [self._step(number, entry, node) for node in each]
        return found or [Step(name="nothing", title="Nothing to do", do=lambda _run: {"summary": "no step has a node"})]

    def _step(self, number: int, entry: StepEntry, node: int | None) -> Step:
        title = entry.name or entry.do
        return Step(
            name=f"{number}-{entry.do}" + (f"-{node}" if node is not None else ""),
            title=title + (f" (node {node})" if node is not None else ""),
            do=partial(self._do, entry=entry, node=node, number=number),
            undo=self._undo_of(entry, node),
        )

    # -- doing -------------------------------------------------------------------------------------------------------------

    def _do(self, run: Run, *, entry: StepEntry, node: int | None, number: int) -> Facts:
        match entry.do:
            case "wait":
                return self._wait(run, entry)
            case "command":
                return self._command(run, entry.run or "", entry, node)
            case "manual":
                return self._manual(run, entry, node)
            case "restart":
                return self._restart(run, entry, node or 0)
            case "drain" | "undrain":
                return _campaigns(run, node or 0, campaigns=entry.do == "undrain")
            case _:
                return self._trigger(run, entry, node, number)

    def _trigger(self, run: Run, entry: StepEntry, node: int | None, number: int) -> Facts:
        """One of the triggers, with its own rules, seen to be done."""
        action = self._action(run, entry, node, number)
        error = refusal(action.findings, action.what)
        if error is not None:
            raise error
        try:
            action.send()
        except CtlError as trouble:
            if not trouble.outcome_unknown:
                raise
        again = run.poll(self._limit_s(entry))
        while (seen := action.seen(run.client.cluster())) is None:
            if not again():
                raise CtlError("not_observed", f"{action.what} was asked for and is not seen")
        return {"summary": seen}

    def _action(self, run: Run, entry: StepEntry, node: int | None, number: int) -> Action:
        survey = run.session.survey()
        match entry.do:
            case "heartbeat":
                return trigger_actions.heartbeat(run.session, survey)
            case "snapshot":
                return trigger_actions.snapshot(run.session, survey, node or 0)
            case "elect":
                return trigger_actions.elect(run.session, survey, node or 0, pre_vote=True)
            case "transfer-leader":
                return trigger_actions.transfer_leader(run.session, survey, node or 0)
            case _:
                text = filled(str(entry.upto), self._values(survey.cluster))
                if not text.isdecimal():
                    raise CtlError("config", f"step {number}: upto = {text!r} is not the index of an entry")
                return trigger_actions.purge_log(run.session, survey, node or 0, int(text), strict=False)

    def _wait(self, run: Run, entry: StepEntry) -> Facts:
        limit_s = self._limit_s(entry)
        if entry.until == "healthy":
            until_whole(run, limit_s)
            return {"summary": "nothing is missing"}
        again = run.poll(limit_s)
        while (leader := run.client.cluster().leader) is None:
            if not again():
                raise CtlError("not_observed", f"no node leads after {human_seconds(limit_s)}")
        return {"summary": f"node {leader.node_id} leads term {leader.term}"}

    def _command(self, run: Run, template: str, entry: StepEntry, node: int | None) -> Facts:
        values = {**self._values(str(run.facts["cluster"])), "node": "" if node is None else node}
        words = [word.format_map(values) for word in shlex.split(template)]

        def tell(line: str) -> None:
            run.output.note(f"      | {line}")

        run_words(words, f"step {entry.name or entry.do}", self._limit_s(entry), run.poll, tell)
        return {"summary": "it ended with 0"}

    def _manual(self, run: Run, entry: StepEntry, node: int | None) -> Facts:
        values = {**self._values(str(run.facts["cluster"])), "node": "" if node is None else node}
        said = filled(entry.say or "", values)
        limit_s = self._limit_s(entry)
        seen: Callable[[], bool]
        match entry.until:
            case "up":
                seen = is_up(run.client, node or 0)
            case "down":
                seen = is_down(run.client, node or 0)
            case "leader":
                seen = lambda: run.client.cluster().leader is not None  # noqa: E731 (one of four)
            case _:
                seen = lambda: not missing(run.client.cluster())  # noqa: E731
        run.output.say(f"please {said}; waiting until {entry.until} is seen (at most {human_seconds(limit_s)})")
        again = run.poll(limit_s)
        while not seen():
            if not again():
                raise CtlError("not_observed", f"{entry.until} was not seen within {human_seconds(limit_s)}: {said}")
        return {"summary": f"{entry.until} is seen"}

    def _restart(self, run: Run, entry: StepEntry, node: int) -> Facts:
        step = self._restart_step(entry, node)
        step.precheck(run)
        return step.do(run)

    def _restart_step(self, entry: StepEntry, node: int) -> Step:
        driver = entry.driver or self.params.drivers.get(node, "http")
        params = RestartParams(only=[node], drivers={node: driver}, timeout_s=self._limit_s(entry))
        return RollingRestart(params).step_of(node)

    def _undo_of(self, entry: StepEntry, node: int | None) -> Callable[[Run], None] | None:
        if entry.do == "command" and entry.undo:
            template = entry.undo
            return lambda run: _forget(self._command(run, template, entry, node))
        if entry.do == "drain":
            return lambda run: _forget(_campaigns(run, node or 0, campaigns=True))
        if entry.do == "restart":
            return lambda run: _undo(self._restart_step(entry, node or 0), run)
        return None

    def _limit_s(self, entry: StepEntry) -> float:
        return self.params.timeout_s if entry.time_limit is None else parse_duration(entry.time_limit, "time-limit")

    # -- the receipt -------------------------------------------------------------------------------------------------------

    def receipt(self, run: Run) -> Facts:
        return {"file": run.facts["file"], "values": self.params.values, "steps": list(run.past.done)}

    def receipt_lines(self, data: Mapping[str, Any]) -> list[str]:
        file = data["file"]
        count = len(data["steps"])
        return [
            f"{file['name']} is done on cluster {data['cluster']}: {count} step{'s' if count != 1 else ''}, each seen to be done.",
            f"  file:      {file['path']}, sha256 {file['sha256'][:16]}…",
        ]


def _campaigns(run: Run, node: int, *, campaigns: bool) -> Facts:
    """Drain a node, or take that back, as `raftctl drain` does."""
    steps = {step.name: step for step in Drain(DrainParams(node=node, undo=campaigns)).steps(run)}
    if campaigns:
        return steps["campaign"].do(run)
    steps["mute"].do(run)
    facts = steps["hand-over"].do(run)
    steps["hand-over"].verify(run)
    return {"summary": facts["summary"]}


def _undo(step: Step, run: Run) -> None:
    assert step.undo is not None
    step.undo(run)


def _forget(_facts: Facts) -> None:
    """An undo has nothing to tell."""
