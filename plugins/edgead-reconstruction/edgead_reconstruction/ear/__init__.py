"""EAR: a coarse mosaic replaces places that look suspicious, and a network reconstructs them from it."""
