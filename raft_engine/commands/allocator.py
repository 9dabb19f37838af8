"""The C library's memory, so that a process that lives long stays as large as what it holds.

glibc gives threads arenas of their own, up to eight a processor, and what one arena has free no other can use. SQLite's pages and larger
byte strings are allocated by one thread and freed by another here, and each rebuilt store brings new threads. A process whose engine
was rebuilt ten times grew by 2.4 MiB each time, to 121 MiB; with two arenas it stays at 91 from the second time on.
Source: mallopt(3), M_ARENA_MAX; `benchmarks/soak.py`.
"""

from __future__ import annotations

from typing import Final

_M_ARENA_MAX: Final = -8
"""glibc's malloc.h."""
ARENAS_MAX: Final = 2
"""The event loop's, and one for the other threads: they allocate with the interpreter's lock held, so they seldom meet."""


def limit_arenas(count: int = ARENAS_MAX) -> bool:
    """Have at most `count` arenas from now on; call it before threads are started.

    Returns: whether this C library knows arenas: others do not, and need no limit.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_ARENA_MAX, count) == 1
