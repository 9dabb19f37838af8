"""Where the time of a write goes: a flame graph and a table of the leader and a follower under puts from 64 connections.

    python benchmarks/flame.py [--connections 64] [--seconds 10]

The samples are py-spy's, taken while a thread holds the interpreter; what a node spends in system calls without it (the disk's sync,
waiting) is not in them. Each sample counts for the innermost function of the project: what that function has others do is its own.
Written: benchmarks/results/flame-leader.svg, flame-follower.svg.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from load import wrk
from systems import BIN, BenchError, Ours

RESULTS = Path(__file__).resolve().parent / "results"
SAMPLES_PER_S = 400
FUNCTIONS_SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    py_spy = shutil.which("py-spy", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if py_spy is None:
        print("py-spy is missing (pip install '.[bench]')", file=sys.stderr)
        return 1
    try:
        with Ours() as cluster, tempfile.TemporaryDirectory() as scratch:
            watch(cluster, py_spy, Path(scratch), options.connections, options.seconds)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def watch(cluster: Ours, py_spy: str, scratch: Path, connections: int, seconds: int) -> None:
    leader = cluster.leader()
    nodes = {"leader": cluster.processes[leader].pid, "follower": cluster.processes[(leader + 1) % 3].pid}
    wrk(cluster, connections, 2)
    RESULTS.mkdir(exist_ok=True)
    for form in ("flamegraph", "raw"):
        spies = []
        for name, pid in nodes.items():
            goal = graph_of(name) if form == "flamegraph" else scratch / name
            words = [py_spy, "record", "--gil", "--function", "--rate", str(SAMPLES_PER_S), "--duration", str(seconds)]
            words += ["--format", form, "--output", str(goal), "--pid", str(pid)]
            spies.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        load = wrk(cluster, connections, seconds)
        for spy in spies:
            _, said = spy.communicate()
            if spy.returncode != 0:
                raise BenchError(f"py-spy failed: {said.strip()}")
    print(f"{load.per_s:,.0f} puts/s from {connections} connections, while being watched\n")
    for name in nodes:
        print(table(name, (scratch / name).read_text(), SAMPLES_PER_S * seconds))
    print(*(f"flame graph of the {name}: {graph_of(name)}" for name in nodes), sep="\n")


def graph_of(name: str) -> Path:
    return RESULTS / f"flame-{name}.svg"


def table(name: str, raw: str, samples_max: int) -> str:
    """Return the rooms and functions in which `name` was seen; `raw` has one line a stack: frames;frames;… count."""
    rooms: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        own = [frame for frame in stack.split(";") if "(raft_engine/" in frame]
        where = own[-1] if own and "commands/serve.py" not in own[-1] else "event loop, sockets"
        path = where.partition("(raft_engine/")[2]
        rooms[path.partition(":")[0].partition("/")[0] if path else where] += int(count)
        functions[where.partition(" (")[0] + (f"  {path.partition(':')[0]}" if path else "")] += int(count)
    total = sum(rooms.values())
    lines = [f"{name}: held the interpreter in {total / samples_max:.0%} of the samples"]
    lines += [f"  {count / total:6.1%}  {room}" for room, count in rooms.most_common()]
    lines += ["  by function:"]
    lines += [f"  {count / total:6.1%}  {function}" for function, count in functions.most_common(FUNCTIONS_SHOWN)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
