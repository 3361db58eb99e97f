"""Endpoints, one file per subject."""
