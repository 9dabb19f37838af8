"""The commands of the program `raft-engine`, one module each, and what they share."""
