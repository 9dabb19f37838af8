"""How a table is drawn: as it is where it fits, folded where it does not."""

from __future__ import annotations

import re

import pytest

from raftctl.output.tables import Cell, Column, Table, Tone, drawn, plain

TABLE = Table(
    [Column("NODE", right=True), Column("STATE"), Column("NOTE")],
    [["1", Cell("leader", Tone.GOOD), ""], ["11", Cell("1", Tone.BAD), "1 of 11"], ["3", "", Cell("down", Tone.BAD)]],
)
COLOURS = re.compile(r"\x1b\[\d+m")


@pytest.mark.parametrize("width", [25, 80, 200])
def test_a_table_that_fits_is_drawn_as_in_a_pipe(width):
    assert plain(TABLE) == drawn(TABLE, width, color=False)
    assert plain(TABLE) == COLOURS.sub("", drawn(TABLE, width, color=True))


def test_each_cell_has_its_own_colour():
    lines = drawn(TABLE, 80, color=True).splitlines()
    assert "\x1b[1mNODE" in lines[0]
    assert lines[1].startswith("   1  \x1b[32mleader\x1b[0m")
    assert lines[2].startswith("  11  \x1b[31m1\x1b[0m")
    assert lines[3].endswith("\x1b[31mdown\x1b[0m")


def test_a_table_that_does_not_fit_is_folded_and_nothing_is_cut():
    wide = Table([Column("A"), Column("B")], [["x" * 50, "y" * 50]])
    lines = drawn(wide, 40, color=False).splitlines()
    assert max(map(len, lines)) <= 40
    assert (50, 50) == (sum(line.count("x") for line in lines), sum(line.count("y") for line in lines))
