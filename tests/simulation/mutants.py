"""Does the simulator find bugs? Known ones are put back into the core, one at a time, and hunted with seeds.

    python tests/simulation/mutants.py                     every bug, with the number of seeds each took
    python tests/simulation/mutants.py NAME --seeds 1..50  one bug

A bug is a small change of source text, made while the module is loaded into this process and nowhere else. Each change must
fit exactly once, so a bug that no longer fits the code is reported instead of passing as "not found". What the simulator
does not find is then looked for in the scenario files.
Source: openraft's turmoil tests (issue 1802 put back); the list of classic bugs in the Raft literature.
"""

# ruff: noqa: T201 (this is a command, and printing is what it does)
from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
FOUND, SURVIVED, UNFIT = 10, 0, 3
SCENARIOS = sorted((ROOT / "tests" / "core" / "scenarios").glob("*/*.txt"))


@dataclass(frozen=True)
class Edit:
    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One known bug. `breaks`: what goes wrong with it, in words."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]


def _core(name: str, module: str, old: str, new: str, breaks: str) -> Mutant:
    return Mutant(name, breaks, (Edit(f"raft_engine.core.{module}", old, new),))


MUTANTS = (
    _core(
        "commits_old_terms_by_counting",
        "replication",
        "if agreed <= state.committed or agreed < leader.first_index:",
        "if agreed <= state.committed:",
        "paper 5.4.2, figure 8: a committed entry is overwritten",
    ),
    _core(
        "leader_counts_itself_before_its_flush",
        "replication",
        "            return state.flushed\n",
        "            return state.log.last.index\n",
        "an entry is committed that is on too few disks",
    ),
    _core(
        "wins_before_own_vote_is_durable",
        "election",
        "        state.when_flushed(OwnVoteFlushed(term))\n",
        "        candidate.granted.add(state.me)\n",
        "elected twice in one term after a crash",
    ),
    _core(
        "grants_twice_in_a_term",
        "voting",
        "state.vote.node_id not in {NOBODY, sender.node_id}",
        "False",
        "two leaders in one term",
    ),
    _core(
        "grants_before_the_vote_is_durable",
        "election",
        "    state.when_flushed(SendWhenFlushed(sender, response))\n",
        "    out.push(SendMessage(sender, response))\n",
        "a crashed voter grants again in the same term",
    ),
    _core(
        "grants_without_comparing_logs",
        "voting",
        "if request.last_log_id < _must_hold(state):",
        "if request.last_log_id.index < 0:",
        "a leader without committed entries",
    ),
    _core(
        "compares_only_log_lengths",
        "voting",
        "if request.last_log_id < _must_hold(state):",
        "if request.last_log_id.index < _must_hold(state).index:",
        "a long log of an old term wins against committed entries",
    ),
    _core(
        "ignores_the_leaders_lease",
        "voting",
        "    return sender.node_id != state.promised_to and lease_holds(state, now)\n",
        "    return False\n",
        "lease reads become stale",
    ),
    _core(
        "candidate_breaks_its_own_lease",
        "election",
        "        if not transfer and lease_holds(state, now):\n",
        "        if False:\n",
        "lease reads become stale, for the candidate's own vote broke the promise",
    ),
    _core(
        "recovering_node_campaigns",
        "election",
        "    if state.recovery is not None:\n",
        "    if state.recovery is None and state.leader is not None:\n",
        "a wiped node leads without what was committed",
    ),
    _core(
        "stale_append_truncates",
        "following",
        "if entry.index > state.log.purged.index and not state.log.has(entry.log_id):",
        "if entry.index > state.log.purged.index:",
        "an old request drops entries that were acknowledged",
    ),
    Mutant(
        "commits_what_the_leader_committed",
        "a follower commits entries that the leader has not confirmed",
        (
            Edit(
                "raft_engine.core.following",
                "min(request.committed, matching.index)",
                "min(request.committed, state.log.last.index)",
            ),
            Edit(
                "raft_engine.core.replication",
                "    committed = LogIndex(min(state.committed, prev.index))\n",
                "    committed = LogIndex(state.committed)\n",
            ),
        ),
    ),
    _core(
        "accepts_before_entries_are_durable",
        "following",
        "if claimed <= state.flushed and state.flushed_vote.term == state.term:",
        "if claimed >= 0:",
        "a crashed follower lacks what it acknowledged",
    ),
    _core(
        "applies_before_entries_are_durable",
        "committing",
        "upto = min(state.committed, state.flushed, ",
        "upto = min(state.committed, ",
        "the state machine is ahead of its log",
    ),
    _core(
        "snapshot_drops_the_matching_suffix",
        "following",
        "    if state.log.has(upto):\n",
        "    if state.log.last.index < 0:\n",
        "acknowledged entries behind the snapshot are gone",
    ),
    _core(
        "purges_beyond_the_snapshot",
        "purging",
        "        upto = min(event.upto, end)\n",
        "        upto = min(event.upto, state.applied.index)\n",
        "entries are gone that no snapshot has",
    ),
    _core(
        "purges_what_a_target_needs",
        "purging",
        "if upto.index <= state.purge_submitted.index or _needed_by(state, upto):",
        "if upto.index <= state.purge_submitted.index:",
        "a request on its way loses its entries",
    ),
    _core(
        "answers_of_old_sessions_count",
        "replication",
        "return progress if progress is not None and progress.session == session else None",
        "return progress",
        "an answer from before a wipe counts",
    ),
    _core(
        "permission_keeps_old_promises",
        "progress",
        "        self.matching = 0\n        self.promised = 0\n",
        "",
        "a permitted loss is taken for another one, for ever",
    ),
    _core(
        "barrier_held_by_too_few",
        "quorum",
        "return len(config) - quorum + 1 if excluded & config.keys() else quorum",
        "return 1",
        "a wiped node lets a leader win that lacks committed entries",
    ),
    Mutant(
        "operator_asks_for_the_barrier_before_the_stop",
        "entries committed with the node's help after the barrier are lost with it",
        (
            Edit(
                "raft_engine.testing.sim_operators",
                '        if node.engine is not None:\n            self._simulation.stop(node)\n        self._simulation.note("rejoin"',
                '        self._simulation.note("rejoin"',
            ),
            Edit(
                "raft_engine.testing.sim_operators",
                "            if not node.in_hand or node.life != life:\n                return  # everything",
                "            if node.engine is not None:\n                self._simulation.stop(node)\n            if not node.in_hand:\n                return  # everything",
            ),
        ),
    ),
    Mutant(
        "operator_forgets_the_barrier",
        "a wiped node lets a leader win that lacks committed entries",
        (
            Edit(
                "raft_engine.testing.sim_operators",
                "            if isinstance(outcome, BarrierOutcome):\n",
                "            if self._simulation.committed:\n                outcome = BarrierOutcome(self._simulation.committed[0].log_id, ())\n",
            ),
        ),
    ),
    _core(
        "reads_without_asking_anybody",
        "reading",
        "    leader.waiting_reads.append((number, requester))\n    confirm(state, now, out)\n",
        "    _answer(state, number, requester, state.committed, out)\n",
        "a deposed leader serves old data",
    ),
    Mutant(
        "reads_before_the_own_term_is_committed",
        "a new leader serves old data",
        (
            Edit("raft_engine.core.reading", " or state.committed < leader.first_index:", ":"),
            Edit("raft_engine.core.reading", " and state.committed >= leader.first_index:", ":"),
        ),
    ),
    _core(
        "round_confirms_earlier_reads_only",
        "reading",
        "            read = leader.reads.pop(0)\n            _answer(state, read.number, read.requester, read.index, out)\n",
        "            read = leader.reads.pop(0)\n            _answer(state, read.number, read.requester, max(1, read.index - 9), out)\n",
        "a read is served from before the request",
    ),
    _core(
        "lease_outlives_the_promise",
        "reading",
        "state.config.election_timeout_min_ms * (1 - CLOCK_DRIFT)",
        "state.config.election_timeout_max_ms * 3",
        "a deposed leader serves old data",
    ),
    _core(
        "lease_during_a_transfer",
        "reading",
        "    if leader.transfer is not None or leader.lease_given_up or state.committed",
        "    if state.committed",
        "a leader that asked to be replaced serves old data",
    ),
    _core(
        "lease_after_a_failed_transfer",
        "reading",
        "    if leader.transfer is not None or leader.lease_given_up or state.committed",
        "    if leader.transfer is not None or state.committed",
        "a leader whose successor was elected after all, and died, serves old data",
    ),
    _core(
        "transfer_never_ends",
        "leadership_transfer",
        "        elif now >= transfer.deadline:\n",
        "        elif now < 0:\n",
        "writes are held for ever",
    ),
    _core(
        "leader_ignores_later_terms",
        "replication",
        "    if response.vote.term > state.term:\n        adopt_higher_term(state, response.vote.term, now, out)\n        return\n",
        "",
        "a deposed leader stays, and the cluster does not come together",
    ),
    _core(
        "recovering_node_votes_by_its_short_log",
        "voting",
        "return last if state.recovery is None else max(last, state.recovery.until)",
        "return last",
        "a former configuration elects a leader by what a wiped node has forgotten",
    ),
    _core(
        "doubled_answers_double_the_chunks",
        "shipping",
        "        if response.next_offset == progress.snapshot_offset:\n",
        "        if response.next_offset < 0:\n",
        "a snapshot transfer grows without end and never arrives",
    ),
    _core(
        "probe_waits_for_ever",
        "ticking",
        "elif progress.inflight and now >= progress.inflight[0].sent_at + state.config.election_timeout_max_ms:",
        "elif False:",
        "a lost request stops replication to its target",
    ),
)


# -- putting a bug in ----------------------------------------------------------------------------------------------------


class _Patcher(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the modules that a mutant changes."""

    def __init__(self, mutant: Mutant) -> None:
        self.edits: dict[str, list[Edit]] = {}
        for edit in mutant.edits:
            self.edits.setdefault(edit.module, []).append(edit)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname not in self.edits:
            return None
        return importlib.util.spec_from_file_location(fullname, source_file(fullname), loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        del spec

    def exec_module(self, module: ModuleType) -> None:
        file = source_file(module.__name__)
        source = changed(file.read_text(), self.edits[module.__name__])
        exec(compile(source, str(file), "exec"), module.__dict__)


def source_file(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def changed(source: str, edits: Sequence[Edit]) -> str:
    """Return `source` with the edits made.

    Raises: ValueError: an edit's old text is not there exactly once.
    """
    for edit in edits:
        found = source.count(edit.old)
        if found != 1:
            raise ValueError(f"{edit.module} has {found} times {edit.old!r}")
        source = source.replace(edit.old, edit.new)
    return source


def fits(mutant: Mutant) -> str:
    """Return why the mutant no longer fits the code, or nothing."""
    sources: dict[str, str] = {}
    for edit in mutant.edits:
        source = sources.get(edit.module, source_file(edit.module).read_text())
        try:
            sources[edit.module] = changed(source, [edit])
        except ValueError as error:
            return str(error)
    return ""


# -- hunting ---------------------------------------------------------------------------------------------------------------


def run_in_this_process(mutant: Mutant, seeds: range, seconds: float) -> int:
    """Hunt one mutant with seeds, then with scenarios; print what found it."""
    assert not any(edit.module in sys.modules for edit in mutant.edits)
    sys.meta_path.insert(0, _Patcher(mutant))
    from raft_engine.testing.simulate import simulate

    for seed in seeds:
        try:
            simulate(seed, seconds)
        except Exception as error:
            first = (str(error).split("\n") or [""])[0]
            print(f"{seed - seeds.start + 1} {type(error).__name__} {first}")
            return FOUND
    from raft_engine.testing.scenario import difference

    for path in SCENARIOS:
        try:
            found = difference(path)
        except Exception as error:
            found = str(error)
        if found:
            print(f"0 scenario {path.parent.name}/{path.stem} differs")
            return FOUND
    return SURVIVED


def hunt(name: str, seeds: str, seconds: float) -> tuple[int, str]:
    """Hunt one mutant in a process of its own; return how many seeds it took and what was seen.

    0 seeds: the simulator did not find it, but a scenario file did. -1: nothing did.
    """
    command = [sys.executable, __file__, name, "--here", "--seeds", seeds, "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == FOUND:
        took, _, seen = done.stdout.strip().partition(" ")
        return int(took), seen
    assert done.returncode == SURVIVED, f"{name}: exit code {done.returncode}\n{done.stderr}"
    return -1, ""


def _chosen(names: Sequence[str]) -> Iterator[Mutant]:
    known = {mutant.name: mutant for mutant in MUTANTS}
    for name in names or known:
        yield known[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="bugs to hunt; default: all")
    parser.add_argument("--seeds", default="1..100", metavar="A..B")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        first, _, last = options.seeds.partition("..")
        mutant = next(_chosen(options.names))
        return run_in_this_process(mutant, range(int(first), int(last) + 1), options.seconds)
    survivors = 0
    for mutant in _chosen(options.names):
        unfit = fits(mutant)
        if unfit:
            print(f"{mutant.name:48} DOES NOT FIT: {unfit}", flush=True)
            return UNFIT
        began = time.monotonic()
        took, seen = hunt(mutant.name, options.seeds, options.seconds)
        survivors += took < 0
        verdict = f"{took:4} seeds" if took > 0 else "NOT FOUND" if took else "scenario"
        print(f"{mutant.name:48} {verdict:10} {time.monotonic() - began:6.1f} s  {seen[:110]}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
