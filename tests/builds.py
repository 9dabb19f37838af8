"""Which tests are for the pure build alone."""

from __future__ import annotations

import pytest

import raft_engine

puts_a_bug_into_the_source = pytest.mark.skipif(
    raft_engine.is_compiled(), reason="changes the text of modules, which is not what the compiled build runs"
)
