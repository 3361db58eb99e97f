"""Training by gradient steps: the loop, checkpoints, prefetched batches, the device."""
