"""Screening of unlabelled parts: a ranking by how far each image is from most others."""
