"""Detectors that make an image again and look at what differs, as a plug-in of edgead."""
