"""Files: reading within bounds, atomic writing."""
