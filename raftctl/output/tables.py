"""A table, and how it is drawn: aligned plain text when piped, with colour and fitted to the screen on a terminal.

Piped tables have no borders, no colour and nothing cut off. Rich is loaded only when a terminal is there to draw on.
Source: contract section 5.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from raftctl.output.text import folded, listed, printable


class Tone(enum.StrEnum):
    """What a cell's colour means; without colour the words must say it too."""

    PLAIN = ""
    GOOD = "green"
    WARN = "yellow"
    BAD = "red"
    STRONG = "bold"
    DIM = "dim"


class Cell(NamedTuple):
    text: str
    tone: Tone = Tone.PLAIN


class Column(NamedTuple):
    """What a terminal that is too narrow does about it.

    `spare`: 0: never left out; of the others the highest goes first. `below`: its texts go to lines below the table.
    """

    title: str
    right: bool = False
    spare: int = 0
    below: bool = False


class Table(NamedTuple):
    """`rows` have one cell a column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]


_ANSI: Final = {Tone.GOOD: "32", Tone.WARN: "33", Tone.BAD: "31", Tone.STRONG: "1", Tone.DIM: "2"}


def paint(text: str, tone: Tone, *, color: bool) -> str:
    """Return `text` in the colour of `tone`, if there is to be colour."""
    code = _ANSI.get(tone)
    return f"\x1b[{code}m{text}\x1b[0m" if color and code else text


def plain(table: Table) -> str:
    """Return the table as aligned text, two spaces between columns, nothing cut off."""
    lines = [[column.title for column in table.columns], *([_text(cell) for cell in row] for row in table.rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(table.columns))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    )


def drawn(table: Table, width: int, *, color: bool) -> str:
    """Return the table as a terminal of that width shows it; long cells are folded, never cut."""
    fitting = _fitting(table, width, color=color)
    if fitting is not None:
        return fitting
    if any(column.spare or column.below for column in table.columns):
        return _narrowed(table, width, color=color)
    import io

    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    rich_table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        rich_table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in table.rows:
        rich_table.add_row(*(Text(_text(cell), style=cell.tone.value if isinstance(cell, Cell) else "") for cell in row))
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=width, force_terminal=color, no_color=not color, color_system="standard" if color else None
    )
    console.print(rich_table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip("\n").split("\n"))


def _fitting(table: Table, width: int, *, color: bool) -> str | None:
    """Return the table if nothing has to be folded, None otherwise: Rich, which folds, takes long to load."""
    lines = plain(table).splitlines()
    if max(map(len, lines), default=0) > width:
        return None
    painted = [paint(lines[0], Tone.STRONG, color=color)]
    for row, line in zip(table.rows, lines[1:], strict=True):
        painted.append(_painted(row, line, color=color))
    return "\n".join(painted)


def _narrowed(table: Table, width: int, *, color: bool) -> str:
    """Return the table without what there is no room for; no word and no number is broken."""
    below = [at for at, column in enumerate(table.columns) if column.below]
    spare = sorted((-column.spare, at) for at, column in enumerate(table.columns) if column.spare and not column.below)
    gone = set(below)
    lines = _fitting(_without(table, gone), width, color=color)
    for _, at in spare:
        if lines is not None:
            break
        gone.add(at)
        lines = _fitting(_without(table, gone), width, color=color)
    found = [lines if lines is not None else plain(_without(table, gone))]
    left_out = [column.title for at, column in enumerate(table.columns) if at in gone and at not in below]
    if left_out:
        found.append(folded(f"(no room for {listed(left_out)})", width))
    for row in table.rows:
        for at in below:
            if text := _text(row[at]).strip():
                cell = row[at]
                told = folded(f"{table.columns[0].title.lower()} {_text(row[0])}: {text}", width)
                found.append(paint(told, cell.tone if isinstance(cell, Cell) else Tone.PLAIN, color=color))
    return "\n".join(found)


def _without(table: Table, gone: Collection[int]) -> Table:
    kept = [at for at in range(len(table.columns)) if at not in gone]
    return Table([table.columns[at] for at in kept], [[row[at] for at in kept] for row in table.rows])


def _painted(row: Sequence[Cell | str], line: str, *, color: bool) -> str:
    """Paint the cells of a line that has their texts in order."""
    found: list[str] = []
    for cell in row:
        text = _text(cell).rstrip()
        before, _, line = line.partition(text) if text else ("", "", line)
        found += [before, paint(text, cell.tone if isinstance(cell, Cell) else Tone.PLAIN, color=color)]
    return "".join([*found, line])


def _text(cell: Cell | str) -> str:
    return printable(cell.text if isinstance(cell, Cell) else cell)
