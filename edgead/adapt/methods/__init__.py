"""Methods that train a detector: their base class, their registry, and patchcore, which needs no torch."""

from edgead.adapt.methods.registry import METHODS, find_preset

__all__ = ["METHODS", "find_preset"]
