"""CLIP: what detectors from words share."""
