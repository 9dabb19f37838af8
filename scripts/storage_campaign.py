"""The long form of the storage tests: three real processes whose disks fail, under writers whose every acknowledgement is checked.

    make storage-campaign MINUTES=20

Prints what was done and found, and ends with 0 only if nothing acknowledged was lost or altered and every data directory is
sound. What it does is in `tests/acceptance/campaign.py`. Tracing system calls needs strace, a small disk the right to mount;
what cannot be had is said to be skipped.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.acceptance.campaign import Campaign, Figures  # noqa: E402 (the path comes first)

LISTED_MAX = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Real processes, failing disks, every acknowledged write checked.")
    parser.add_argument("--minutes", type=float, default=5.0, help="no new round begins after that (default: 5)")
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="at most so many rounds")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbits(31), help="which faults, in which order (default: random)"
    )
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo" / "storage-campaign", help="where the nodes live")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir(parents=True)
    print(f"seed {options.seed}, {options.minutes:g} minutes, in {options.directory}", flush=True)
    campaign = Campaign(options.directory, options.seed, lambda line: print(line, flush=True))
    figures = campaign.run(seconds=options.minutes * 60, rounds=options.rounds)
    print("\n".join(lines(figures)))
    if options.json is not None:
        options.json.write_text(json.dumps(figures.document(), indent=2) + "\n", "utf-8")
    if figures.is_clean:
        shutil.rmtree(options.directory)
        return 0
    print(f"the nodes' directories and logs are kept in {options.directory}")
    return 1


def lines(figures: Figures) -> list[str]:
    found = [
        "",
        f"seed                  {figures.seed}",
        f"seconds               {figures.seconds:g}",
        f"rounds                {figures.rounds}",
        f"kill -9               {figures.kills}",
        f"restarts              {figures.restarts}",
        f"writes acknowledged   {figures.writes_acknowledged}",
        f"attempts in doubt     {figures.writes_repeated}",
        f"checks                {figures.checks}, {figures.keys_checked} keys read",
        f"inspections           {figures.inspections}, {figures.torn_tails} logs with a write cut short",
        f"LOST                  {len(figures.lost)}",
        f"ALTERED               {len(figures.altered)}",
        f"FAILURES              {len(figures.failures)}",
        "",
        f"{'fault':<36} {'done':>5} {'ended an engine or process':>27}",
    ]
    found += [f"{name:<36} {count:>5} {figures.struck[name]:>27}" for name, count in sorted(figures.faults.items())]
    found += [f"skipped: {reason}" for reason in figures.skipped]
    for title, sentences in (("lost", figures.lost), ("altered", figures.altered), ("failure", figures.failures)):
        found += [f"{title}: {sentence}" for sentence in sentences[:LISTED_MAX]]
    return found


if __name__ == "__main__":
    sys.exit(main())
