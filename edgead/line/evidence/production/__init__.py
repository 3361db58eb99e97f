"""Production figures of an evidence store: counts and yield of shifts, orders and batches, and exported files."""
