"""The benchmarks: every row beside its peers in one run, each when it is measured and all in one table at the end.

    python benchmarks/run.py                      all groups
    python benchmarks/run.py puts reads           some of them
    python benchmarks/run.py --quick              one short round of each: does it run?
    python benchmarks/run.py --list

Results are kept in benchmarks/results/: one JSON file a run, with date, commit and machine, the table, and a plot of the ratios. Exit code
1: a group was not measured, or the results could not be kept; 130: interrupted. What was measured before is kept. A missed goal is a
result, not an error.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import signal
import statistics
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rows import GROUPS, Options, Row
from surroundings import ROOT, about, at_least_one, end_on_sigterm, stem_for
from systems import BenchError

ROUNDS_MIN = 3
BUSY_LOAD = 0.5
"""A machine with a higher load is not idle: other programs run on it."""
STEADY = 1.5
"""Rates of rounds on a machine that nobody else uses differ by no more than this factor."""
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
        epilog="exit code 1: something was not measured or not kept; 2: wrong words, or nothing can be kept; 130: interrupted; "
        "a missed goal is a result, no error",
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="what to measure; default: everything")
    parser.add_argument(
        "--rounds", type=at_least_one, default=5, help="rounds of each row (default 5; command-line: 15 at least)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each closed loop (default 4)")
    parser.add_argument("--repetitions", type=at_least_one, default=50, help="of each fail-over and transfer (default 50)")
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see that it runs")
    parser.add_argument("--list", action="store_true", help="name the groups and what they measure")
    parser.add_argument("--name", default=None, help="of the files in benchmarks/results (default: date and commit)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.groups if name not in GROUPS]
    if unknown:
        parser.error(f"no group is called {unknown[0]!r}; there are: {', '.join(GROUPS)}")
    names = list(options.groups or GROUPS)
    if options.list:
        for name in names:
            print(f"{name:14} {_first_line(name)}")
        return 0
    stem = stem_for(options.name, parser)
    end_on_sigterm()
    signal.signal(signal.SIGINT, _interrupted)
    load_before = os.getloadavg()[0]
    if load_before > BUSY_LOAD:
        print(
            f"the load of the last minute was {load_before:.1f}: unless that was the set-up, other programs run here, and figures will differ",
            file=sys.stderr,
        )
    how = Options(1, 1.0, 2) if options.quick else Options(options.rounds, options.seconds, options.repetitions)
    rows, trouble, is_interrupted = _measured(names, how)
    if rows and (problem := write(rows, how, stem, load_before)):
        trouble.append(problem)
    met = [(row, peer, row.is_met(peer)) for row in rows for peer in row.goals if peer in row.samples]
    if met:
        print(f"{sum(ok for *_, ok in met)} of {len(met)} goals met")
    for row, peer, ok in met:
        if not ok:
            bound = "at most" if row.below else "at least"
            print(f"  missed: {row.name}: {row.ratio(peer):.2f} times {peer}, wanted {bound} {row.goals[peer]:g}")
    for each in trouble:
        print(f"  not measured, not all of it, or not kept: {each}")
    return 130 if is_interrupted else 1 if trouble else 0


def _measured(names: Sequence[str], how: Options) -> tuple[list[Row], list[str], bool]:
    """Measure groups; return the rows, what could not be measured and why, and whether somebody interrupted."""
    rows: list[Row] = []
    trouble: list[str] = []
    for position, name in enumerate(names):
        print(f"-- {name} ({position + 1} of {len(names)}): {_first_line(name)}", flush=True)
        try:
            for row in GROUPS[name](how):
                rows.append(row)
                print(as_text(row), flush=True)
        except BenchError as error:
            trouble.append(f"{name}: {error}")
            print(f"{name}: not measured: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            return rows, trouble + [f"{left}: interrupted" for left in names[position:]], True
    return rows, trouble, False


def _first_line(group: str) -> str:
    return (GROUPS[group].__doc__ or "").splitlines()[0]


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    print("\ninterrupted: ending what was started, which takes some seconds …", file=sys.stderr, flush=True)
    raise KeyboardInterrupt


def as_text(row: Row) -> str:
    """One row for people: medians, spread, ratios."""
    lines = [row.name]
    for name, values in row.samples.items():
        middle = statistics.median(values)
        line = f"  {name:28} {middle:12,.1f} {row.unit:5} ({min(values):,.1f} to {max(values):,.1f}, {len(values)} rounds)"
        if name != "ours":
            line += f"  median of the ratios: {row.ratio(name):.2f}"
        if name in row.goals:
            line += f", wanted {'≤' if row.below else '≥'} {row.goals[name]:g}: {'met' if row.is_met(name) else 'MISSED'}"
        lines.append(line)
    return "\n".join([*lines, *(f"  note: {note}" for note in (*row.notes, *_doubts(row)))])


def _doubts(row: Row) -> list[str]:
    """Say whose rounds differ by more than a quiet machine has them differ. Gaps and starts differ by chance."""
    uneven = [
        name
        for name, values in row.samples.items()
        if row.unit == "1/s" and min(values) > 0 and max(values) > STEADY * min(values)
    ]
    return (
        [f"rounds differ by more than {STEADY:g} times ({', '.join(uneven)}): was something else running?"] if uneven else []
    )


def as_markdown(rows: list[Row], title: str) -> str:
    """All rows as a table for a document: medians with least and most, and the median of the ratios round by round."""
    counts = sorted({len(row.samples["ours"]) for row in rows})
    rounds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    lines = [f"{title}; {rounds} rounds a row{'' if counts[-1] >= ROUNDS_MIN else ', too few to mean anything'}.", ""]
    lines += ["| row | ours | peer | peer's | ours ÷ peer's | wanted |", "|---|---|---|---|---|---|"]
    for row in rows:
        ours = f"{_with_spread(row.samples['ours'])} {row.unit}"
        for peer in [name for name in row.samples if name != "ours"] or [""]:
            theirs = _with_spread(row.samples[peer]) if peer else ""
            ratio = f"{row.ratio(peer):.2f}" if peer else ""
            wanted = ""
            if peer in row.goals:
                met = "" if row.is_met(peer) else " (missed)"
                wanted = f"{'≤' if row.below else '≥'} {row.goals[peer]:g}{met}"
            lines.append(f"| {row.name} | {ours} | {peer} | {theirs} | {ratio} | {wanted} |")
    return "\n".join(lines) + "\n"


def _with_spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def write(rows: list[Row], how: Options, stem: Path, load_before: float) -> str:
    """Print the table and keep it, as `stem` with several suffixes; return why that was not possible, or nothing."""
    now = dt.datetime.now(dt.UTC)
    where = {
        **about(),
        "load_before": round(load_before, 2),
        "rounds": how.rounds,
        "seconds": how.seconds,
        "repetitions": how.repetitions,
    }
    document = {
        "about": where,
        "rows": [
            {
                "name": row.name,
                "unit": row.unit,
                "samples": {name: [round(value, 3) for value in values] for name, values in row.samples.items()},
                "ratios": {peer: round(row.ratio(peer), 3) for peer in row.samples if peer != "ours"},
                "goals": row.goals,
                "goal_is_at_most": row.below,
                "notes": row.notes,
            }
            for row in rows
        ],
    }
    title = f"{now:%Y-%m-%d}, {where['commit']}, {where['machine']}, load {load_before:.1f} before"
    table = as_markdown(rows, title)
    print(f"\n{table}")
    try:
        Path(f"{stem}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        Path(f"{stem}.md").write_text(table)
        plot(rows, stem, title)
    except OSError as error:
        return f"the results: {error}"
    print(f"written: {stem.relative_to(ROOT)}.json, .md, .png, .svg")
    return ""


def plot(rows: list[Row], stem: Path, title: str) -> None:
    """Draw, for every row with a goal, the ratio round by round beside the goal."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [(row, peer) for row in rows for peer in row.goals if peer in row.samples]
    if not shown:
        return
    figure, axes = plt.subplots(figsize=(11, 0.5 * len(shown) + 1.6))
    for position, (row, peer) in enumerate(reversed(shown)):
        good = row.is_met(peer)
        axes.plot(row.ratios(peer), [position] * len(row.ratios(peer)), "o", color="0.7", markersize=4)
        axes.plot([row.ratio(peer)], [position], "D", color="tab:green" if good else "tab:red", markersize=8)
        axes.plot([row.goals[peer]], [position], "|", color="black", markersize=18)
    axes.set_yticks(range(len(shown)), [f"{row.name}\nbeside {peer}" for row, peer in reversed(shown)], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1.0, color="0.8", linewidth=1)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_xlabel(
        "ours ÷ theirs: dots are rounds, diamonds medians (green: goal met), bars goals (for rates at least, for times at most)",
        fontsize=8,
    )
    axes.set_title("\n".join(textwrap.wrap(title, 120)), fontsize=8)
    figure.tight_layout()
    figure.savefig(f"{stem}.png", dpi=130)
    figure.savefig(f"{stem}.svg")


if __name__ == "__main__":
    sys.exit(main())
