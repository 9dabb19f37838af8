"""The operations tool for Raft clusters."""

__version__ = "0.1.0"
