"""Has every scenario of openraft's own integration tests its test here, or a reason why not?"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
TABLE = tomllib.loads((TESTS / "parity.toml").read_text("utf-8"))
ROWS = [(f"{area}/{name}", row) for area, rows in TABLE.items() for name, row in rows.items()]


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """Every test there is, with and without its parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(TESTS)]
    ran = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=True)
    ids = {line.removeprefix("tests/") for line in ran.stdout.splitlines() if "::" in line}
    return ids | {re.sub(r"\[.*\]$", "", name) for name in ids} | {name.partition("::")[0] + "::*" for name in ids}


def test_every_file_has_its_row():
    counts = {area: len(rows) for area, rows in TABLE.items()}
    assert counts == {
        "append_entries": 12,
        "classic": 25,
        "client_api": 17,
        "elect": 5,
        "extensions": 1,
        "gap": 5,
        "life_cycle": 12,
        "log_store": 1,
        "management": 1,
        "membership": 18,
        "metrics": 14,
        "replication": 10,
        "snapshot_building": 6,
        "snapshot_streaming": 15,
        "state_machine": 2,
    }


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_names_tests_that_are_there_or_says_why_not(name: str, row: dict, collected: set[str]):
    assert ("tests" in row) != ("why_not" in row), name
    if "why_not" in row:
        assert len(row["why_not"]) > 60
        return
    assert [test for test in row["tests"] if test not in collected] == []
