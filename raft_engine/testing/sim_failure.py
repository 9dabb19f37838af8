"""What was broken, in words: the failure of a simulated run.

Every check begins its message with the name of the promise that it watches ("log matching: …"), so that two failures can be
compared: a shorter run shows the same bug when it breaks the same promise.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Final

from raft_engine.testing.sim_faults import Happened

PROMISES: Final = {
    "election safety": "a term has one leader, in one life of it",
    "log matching": "an entry of the same index and term is the same everywhere, and so is the one before it",
    "leader completeness": "whoever is elected holds everything that was committed",
    "commit by counting": "a leader commits by counting only what it appended in its own term (paper 5.4.2)",
    "commit on quorum": "what is committed is on the disks of a quorum",
    "committed is for ever": "no committed entry changes, is cut off or is replaced",
    "state machine safety": "everybody applies the same entries, in order, with the same results",
    "durability": "after a crash everything is there that a sync had made durable, the vote too",
    "nothing goes back": "term, commit, applied, purged and snapshot index never fall while a process lives",
    "one configuration at a time": "each configuration follows from the one before, and only one is under way",
    "lease exclusivity": "nobody may serve reads by lease once a later leader has committed something",
    "client history": "the answers that clients got fit one register a key, in real time",
    "no lost write": "a write that was acknowledged is there for ever",
    "progress": "when every fault is healed, writes succeed, everybody comes back and all agree",
}
"""What the simulator watches: the name with which a message begins, and what it means."""
FAULTS: Final = "while faults were happening"
HEALING: Final = "after all faults were healed"
ANSWERS: Final = "when all answers that clients had got were looked at together"


class SimulationFailed(AssertionError):
    """A run has shown something impossible.

    `promise`: a key of `PROMISES`, or where in the code it was noticed; `meaning`: in a sentence. `what`: the message.
    `at_ms`: virtual time.
    `phase`: what was going on. `happened`: every fault so far; `serials`: of every fault that was due and not left out;
    `left_out`: of those that were.
    """

    def __init__(
        self,
        seed: int,
        error: Exception,
        at_ms: float,
        phase: str,
        happened: Sequence[Happened],
        serials: Sequence[int],
        left_out: Sequence[int],
        tail: Sequence[str],
    ) -> None:
        """Wrap `error`; `tail`: the last lines of the run's trace."""
        self.seed = seed
        self.promise = promise_of(error)
        self.meaning = meaning_of(error)
        self.what = str(error) or self.promise
        self.at_ms = at_ms
        self.phase = phase
        self.happened = tuple(happened)
        self.serials = tuple(serials)
        self.left_out = tuple(left_out)
        super().__init__("\n".join([f"seed {seed}: {self.what}", *tail]))


def promise_of(error: Exception) -> str:
    """Return which promise `error` says is broken; where it was raised, if it names none."""
    name = str(error).partition(": ")[0]
    if name in PROMISES:
        return name
    frame = _raised_in(error)
    where = "" if frame is None else f" in {_module(frame.filename)}.{frame.name}, line {frame.lineno}"
    return f"{type(error).__name__}{where}"


def meaning_of(error: Exception) -> str:
    """Return what was promised, in a sentence, or what the code says where `error` was raised."""
    promise = promise_of(error)
    frame = _raised_in(error)
    return PROMISES.get(promise) or ("" if frame is None else f"the code there: {frame.line}")


def _raised_in(error: Exception) -> traceback.FrameSummary | None:
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1] if frames else None


def _module(file: str) -> str:
    return file.replace("\\", "/").rpartition("/raft_engine/")[2].removesuffix(".py").replace("/", ".")
