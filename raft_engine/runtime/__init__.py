"""Hands: the event loop that carries the core's commands out."""
