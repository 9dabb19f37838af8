"""Which build of the engine runs: the source as it is, or with its hot modules compiled.

Both come from the same source and do the same (docs/performance.md, "Compiled build").
"""

from __future__ import annotations

from importlib.util import find_spec


def is_compiled() -> bool:
    """Return whether the core runs as machine code."""
    core = find_spec("raft_engine.core.engine")
    return core is not None and core.origin is not None and not core.origin.endswith(".py")
