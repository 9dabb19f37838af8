"""How the package is built: pure Python, or with its hot modules compiled where RAFT_ENGINE_COMPILED=1 asks for that.

What it gains was measured with whole clusters: mostly reads (docs/performance.md, "Compiled build"). The source
is the same for both builds (docs/decisions/0016-compiled-where-asked-for.md). Compiling needs mypy and a C compiler.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent
NOT_COMPILED = {
    "raft_engine/core/commands.py",
    "raft_engine/core/events.py",
}
"""Structs of msgspec, without code to gain from; and a default that is a `msgspec.field` is not of the type that mypyc checks."""
COMPILED = (
    "raft_engine/core/[!_]*.py",
    "raft_engine/management/fast_lane.py",
    "raft_engine/runtime/apply_worker.py",
    "raft_engine/runtime/batching.py",
    "raft_engine/runtime/dispatcher.py",
    "raft_engine/runtime/entry_cache.py",
    "raft_engine/runtime/loop.py",
    "raft_engine/runtime/peer_sender.py",
    "raft_engine/runtime/tickets.py",
    "raft_engine/transport/codec.py",
)


def extensions() -> list[Extension]:
    if os.environ.get("RAFT_ENGINE_COMPILED") != "1":
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        sys.exit("error: RAFT_ENGINE_COMPILED=1 needs mypy\nhint: pip install mypy, and pip's --no-build-isolation")
    found = {str(path.relative_to(ROOT)) for pattern in COMPILED for path in ROOT.glob(pattern)}
    flags = ["--config-file=", "--strict", "--ignore-missing-imports", "--no-error-summary"]
    made: list[Extension] = mypycify([*flags, *sorted(found - NOT_COMPILED)], opt_level="3", group_name="raft_engine")
    return made


if __name__ == "__main__":
    setup(ext_modules=extensions())
