"""Does the table name the shape of a curve?"""

from __future__ import annotations

import json

import pytest

from benchmarks.shapes import Point, document, number, points_of, power, powers_of, table


@pytest.mark.parametrize("wanted", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_power_is_that_of_the_size(wanted):
    assert power([(size, 7.0 * size**wanted) for size in (1, 10, 100, 1000)]) == pytest.approx(wanted)


def test_noise_leaves_the_power_near_what_it_is():
    assert power([(1, 1.1), (10, 9.0), (100, 105.0), (1000, 980.0)]) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("points", [[], [(10, 3.0)], [(10, 3.0), (10, 4.0)], [(10, 0.0), (100, 3.0)]])
def test_one_size_has_no_shape(points):
    assert power(points) is None


def test_sizes_are_powers_up_to_the_last():
    assert powers_of(4, 1, 1024) == [1, 4, 16, 64, 256, 1024]
    assert powers_of(10, 1000, 999_999) == [1000, 10_000, 100_000]
    assert powers_of(10, 1000, 10) == []


@pytest.mark.parametrize(
    ("value", "text"), [(31_276.4, "31,276"), (99.94, "99.9"), (1.044, "1.04"), (0.0123, "0.012"), (0.0, "0.000")]
)
def test_numbers_have_the_figures_that_count(value, text):
    assert number(value) == text


@pytest.fixture
def points():
    one, ten = Point(1), Point(10, refused=3)
    for point in (one, ten):
        for noise in (0.9, 1.0, 5.0):
            point.add("puts/s", 1000 * point.size * noise)
    return [one, ten]


def test_a_table_has_medians_and_ends_with_the_powers(points):
    assert table(document("clients", "connections", points)) == [
        "| connections | puts/s |",
        "|---|---|",
        "| 1 | 1,000 |",
        "| 10 | 10,000 |",
        "| *power of the size* | *1.00* |",
        "note: 3 answers were no success",
    ]


def test_points_come_back_from_a_file_of_results(points):
    assert points_of(json.loads(json.dumps(document("clients", "connections", points)))) == points
