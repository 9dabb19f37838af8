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


WHY = "http://127.0.0.1:9103: no answer in 1 s; see raftctl rejoin-node 3 --blank"
RANKED = Table(
    [
        Column("NODE", right=True),
        Column("LAST", right=True, spare=1),
        Column("PURGED", right=True, spare=2),
        Column("N", below=True),
    ],
    [["2", "413900", "406500", ""], ["3", "413901", "-", Cell(WHY, Tone.BAD)]],
)


@pytest.mark.parametrize(
    ("width", "columns"),
    [(100, "NODE LAST PURGED N"), (60, "NODE LAST PURGED"), (20, "NODE LAST PURGED"), (19, "NODE LAST")],
)
def test_a_terminal_that_is_too_narrow_loses_columns_by_their_rank_and_never_breaks_a_number(width, columns):
    shown = drawn(RANKED, width, color=False)
    lines = shown.splitlines()
    assert columns.split() == lines[0].split()
    assert {"413900", "413901"} <= set(shown.split())
    assert ("no room for" in " ".join(shown.split())) is ("PURGED" not in columns)
    assert max(map(len, lines[:3])) <= width


def test_what_does_not_fit_beside_a_row_stands_below_the_table_and_can_be_copied():
    assert drawn(RANKED, 50, color=False).splitlines()[3:] == [
        "node 3: http://127.0.0.1:9103: no answer in 1 s;",
        "  see raftctl rejoin-node 3 --blank",
    ]
    assert "\x1b[31mnode 3: http" in drawn(RANKED, 50, color=True)
