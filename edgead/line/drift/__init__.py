"""Drift: whether today's parts and images still look like the parts that the thresholds were made for."""

from edgead.line.drift.watch import DriftSection, DriftState, DriftWatch, OtherWatchError

__all__ = ["DriftSection", "DriftState", "DriftWatch", "OtherWatchError"]
