"""Latency: measured, compared and reported so that it can be believed."""
