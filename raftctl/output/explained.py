"""How an explanation looks to people: short tables, each answering one question, in the order in which one would ask."""

from __future__ import annotations

from collections.abc import Sequence

from raftctl.actions import rules_table
from raftctl.explaining import Case, Elections, Explanation, Shipment
from raftctl.output.tables import Cell, Column, Table, Tone
from raftctl.output.text import human_bytes, listed, printable

_ANSWERED = {
    "mild": "no question is asked",
    "moderate": "a yes is asked for, or --yes",
    "severe": "the cluster's name must be typed, or --yes --confirm",
}
_TONES = {"mild": Tone.GOOD, "moderate": Tone.WARN, "severe": Tone.BAD}


def explained(explanation: Explanation) -> list[Table | str | Cell]:
    """Return the view; cells stand for lines with a tone."""
    tier = explanation.tier
    view: list[Table | str | Cell] = [
        Cell(f"{explanation.what[:1].upper()}{explanation.what[1:]}", Tone.STRONG),
        Cell(f"danger: {tier} ({_ANSWERED[tier]})", _TONES[tier]),
        "",
        *(f"  {printable(line)}" for line in explanation.effect),
        "",
        _quorum_table(explanation.quorum),
        "",
        _elections_table(explanation.elections),
        "",
        *_shipment_lines(explanation.shipments),
    ]
    if explanation.undo:
        view.append(f"to take it back: {printable(explanation.undo)}")
    if explanation.rules:
        view += ["", rules_table(explanation.rules)]
    view.append("")
    view.append(Cell("It would be refused.", Tone.BAD) if explanation.refused else Cell("No rule forbids it.", Tone.GOOD))
    return view


def _quorum_table(cases: Sequence[Case]) -> Table:
    columns = [Column("QUORUM"), *(Column(title, right=True) for title in ("VOTERS", "NEEDED", "UP")), Column("THEN")]
    return Table(columns, [_quorum_row(case) for case in cases])


def _quorum_row(case: Case) -> list[Cell | str]:
    number = case.count
    if not number.voters:
        then = Cell("no voters", Tone.BAD)
    elif number.tolerance < 0:
        then = Cell(f"WRITES STOP: {-number.tolerance} missing", Tone.BAD)
    elif number.tolerance == 0:
        then = Cell("no more may fail", Tone.WARN)
    else:
        then = Cell(f"{number.tolerance} more may fail", Tone.GOOD)
    return [case.when, str(number.voters), str(number.needed), str(number.up), then]


def _elections_table(elections: Sequence[Elections]) -> Table:
    rows: list[list[Cell | str]] = []
    for election in elections:
        for number, chance in enumerate(election.chances):
            can = Cell("can win", Tone.GOOD) if chance.can_win else Cell("cannot", Tone.WARN)
            votes = listed(chance.votes) if chance.votes else "-"
            rows.append([election.when if number == 0 else "", str(chance.node), can, votes, chance.why])
    return Table([Column("NEXT ELECTION"), Column("NODE", right=True), Column(""), Column("VOTES"), Column("WHY")], rows)


def _shipment_lines(shipments: Sequence[Shipment]) -> list[str]:
    return [_shipment(one) for one in shipments] or ["to ship: nothing"]


def _shipment(one: Shipment) -> str:
    size = f"at least {human_bytes(one.bytes_min)}" if one.bytes_min is not None else ""
    entries = f"{one.entries} entries" if one.entries is not None else ""
    amount = (
        " and ".join(part for part in (size, entries) if part) or "everything; how much that is only a leader could tell"
    )
    return f"to ship to node {one.to}: {amount} ({printable(one.why)})"
