"""What the benchmarks of single stores have in common: options, a table, results beside those of the clusters."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence

from rows import Options, Row
from run import as_text, write
from surroundings import stem_for
from systems import BenchError


def main(what: str, rows: Callable[[Options], Iterable[Row]], seconds: float, arguments: Sequence[str] | None = None) -> int:
    """Measure `rows`, print each when it is done, write the results, and say which goals were missed."""
    parser = argparse.ArgumentParser(description=what.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each system (default 5)")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of work in each turn (default {seconds:g})")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--name", default=None, help="of the files in benchmarks/results (default: date and commit)")
    options = parser.parse_args(arguments)
    how = Options(1, 0.1, 0) if options.quick else Options(options.rounds, options.seconds, 0)
    stem = stem_for(options.name, parser)
    load_before = os.getloadavg()[0]
    measured: list[Row] = []
    try:
        for row in rows(how):
            measured.append(row)
            print(as_text(row), flush=True)
    except BenchError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    problem = write(measured, how, stem, load_before)
    missed = [(row, peer) for row in measured for peer in row.goals if not row.is_met(peer)]
    for row, peer in missed:
        bound = "at most" if row.below else "at least"
        print(f"missed: {row.name}: {row.ratio(peer):.2f} times {peer}, wanted {bound} {row.goals[peer]:g}")
    if problem:
        print(f"not kept: {problem}", file=sys.stderr)
    return 1 if problem else 0
