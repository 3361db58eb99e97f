"""Common parts of detectors based on CLIP."""
