"""Commissioning on the device: from good parts in front of a camera to a calibrated model."""
