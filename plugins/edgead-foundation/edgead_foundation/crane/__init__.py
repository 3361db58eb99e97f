"""Crane: AnomalyCLIP with extended attention."""
