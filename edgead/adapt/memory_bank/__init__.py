"""The memory bank of good patches, and the scale and the metric learnt beside it."""
