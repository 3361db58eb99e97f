"""Known kinds of rejects: the one that a reject is of, or none. Pure numpy."""
