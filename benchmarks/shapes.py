"""Figures at several sizes, and the power of the size that names their shape.

A figure that goes as a power of the size is a straight line when both axes are logarithmic, and the slope of that line is the power: 0
is constant, 1 is linear, -1 halves when the size doubles.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Point:
    """One size. `figures[name]`: one sample a round. `refused`: answers that were no success."""

    size: int
    figures: dict[str, list[float]] = field(default_factory=dict)
    refused: int = 0

    def add(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])


def power(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the power of the size that a figure goes with: the least-squares slope between the logarithms.

    Returns: None with fewer than two sizes; values of 0 have no logarithm and are left out.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    mean_x, mean_y = statistics.fmean(x for x, _ in logs), statistics.fmean(y for _, y in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def powers_of(base: int, first: int, last: int) -> list[int]:
    """Return `first`, `base` times that, and so on, up to `last`."""
    found = []
    while first <= last:
        found.append(first)
        first *= base
    return found


def document(curve: str, axis: str, points: Sequence[Point]) -> dict[str, Any]:
    """Return what a file of results holds of a curve. `axis`: what the size counts."""
    return {
        "curve": curve,
        "axis": axis,
        "points": [
            {
                "size": point.size,
                "refused": point.refused,
                "figures": {name: [round(value, 4) for value in samples] for name, samples in point.figures.items()},
            }
            for point in points
        ],
    }


def points_of(curve: dict[str, Any]) -> list[Point]:
    return [Point(point["size"], point["figures"], point["refused"]) for point in curve["points"]]


def table(curve: dict[str, Any]) -> list[str]:
    """Return a curve as a table: medians by size, and the power of the size."""
    points = points_of(curve)
    names = list(points[0].figures)
    lines = [f"| {curve['axis']} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {point.size:,} | " + " | ".join(number(point.median(name)) for name in names) + " |" for point in points]
    found = [power([(point.size, point.median(name)) for point in points]) for name in names]
    lines.append("| *power of the size* | " + " | ".join("" if each is None else f"*{each:.2f}*" for each in found) + " |")
    refused = sum(point.refused for point in points)
    return [*lines, f"note: {refused} answers were no success"] if refused else lines


def number(value: float) -> str:
    """Three figures that count."""
    return (
        f"{value:,.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 0.1
        else f"{value:.3f}"
    )
