"""Memory that survives: log, hard state, snapshots, identity."""
