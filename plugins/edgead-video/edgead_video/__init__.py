"""Detectors for video clips, which predict each frame from those before it."""
