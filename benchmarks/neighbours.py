"""Is this machine fit to measure on? How long the same work takes from moment to moment, and beside itself on all processors.

    python benchmarks/neighbours.py
    python benchmarks/neighbours.py --seconds 60

A rented processor is often one of two threads of a core, and the other one is somebody else's. While that one is at work, code outside the
kernel takes up to twice as long here although nothing is seen of it: no load, no stolen time. Run it while nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from surroundings import crowding, work_s

EVERY_S = 0.1
LOOKS_MIN = 2
"""Fewer have no spread."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to look (default 20)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    end = time.monotonic() + options.seconds
    times = []
    while len(times) < LOOKS_MIN or time.monotonic() < end:
        times.append(1000 * work_s())
        time.sleep(EVERY_S)
    tenths = statistics.quantiles(times, n=10)
    print(f"the same work took {min(times):.2f} ms at the least, {max(times):.2f} at the most")
    print(
        f"nine of ten times {tenths[0]:.2f} or more, the median {statistics.median(times):.2f}, one of ten {tenths[-1]:.2f} or more"
    )
    print(f"on all processors at once it took {crowding():.2f} times as long; load {load:.1f} before")
    return 0


if __name__ == "__main__":
    sys.exit(main())
