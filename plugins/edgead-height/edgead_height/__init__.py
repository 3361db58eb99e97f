"""Plug-in of edgead for heights: maps from point clouds and stereo cameras, and detectors for height maps."""
