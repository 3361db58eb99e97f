"""Plug-in of edgead with detectors that reconstruct an image and compare it with the original."""
