"""A table, and how it is drawn: aligned plain text when piped, with colour and fitted to the screen on a terminal.

Piped tables have no borders, no colour and nothing cut off. Rich is loaded only when a terminal is there to draw on.
Source: contract section 5.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from raftctl.output.text import printable


class Tone(enum.StrEnum):
    """What a cell's colour means; without colour the words must say it too."""

    PLAIN = ""
    GOOD = "green"
    WARN = "yellow"
    BAD = "red"
    STRONG = "bold"
    DIM = "dim"


class Cell(msgspec.Struct, frozen=True):
    text: str
    tone: Tone = Tone.PLAIN


class Column(msgspec.Struct, frozen=True):
    title: str
    right: bool = False


class Table(msgspec.Struct, frozen=True):
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


def _text(cell: Cell | str) -> str:
    return printable(cell.text if isinstance(cell, Cell) else cell)
