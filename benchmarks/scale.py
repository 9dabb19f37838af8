"""Scale: how rate, latency, memory and start-up change with nodes, clients, values, log, keys and clusters.

    python benchmarks/scale.py                       all curves
    python benchmarks/scale.py nodes clients         some of them
    python benchmarks/scale.py log --log-max 10000000
    python benchmarks/scale.py --quick               two sizes of each: does it run?
    python benchmarks/scale.py --draw A.json B.json  results of several runs in one picture and one table

Prints a table a curve. The last line of a table is the power of the size that each figure goes with: 0 is constant, 1 is linear.
JSON, tables and a plot go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from curves import CURVES, Sizes
from shapes import Point, document, points_of, table
from surroundings import RESULTS, ROOT, about, end_on_sigterm
from systems import BenchError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=f"any of {', '.join(CURVES)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="rounds at each size (default 3)")
    parser.add_argument("--seconds", type=int, default=2, help="of each load (default 2)")
    parser.add_argument("--log-max", type=int, default=1_000_000, help="entries of the longest log (default 1000000)")
    parser.add_argument("--keys-max", type=int, default=1_000_000, help="most keys (default 1000000)")
    parser.add_argument("--clusters-max", type=int, default=100, help="most clusters (default 100)")
    parser.add_argument("--quick", action="store_true", help="one short round of two sizes, to see that it runs")
    parser.add_argument("--list", action="store_true", help="name the curves and what they measure")
    parser.add_argument("--draw", nargs="+", type=Path, metavar="JSON", help="measure nothing: draw these results together")
    parser.add_argument("--name", help="of the files in benchmarks/results (default: scale, date and commit)")
    options = parser.parse_args(arguments)
    if options.list:
        for name, curve in CURVES.items():
            print(f"{name:10} {(curve.measure.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = [name for name in options.curves if name not in CURVES]
    if unknown:
        parser.error(f"no curve is called {unknown[0]!r}; there are: {', '.join(CURVES)}")
    sizes = Sizes(options.rounds, options.seconds, options.log_max, options.keys_max, options.clusters_max)
    if options.quick:
        sizes.rounds, sizes.seconds, sizes.quick = 1, 1, True
    end_on_sigterm()
    found = read(options.draw) if options.draw else measure(options.curves or list(CURVES), sizes)
    if found["curves"]:
        write(found, options.name or f"scale-{time.strftime('%Y%m%d-%H%M', time.gmtime())}-{found['about']['commit']}")
    return 1 if found["trouble"] else 0


def measure(names: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """Measure the curves, print each when it is done, and return what the file of results holds."""
    found: dict[str, Any] = {
        "about": {**about(), "rounds": sizes.rounds, "seconds": sizes.seconds},
        "curves": [],
        "trouble": [],
    }
    for name in names:
        points: list[Point] = []
        try:
            points.extend(CURVES[name].measure(sizes))
        except BenchError as error:
            found["trouble"].append(f"{name}: {error}")
            print(f"{name}: not measured: {error}", file=sys.stderr, flush=True)
        if points:
            found["curves"].append(document(name, CURVES[name].axis, points))
            print("\n".join([*table(found["curves"][-1]), ""]), flush=True)
    return found


def read(files: Sequence[Path]) -> dict[str, Any]:
    """Return several results as one; a curve that was measured more than once is the later file's."""
    documents = [json.loads(file.read_text("utf-8")) for file in files]
    curves = {curve["curve"]: curve for each in documents for curve in each["curves"]}
    found = {"about": documents[-1]["about"], "curves": [curves[name] for name in CURVES if name in curves], "trouble": []}
    for curve in found["curves"]:
        print("\n".join([*table(curve), ""]))
    return found


def write(found: dict[str, Any], name: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / name
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    title = f"{found['about']['date'][:10]}, {found['about']['commit']}, {found['about']['machine']}"
    tables = ["\n".join(table(curve)) for curve in found["curves"]]
    stem.with_suffix(".md").write_text("\n\n".join([title, *tables]) + "\n", "utf-8")
    draw(found["curves"], title, stem)
    print(f"written: {stem.relative_to(ROOT)}.json, .md, .png, .svg")


def draw(curves: Sequence[dict[str, Any]], title: str, stem: Path) -> None:
    """Draw each curve with logarithmic axes: the steeper a line, the higher the power of the size."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"  # letters stay letters: a fifth of the size
    mpl.rcParams["font.sans-serif"] = ["DejaVu Sans"]
    mpl.rcParams["svg.hashsalt"] = "scale"
    from matplotlib import pyplot as plt

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.6 * rows), squeeze=False)
    for place in axes.flat[len(curves) :]:
        place.set_visible(False)
    for place, curve in zip(axes.flat, curves, strict=False):
        points = points_of(curve)
        for name in CURVES[curve["curve"]].drawn:
            there = [point for point in points if name in point.figures]
            place.plot(
                [point.size for point in there], [point.median(name) for point in there], "o-", markersize=3, label=name
            )
        place.set_xscale("log")
        place.set_yscale("log")
        place.set_xlabel(curve["axis"], fontsize=8)
        place.minorticks_off()
        for axis in (place.xaxis, place.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,g}")
        place.tick_params(labelsize=7)
        place.legend(fontsize=6)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(stem.with_suffix(".png"), dpi=130)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    drawn = stem.with_suffix(".svg").read_text("utf-8")
    stem.with_suffix(".svg").write_text(re.sub(r"\n\s+", "\n", drawn), "utf-8")  # without its indentation: a sixth less
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
