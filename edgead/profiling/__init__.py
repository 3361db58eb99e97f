"""Measurement, comparison and reports of latency."""
