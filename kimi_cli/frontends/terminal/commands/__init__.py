"""The commands that begin with a slash: one table, found by name."""
