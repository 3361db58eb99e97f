"""EAR: what looks suspicious is made coarse, and a network makes it again."""
