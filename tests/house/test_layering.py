"""Do imports still point one way? The contracts stand in pyproject.toml; here they are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_import_contract_is_kept():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 broken" in ran.stdout


def test_nothing_that_counts_time_reads_the_wall_clock():
    """A clock that is set back must not hold an election up nor lengthen a lease."""
    rooms = [ROOT / "raft_engine" / room for room in ("core", "runtime", "transport", "storage")]
    wall = re.compile(r"\btime\.time\(|datetime\.now\(|time\.localtime\(|loop\.call_at\(")
    found = [path for room in rooms for path in room.rglob("*.py") if wall.search(path.read_text("utf-8"))]
    named = {"files.py"}  # for people: the name of a retired directory
    assert [path.name for path in found if path.name not in named] == []


def test_reading_the_version_loads_neither_the_engine_nor_the_http_client_nor_the_table_printer():
    program = (
        "import sys\n"
        "from raftctl.__main__ import main\n"
        "sys.argv = ['raftctl', 'version']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'raft_engine', 'httpx', 'rich'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_importing_the_engine_costs_nothing_until_a_name_is_used():
    program = "import sys, raft_engine; print(sorted({'asyncio', 'uvicorn', 'starlette', 'msgspec'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
