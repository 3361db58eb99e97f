"""Drift: whether what is inspected today still looks like what the thresholds were made for."""

from edgead.line.drift.watch import DriftSection, DriftState, DriftWatch, OtherWatchError

__all__ = ["DriftSection", "DriftState", "DriftWatch", "OtherWatchError"]
