"""Adaptation of a model on the device: calibration, thresholds, commissioning, teaching, the memory bank."""
