"""MemoryOut: predicts the next frame through filters that let principal features pass alone."""
