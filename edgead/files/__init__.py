"""Files: read within bounds, written atomically."""
