"""Drift: does what is inspected today still look like what the thresholds were made for?"""

from edgead.drift.watch import DriftState, DriftWatch, OtherWatchError

__all__ = ["DriftState", "DriftWatch", "OtherWatchError"]
