"""Detectors, backbones and sorters that stand on foundation models, as a plug-in of edgead."""
