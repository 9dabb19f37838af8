"""What to do when something durable is gone: the two safe ways back, in one sentence each.

Way A keeps the vote, so it needs the hard state; way B gives the node a new life, so it needs nothing of the old one.
Source: rejoin_safety (the two ways back); docs/operating.md has them at length.
"""

from __future__ import annotations

from typing import Final

DIRECTORY_GONE: Final = "was moved, removed or replaced"
"""What is said of a data directory that was taken away under a running node; the endpoint makes a code of it."""
WAY_A_HINT: Final = (
    "its vote is kept, so it can be rebuilt from the others: start it with raft-engine serve --stopped, "
    "then raftctl rejoin-node; or put back the whole directory as it was when the node stopped"
)
WAY_B_HINT: Final = (
    "bring the node back as a new one: move this directory away, start the node with an empty one, "
    "then raftctl rejoin-node with --blank; or put back the whole directory as it was when the node stopped"
)
