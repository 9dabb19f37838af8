"""Is .venv what this clone needs, and if not, how does it become so?

A fingerprint beside the installed packages says for which pyproject.toml, which Python and which place they were installed.
The same fingerprint: nothing to do. Another pyproject.toml: install again. Another Python, another place, or an environment
that does not run: a new one. Whatever goes wrong is one sentence and a hint; what pip said stands in a log file.
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
MARKER = VENV / "set-up.json"
LOG = ROOT / ".demo" / "set-up.log"
WHAT = {"run": ".", "dev": ".[dev]"}
"""Levels and what pip is asked for; `dev` includes `run`."""
SIGNS_OF_NO_NETWORK = (
    "ConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "name resolution",
    "from versions: none",
)
"""What pip says when it does not reach an index; the last one is all it says when it is to be quiet and not to retry."""


class SetUpError(Exception):
    """What is wrong, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def main(arguments: list[str]) -> int:
    level = arguments[-1]
    if level not in WHAT:
        print(f"error: unknown level {level!r}; one of: {', '.join(WHAT)}", file=sys.stderr)
        return 2
    if "--check" in arguments:
        return 0 if is_done(level) else 1
    try:
        with_lock_held(level)
    except SetUpError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: .venv cannot be made: {error}\nhint: free space, or make the clone writable", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nerror: interrupted while .venv was being made\nhint: run the same command again", file=sys.stderr)
        return 130
    return 0


def with_lock_held(level: str) -> None:
    """Two `make` at once: the second waits and then finds the work done."""
    directory = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if not is_done(level):
            set_up(level)
    finally:
        os.close(directory)


def set_up(level: str) -> None:
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetUpError(
            f"{sys.executable} cannot make virtual environments: its modules venv and ensurepip are missing",
            f"install them (Debian, Ubuntu: apt-get install python{version}-venv), or name another Python with PYTHON=…",
        )
    reason = why_not_usable()
    if reason:
        if VENV.exists():
            print(f"replacing .venv: {reason}", file=sys.stderr)
        make_environment()
    print(f"installing into .venv (once; Python {sys.version.split()[0]}) …", file=sys.stderr)
    install(level)
    MARKER.write_text(json.dumps({"level": level, **fingerprint()}) + "\n", "utf-8")
    LOG.unlink(missing_ok=True)


def fingerprint() -> dict[str, str]:
    """What the environment depends on. The place counts: scripts in an environment name their interpreter's path."""
    return {
        "pyproject": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "python": f"{sys.version} in {sys.base_prefix}",
        "place": str(VENV),
    }


def recorded() -> dict[str, str]:
    try:
        values = json.loads(MARKER.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def is_done(level: str) -> bool:
    values = recorded()
    covered = values.pop("level", "") in {level, "dev"}
    return covered and values == fingerprint() and os.access(PYTHON, os.X_OK)


def why_not_usable() -> str:
    """Return why packages cannot be installed into .venv as it is; empty: they can."""
    if not VENV.is_dir():
        return "there is none"
    if not (VENV / "pyvenv.cfg").is_file():
        raise SetUpError(
            f"{VENV} is in the way: it is no virtual environment", "move it elsewhere, then run the same command again"
        )
    question = "import pip, sys; print(sys.version, 'in', sys.base_prefix, end=''); print('', sys.prefix)"
    try:
        answer = subprocess.run([PYTHON, "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return "its Python is gone"
    if answer.returncode != 0:
        return "its Python does not run, or has no pip"
    version, _, place = answer.stdout.strip().rpartition(" ")
    if Path(place).resolve() != VENV.resolve():
        return "it was made in another directory"
    if version != fingerprint()["python"]:
        return f"it was made with Python {version.split()[0]}, this is {sys.version.split()[0]}"
    return ""


def make_environment() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    made = run([sys.executable, "-m", "venv", str(VENV)])
    if made != 0:
        raise SetUpError(
            f"{sys.executable} could not make a virtual environment: {last_line()}",
            f"all it said is in {LOG.relative_to(ROOT)}; on Debian and Ubuntu the package python3-venv is needed",
        )


def install(level: str) -> None:
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]
    if run([*pip, "--editable", WHAT[level]]) == 0:
        return
    said = LOG.read_text("utf-8", "replace")
    if any(sign in said for sign in SIGNS_OF_NO_NETWORK):
        raise SetUpError(
            "the packages could not be downloaded: the package index was not reached, or lacks them",
            f"connect to the network, or name an index you can reach (PIP_INDEX_URL); details: {LOG.relative_to(ROOT)}",
        )
    raise SetUpError(f"the packages could not be installed: {last_line()}", f"pip's own words: {LOG.relative_to(ROOT)}")


def run(command: list[str]) -> int:
    """Run a command with its output in the log; return its exit code."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("ab") as log:
        return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode


def last_line() -> str:
    """Return the last line of the log that says something, errors first."""
    lines = [line.strip() for line in LOG.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "Error", "error"))]
    return (errors or lines or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
