"""Has every scenario of openraft's and etcd's own tests its test here, or a reason why not?"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
TABLE = tomllib.loads((TESTS / "parity.toml").read_text("utf-8"))
OPENRAFT = TABLE.pop("openraft")
ROWS = [(f"{area}/{name}", row) for area, rows in TABLE.items() for name, row in rows.items()]

COLLECT = """
import sys, pytest

class Names:
    def pytest_collection_finish(self, session):
        for item in session.items:
            if not any(mark.name in {"skip", "skipif", "xfail"} for mark in item.iter_markers()):
                print("ran:" + item.nodeid.removeprefix("tests/"))

sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", sys.argv[1]], plugins=[Names()]))
"""


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """Every test that is run and never skipped, with and without its parameters."""
    command = [sys.executable, "-c", COLLECT, str(TESTS)]
    ran = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=True)
    ids = {line.removeprefix("ran:") for line in ran.stdout.splitlines() if line.startswith("ran:")}
    return ids | {re.sub(r"\[.*\]$", "", name) for name in ids} | {name.partition("::")[0] + "::*" for name in ids}


def test_every_file_of_openraft_has_its_row_and_no_other_has():
    rows = {area: list(TABLE[area]) for area in TABLE if area in OPENRAFT["files"]}
    assert OPENRAFT["files"] == rows


def test_the_list_is_whole():
    rows = [row for area in OPENRAFT["files"] for row in TABLE[area].values()]
    assert (114, 204) == (len(rows), sum(row["cases"] for row in rows))
    assert {"gap": 5, "classic": 25, "etcd": 41} == {
        name: len(TABLE[name]) for name in TABLE.keys() - OPENRAFT["files"].keys()
    }


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_names_tests_that_are_run_or_says_why_not(name: str, row: dict, collected: set[str]):
    assert set() == row.keys() - {"cases", "tests", "note", "why_not"}
    assert ("tests" in row) != ("why_not" in row), name
    if "why_not" in row:
        assert len(row["why_not"]) > 60
        return
    assert [] != row["tests"]
    assert [test for test in row["tests"] if test not in collected] == []
