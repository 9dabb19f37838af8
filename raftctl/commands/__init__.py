"""The commands, a file for each family; each parses its options, calls what does the work, and hands on the result."""
