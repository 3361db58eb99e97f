"""Detectors for height maps, for edgead."""
