"""What the tail of writes beside a rejoin is made of: the same writers beside the whole of it, and beside each of its parts alone.

    python benchmarks/rejoin_parts.py                   10^6 keys of 256 bytes, three rounds
    KEYS=100000 python benchmarks/rejoin_parts.py       fewer of them
    python benchmarks/rejoin_parts.py --quick           one short round: does it run?

Cluster, writers and rejoin are those of `snapshot_p99.py`. Each round has, one after the other and in an order drawn anew:

    nothing             nothing else happens
    no third node       a follower is killed: each write is durable when both others have synced it, not the faster two of three
    its bytes           the same, and a program writes as many bytes a second as a node that is given everything, with a sync after each step
    its work            the same, and a program computes half of the time, as a restore does
    its idle work       the same in the scheduler's idle class: whoever wakes up comes first, so that nobody waits for a turn, only beside it
    bytes and work      a program does both
    digests             all nodes compute the digest of everything (`raftctl verify digest`), as two of them do when a rejoin ends
    rejoin              `raftctl rejoin-node`; the writes are also told apart by what it was doing

The program (`strain.py`) knows nothing of Raft: what writers wait for beside it is what one disk and two cores cost whoever shares them.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rejoin import raftctl
from rows import Row
from snapshot_p99 import Span, Steady, fill, run, timed
from systems import BenchError, Ours, call

STRAIN = Path(__file__).resolve().parent / "strain.py"
WORK = 0.5
"""Share of the time in which a restore computes (`BUILD_RESTS`)."""
CATCHES_UP_WITHIN_S = 60
NOTHING = "nothing"
PHASES = {
    "until the node is started again": (None, "start"),
    "it is given everything": ("start", "catch-up"),
    "two digests": ("catch-up", "prove"),
}
"""Of a rejoin: after the end of which step, until the end of which."""


@dataclass(frozen=True)
class Rejoined:
    """`whole`, and `phases` by their names in PHASES: when each was. `wrote`: bytes of the snapshot and of the database made of it."""

    whole: Span
    phases: dict[str, Span]
    wrote: int


class Bench:
    """A cluster with its keys, and what can be done to it. Spans are times of `time.monotonic`, in seconds."""

    def __init__(self, system: Ours) -> None:
        self.system = system
        self.cluster = str(call(f"{system.urls[system.leader()]}/v1/status")["cluster"])
        self._rejoins = 0

    def follower(self) -> int:
        """Return the position of a follower: now the one, now the other."""
        self._rejoins += 1
        return (self.system.leader() + 1 + self._rejoins % 2) % 3

    def rejoin(self) -> Rejoined:
        """Purge all logs, so that only the snapshot helps, and have a wiped follower be given everything."""
        raftctl(self.system, "snapshot", "--all")
        raftctl(self.system, "purge-log", "--upto", str(10**9), "--all")
        timed(1.0)
        number = self.follower()
        clock = time.time() - time.monotonic()
        begun = time.monotonic()
        receipt = raftctl(self.system, "rejoin-node", str(number + 1), "--confirm", self.cluster)
        whole = begun, time.monotonic()
        journal = receipt["journal"]
        assert isinstance(journal, dict)
        ends = {step: at - clock for step, at in _ends_of_steps(Path(journal["path"])).items()}
        phases = {name: (ends[since] if since else begun, ends[until]) for name, (since, until) in PHASES.items()}
        return Rejoined(whole, phases, _bytes_of(self.system.directory / f"n{number + 1}"))

    @contextmanager
    def without(self) -> Iterator[None]:
        """Have a follower be dead meanwhile; it has caught up on return."""
        number = self.follower()
        self.system.kill(number)
        timed(0.5)  # who was connected to it has noticed
        try:
            yield
        finally:
            self.system.restart(number)
            self._until_caught_up()

    def _until_caught_up(self) -> None:
        until = time.monotonic() + CATCHES_UP_WITHIN_S
        while time.monotonic() < until:
            timed(0.2)
            leader = call(f"{self.system.urls[self.system.leader()]}/v1/status")
            replication = leader["replication"]
            assert isinstance(replication, dict)
            if all(each["state"] == "replicate" and each["lag"] < 100 for each in replication.values()):
                return
        raise BenchError(f"a killed node had not caught up after {CATCHES_UP_WITHIN_S} s")

    def strained(self, total_bytes: int, work: float, seconds: float, *, idle: bool = False) -> Span:
        file = self.system.directory / "strain"
        words = [sys.executable, STRAIN, file, "--bytes", total_bytes, "--work", work, "--seconds", seconds]
        words += ["--idle"] if idle else []
        begun = time.monotonic()
        subprocess.run([str(word) for word in words], check=True)
        return begun, begun + seconds

    def digests(self) -> Span:
        begun = time.monotonic()
        raftctl(self.system, "verify", "digest")
        return begun, time.monotonic()


def _ends_of_steps(journal: Path) -> dict[str, float]:
    """Return when each step was done, in seconds since 1970."""
    records = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    return {
        record["step"]: dt.datetime.fromisoformat(record["at"]).timestamp()
        for record in records
        if record["event"] == "step_done"
    }


def _bytes_of(directory: Path) -> int:
    return sum(path.stat().st_size for part in ("snapshots", "sm") for path in (directory / part).iterdir())


def measured(keys: int, rounds: int, seconds: float) -> Iterator[Row]:
    rows: dict[str, Row] = {}
    took = Row("a rejoin", "s", {}, below=True)
    with Ours(settings="snapshot_logs_since_last = 0") as system:
        fill(system.urls[system.leader()], keys)
        bench = Bench(system)
        first = bench.rejoin()  # everybody is warm, and it is known how long it takes and how much it writes
        begun, ended = first.phases["it is given everything"]
        total_bytes = int(first.wrote * seconds / (ended - begun))
        parts: dict[str, Callable[[], Span]] = {
            NOTHING: lambda: timed(seconds),
            "no third node": lambda: timed(seconds),
            "its bytes": lambda: bench.strained(total_bytes, 0, seconds),
            "its work": lambda: bench.strained(0, WORK, seconds),
            "its idle work": lambda: bench.strained(0, WORK, seconds, idle=True),
            "bytes and work": lambda: bench.strained(total_bytes, WORK, seconds),
            "digests": bench.digests,
        }
        dice = random.Random(1)
        with Steady(system.urls) as writers:
            timed(seconds)
            for _ in range(rounds):
                seen: dict[str, float] = {}
                for name in dice.sample([*parts, "rejoin"], len(parts) + 1):
                    if name == "rejoin":
                        rejoin = bench.rejoin()
                        took.add("ours", rejoin.whole[1] - rejoin.whole[0])
                        seen[name] = writers.p99_ms([rejoin.whole])
                        seen |= {f"rejoin: {phase}": writers.p99_ms([span]) for phase, span in rejoin.phases.items()}
                    elif name in {NOTHING, "digests"}:
                        seen[name] = writers.p99_ms([parts[name]()])
                    else:
                        with bench.without():
                            seen[name] = writers.p99_ms([parts[name]()])
                    timed(1.0)
                for name, p99_ms in seen.items():
                    if name != NOTHING:
                        row = rows.setdefault(name, Row(f"p99 of a write: {name}", "ms", {}, below=True))
                        row.add("ours", p99_ms)
                        row.add(NOTHING, seen[NOTHING])
        took.notes.append(
            f"{first.wrote / 1e6:.0f} MB a rejoin, of which giving the node everything took {ended - begun:.1f} s"
        )
        took.notes.append(f"{len(writers.took):,} writes acknowledged, {writers.refused} refused")
    yield from sorted(rows.values(), key=lambda row: ([*parts, "rejoin"].index(row.name.split(": ")[1]), row.name))
    yield took


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", measured))
