"""A copy of this clone with the hot modules compiled, in .compiled/: to run, to test and to measure beside the pure source.

    python scripts/compile.py            bring .compiled/ up to date; builds only where the engine's source has changed
    python scripts/compile.py --wheel    write a wheel with the compiled modules to dist/

What is compiled stands in setup.py. Machine code never comes to lie beside the source itself, where it would hide what is edited.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".compiled"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
MARKER = COPY / f"built{SUFFIX}.txt"
"""One for each kind of Python: machine code of 3.11 and of 3.12 lies side by side, and that of 3.11.2 serves 3.11.7 as well."""
LOG = COPY / "build.log"
COPIED = ("raft_engine", "raftctl", "tests", "benchmarks", "completions", "docs", "examples", "scripts", "spec")
NEXT = "compiled, in .compiled/; next: make compiled-quick tests it, make compiled-wheel makes a wheel of it in dist/"
ENVIRONMENT = {**os.environ, "RAFT_ENGINE_COMPILED": "1"}


class BuildError(Exception):
    """What went wrong, and where it is written."""


def main(arguments: list[str]) -> int:
    try:
        if arguments == ["--wheel"]:
            make_wheel()
        elif arguments:
            print(f"error: unknown words {' '.join(arguments)!r}; one may be given: --wheel", file=sys.stderr)
            return 2
        else:
            bring_up_to_date()
    except BuildError as error:
        print(f"error: {error}\nhint: compiling needs a C compiler and Python.h (Debian: gcc, python3-dev)", file=sys.stderr)
        return 1
    return 0


def bring_up_to_date() -> None:
    copy_clone()
    wanted = fingerprint()
    if MARKER.is_file() and MARKER.read_text("utf-8") == wanted:
        print(NEXT)
        return
    MARKER.unlink(missing_ok=True)
    for old in [*COPY.glob(f"*{SUFFIX}"), *COPY.glob(f"raft_engine/**/*{SUFFIX}")]:
        old.unlink()
    print("compiling into .compiled (about a minute) …", file=sys.stderr)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    with LOG.open("wb") as log:
        code = subprocess.run(build, cwd=COPY, env=ENVIRONMENT, stdout=log, stderr=log, check=False).returncode
    if code != 0:
        raise BuildError(f"the modules could not be compiled: {last_error()}; everything that was said is in {LOG}")
    MARKER.write_text(wanted, "utf-8")
    print(NEXT)


def make_wheel() -> None:
    """Build as pip does it for users, here with what .venv has: mypy and setuptools."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # modules that are gone since would go into the wheel
    print("compiling a wheel (about a minute) …", file=sys.stderr)
    quietly = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "wheel", *quietly, "--wheel-dir", "dist", "."]
    if subprocess.run(pip, cwd=ROOT, env=ENVIRONMENT, check=False).returncode != 0:
        raise BuildError("the wheel could not be built; pip says why above")
    newest = max((ROOT / "dist").glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    print(newest.relative_to(ROOT))


def copy_clone() -> None:
    """Make the copy hold what the clone holds now: edited files anew, vanished ones gone, machine code kept."""
    COPY.mkdir(exist_ok=True)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            copy_file(path, COPY / path.name)
    for name in COPIED:
        wanted = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts}
        for path in sorted(wanted):
            if (ROOT / path).is_dir():
                (COPY / path).mkdir(parents=True, exist_ok=True)
            else:
                (COPY / path).parent.mkdir(parents=True, exist_ok=True)
                copy_file(ROOT / path, COPY / path)
        for path in (COPY / name).rglob("*.py"):
            if path.relative_to(COPY) not in wanted:
                path.unlink()


def copy_file(source: Path, target: Path) -> None:
    if not target.is_file() or target.read_bytes() != source.read_bytes():
        shutil.copy2(source, target)


def fingerprint() -> str:
    """What the machine code depends on."""
    digest = hashlib.sha256(SUFFIX.encode())
    for path in [COPY / "setup.py", *sorted(COPY.glob("raft_engine/**/*.py"))]:
        digest.update(f"{path.relative_to(COPY)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest() + "\n"


def last_error() -> str:
    lines = [line.strip() for line in LOG.read_text("utf-8", "replace").splitlines() if line.strip()]
    return ([line for line in lines if "error" in line.lower()] or lines or ["nothing was said"])[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
