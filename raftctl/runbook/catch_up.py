"""Watching a wiped node until it has everything again: how far, how fast, and whether it stands still.

Source: design of rejoin (step 7); field notes B 22 (is it done, how long, did it fail).
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from raftctl.errors import CtlError
from raftctl.model import LogId, Replication, index_of
from raftctl.output.progress import CatchUpBar
from raftctl.output.text import human_seconds
from raftctl.runbook.engine import Run
from raftctl.runbook.leadership import allow_revert
from raftctl.survey import Survey

STALL_S: Final = 30.0
"""Nothing moved for so long: far above an election and a slow disk."""
LAG_SMALL: Final = 500
"""Entries a node may be behind and still count as caught up: under load the last ones are always on their way."""
_LOOK_EVERY_S: Final = 0.2


class CatchUp(msgspec.Struct, frozen=True):
    """How it went."""

    seconds: float
    matching: int
    lag: int
    snapshot_bytes: int
    rearmed: int


class _Watch:
    """What was seen so far."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.moved_at = self.begun
        self.progress: tuple[int, ...] = ()
        self.snapshot_bytes = 0
        self.rearmed = 0

    def note(self, progress: tuple[int, ...]) -> None:
        if progress != self.progress:
            self.progress = progress
            self.moved_at = time.monotonic()

    def result(self, replication: Replication | None, until: LogId) -> CatchUp:
        lag = replication.lag if replication is not None else 0
        matching = index_of(replication.matching) if replication is not None else until.index
        return CatchUp(round(time.monotonic() - self.begun, 3), matching, lag, self.snapshot_bytes, self.rearmed)

    @property
    def still_s(self) -> float:
        return time.monotonic() - self.moved_at


def watch_catch_up(run: Run, target: int, incarnation: str, until: LogId, timeout_s: float) -> CatchUp:
    """Return when the node is recovered, holds `until` and what came after.

    A leader that came to office meanwhile fences the node, because the permission was another one's: it is given again. What
    protects the node's old promises is the barrier, under every leader.
    Raises: CtlError: `needs_attention`: it failed, stands still, or the time is up.
    """
    watch = _Watch()
    again = run.poll(timeout_s + STALL_S, every_s=_LOOK_EVERY_S)
    with CatchUpBar(quiet=run.session.flags.quiet or not run.output.for_people, color=run.output.colors_stderr) as bar:
        while True:
            survey = run.client.cluster(patient_with=[target])
            replication = survey.replication(target)
            if _is_done(survey, target, until):
                return watch.result(replication, until)
            _check_life(survey, target, incarnation)
            if replication is not None and replication.state == "reverted" and not replication.revert_armed:
                _let_in(run, survey, target, watch)
            _show(bar, watch, survey, replication, target, until)
            _check_time(watch, survey, target, timeout_s)
            again()


def _is_done(survey: Survey, target: int, until: LogId) -> bool:
    status = survey.status(target)
    replication = survey.replication(target)
    if status is None or replication is None or status.recovering is not None or status.stopped:
        return False
    holds = index_of(replication.matching) >= until.index and index_of(status.applied) >= until.index
    return holds and replication.lag <= LAG_SMALL and replication.state == "replicate"


def _check_life(survey: Survey, target: int, incarnation: str) -> None:
    status = survey.status(target)
    if status is not None and status.fatal is not None:
        raise CtlError(
            "needs_attention", f"node {target} failed: {status.fatal}", hint="read its log, mend the cause, start it again"
        )
    if status is not None and status.incarnation != incarnation:
        raise CtlError(
            "needs_attention",
            f"node {target} came back as another incarnation: its vote is gone",
            hint="raftctl doctor says what mends it",
        )


def _let_in(run: Run, survey: Survey, target: int, watch: _Watch) -> None:
    """Only while it recovers: a node that has recovered and lost data again is somebody else's case."""
    status = survey.status(target)
    if status is None or status.recovering is None:
        return
    watch.rearmed += 1
    run.note(f"the leader of term {survey.term} fenced the node; the permission is given again")
    allow_revert(run, target)


def _show(
    bar: CatchUpBar, watch: _Watch, survey: Survey, replication: Replication | None, target: int, until: LogId
) -> None:
    watch.note(survey.progress(target))
    if replication is not None:
        watch.snapshot_bytes = max(watch.snapshot_bytes, replication.snapshot_size_bytes)
    show_catch_up(bar, survey, target, until.index)


def show_catch_up(bar: CatchUpBar, survey: Survey, target: int, until: int = 1) -> None:
    """Show the step a node is at: a snapshot being sent, that snapshot being restored, entries."""
    status, replication = survey.status(target), survey.replication(target)
    restoring = status.restoring if status is not None else None
    if restoring is not None and restoring.size_bytes:
        bar.update(restoring.restored_bytes, restoring.size_bytes, "bytes restored")
    elif replication is not None and replication.state == "snapshot" and replication.snapshot_size_bytes:
        bar.update(replication.snapshot_sent_bytes, replication.snapshot_size_bytes, "bytes")
    elif replication is not None:
        applied = index_of(status.applied) if status is not None else 0
        end = index_of(survey.leader.last_log) if survey.leader is not None else until
        bar.update(min(index_of(replication.matching), applied), max(end, until), "entries")


def where(survey: Survey, target: int) -> str:
    """Return how far a node is by its leader's word, and what keeps the node itself from saying so."""
    status, replication = survey.status(target), survey.replication(target)
    told = f"{replication.state}, {replication.lag} entries behind" if replication is not None else "no leader tells of it"
    if status is None:
        return (
            f"it does not answer; by its leader's word: {told}" if replication is not None else f"it does not answer; {told}"
        )
    if status.stopped:
        return f"its engine is stopped; {told}"
    return f"{told}; it recovers until {status.recovering.until}" if status.recovering is not None else told


def _check_time(watch: _Watch, survey: Survey, target: int, timeout_s: float) -> None:
    waited_s = time.monotonic() - watch.begun
    if watch.still_s < STALL_S and waited_s < timeout_s:
        return
    why = (
        f"nothing moved for {human_seconds(watch.still_s)}"
        if watch.still_s >= STALL_S
        else f"not done after {human_seconds(waited_s)}; --timeout allows {human_seconds(timeout_s)}"
    )
    measured = {
        "stalled_s": round(watch.still_s, 1),
        "stall_limit_s": STALL_S,
        "waited_s": round(waited_s, 1),
        "limit_s": timeout_s,
    }
    raise CtlError("needs_attention", f"node {target} has not caught up: {why} ({where(survey, target)})", measured=measured)
