"""The completion files in the tree are those that the code makes."""

import subprocess
import sys
from pathlib import Path


def test_the_completion_files_are_up_to_date():
    check = [sys.executable, "-m", "raftctl.completion_files", "--check"]
    found = subprocess.run(check, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
