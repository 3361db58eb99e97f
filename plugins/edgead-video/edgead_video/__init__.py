"""Detectors for video clips, which predict each frame from the frames before it."""
