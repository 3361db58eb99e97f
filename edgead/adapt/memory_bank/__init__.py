"""The memory bank of good patches, and the scale, the metric and the usual scores learnt beside it."""
