"""Is there anything in the tree that belongs to one machine, or was meant to be done later?"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOMEBODYS_DISK = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w")
LATER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b")


def tracked(*patterns: str) -> list[Path]:
    """Return the files that belong to the project: what git tracks, or, outside a clone, what lies there."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [path for pattern in patterns for path in ROOT.rglob(pattern) if ".venv" not in path.parts]


def lines_with(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_place_on_somebodys_disk():
    files = tracked("*.py", "*.md", "*.toml", "*.sh", "*.txt", "Makefile", ".ci/run")
    assert len(files) > 50
    assert lines_with(SOMEBODYS_DISK, files) == []


def test_nothing_is_left_for_later_in_the_code():
    files = tracked("*.py", "*.sh", "Makefile", ".ci/run")
    assert len(files) > 50
    assert lines_with(LATER, files) == []


@pytest.mark.parametrize("room", ["raft_engine", "raftctl"])
def test_every_module_says_in_its_first_sentence_what_it_is_about(room: str):
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked(f"{room}/*.py", f"{room}/**/*.py")
        if path.read_text("utf-8").strip() and not path.read_text("utf-8").startswith('"""')
    ]
    assert silent == []
