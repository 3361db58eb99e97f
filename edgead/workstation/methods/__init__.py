"""The methods that detectors are trained by; with them comes torch, so nothing on the device imports this package."""

from edgead.workstation.methods.registry import METHODS, find_preset

__all__ = ["METHODS", "find_preset"]
