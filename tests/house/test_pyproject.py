"""Is every dependency there for a stated reason, and is the version said once?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli

import raft_engine
import raftctl

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pyproject.toml").read_text("utf-8")
PROJECT = tomli.loads(TEXT)["project"]
REQUIREMENTS = [
    requirement
    for requirements in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in requirements
    if not requirement.startswith("raftctl[")
]


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_a_dependency_has_its_reason_beside_it(requirement: str):
    line = next(line for line in TEXT.splitlines() if f'"{requirement}"' in line)
    reason = line.partition("#")[2].strip()
    assert len(reason.split()) >= 2, f"why {requirement}? say it in pyproject.toml, on its line"


def test_an_ignored_style_rule_has_a_code():
    codes = tomli.loads(TEXT)["tool"]["ruff"]["lint"]["ignore"]
    assert [code for code in codes if not re.fullmatch(r"[A-Z]+\d*", code)] == []


def test_the_packages_say_the_version_of_the_distribution():
    assert (PROJECT["version"], PROJECT["version"]) == (raft_engine.__version__, raftctl.__version__)


def test_the_changelog_has_an_entry_for_this_version():
    assert f"\n## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
