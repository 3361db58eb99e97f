"""Crane: AnomalyCLIP with wider attention."""
