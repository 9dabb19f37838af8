"""Do the first commands a newcomer types work, and do they fail in words?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What set-up needs of a clone, in a place of its own."""
    shutil.copytree(ROOT / "scripts", tmp_path / "clone" / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / "clone" / name)
    for package in ("raft_engine", "raftctl"):
        (tmp_path / "clone" / package).mkdir()
        (tmp_path / "clone" / package / "__init__.py").touch()
    return tmp_path / "clone"


def set_up(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    return subprocess.run(
        ["sh", "scripts/setup.sh", "run"],
        cwd=clone,
        env={"PYTHON": sys.executable, **kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)
    return str(path)


def marked(clone: Path) -> None:
    """Have `clone` believe that it was set up by this Python."""
    lines = [
        "import json, set_up",
        "set_up.PYTHON.parent.mkdir(parents=True)",
        "set_up.PYTHON.symlink_to('/bin/true')",
        "set_up.MARKER.write_text(json.dumps({'level': 'run', **set_up.fingerprint()}))",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=clone / "scripts", check=True)


def test_make_alone_lists_every_target_with_what_it_does():
    listed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^make ([a-z-]+) +\S", listed, re.MULTILINE) == TARGETS


def test_every_target_is_phony():
    assert re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE) == [" ".join(TARGETS)]


def test_a_second_set_up_has_nothing_to_do(clone: Path):
    marked(clone)
    ran = set_up(clone)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_python_that_is_too_old_is_named(clone: Path):
    ran = set_up(clone, PYTHON=program(clone / "python2.7", "exit 1"))
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: PYTHON={clone}/python2.7 is no Python of version 3.11 or later\nhint: install one")


def test_without_any_python_the_sentence_says_what_was_looked_for(clone: Path):
    (clone / "bin").mkdir()
    (clone / "bin" / "dirname").symlink_to(shutil.which("dirname") or "")
    ran = subprocess.run(
        [shutil.which("sh") or "sh", "scripts/setup.sh"],
        cwd=clone,
        env={"PATH": str(clone / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: no Python of version 3.11 or later was found (looked for python3.13, ")


def test_a_python_without_the_venv_module_is_told_which_package_brings_it(clone: Path):
    hide = "import sys; sys.modules['ensurepip'] = None; sys.argv = sys.argv[1:]; import runpy; "
    hide += "runpy.run_path(sys.argv[0], run_name='__main__')"
    without = program(
        clone / "python",
        f'case "$1" in -c) case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac;; '
        f'*) exec {sys.executable} -c "{hide}" "$@";; esac',
    )
    ran = set_up(clone, PYTHON=without)
    assert ran.returncode == 1
    assert (
        "its modules venv and ensurepip are missing\nhint: install them (Debian, Ubuntu: apt-get install python3."
        in ran.stderr
    )


def test_a_directory_that_is_no_environment_is_left_alone(clone: Path):
    (clone / ".venv").mkdir()
    (clone / ".venv" / "precious").touch()
    ran = set_up(clone)
    assert ran.returncode == 1
    assert "is in the way: it is no virtual environment\nhint: move it elsewhere" in ran.stderr
    assert (clone / ".venv" / "precious").exists()


def test_without_network_the_sentence_says_so_and_an_old_environment_is_replaced(clone: Path):
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "pyvenv.cfg").touch()
    (clone / ".venv" / "bin" / "python").symlink_to("/nowhere/python3.9")
    ran = set_up(clone, PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert ran.returncode == 1
    assert "replacing .venv: its Python is gone\n" in ran.stderr
    assert (
        "error: the packages could not be downloaded: the package index was not reached, or lacks them\nhint: connect"
        in ran.stderr
    )
    assert "Traceback" not in ran.stderr
