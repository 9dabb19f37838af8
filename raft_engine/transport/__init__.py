"""Voice: messages between nodes."""
