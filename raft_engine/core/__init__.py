"""The consensus core: pure rules. Events go in, commands come out; no clock, chance, file, socket, task or log."""
