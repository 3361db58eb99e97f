"""The methods that learn a detector: what each has, and patchcore, which needs no torch."""

from edgead.adapt.methods.registry import METHODS, find_preset

__all__ = ["METHODS", "find_preset"]
