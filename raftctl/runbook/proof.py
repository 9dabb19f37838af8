"""Proving that a node is whole: one entry is marked, and the digests of two state machines right after it are compared.

Source: design of rejoin (step 7); field notes A.3.6 (etcd's hashkv, as part of the runbook).
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from raftctl.errors import CtlError
from raftctl.model import DigestReply
from raftctl.runbook.engine import Facts, Run
from raftctl.runbook.leadership import BARRIER_WAIT_S, UNSETTLED, leader_without

DIGEST_WAIT_S: Final = 45.0
"""How long is waited for a digest before it is asked for again. Shorter than the lock lives."""
PROOF_S: Final = 1800.0
"""How long at one mark in all. A node computes a mark's digest once, however often it is asked, beside its writes: 8 s for a million keys,
minutes for ten million."""
MARKS_MAX: Final = 5
"""A mark can be lost when a snapshot jumps over it; that happens at most once or twice in a row."""


class Proof(msgspec.Struct, frozen=True):
    """Two state machines, one digest, at one applied index."""

    index: int
    digest: str
    algorithm: str
    leader: int


def prove_equal(run: Run, target: int) -> Facts:
    """Compare the target's state machine with the leader's.

    Raises: CtlError: `digest_mismatch`; `needs_attention`, no digest could be had.
    """
    again = run.poll(MARKS_MAX * DIGEST_WAIT_S, every_s=0.2)
    for attempt in range(1, MARKS_MAX + 1):
        proof = _compare(run, target)
        if proof is not None:
            summary = f"equal at entry {proof.index}: {proof.algorithm} {proof.digest[:16]}…"
            return {"proof": msgspec.to_builtins(proof), "marks": attempt, "summary": summary}
        again()
    message = f"no digest of node {target} could be had at any of {MARKS_MAX} marks; it has caught up but nothing is proved"
    raise CtlError("needs_attention", message)


def _compare(run: Run, target: int) -> Proof | None:
    """Return the proof, None if this mark is no use."""
    begun = time.monotonic()
    try:
        mark = run.client.barrier([], digest=True, expect=None, wait_s=BARRIER_WAIT_S)
        leader = leader_without(run.client.cluster(), target)
        found = _digests_at(run, [leader.node_id, target], mark.log_id.index)
    except CtlError as error:
        if error.code not in UNSETTLED | {"digest_not_available", "unreachable"} and not error.outcome_unknown:
            raise
        run.note(f"no proof after {time.monotonic() - begun:.1f} s: {error.message}")
        return None
    ours, theirs = found[leader.node_id], found[target]
    if ours.digest != theirs.digest:
        message = (
            f"at entry {mark.log_id.index} the state machine of node {target} is {theirs.digest[:16]}…, "
            f"that of node {leader.node_id} is {ours.digest[:16]}…"
        )
        hint = f"keep clients away from node {target}: raftctl status; keep its retired data"
        raise CtlError("digest_mismatch", message, hint=hint, measured={"leader": ours.digest, "target": theirs.digest})
    return Proof(mark.log_id.index, ours.digest, ours.algorithm, leader.node_id)


def _digests_at(run: Run, nodes: list[int], index: int) -> dict[int, DigestReply]:
    """Return each node's digest at a mark, asked for at once, so that none waits for another's.

    Raises: CtlError: a node has none, or not in time.
    """
    found: dict[int, DigestReply] = {}
    again = run.poll(PROOF_S, every_s=0.2)
    while True:
        late: list[CtlError] = []
        for node, reply in run.client.digests(
            [node for node in nodes if node not in found], index, wait_s=DIGEST_WAIT_S
        ).items():
            if isinstance(reply, DigestReply):
                found[node] = reply
            elif reply.code == "timed_out":
                late.append(reply)
            else:
                raise reply
        if not late:
            return found
        run.note(f"{late[0].message}; waiting on")
        if not again():
            raise late[0]
