"""EAR: a coarse mosaic replaces places that look suspicious, and a network reconstructs the places from the mosaic."""
