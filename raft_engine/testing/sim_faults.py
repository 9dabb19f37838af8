"""What can go wrong, how often, and what did: every fault goes through here, with a serial number.

Each kind of fault and each link has a random stream of its own, derived from the seed, and each occurrence of a scheduled
fault rolls dice of its own. Leaving one occurrence out (`without`) therefore changes nothing but what follows from it, and
the serials of all others stay what they are.
Source: TigerBeetle VOPR; "Swarm testing" (Groce et al., ISSTA 2012); delta debugging (Zeller 2002) is why serials are stable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

KINDS: Final = (
    "drop",
    "duplicate",
    "reorder",
    "delay",
    "one_way_partition",
    "partial_partition",
    "isolation",
    "crash",
    "crash_at_disk_call",
    "power_loss",
    "torn_write",
    "bit_rot",
    "io_error",
    "no_space",
    "sync_error",
    "slow_disk",
    "pause",
    "clock_skew",
    "clock_jump",
    "clock_back",
    "membership_change",
    "transfer",
    "election",
    "snapshot_and_purge",
    "rejoin_planned",
    "rejoin_blank",
    "rollback",
    "reset",
)
"""What is counted, alone and in pairs."""
PAIRS: Final = tuple(combinations(sorted(KINDS), 2))
TOGETHER_MS: Final = 2000.0
"""Two faults within this time on one cluster are a pair."""
SERIALS_EACH: Final = 1_000_000
_FIRST_LINK_SLOT: Final = 1000
_STREAMS: Final = (
    *(kind for kind in KINDS if kind not in {"clock_back", "reset"}),
    "combined",
    "ambush",
    "vote_ambush",
    "reset",
)
"""Each has a slot of serials, by its place here: new ones come last. Going back comes along with a jump, and has none."""
_COUNT_AGAIN_MS: Final = 100.0


@dataclass(frozen=True)
class Faults:
    """How rough the world is; probabilities per message, rates per second of virtual time for the whole cluster."""

    drop: float = 0.02
    double: float = 0.02
    late: float = 0.0
    """Messages that arrive when nobody expects them any more, up to two seconds later, behind those sent after them."""
    delay_ms_max: float = 20.0
    fsync_ms_max: float = 8.0
    crashes_per_s: float = 0.15
    """Killed processes: what they wrote is in the kernel's memory and survives."""
    power_losses_per_s: float = 0.05
    """Of what was not synced any part survives, torn at sectors."""
    disk_crashes_per_s: float = 0.05
    """The process or the machine ends at some disk call from now on."""
    disk_errors_per_s: float = 0.0
    """EIO, ENOSPC or a failed sync; the operator mends it when the node has stopped."""
    slow_disks_per_s: float = 0.0
    rot_per_s: float = 0.0
    """Bits flip in what was durable. The node comes back as an operator would bring it back."""
    rollbacks_per_s: float = 0.0
    """A machine is put back to an older image of its disk."""
    partitions_per_s: float = 0.2
    resets_per_s: float = 0.0
    """Connections end while both sides live and the link works, as something between them may have it; dialed anew at once."""
    slow_links_per_s: float = 0.0
    pauses_per_s: float = 0.05
    skews_per_s: float = 0.0
    """A node's clock goes up to 4 % faster or slower from now on; leases allow for 10 % between two clocks."""
    jumps_per_s: float = 0.0
    """A node's clock jumps ahead by up to a second, and its time of day by up to an hour, forward or back. What a lease promises
    is not demanded while that matters."""
    triggers_per_s: float = 1.0
    contests_per_s: float = 0.0
    """Two nodes that do not hear each other are asked to campaign for real, and some node crashes meanwhile."""
    coups_per_s: float = 0.0
    """The leader is cut off while another node campaigns, and clients go on asking both."""
    ambush: float = 0.0
    """How often a node crashes while its vote is on its way to the disk, to be back before anybody has noticed."""
    rejoins_per_s: float = 0.05
    losses_per_s: float = 0.0
    """Data directories removed by hand; the permission comes before or later."""
    changes_per_s: float = 0.0
    """Membership changes; give the simulation some `spares` for them."""
    writes_per_s: float = 60.0
    reads_per_s: float = 30.0


CALM: Final = Faults(
    drop=0,
    double=0,
    crashes_per_s=0,
    power_losses_per_s=0,
    disk_crashes_per_s=0,
    partitions_per_s=0,
    pauses_per_s=0,
    triggers_per_s=0,
    rejoins_per_s=0,
)
MEMBERSHIP: Final = Faults(losses_per_s=0.1, changes_per_s=0.5)


@dataclass(frozen=True)
class AllBut:
    """The serials of every fault but these: what to leave out so that only they happen."""

    kept: frozenset[int]

    def __contains__(self, serial: object) -> bool:
        return serial not in self.kept


class Happened(NamedTuple):
    """One occurrence of a fault; `at` in virtual milliseconds."""

    serial: int
    kind: str
    at: float
    detail: str


class Chaos:
    """Decides whether a fault happens, and keeps count."""

    def __init__(self, seed: int, without: Container[int], clock: Callable[[], float]) -> None:
        self.seed = seed
        self.without = without
        self.is_over = False
        """Everything is being healed: nothing goes wrong any more."""
        self.happened: list[Happened] = []
        self.serials: list[int] = []
        """Every fault that was due so far and not left out, in order, whether or not there was anything to strike."""
        self.left_out: list[int] = []
        """Every fault that was due and left out."""
        self.counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.pairs: dict[tuple[str, str], int] = dict.fromkeys(PAIRS, 0)
        self._clock = clock
        self._numbers: dict[int, int] = {}
        self._active: dict[str, float] = {}
        self._counted: dict[str, float] = {}

    def stream(self, name: str) -> random.Random:
        """Return a new source of chance that belongs to `name` and nothing else."""
        return random.Random(f"{self.seed} {name}")  # noqa: S311 (a simulation must be repeatable)

    def next_serial(self, slot: int) -> int:
        number = self._numbers.get(slot, 0)
        self._numbers[slot] = number + 1
        return slot * SERIALS_EACH + number

    def due(self, slot: int) -> int | None:
        """Return the serial of a fault that is due now; None: it is one of those to leave out."""
        serial = self.next_serial(slot)
        if serial in self.without:
            self.left_out.append(serial)
            return None
        self.serials.append(serial)
        return serial

    def dice(self, serial: int) -> random.Random:
        """Return the dice of one occurrence."""
        return self.stream(f"fault {serial}")

    def strikes(self, slot: int, kind: str, detail: str) -> bool:
        """Note that a fault is due now, and return whether it shall happen."""
        serial = self.due(slot)
        if serial is None:
            return False
        self.note(serial, kind, detail)
        return True

    def note(self, serial: int, kind: str, detail: str, lasts_ms: float = 0.0) -> None:
        """A fault has happened."""
        now = self._clock()
        self.happened.append(Happened(serial, kind, now, detail))
        self.count(kind, lasts_ms)

    def count(self, kind: str, lasts_ms: float = 0.0) -> None:
        """Count a fault and those that are about at the same time."""
        if kind not in self.counts:
            return
        now = self._clock()
        self.counts[kind] += 1
        active = self._active
        active[kind] = max(active.get(kind, 0.0), now + lasts_ms)
        if self._counted.get(kind, -_COUNT_AGAIN_MS) > now - _COUNT_AGAIN_MS:
            return
        self._counted[kind] = now
        for other, until in active.items():
            if other != kind and until + TOGETHER_MS >= now:
                self.pairs[(kind, other) if kind < other else (other, kind)] += 1


def slot_of(stream: str) -> int:
    """Return the slot of a scheduled fault's serials."""
    return _STREAMS.index(stream) + 1


def link_slot(sender: int, receiver: int) -> int:
    """Return the slot of what happens to messages from one node to another."""
    return _FIRST_LINK_SLOT + sender * 64 + receiver


def is_of_a_link(serial: int) -> bool:
    """Return whether the serial is one of something that happened to a message."""
    return serial // SERIALS_EACH >= _FIRST_LINK_SLOT
