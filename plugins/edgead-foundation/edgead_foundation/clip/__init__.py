"""Code shared by detectors based on CLIP."""
