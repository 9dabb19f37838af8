"""Runbooks: several steps that belong together, journalled, and undone when they cannot be finished."""
