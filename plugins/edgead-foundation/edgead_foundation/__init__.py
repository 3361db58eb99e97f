"""Plug-in of edgead with detectors, backbones and sorters based on foundation models."""
