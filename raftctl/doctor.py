"""What is wrong with a cluster, and the command that mends it: a catalogue of rules, each held against what was gathered.

Pure: facts go in, diagnoses come out. `health` answers in one word; this says what to do.
Source: contract section 5 (doctor); field notes A.3.9, B 15, 17.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from raftctl.errors import ExitCode
from raftctl.survey import Survey


class Severity(enum.StrEnum):
    """Ordered from harmless to worst."""

    INFO = "info"
    WARN = "warn"
    BAD = "bad"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `node` None: the cluster as a whole, or this machine. `fix`: a command, or what to do."""

    rule: str = ""
    severity: Severity
    node: int | None = None
    evidence: str
    fix: str = ""


class Clock(msgspec.Struct, frozen=True):
    """A node's clock beside ours, in seconds: somewhere between the two (replies tell whole seconds only)."""

    ahead_min_s: float
    ahead_max_s: float


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that rules look at.

    `before` and `now`: two looks some moments apart, or one and the same where there was time for no second; then
    `has_two_looks` is false, and what only two can show is not judged. `token_mode`: permissions of the token's file, None: there is none.
    `unfinished_runs`: runbooks in this machine's journals that began on this cluster and did not end, with the commands that
    can end them.
    """

    before: Survey
    now: Survey
    has_two_looks: bool = True
    context: str | None = None
    endpoints: Sequence[str] = ()
    clocks: Mapping[int, Clock] = {}
    token_path: str = ""
    token_mode: int | None = None
    version: str = ""
    unfinished_runs: Mapping[str, Sequence[str]] = {}


Rule = Callable[[Facts], Iterator[Diagnosis]]


class Report(msgspec.Struct, frozen=True):
    """`rules`: all that were held against the facts."""

    rules: Sequence[str]
    found: Sequence[Diagnosis]

    @property
    def worst(self) -> Severity | None:
        order = list(Severity)
        return max((one.severity for one in self.found), key=order.index, default=None)


def examine(facts: Facts) -> Report:
    """Hold every rule against the facts; the worst findings come first."""
    from raftctl.doctor_of_cluster import RULES as OF_CLUSTER
    from raftctl.doctor_of_nodes import RULES as OF_NODES

    rules: Mapping[str, Rule] = {**OF_CLUSTER, **OF_NODES}
    found = [msgspec.structs.replace(one, rule=name) for name, rule in rules.items() for one in rule(facts)]
    order = list(Severity)
    return Report(list(rules), sorted(found, key=lambda one: -order.index(one.severity)))


def exit_code(facts: Facts, report: Report) -> ExitCode:
    """12 not allowed to ask, 4 nobody answers, 11 no writes, 10 something is wrong, 0 nothing is (or nothing that matters)."""
    if not facts.now.statuses:
        refused = any(
            node.error is not None and node.error.code in {"unauthorized", "forbidden"} for node in facts.now.nodes
        )
        return ExitCode.AUTH if refused else ExitCode.UNREACHABLE
    quorum = facts.now.quorum
    is_known = not quorum.unknown
    if quorum.is_lost or (is_known and (not quorum.reached or facts.now.leader is None)):
        return ExitCode.NO_QUORUM
    return ExitCode.DEGRADED if report.worst in {Severity.WARN, Severity.BAD} else ExitCode.DONE


CLOCK_SKEW_S_MAX: Final = 2.0
"""Raft needs no clock; logs that are compared, certificates and a runbook's lock, which runs out, do."""
