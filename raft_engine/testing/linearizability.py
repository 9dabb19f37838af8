"""Could a register that does one thing at a time have answered like this? A checker for histories of a key-value store.

Every operation has the time at which it was called and, if it came back, at which it returned; a history is linearizable when
each operation can be given one moment between the two so that the answers are those of a single register. An operation that
never returned may have taken effect at any moment after its call, or never. Keys are independent of each other, so each is
looked at alone (locality, Herlihy and Wing).

    history = History()
    write = history.call("alice", "put", "k", now=1.0, argument="a")
    read = history.call("bob", "get", "k", now=1.5)
    history.done(read, now=2.0, result="a")
    verdict = history.check()         # the write is still open: it may have been seen
    assert verdict.ok, verdict

The search is bounded: a history that takes more work than allowed is `undecided`, and that is not `ok`. Times may be wall
clock, virtual, or just a counter, as long as one clock was read for all. Operations that touch at one instant count as
concurrent.
Source: Wing and Gong 1993; Lowe, "Testing for linearizability", 2017; the memo of (operations done, state) is Lowe's.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Action = Literal["put", "get", "delete", "cas"]
ABSENT: Final = None
"""What a register holds that was never written, or deleted."""
WORK_MAX: Final = 2_000_000
"""Steps of the search for each key: some seconds."""


@dataclass(slots=True)
class Operation:
    """One call of a client.

    `argument`: what "put" and "cas" write. `expected`: what "cas" compares with. `result`: what "get" saw (None: no such key);
    for "cas" whether it wrote; for "delete" whether there was anything (None: nobody looked). `returned` None: never answered.
    """

    process: Hashable
    action: Action
    key: Hashable
    called: float
    returned: float | None = None
    argument: Hashable = None
    expected: Hashable = None
    result: Hashable = None

    def __str__(self) -> str:
        what = {
            "put": f"put {self.argument!r}",
            "get": "get",
            "delete": "delete",
            "cas": f"cas {self.expected!r} -> {self.argument!r}",
        }[self.action]
        answer = "never answered" if self.returned is None else f"answered {self.result!r} at {self.returned:g}"
        return f"{self.process}: {what}, called at {self.called:g}, {answer}"


@dataclass(frozen=True)
class Verdict:
    """`ok`: every key's history is linearizable. Otherwise `why` says of which key and where the search got stuck."""

    ok: bool
    undecided: bool = False
    key: Hashable = None
    why: str = ""

    def __str__(self) -> str:
        return "linearizable" if self.ok else self.why


@dataclass
class History:
    """What clients did, in the order in which they called."""

    operations: list[Operation] = field(default_factory=list)

    def call(
        self,
        process: Hashable,
        action: Action,
        key: Hashable,
        now: float,
        *,
        argument: Hashable = None,
        expected: Hashable = None,
    ) -> Operation:
        """Note a call; what is not ended by `done` or `refused` counts as never answered."""
        operation = Operation(process, action, key, now, None, argument, expected)
        self.operations.append(operation)
        return operation

    def done(self, operation: Operation, now: float, result: Hashable = None) -> None:
        """The operation was answered."""
        operation.returned, operation.result = now, result

    def refused(self, operation: Operation) -> None:
        """The operation certainly had no effect: it is as if it had never been."""
        for position in range(len(self.operations) - 1, -1, -1):
            if self.operations[position] is operation:
                del self.operations[position]
                return

    def check(self, work_max: int = WORK_MAX) -> Verdict:
        return check(self.operations, work_max)


def check(operations: Iterable[Operation], work_max: int = WORK_MAX) -> Verdict:
    """Return whether the history is linearizable; at most `work_max` steps are spent on each key."""
    keys: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        keys.setdefault(operation.key, []).append(operation)
    for key, found in keys.items():
        search = _Search(found, work_max)
        if not search.succeeds():
            return Verdict(False, search.undecided, key, search.explain(key))
    return Verdict(True)


# -- one key -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Choice:
    """An operation that was given its place, and what stands to be tried instead of it."""

    number: int
    before: Hashable
    others: Iterator[int]


class _Search:
    """Places the operations of one key one after the other; goes back where none fits."""

    def __init__(self, operations: Sequence[Operation], work_max: int) -> None:
        answered = [item for item in operations if item.returned is not None]
        self.known = sorted(answered, key=lambda item: item.called)
        self.open = sorted(_that_matter(operations, answered), key=lambda item: item.called)
        self.all = [*self.known, *self.open]
        self.compared = {item.expected for item in self.open if item.action == "cas"}
        self.called = [item.called for item in self.known]
        self.work_max = work_max
        self.work = 0
        self.undecided = False
        self.placed = bytearray(len(self.all))
        self.done = 0
        self.bits = 0
        self.first = 0
        """Every answered operation before this one is placed."""
        self.returns = [(_end(item), number) for number, item in enumerate(self.known)]
        heapq.heapify(self.returns)
        self.best: list[int] = []
        self.stuck: list[Operation] = []
        self.state: Hashable = ABSENT

    def succeeds(self) -> bool:
        seen: set[tuple[int, Hashable]] = set()
        path: list[_Choice] = []
        candidates = iter(self._candidates())
        while self.done < len(self.known):
            self.work += 1
            if self.work > self.work_max:
                self.undecided = True
                return False
            number = next(candidates, None)
            if number is None:
                if len(path) >= len(self.best):
                    self.best = [choice.number for choice in path]
                    self.stuck = [self.known[number] for number in self._answered_candidates()]
                if not path:
                    return False
                choice = path.pop()
                self._take_back(choice.number)
                self.state = choice.before
                candidates = choice.others
                continue
            after = _step(self.state, self.all[number])
            if after is _IMPOSSIBLE or (self.bits | 1 << number, after) in seen:
                continue
            path.append(_Choice(number, self.state, candidates))
            self._place(number)
            self.state = after
            seen.add((self.bits, after))
            candidates = iter(self._candidates())
        return True

    def _place(self, number: int) -> None:
        self.placed[number] = 1
        self.bits |= 1 << number
        self.done += number < len(self.known)

    def _take_back(self, number: int) -> None:
        self.placed[number] = 0
        self.bits &= ~(1 << number)
        if number < len(self.known):
            self.done -= 1
            self.first = min(self.first, number)
            heapq.heappush(self.returns, (_end(self.known[number]), number))

    def _first_return(self) -> float:
        """Return when the first of the answered operations that have no place came back: the next one was called before."""
        while self.returns and self.placed[self.returns[0][1]]:
            heapq.heappop(self.returns)
        return self.returns[0][0]

    def _answered_candidates(self) -> list[int]:
        while self.first < len(self.known) and self.placed[self.first]:
            self.first += 1
        end = bisect_right(self.called, self._first_return())
        return [number for number in range(self.first, end) if not self.placed[number]]

    def _candidates(self) -> list[int]:
        """Return what may come next: answered operations first, then those open ones that one of them would see."""
        if self.done == len(self.known):
            return []
        found = self._answered_candidates()
        if not self.open:
            return found
        upto = self._first_return()
        looking = [self.known[number] for number in found]
        wanted = {item.result for item in looking if item.action == "get"}
        any_change = any(item.action == "cas" or (item.action == "delete" and item.result is not None) for item in looking)
        for number in range(len(self.known), len(self.all)):
            item = self.all[number]
            if item.called > upto:
                break
            leaves = ABSENT if item.action == "delete" else item.argument
            # One that nobody looks at before the next write may as well never have happened.
            if not self.placed[number] and (any_change or leaves in wanted or leaves in self.compared):
                found.append(number)
        return found

    def explain(self, key: Hashable) -> str:
        if self.undecided:
            return f"key {key!r}: undecided after {self.work_max} steps ({len(self.known)} operations answered, {len(self.open)} open)"
        state: Hashable = ABSENT
        for number in self.best:
            state = _step(state, self.all[number])
        last = [f"  {self.all[number]}" for number in self.best[-5:]]
        next_ones = [f"  {item}" for item in self.stuck[:8]]
        placed = sum(number < len(self.known) for number in self.best)
        return "\n".join(
            [
                f"key {key!r} is not linearizable: at most {placed} of {len(self.known)} answered operations can be ordered",
                *(["the last of them:", *last] if last else []),
                f"then the register holds {state!r}, and one of these would have to be next:",
                *next_ones,
            ]
        )


class _Impossible:
    """The answer of an operation that could not have been given in this state."""


_IMPOSSIBLE: Final = _Impossible()


def _end(operation: Operation) -> float:
    assert operation.returned is not None
    return operation.returned


def _step(state: Hashable, operation: Operation) -> Hashable:
    """Return what the register holds afterwards, or `_IMPOSSIBLE`."""
    action, answered = operation.action, operation.returned is not None
    if action == "put":
        return operation.argument
    if action == "get":
        return state if operation.result == state else _IMPOSSIBLE
    if action == "delete":
        looked = answered and operation.result is not None
        return ABSENT if not looked or operation.result == (state is not ABSENT) else _IMPOSSIBLE
    writes = state == operation.expected
    if not answered:
        return operation.argument if writes else _IMPOSSIBLE  # without effect it is as if it had never been
    if writes != operation.result:
        return _IMPOSSIBLE
    return operation.argument if writes else state


def _that_matter(operations: Sequence[Operation], answered: Sequence[Operation]) -> list[Operation]:
    """Return the operations without an answer that an answer may depend on.

    A read without an answer says nothing. Where answers are reads only, a write that none of them saw need not have happened.
    """
    found = [item for item in operations if item.returned is None and item.action != "get"]
    if any(item.action == "cas" or (item.action == "delete" and item.result is not None) for item in answered):
        return found
    compared = {item.expected for item in found if item.action == "cas"}
    seen = {item.result for item in answered if item.action == "get"} | compared
    return [item for item in found if (ABSENT if item.action == "delete" else item.argument) in seen]


# -- stale reads -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StaleRead:
    """A read of what one node had applied: nothing is promised but that it is a state the cluster was in.

    `reader`: one life of one node, in which time does not go back. `index`: what it had applied.
    """

    reader: Hashable
    key: Hashable
    value: Hashable
    index: int


def check_stale(reads: Iterable[StaleRead], writes: Sequence[tuple[int, Hashable, Hashable]]) -> Verdict:
    """Return whether every read saw the state after a prefix of the log, and no reader an earlier one than before.

    Args:
        reads: in the order in which each reader answered.
        writes: (index, key, value) of what is committed, in order; value None is a deletion.
    """
    at: dict[Hashable, tuple[list[int], list[Hashable]]] = {}
    for index, key, value in writes:
        indexes, values = at.setdefault(key, ([], []))
        indexes.append(index)
        values.append(value)
    latest: dict[Hashable, int] = {}
    for read in reads:
        before = latest.get(read.reader, 0)
        if read.index < before:
            return Verdict(False, key=read.key, why=f"{read.reader} went back from index {before}: {read}")
        latest[read.reader] = read.index
        indexes, values = at.get(read.key, ([], []))
        position = bisect_right(indexes, read.index)
        value = values[position - 1] if position else ABSENT
        if value != read.value:
            return Verdict(False, key=read.key, why=f"at index {read.index} the log says {value!r}: {read}")
    return Verdict(True)
