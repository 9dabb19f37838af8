"""Comparing state machines by their digests at one entry.

Nodes that rest are at the same entry anyway. While writes go on, the leader appends a blank entry that marks a moment, and
every node keeps its digest of it.
Source: contract sections 3 and 5 (verify digest); field notes A.3.6 (etcd's hashkv).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from raftctl.errors import CtlError, ExitCode
from raftctl.model import DigestReply
from raftctl.output.render import Output
from raftctl.output.tables import Cell, Column, Table, Tone
from raftctl.output.text import listed
from raftctl.session import Session
from raftctl.survey import EVERYBODY, Survey

MARK_WAIT_S: Final = 30.0
"""For an entry to be held by a quorum."""
WAIT_S_MAX: Final = 600.0
"""What a node is willing to wait for."""
ROUNDS_MAX: Final = 3
"""A write between two answers puts them at different entries; a mark can be lost when a snapshot jumps over it."""

Answers = Mapping[int, DigestReply | CtlError]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`answers`: of each member, its digest at `index` or why there is none. `marked`: an entry was appended for it."""

    cluster: str
    index: int | None
    marked: bool
    answers: Answers

    @property
    def digests(self) -> dict[int, str]:
        return {node: reply.digest for node, reply in self.answers.items() if isinstance(reply, DigestReply)}

    @property
    def common(self) -> str | None:
        """The digest that most nodes have, None: none."""
        found = list(self.digests.values())
        return max(sorted(set(found)), key=found.count, default=None)

    @property
    def differing(self) -> list[int]:
        return [node for node, digest in self.digests.items() if digest != self.common]

    @property
    def missing(self) -> list[int]:
        return [node for node in self.answers if node not in self.digests]

    @property
    def names(self) -> list[str]:
        return sorted(set(self.digests.values()))

    @property
    def exit_code(self) -> ExitCode:
        if self.differing:
            return ExitCode.MISMATCH
        return ExitCode.DEGRADED if self.missing else ExitCode.DONE


def compare(session: Session, at: int | None) -> Verdict:
    """Return every member's digest at one entry.

    Raises: CtlError: nobody answers; `not_observed`, the nodes could not be caught at one entry.
    """
    survey = session.survey(patient_with=EVERYBODY)
    members = sorted({*survey.membership.voters, *survey.membership.learners})
    down: Answers = {node: CtlError("unreachable", f"node {node} {_why(survey, node)}") for node in survey.down}
    asked = [node for node in members if node not in down]
    if at is not None:
        return Verdict(cluster=survey.cluster, index=at, marked=False, answers={**down, **_at(session, asked, at)})
    answers, index = _at_rest(session, asked)
    if index is None and not session.flags.dry_run and survey.leader is not None:
        answers, index = _at_a_mark(session, asked)
        return Verdict(cluster=survey.cluster, index=index, marked=True, answers={**down, **answers})
    if index is None:
        raise CtlError(
            "not_observed",
            "the nodes are at different entries, and none can be marked "
            + ("in a dry run" if session.flags.dry_run else "without a leader"),
            hint="see how far they are: raftctl status",
        )
    return Verdict(cluster=survey.cluster, index=index, marked=False, answers={**down, **answers})


def _why(survey: Survey, node: int) -> str:
    report = survey.report(node)
    if report is not None and report.is_unknown and report.error is not None:
        return f"is not known: {report.error.detail}"
    return "does not answer or its engine stands still"


def _at(session: Session, nodes: Sequence[int], index: int | None) -> Answers:
    return session.client.digests(nodes, index, wait_s=session.deadline.for_a_node_s(WAIT_S_MAX))


def _at_rest(session: Session, nodes: Sequence[int]) -> tuple[Answers, int | None]:
    """Ask for the present; the index is None when they do not rest at the same one."""
    for _ in range(ROUNDS_MAX):
        answers = _at(session, nodes, None)
        indexes = {reply.index for reply in answers.values() if isinstance(reply, DigestReply)}
        if len(indexes) == 1:
            return answers, indexes.pop()
        if not indexes:
            return answers, 0
    return {}, None


def _at_a_mark(session: Session, nodes: Sequence[int]) -> tuple[Answers, int]:
    left = ROUNDS_MAX
    while True:
        mark = session.client.barrier([], digest=True, expect=None, wait_s=session.deadline.for_a_node_s(MARK_WAIT_S))
        session.output.note(f"writes go on; marked entry {mark.log_id.index}")
        answers = _at(session, nodes, mark.log_id.index)
        left -= 1
        if left == 0 or not any(_is_lost(reply) for reply in answers.values()):
            return answers, mark.log_id.index


def _is_lost(reply: DigestReply | CtlError) -> bool:
    return isinstance(reply, CtlError) and reply.code == "digest_not_available"


# -- showing -------------------------------------------------------------------------------------------------------------


def judged(verdict: Verdict) -> dict[str, Any]:
    """Return the data of the document. `equal`: of those that answered; null when there were none."""
    return {
        "cluster": verdict.cluster,
        "equal": None if not verdict.digests else not verdict.differing,
        "complete": not verdict.missing,
        "index": verdict.index or None,
        "digest": verdict.common,
        "marked": verdict.marked,
        "differing": verdict.differing,
        "nodes": [_row(node, reply) for node, reply in sorted(verdict.answers.items())],
    }


def _row(node: int, reply: DigestReply | CtlError) -> dict[str, Any]:
    if isinstance(reply, CtlError):
        return {"node": node, "index": None, "digest": None, "error": {"code": reply.code, "detail": reply.message}}
    return {"node": node, "index": reply.index, "digest": reply.digest, "error": None}


def view_of(output: Output, verdict: Verdict) -> list[Table | str]:
    """Return what people see: a row a node, and one sentence."""
    rows: list[list[Cell | str]] = []
    for node, reply in sorted(verdict.answers.items()):
        if isinstance(reply, CtlError):
            rows.append([str(node), "-", Cell(f"none: {reply.message}", Tone.WARN)])
        else:
            differs = reply.digest != verdict.common
            rows.append([str(node), str(reply.index), Cell(reply.digest, Tone.BAD if differs else Tone.GOOD)])
    table = Table([Column("NODE", right=True), Column("ENTRY", right=True), Column("SHA-256 OF THE STATE MACHINE")], rows)
    return [table, "", output.line(*_sentence(verdict))]


def _sentence(verdict: Verdict) -> tuple[str, Tone]:
    if verdict.differing:
        return (
            f"NOT EQUAL at entry {verdict.index}: node {listed(verdict.differing)} differs from the rest; "
            f"bring it back from the others: raftctl rejoin-node {verdict.differing[0]}"
        ), Tone.BAD
    if verdict.missing:
        known = list(verdict.digests)
        have = f"{len(known)} of {len(verdict.answers)} nodes are equal at entry {verdict.index}"
        if len(known) < 2:
            have = f"only node {known[0]} told its digest" if known else "no node told its digest"
        return f"{have}; nothing is known of node {listed(verdict.missing)}", Tone.WARN
    return f"equal on all {len(verdict.digests)} nodes at entry {verdict.index}", Tone.GOOD
