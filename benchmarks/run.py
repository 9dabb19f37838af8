"""The benchmarks: every row beside its peers in one run, each when it is measured and all in one table at the end.

    python benchmarks/run.py                      all groups
    python benchmarks/run.py puts reads           some of them
    python benchmarks/run.py --quick              one short round of each: does it run?
    python benchmarks/run.py --list

Results are kept in benchmarks/results/: one JSON file a run, with date, commit and machine, the table, and a plot of the ratios. Exit code
1: a group was not measured; what was measured before is kept, also when the run is interrupted. A missed goal is a result, not an error.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rows import GROUPS, Options, Row
from surroundings import RESULTS, ROOT, about, end_on_sigterm
from systems import BenchError

ROUNDS_MIN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="what to measure; default: everything")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each closed loop (default 4)")
    parser.add_argument("--repetitions", type=int, default=50, help="of each fail-over and transfer (default 50)")
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see that it runs")
    parser.add_argument("--list", action="store_true", help="name the groups and what they measure")
    parser.add_argument("--name", default=None, help="of the files in benchmarks/results (default: date and commit)")
    options = parser.parse_args(arguments)
    if options.list:
        for name, group in GROUPS.items():
            print(f"{name:14} {(group.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = [name for name in options.groups if name not in GROUPS]
    if unknown:
        parser.error(f"no group is called {unknown[0]!r}; there are: {', '.join(GROUPS)}")
    end_on_sigterm()
    load_before = os.getloadavg()[0]
    how = Options(1, 1.0, 2) if options.quick else Options(options.rounds, options.seconds, options.repetitions)
    rows: list[Row] = []
    trouble: list[str] = []
    names = list(options.groups or GROUPS)
    for position, name in enumerate(names):
        try:
            for row in GROUPS[name](how):
                rows.append(row)
                print(as_text(row), flush=True)
        except BenchError as error:
            trouble.append(f"{name}: {error}")
            print(f"{name}: not measured: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            trouble += [f"{left}: interrupted" for left in names[position:]]
            break
    if rows:
        write(rows, how, options.name, load_before)
    met = [(row, peer, row.is_met(peer)) for row in rows for peer in row.goals if peer in row.samples]
    print(f"{sum(ok for *_, ok in met)} of {len(met)} goals met")
    for row, peer, ok in met:
        if not ok:
            bound = "at most" if row.below else "at least"
            print(f"  missed: {row.name}: {row.ratio(peer):.2f} times {peer}, wanted {bound} {row.goals[peer]:g}")
    for each in trouble:
        print(f"  not measured, or not all of it: {each}")
    return 1 if trouble else 0


def as_text(row: Row) -> str:
    """One row for people: medians, spread, ratios."""
    lines = [row.name]
    for name, values in row.samples.items():
        middle = statistics.median(values)
        line = f"  {name:28} {middle:12,.1f} {row.unit:5} ({min(values):,.1f} to {max(values):,.1f}, {len(values)} rounds)"
        if name != "ours":
            line += f"  ours is {row.ratio(name):.2f} times theirs"
        if name in row.goals:
            line += f", wanted {'≤' if row.below else '≥'} {row.goals[name]:g}: {'met' if row.is_met(name) else 'MISSED'}"
        lines.append(line)
    return "\n".join([*lines, *(f"  note: {note}" for note in row.notes)])


def as_markdown(rows: list[Row], title: str) -> str:
    """All rows as a table for a document: medians with least and most, and the median of the ratios round by round."""
    most = max((len(row.samples["ours"]) for row in rows), default=0)
    lines = [f"{title}; {most} rounds at most{'' if most >= ROUNDS_MIN else ', too few to mean anything'}.", ""]
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


def write(rows: list[Row], how: Options, name: str | None, load_before: float) -> None:
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
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / (name or f"{now:%Y%m%d-%H%M}-{where['commit']}")
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    title = (
        f"{now:%Y-%m-%d}, {where['commit']}, {where['machine']}, load {load_before:.1f} before; "
        f"work takes {where['crowding']} times as long on all processors at once"
    )
    table = as_markdown(rows, title)
    stem.with_suffix(".md").write_text(table)
    plot(rows, stem, title)
    print(f"\n{table}")
    print(f"written: {stem.relative_to(ROOT)}.json, .md, .png, .svg")


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
    axes.set_xlabel("ours ÷ theirs (diamond: median; bar: goal, for rates at least, for times at most)")
    axes.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(stem.with_suffix(".png"), dpi=130)
    figure.savefig(stem.with_suffix(".svg"))


if __name__ == "__main__":
    sys.exit(main())
