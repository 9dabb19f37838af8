"""Rates and histories out of a row of surveys, and what changed from one to the next.

Pure: surveys and the times at which they were taken go in.
Source: contract section 5 (top); field notes A.3.10.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from raftctl.health import health_of
from raftctl.model import index_of
from raftctl.survey import Survey

HISTORY: Final = 60
"""Samples that a history shows at most: a minute at the default interval."""
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_PLAIN: Final = "_.-~=+*#"


class NodeGauge(msgspec.Struct, frozen=True, kw_only=True):
    """One node in one sample. Rates are entries a second since the sample before; None: not known."""

    node: int | None
    role: str
    state: str
    term: int | None
    applied: int | None
    applied_per_s: float | None
    lag: int | None
    heard_ms: float | None
    note: str


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster at one moment; `changes` since the sample before, in words."""

    cluster: str | None
    leader: int | None
    term: int
    voters: int
    up: int
    failure_tolerance: int
    condition: str
    committed: int
    committed_per_s: float | None
    quorum_heard_ms: float | None
    nodes: Sequence[NodeGauge]
    changes: Sequence[str]


class Gauges:
    """Takes surveys one after the other, and remembers the last minute of them."""

    def __init__(self) -> None:
        self._last: tuple[float, Survey] | None = None
        self.rates: deque[float] = deque(maxlen=HISTORY)
        self.lags: dict[int, deque[float]] = {}

    def take(self, at_s: float, survey: Survey) -> Sample:
        """Return the sample. `at_s`: when the survey was taken, on a clock that only goes forward."""
        last = self._last
        passed_s = at_s - last[0] if last is not None else 0.0
        before = last[1] if last is not None else None
        committed = _committed(survey)
        rate = _rate(_committed(before) if before is not None else None, committed, passed_s)
        self.rates.append(max(0.0, rate or 0.0))
        gauges = [self._gauge(survey, before, passed_s, number) for number in range(len(survey.nodes))]
        leader, quorum = survey.leader, survey.quorum
        self._last = (at_s, survey)
        return Sample(
            cluster=survey.cluster or None,
            leader=leader.node_id if leader is not None else None,
            term=survey.term,
            voters=quorum.voters,
            up=quorum.reachable,
            failure_tolerance=quorum.tolerance,
            condition=health_of(survey).condition.value,
            committed=committed,
            committed_per_s=rate,
            quorum_heard_ms=leader.last_quorum_acked_ms_ago if leader is not None else None,
            nodes=gauges,
            changes=list(changes(before, survey)) if before is not None else [],
        )

    def _gauge(self, survey: Survey, before: Survey | None, passed_s: float, number: int) -> NodeGauge:
        report = survey.nodes[number]
        status, node = report.status, report.node_id
        lag = survey.lag(node) if node is not None else None
        if node is not None:
            self.lags.setdefault(node, deque(maxlen=HISTORY)).append(float(lag or 0))
        then = before.status(node) if before is not None and node is not None else None
        target = survey.replication(node) if node is not None else None
        applied = index_of(status.applied) if status is not None else None
        return NodeGauge(
            node=node,
            role=survey.role(node),
            state=survey.state(report),
            term=status.term if status is not None else None,
            applied=applied,
            applied_per_s=_rate(index_of(then.applied) if then is not None else None, applied, passed_s),
            lag=lag,
            heard_ms=target.last_ack_ms_ago if target is not None else None,
            note=_note(survey, number),
        )


def _note(survey: Survey, number: int) -> str:
    from raftctl.output.views import note_of

    report = survey.nodes[number]
    if report.error is not None:
        return report.error.detail.rpartition(": ")[2]
    return note_of(survey, report)[0]


def _committed(survey: Survey) -> int:
    """The highest that anybody knows of."""
    return max((index_of(status.committed) for status in survey.statuses), default=0)


def _rate(before: int | None, now: int | None, passed_s: float) -> float | None:
    if before is None or now is None or passed_s <= 0:
        return None
    return (now - before) / passed_s


def changes(before: Survey, now: Survey) -> Iterator[str]:
    """Return what happened between two surveys, in words."""
    old, new = before.leader, now.leader
    if (old.node_id if old else None, old.term if old else 0) != (new.node_id if new else None, new.term if new else 0):
        yield f"node {new.node_id} leads term {new.term}" if new is not None else f"no leader (latest term {now.term})"
    for report in now.nodes:
        if report.node_id is not None:
            yield from _changes_of(report.node_id, before, now)
    if before.membership.configs != now.membership.configs or before.membership.learners != now.membership.learners:
        sets = " and ".join("{" + ",".join(map(str, config)) + "}" for config in now.membership.configs)
        yield f"voters {sets}"
    known = {(status.node_id, alarm.code) for status in before.statuses for alarm in status.alarms}
    for status in now.statuses:
        for alarm in status.alarms:
            if (status.node_id, alarm.code) not in known:
                yield f"alarm of node {status.node_id}: {alarm.code}: {alarm.detail}"


def _changes_of(node: int, before: Survey, now: Survey) -> Iterator[str]:
    was, is_ = _word(before, node), _word(now, node)
    if before.report(node) is None:
        yield f"node {node} is new: {is_}"
    elif was != is_ and "leader" not in {was, is_}:
        yield f"node {node}: {was} -> {is_}"
    old, new = before.replication(node), now.replication(node)
    if old is not None and new is not None and old.state != new.state:
        yield f"to node {node}: {old.state} -> {new.state}"


def _word(survey: Survey, node: int) -> str:
    report = survey.report(node)
    return survey.state(report) if report is not None else "unreachable"


def sparkline(values: Sequence[float], width: int, *, full: float, unicode: bool) -> str:
    """Return the last `width` values as a line of small bars; the highest bar is the largest value, at least `full`."""
    shown = list(values)[-width:] if width > 0 else []
    bars = _BLOCKS if unicode else _PLAIN
    highest = max([*shown, full])
    return "".join(bars[min(len(bars) - 1, round(value / highest * (len(bars) - 1)))] for value in shown)
