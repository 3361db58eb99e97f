"""MemoryOut: predicts the next frame through filters that pass only principal features."""
