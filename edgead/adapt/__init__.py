"""Adaptation of a model on the device: final calibration, thresholds, commissioning, lessons, the memory bank."""
