"""Does the limit hold whatever the number of threads? Asked of the C library itself, in a process of its own."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from raft_engine.commands.allocator import limit_arenas

if sys.argv[1] == "limited":
    assert limit_arenas()
all_there = threading.Barrier(9)
def hold():
    data = b"x" * 10_000
    all_there.wait()
    all_there.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads:
    thread.start()
all_there.wait()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
all_there.wait()
"""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_info"), reason="this C library does not tell about its arenas"
)


def arenas(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return len(re.findall(r"<heap nr=", done.stdout))


def test_eight_threads_share_two_arenas():
    assert arenas("limited") <= 2


def test_without_the_limit_they_have_more():
    assert arenas("unlimited") > 2
