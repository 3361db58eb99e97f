"""EAR: places that look suspicious are replaced by a coarse mosaic, from which a network reconstructs them."""
