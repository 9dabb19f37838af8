"""Fuzzing every decoder: the campaign command.

    python -m raft_engine.testing.fuzz_campaign --inputs 10000000 --jobs 2
    python -m raft_engine.testing.fuzz_campaign --only frame --first 4711 --inputs 1

The inputs are spread evenly over the decoders; input number n of a decoder is the same on every machine. The first failure of a
decoder ends its share and prints the input. The exit code is 1 when a decoder failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from raft_engine.testing.fuzz import FuzzFailure, fuzz
from raft_engine.testing.fuzz_targets import TARGETS

_SHARE: Final = 20_000
_SAID_EVERY_S: Final = 10


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m raft_engine.testing.fuzz_campaign", description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="so many inputs, over all decoders")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first input of each decoder")
    parser.add_argument("--only", default="", help="decoders whose name contains this")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(arguments)
    names = [name for name in TARGETS if given.only in name]
    each = -(-given.inputs // len(names)) if names else 0
    shares = [
        (name, first, min(_SHARE, given.first + each - first))
        for first in range(given.first, given.first + each, _SHARE)
        for name in names
    ]
    started = said = time.monotonic()
    done: Counter[str] = Counter()
    understood: Counter[str] = Counter()
    failed: dict[str, str] = {}
    for name, count, good, failure in _results(shares, given.jobs):
        done[name] += count
        understood[name] += good
        if failure and name not in failed:
            failed[name] = failure
            print(f"FAILED {failure}", file=sys.stderr, flush=True)  # noqa: T201
        if time.monotonic() - said >= _SAID_EVERY_S:
            said = time.monotonic()
            print(f"{done.total()} inputs, {said - started:.0f} s", flush=True)  # noqa: T201
    for name in names:
        print(f"{done[name]:11} inputs, {understood[name]:11} understood  {name}")  # noqa: T201
    print(f"{done.total()} inputs in {time.monotonic() - started:.0f} s; {len(failed)} decoders failed")  # noqa: T201
    return 1 if failed or not names else 0


def _share(share: tuple[str, int, int]) -> tuple[str, int, int, str]:
    name, first, count = share
    try:
        return name, count, fuzz(TARGETS[name], first, count), ""
    except FuzzFailure as failure:
        return name, count, 0, str(failure)


def _results(shares: Sequence[tuple[str, int, int]], jobs: int) -> Iterator[tuple[str, int, int, str]]:
    if jobs == 1:
        yield from map(_share, shares)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_share, shares)


if __name__ == "__main__":
    sys.exit(main())
