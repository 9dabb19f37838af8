"""Do the models of spec/ and the table of what is known of them fit together? TLC itself is run by `make spec`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

SPEC = Path(__file__).resolve().parents[2] / "spec"
FAMILIES = tomllib.loads((SPEC / "models.toml").read_text("utf-8"))["family"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_names_a_module_and_constants_that_are_there(name: str):
    family = FAMILIES[name]
    text = (SPEC / f"{family['module']}.tla").read_text("utf-8")
    assert re.search(rf"MODULE {family['module']}\b", text)
    declared = set(
        re.findall(
            r"\w+", " ".join(re.findall(r"CONSTANTS?([^\n]*(?:\n[ \t]+\w[^\n]*)*)", _with_extended(family["module"])))
        )
    )
    assert set(family["bounds"]) <= declared


def _with_extended(module: str) -> str:
    """Return the module with those of ours that it extends, and that these extend."""
    file = SPEC / f"{module}.tla"
    if not file.is_file():
        return ""
    text = file.read_text("utf-8")
    bases = re.findall(r"\w+", "".join(re.findall(r"^EXTENDS (.*)", text, re.MULTILINE)))
    return text + "".join(_with_extended(base) for base in bases)


def test_every_guard_is_taken_out_somewhere():
    quick = [row for family in FAMILIES.values() for row in family["rows"] if row.get("tier", "quick") == "quick"]
    assert sum(row["expect"] == "violated" for row in quick) >= 30
    assert sum(row["expect"] == "clean" for row in quick) >= 10


def test_every_guard_of_the_core_has_a_row():
    text = (SPEC / "Core.tla").read_text("utf-8") + (SPEC / "CoreModel.tla").read_text("utf-8")
    guards = set(re.findall(r'Is\("([^"]+)"\)', text))
    rows = [row for family in FAMILIES.values() if family["module"] == "CoreModel" for row in family["rows"]]
    taken_out = {row["bounds"]["Without"].strip('"') for row in rows}
    assert guards == taken_out - {"nothing"}
