"""What an engine has done since it was started, counted where it is done; nothing is ever subtracted.

The quotient of entries and batches is the size of a batch. Read them at any time; whoever wants rates keeps the last reading.
Source: openraft `metrics/recorder.rs`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Of one engine; one that is started anew begins at zero."""

    write_batches: int = 0
    writes: int = 0
    """Client writes handed to the engine, taken in or refused."""
    append_batches: int = 0
    appended_entries: int = 0
    """Entries handed to the log: own ones of a leader, and a leader's at a follower."""
    replicate_requests: int = 0
    replicated_entries: int = 0
    """Entries sent to others, each time that they were."""
    apply_batches: int = 0
    applied_entries: int = 0
    snapshot_bytes_sent: int = 0
    messages: dict[type, int] = field(default_factory=lambda: defaultdict(int))
    """Messages sent by their class, those with entries apart (`replicate_requests`): an AppendRequest is a heartbeat or a probe."""
    reports: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """What happened, by the name under which it stands in the log: `campaign_started`, `leader_elected`, `stepped_down`, …"""
