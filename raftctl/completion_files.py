"""Writes `completions/`, the scripts that let a shell ask this program what may follow, and the table it then looks into.

`python -m raftctl.completion_files` writes them, `--check` only says whether they are up to date. Packagers install them
where their shell looks; `raftctl completion SHELL` prints the same text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from typer.completion import get_completion_script  # type: ignore[attr-defined]

FILES: Final = {"bash": "raftctl.bash", "zsh": "_raftctl", "fish": "raftctl.fish", "powershell": "raftctl.ps1"}


def script(shell: str) -> str:
    """Return the completion script of one of `FILES`."""
    text = get_completion_script(prog_name="raftctl", complete_var="_RAFTCTL_COMPLETE", shell=shell)
    return text.strip() + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the files below the current directory; return the exit code."""
    from raftctl import table_file

    wanted = {Path("completions") / name: script(shell) for shell, name in FILES.items()}
    wanted[table_file.PAGE] = table_file.source()
    stale = [path for path, text in wanted.items() if _read(path) != text]
    if arguments == ["--check"]:
        for path in stale:
            sys.stderr.write(f"{path} is not up to date; run: python -m raftctl.completion_files\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path], "utf-8")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
